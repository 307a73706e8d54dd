"""Roots, successors and signatures against the rules, each found by both verifiers under one code.

`tampering_rows` has what is done to the rest of a dossier. The first table stands on the deployment of
`World`, the others on the mixed one of `scheme_world`, in which all four schemes sign.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatelift.encoding import encode_base64, encode_json, sha256_digest
from gatelift.messages import EntryHeader, EntryKind, Visibility
from gatelift.tlog import CosignatureSigner
from gatelift.trust import (
    STATEMENT_TYPE,
    Key,
    KeyId,
    Node,
    Person,
    Role,
    Scheme,
    Witness,
    sign_envelope,
)
from tests.integration.dossier_deployment import Deployment, put
from tests.support.scheme_world import PinnedSigner, mixed, mixed_signer
from tests.support.signers import (
    P256Signer,
    PasskeySigner,
    PlainSigner,
    SchemeSigner,
    SshSigner,
)
from tests.support.tamperings import Change, Tampering, certified, payload_of, relaid, with_body
from tests.support.world import NOW, World, key, seed

__all__ = ["ROOTS", "SCHEME_ROWS", "SUCCESSORS"]

WORLD = World()
ROOT = WORLD.root
WITNESS = ROOT.witnesses[0]
SAM = WORLD.keys["safety:sam"].id


# -- the first root -------------------------------------------------------------------------------


def rooted(*names: str, **changes: Any) -> Change:
    """Put a root with these changes into `root.json`, signed by these (by default its root role)."""

    def change(path: Path, _: Deployment) -> None:
        (path / "root.json").write_bytes(WORLD.sign_root(WORLD.root_payload(**changes), *names))

    return change


def with_role(name: str, **changes: Any) -> dict[str, Any]:
    return {"roles": {**ROOT.roles, name: msgspec.structs.replace(ROOT.roles[name], **changes)}}


def with_key(**changes: Any) -> dict[str, Any]:
    return {"keys": {**ROOT.keys, SAM: msgspec.structs.replace(ROOT.keys[SAM], **changes)}}


def with_more(person: str, organisation: str, role: str, threshold: int) -> dict[str, Any]:
    """Let one more person stand in a role, new or not, with a key of their own."""
    mine = key(f"{role}:{person}")
    held = Key(scheme=Scheme.ED25519, public=mine.public_text, person=person)
    keys = (*(ROOT.roles[role].keys if role in ROOT.roles else ()), mine.id)
    return {
        "people": (*ROOT.people, Person(id=person, organisation=organisation)),
        "keys": {**ROOT.keys, mine.id: held},
        "roles": {**ROOT.roles, role: Role(keys=keys, threshold=threshold)},
    }


def moved(person: str, organisation: str) -> dict[str, Any]:
    people = [
        msgspec.structs.replace(each, organisation=organisation) if each.id == person else each
        for each in ROOT.people
    ]
    return {"people": tuple(people)}


def witnesses(*organisations: str, quorum: int = 1) -> dict[str, Any]:
    made = [
        Witness(
            name=f"w{number}",
            vkey=CosignatureSigner(f"w{number}.example", _private(f"w{number}")).vkey,
            organisation=organisation,
            independent=True,
        )
        for number, organisation in enumerate(organisations)
    ]
    return {"witnesses": tuple(made), "witness_quorum": quorum}


def _private(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(seed(name))


def node(batch: str, requests: str) -> dict[str, Any]:
    more = Node(name="n2", batch_key=key(batch).public_text, requests_key=key(requests).public_text)
    return {"nodes": (*ROOT.nodes, more)}


def same_point_again() -> dict[str, Any]:
    """Enrol sam's safety key once more, as an SSH key of sue's, under an id of its own."""
    again = KeyId(sha256_digest(b"ssh:" + WORLD.keys["safety:sam"].public))
    held = msgspec.structs.replace(ROOT.keys[SAM], scheme=Scheme.SSHSIG, person="sue")
    roles = with_role("security", keys=(*ROOT.roles["security"].keys, again))
    return {"keys": {**ROOT.keys, again: held}, **roles}


def compressed_point() -> dict[str, Any]:
    point = P256Signer("any").public
    short = bytes([2 + (point[-1] & 1)]) + point[1:33]
    return with_key(scheme=Scheme.ECDSA_P256, public=encode_base64(short))


_LOG_AS_WITNESS = CosignatureSigner("witness.example", _private("log")).vkey

ROOTS = (
    Tampering("the root is signed by one of the two whom it asks for", rooted("root:olga"), "quorum_unmet"),
    Tampering("one of them signs it twice", rooted("root:olga", "root:olga"), "quorum_unmet"),
    Tampering("a key stands in two roles", rooted(
        **with_role("security", keys=(*ROOT.roles["security"].keys, SAM))
    ), "key_in_two_roles"),
    Tampering("a key stands in its role twice", rooted(**with_role("safety", keys=(SAM, SAM))), "key_in_two_roles"),
    Tampering("a person's key signs a node's batches", rooted(**node("safety:sam", "n2")), "key_in_two_roles"),
    Tampering("two nodes write their logs with one key", rooted(**node("n2", "requests")), "key_in_two_roles"),
    Tampering("a node has one key for batches and logs", rooted(**node("n2", "n2")), "key_in_two_roles"),
    Tampering("the log's key is a witness's too", rooted(
        witnesses=(msgspec.structs.replace(WITNESS, vkey=_LOG_AS_WITNESS),)
    ), "key_in_two_roles"),
    Tampering("a key has no role", rooted(
        **with_key(), roles={n: r for n, r in ROOT.roles.items() if n != "safety"}
    ), "bad_root"),
    Tampering("a key stands under another id than its digest", rooted(**with_key(
        public=key("other").public_text
    )), "bad_root"),
    Tampering("one key is enrolled for two people, by two schemes", rooted(**same_point_again()), "bad_root"),
    Tampering("a P-256 point is written in another form", rooted(**compressed_point()), "bad_public_key"),
    Tampering("a key is of small order", rooted(**with_key(
        public=encode_base64(b"\x01" + bytes(31))
    )), "bad_public_key"),
    Tampering("a passkey has no relying party", rooted(**with_key(scheme=Scheme.WEBAUTHN)), "bad_public_key"),
    Tampering("a role asks for more people than it has", rooted(**with_role("safety", threshold=2)), "bad_root"),
    Tampering("two overseers of one organisation are counted as two", rooted(
        **with_more("otto", "oversight.example", "overseer", 2)
    ), "bad_root"),
    Tampering("for comparison, two overseers of two: the root holds, and is another than the anchor", rooted(
        **with_more("otto", "second.example", "overseer", 2)
    ), "wrong_root"),
    Tampering("the overseer is of the operator's organisation", rooted(**moved("vera", "lab.example")), "overseer_inside"),
    Tampering("the overseer's organisation is the operator's in capitals", rooted(
        **moved("vera", "LAB.example")
    ), "organisation_spelling"),
    Tampering("one organisation with a blank more oversees as two", rooted(
        **with_more("otto", "oversight.example ", "overseer", 2)
    ), "organisation_spelling"),
    Tampering("an overseer has no organisation", rooted(**moved("vera", "")), "bad_root"),
    Tampering("the beacon is of the operator's organisation", rooted(
        **with_more("bea", "lab.example", "beacon", 1)
    ), "beacon_inside"),
    Tampering("for comparison, a beacon from outside: the root holds, and is another than the anchor", rooted(
        **with_more("bea", "uni.example", "beacon", 1)
    ), "wrong_root"),
    Tampering("a beacon asks for more organisations than it has", rooted(
        **with_more("bea", "uni.example", "beacon", 2)
    ), "bad_root"),
    Tampering("a beacon is asked at a plain address", rooted(
        beacon_urls=("http://uni.example/",), **with_more("bea", "uni.example", "beacon", 1)
    ), "bad_root"),
    Tampering("a witness is of the operator's organisation, in capitals", rooted(
        **witnesses("LAB.example")
    ), "witness_inside"),
    Tampering("two witnesses spell one organisation in two ways", rooted(
        **witnesses("a.example", "A.example")
    ), "witness_organisation"),
    Tampering("two witnesses of one organisation are counted as two", rooted(
        **witnesses("a.example", "a.example", quorum=2)
    ), "bad_root"),
    Tampering("a witness has no organisation", rooted(**witnesses(" ")), "bad_root"),
    Tampering("a witness's word may be no older than 59.999 s", rooted(witness_max_age_ms=59_999), "bad_root"),
    Tampering("orders are asked for at a plain address", rooted(order_urls=("http://oversight.example/",)), "bad_root"),
)  # fmt: skip
"""Another `root.json`, signed by the root role."""


# -- its successors -------------------------------------------------------------------------------


def succeeded(*names: str, at: int = 10, **changes: Any) -> Change:
    """Log a root with these changes after everything else, `at` ms later."""

    def change(path: Path, deployment: Deployment) -> None:
        world = deployment.world
        data = world.sign_root(world.root_payload(**{"version": 2, **changes}), *names)
        put(path / "files/sha256" / sha256_digest(data).removeprefix("sha256:"), data)
        header = EntryHeader(
            v=1,
            at=deployment.now + at,
            kind=EntryKind.ROOT,
            actor=("root",),
            body=sha256_digest(data),
            body_bytes=len(data),
            visibility=Visibility.PUBLIC,
            end=True,
        )
        relaid(path, deployment, [*deployment.leaves(), encode_json(header)])

    return change


MIXED = mixed()
_OPERATORS = ("root:olga", "root:lea")
"""Two of the root role's three, both of the operator's organisation."""
_BOTH = ("root:olga", "root:vera")


def _without_ida() -> dict[str, Any]:
    """Let one organisation's word be enough for the overseer's role."""
    gone = MIXED.keys["overseer:ida"].id
    kept = tuple(kid for kid in MIXED.root.roles["overseer"].keys if kid != gone)
    roles = {**MIXED.root.roles, "overseer": Role(keys=kept, threshold=1)}
    return {"roles": roles, "keys": {k: v for k, v in MIXED.root.keys.items() if k != gone}}


def _with_a_beacon() -> dict[str, Any]:
    mine = key("beacon:bea")
    held = Key(scheme=Scheme.ED25519, public=mine.public_text, person="bea")
    return {
        "people": (*MIXED.root.people, Person(id="bea", organisation="uni.example")),
        "keys": {**MIXED.root.keys, mine.id: held},
        "roles": {**MIXED.root.roles, "beacon": Role(keys=(mine.id,))},
    }


SUCCESSORS = (
    Tampering("a successor skips a version", succeeded(*_BOTH, version=3), "not_successor"),
    Tampering("a successor has the version of its predecessor", succeeded(
        *_BOTH, version=1, expires_at=NOW + 5_000_000
    ), "not_successor"),
    Tampering("a successor has another name", succeeded(*_BOTH, name="other.example"), "not_successor"),
    Tampering("a successor is signed by one person", succeeded("root:olga"), "quorum_unmet"),
    Tampering("a successor is signed by people of other roles", succeeded("operator:olga", "safety:sam"), "quorum_unmet"),
    Tampering("a successor had expired when it was logged", succeeded(
        *_BOTH, expires_at=NOW + 1
    ), "expired"),
    Tampering("a successor takes an overseer away, and no overseer's organisation signed", succeeded(
        *_OPERATORS, **_without_ida()
    ), "overseer_missing"),
    Tampering("a successor puts a beacon beside the overseer likewise", succeeded(
        *_OPERATORS, **_with_a_beacon()
    ), "overseer_missing"),
    Tampering("a successor takes the overseer's list of orders away likewise", succeeded(
        *_OPERATORS, order_urls=("https://elsewhere.example/",)
    ), "overseer_missing"),
    Tampering("a successor takes the overseer's own calls away likewise", succeeded(
        *_OPERATORS, own_calls_per_day=0
    ), "overseer_missing"),
)  # fmt: skip
"""A root logged after the first."""


# -- signatures by each scheme --------------------------------------------------------------------


def by(kind: EntryKind, *signers: tuple[str, SchemeSigner]) -> Change:
    """Sign the first entry of a kind anew: each of these names by this signer."""

    def make(data: bytes) -> bytes:
        # The id is that of the key in the root, whoever signs.
        keys = [_Under(PinnedSigner(mixed_signer(name)).id, signer) for name, signer in signers]
        return sign_envelope(payload_of(data), STATEMENT_TYPE, keys)

    return with_body(kind, make, actor=tuple(sorted(name for name, _ in signers)))


class _Under:
    """A signer that says it is the key of this id."""

    def __init__(self, kid: KeyId, signer: SchemeSigner) -> None:
        self.id = kid
        self._signer = signer

    def sign(self, message: bytes) -> bytes:
        return self._signer.sign(message)


def _raw(r: int, s: int) -> bytes:
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _certificate(olga: SchemeSigner | None = None, sam: SchemeSigner | None = None) -> Change:
    return by(
        EntryKind.CERTIFICATE,
        ("operator:olga", olga or mixed_signer("operator:olga")),
        ("safety:sam", sam or mixed_signer("safety:sam")),
    )


def _grant(**changes: Any) -> Change:
    return by(
        EntryKind.GRANT,
        ("admissions:ada", replace(PasskeySigner("admissions:ada", edwards=True), **changes)),
    )


def _order(**changes: Any) -> Change:
    return by(
        EntryKind.ORDER, ("stop:sam", replace(SshSigner("stop:sam", rp_id="ssh:"), **changes))
    )


_SAM = SshSigner("safety:sam")

SCHEME_ROWS = (
    Tampering("a P-256 signature has r and s without DER", _certificate(
        olga=P256Signer("operator:olga", spelled=_raw)
    ), "forged"),
    Tampering("a P-256 signature is by another key", _certificate(olga=P256Signer("stranger")), "forged"),
    Tampering("a P-256 key signs as a passkey", _certificate(olga=PasskeySigner("operator:olga")), "forged"),
    Tampering("an SSH signature is for Git", _certificate(sam=replace(_SAM, namespace=b"git")), "forged"),
    Tampering("an SSH signature is over SHA-256", _certificate(
        sam=replace(_SAM, hash_name=b"sha256", hashed_by="sha256")
    ), "forged"),
    Tampering("an SSH signature names the right key, and another signed", _certificate(
        sam=replace(_SAM, signed_by="stranger")
    ), "forged"),
    Tampering("an SSH key signs as a key file", _certificate(sam=PlainSigner("safety:sam")), "forged"),
    Tampering("an SSH key signs as a security key", _certificate(sam=replace(_SAM, rp_id="ssh:")), "forged"),
    Tampering("a security key was not touched", _order(flags=0), "forged"),
    Tampering("a security key signs for another application", _order(rp_id="ssh:other"), "forged"),
    Tampering("a passkey's holder was not verified", _grant(flags=0x01), "forged"),
    Tampering("a passkey says that it is backed up and cannot be", _grant(flags=0x15), "forged"),
    Tampering("a passkey signs for another relying party", _grant(signs_for="evil.example"), "forged"),
    Tampering("a passkey signs on another site", _grant(client={"origin": "https://evil.example"}), "forged"),
    Tampering("a passkey signs in another site's frame", _grant(client={"crossOrigin": True}), "forged"),
    Tampering("a passkey signs another challenge", _grant(client={"challenge": "eA"}), "forged"),
    Tampering("a passkey is made, not asked", _grant(client={"type": "webauthn.create"}), "forged"),
    Tampering("a passkey's assertion has a member more", _grant(beside={"userHandle": "eA"}), "forged"),
    Tampering("two overseers of one organisation sign where two organisations must", certified(
        "researchers", "safety:sam", "security:sue", "overseer:vera", "overseer:otto"
    ), "overseer_missing"),
    Tampering("for comparison, overseers of two: the quorum holds, and the checkpoint is of another log", certified(
        "researchers", "safety:sam", "security:sue", "overseer:vera", "overseer:ida"
    ), "wrong_after"),
)  # fmt: skip
"""Certificates, grants and orders signed anew."""
