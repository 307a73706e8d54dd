"""The root of trust against the list of what TUF clients must withstand, and every quorum trick.

Rows follow the updater tests of the TUF conformance suite (root rotation, thresholds, expiry, rollback,
freeze, fast-forward) as far as they are about roots, and CVE-2020-6174 and its kin (one key that is
counted twice). Each row says what is done to a good chain and which code refuses it; null means that
it holds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gatelift.encoding import decode_json, encode_base64, encode_json
from gatelift.errors import CallerError
from gatelift.tlog import CosignatureSigner
from gatelift.trust import (
    ROOT_TYPE,
    STATEMENT_TYPE,
    Key,
    Order,
    Person,
    Role,
    Root,
    Scheme,
    Signer,
    SigningKey,
    Target,
    TargetKind,
    Witness,
    assurance_of,
    key_id,
    parse_root,
    sign_envelope,
    verify_certificate,
    verify_order,
    verify_quorum,
    verify_root,
    verify_root_chain,
)
from gatelift.trust.dsse import Envelope, verify_envelope
from tests.support.world import HOUR, NOW, World, digest_of, key, seed


@functools.cache
def world() -> World:
    return World()


def changed(base: Root | None = None, **changes: Any) -> Root:
    return msgspec.structs.replace(base or world().root, **changes)


def signed(root: Root, *keys: SigningKey, kind: str = ROOT_TYPE) -> bytes:
    chosen = keys or (key("root:olga"), key("root:vera"))
    return sign_envelope(encode_json(root), kind, chosen)


def entry(signer: SigningKey, person: str, scheme: Scheme = Scheme.ED25519) -> Key:
    return Key(scheme=scheme, public=signer.public_text, person=person)


def rotated(role: str, old: SigningKey, new: SigningKey, person: str, **changes: Any) -> Root:
    """The next root, in which `new` stands in a role where `old` stood."""
    base = world().root
    keys = {kid: held for kid, held in base.keys.items() if kid != old.id}
    kept = tuple(new.id if kid == old.id else kid for kid in base.roles[role].keys)
    roles = base.roles | {role: msgspec.structs.replace(base.roles[role], keys=kept)}
    keys[new.id] = entry(new, person)
    return changed(keys=keys, roles=roles, version=2, **changes)


def outcome(call: Callable[[], object]) -> str | None:
    try:
        call()
    except CallerError as error:
        return error.code
    return None


OLGA, VERA, NEW = key("root:olga"), key("root:vera"), key("a fresh root key")


def next_root(root: Root, *keys: SigningKey, now: int = NOW) -> str | None:
    return outcome(lambda: verify_root(signed(root, *keys), now, world().root))


def after_a_lost_key() -> Root:
    return rotated("root", OLGA, NEW, "olga")


SUCCESSION: dict[str, tuple[Callable[[], str | None], str | None]] = {
    "the next version": (lambda: next_root(changed(version=2)), None),
    "signed by the old threshold only": (lambda: next_root(after_a_lost_key(), OLGA, VERA), "quorum_unmet"),
    "signed by the new threshold only": (lambda: next_root(after_a_lost_key(), NEW, VERA), "quorum_unmet"),
    "signed by both thresholds": (lambda: next_root(after_a_lost_key(), OLGA, NEW, VERA), None),
    "a version skipped": (lambda: next_root(changed(version=3)), "not_successor"),
    "rollback to the version before": (
        lambda: outcome(
            lambda: verify_root(signed(changed(version=1)), NOW, changed(version=2))
        ),
        "not_successor",
    ),
    "the same version with other bytes": (
        lambda: next_root(changed(version=1, witness_quorum=0)),
        "not_successor",
    ),
    "the very same root": (lambda: next_root(changed()), "not_successor"),
    "fast-forward to the end of numbers": (lambda: next_root(changed(version=2**53 - 1)), "not_successor"),
    "version 0": (lambda: next_root(changed(version=0)), "bad_root"),
    "a negative version": (lambda: next_root(changed(version=-1)), "bad_root"),
    "another name": (lambda: next_root(changed(version=2, name="other.example")), "not_successor"),
    "expired when used": (
        lambda: next_root(changed(version=2), now=world().root.expires_at),
        "expired",
    ),
    "the last millisecond": (
        lambda: next_root(changed(version=2), now=world().root.expires_at - 1),
        None,
    ),
    "expires before it is issued": (
        lambda: next_root(changed(version=2, expires_at=NOW - 2 * HOUR)),
        "bad_root",
    ),
    "another payload type": (
        lambda: outcome(
            lambda: verify_root(signed(changed(version=2), kind=STATEMENT_TYPE), NOW, world().root)
        ),
        "wrong_type",
    ),
    "by strangers": (lambda: next_root(changed(version=2), key("x"), key("y")), "unknown_signers"),
    "strangers beside the quorum are ignored": (
        lambda: next_root(changed(version=2), key("x"), OLGA, VERA),
        None,
    ),
    "other roles beside one root key": (
        lambda: next_root(changed(version=2), OLGA, key("operator:olga"), key("overseer:vera")),
        "quorum_unmet",
    ),
    "a threshold of none": (
        lambda: next_root(
            changed(version=2, roles=world().root.roles | {"root": Role(keys=(OLGA.id, VERA.id), threshold=0)})
        ),
        "bad_root",
    ),
    "a threshold beyond the people": (
        lambda: next_root(
            changed(version=2, roles=world().root.roles | {"root": Role(keys=(OLGA.id, VERA.id), threshold=3)})
        ),
        "bad_root",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SUCCESSION)
def test_only_the_signed_next_root_follows(name: str) -> None:
    done, code = SUCCESSION[name]
    assert done() == code


# --- a chain: who was away for long ------------------------------------------------------------


def chain(*changes: dict[str, Any]) -> list[bytes]:
    return [signed(changed(version=n, **each)) for n, each in enumerate(changes, start=2)]


def walk(successors: list[bytes], now: int = NOW) -> str | None:
    return outcome(lambda: verify_root_chain(world().root, successors, now))


PAST = {"expires_at": NOW - 1}
CHAINS: dict[str, tuple[Callable[[], str | None], str | None]] = {
    "nothing newer": (lambda: walk([]), None),
    "nothing newer, and ours expired: a freeze shows": (
        lambda: walk([], world().root.expires_at), "expired"),
    "one by one to the last": (lambda: walk(chain({}, {}, {})), None),
    "an expired root on the way": (lambda: walk(chain(PAST, PAST, {})), None),
    "an expired root at the end": (lambda: walk(chain({}, PAST)), "expired"),
    "one left out": (lambda: walk([chain({}, {}, {})[n] for n in (0, 2)]), "not_successor"),
    "one twice": (lambda: walk([chain({})[0], chain({})[0]]), "not_successor"),
    "backwards": (lambda: walk(chain({}, {})[::-1]), "not_successor"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_is_walked_root_by_root(name: str) -> None:
    done, code = CHAINS[name]
    assert done() == code


def test_the_end_of_a_chain_is_what_is_in_force() -> None:
    assert verify_root_chain(world().root, chain({}, {}), NOW).version == 3


def test_an_old_root_that_is_still_signed_does_not_replace_a_newer_one() -> None:
    """Whoever uses a root remembers it; against that memory the old one is no successor."""
    second = verify_root(signed(changed(version=2)), NOW, world().root)
    assert outcome(lambda: verify_root(world().root_envelope, NOW)) is None
    assert outcome(lambda: verify_root(world().root_envelope, NOW, second)) == "not_successor"


# --- one key, one vote -------------------------------------------------------------------------


def with_root_role(keys: dict[str, Key], ids: tuple[str, ...], threshold: int = 2) -> bytes:
    base = world().root
    others = {kid: held for kid, held in base.keys.items() if kid not in base.roles["root"].keys}
    roles = {name: msgspec.to_builtins(role) for name, role in base.roles.items()}
    roles["root"] = {"keys": list(ids), "threshold": threshold}
    raw = msgspec.to_builtins(base) | {"roles": roles}
    raw["keys"] = msgspec.to_builtins(others) | msgspec.to_builtins(keys)
    return encode_json(raw)


def _p256() -> tuple[str, Key, Key]:
    public = ec.derive_private_key(5, ec.SECP256R1()).public_key()
    point = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    short = public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    made = Key(scheme=Scheme.ECDSA_P256, public=encode_base64(point), person="olga")
    return (
        key_id(point),
        made,
        msgspec.structs.replace(made, public=encode_base64(short), person="vera"),
    )


def _unlike(text: str) -> str:
    return "sha256:" + text.removeprefix("sha256:").upper()


COUNTED_TWICE: dict[str, Callable[[], bytes]] = {
    "the same key under another id": lambda: with_root_role(
        {OLGA.id: entry(OLGA, "olga"), digest_of("x"): entry(OLGA, "vera")}, (OLGA.id, digest_of("x"))
    ),
    "the same key under its id in capitals": lambda: with_root_role(
        {OLGA.id: entry(OLGA, "olga"), _unlike(OLGA.id): entry(OLGA, "vera")},
        (OLGA.id, _unlike(OLGA.id)),
    ),
    "the same key under two schemes": lambda: with_root_role(
        {OLGA.id: entry(OLGA, "olga"), digest_of("y"): entry(OLGA, "vera", Scheme.SSHSIG)},
        (OLGA.id, digest_of("y")),
    ),
    "the same point, compressed": lambda: with_root_role(
        {_p256()[0]: _p256()[1], digest_of("z"): _p256()[2]}, (_p256()[0], digest_of("z"))
    ),
    "one id twice in the bytes": lambda: with_root_role(
        {OLGA.id: entry(OLGA, "olga"), VERA.id: entry(VERA, "vera")}, (OLGA.id, VERA.id)
    ).replace(b'"keys":{', b'"keys":{"%b":{"scheme":"sshsig","public":"%b","person":"vera"},' % (
        OLGA.id.encode(), OLGA.public_text.encode())),
    "one id twice in a role": lambda: with_root_role(
        {OLGA.id: entry(OLGA, "olga"), VERA.id: entry(VERA, "vera")}, (OLGA.id, OLGA.id, VERA.id)
    ),
    "two keys of one person": lambda: with_root_role(
        {OLGA.id: entry(OLGA, "olga"), NEW.id: entry(NEW, "olga")}, (OLGA.id, NEW.id)
    ),
    "a key without a role": lambda: with_root_role(
        {OLGA.id: entry(OLGA, "olga"), VERA.id: entry(VERA, "vera"), NEW.id: entry(NEW, "sam")},
        (OLGA.id, VERA.id),
    ),
    "a scheme that nobody knows": lambda: with_root_role(
        {OLGA.id: entry(OLGA, "olga"), VERA.id: entry(VERA, "vera")}, (OLGA.id, VERA.id)
    ).replace(b'"ed25519"', b'"none"', 1),
    "a person who is not there": lambda: with_root_role(
        {OLGA.id: entry(OLGA, "olga"), VERA.id: entry(VERA, "nobody")}, (OLGA.id, VERA.id)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTED_TWICE)
def test_a_root_in_which_one_key_or_person_would_count_twice_is_refused(name: str) -> None:
    payload = COUNTED_TWICE[name]()
    with pytest.raises(CallerError):
        parse_root(payload)


def test_the_root_that_the_tricks_bend_is_a_good_one() -> None:
    keys = {OLGA.id: entry(OLGA, "olga"), VERA.id: entry(VERA, "vera")}
    assert parse_root(with_root_role(keys, (OLGA.id, VERA.id))) == world().root


def _machine(**changes: Any) -> Root:
    base = world().root
    return changed(nodes=(msgspec.structs.replace(base.nodes[0], **changes),))


def _witness(name: str, seeded: str, organisation: str) -> Witness:
    signer = CosignatureSigner(name, Ed25519PrivateKey.from_private_bytes(seed(seeded)))
    return Witness(name=name, vkey=signer.vkey, organisation=organisation, independent=True)


ONE_KEY_TWO_USES: dict[str, tuple[Callable[[], Root], str]] = {
    "a person's key signs batches": (
        lambda: _machine(batch_key=key("safety:sam").public_text),
        "key_in_two_roles",
    ),
    "one key for batches and log": (
        lambda: _machine(batch_key=key("requests").public_text),
        "key_in_two_roles",
    ),
    "the witness is the log": (
        lambda: changed(witnesses=(_witness("w.example", "log", "w.example"),)),
        "key_in_two_roles",
    ),
    "two witnesses of one organisation as two": (
        lambda: changed(
            witnesses=(_witness("a", "wa", "w.example"), _witness("b", "wb", "w.example")),
            witness_quorum=2,
        ),
        "bad_root",
    ),
    "one witness under two names": (
        lambda: changed(
            witnesses=(_witness("a", "wa", "a.example"), _witness("b", "wa", "b.example"))
        ),
        "key_in_two_roles",
    ),
    "one node twice": (lambda: changed(nodes=world().root.nodes * 2), "key_in_two_roles"),
    "two nodes of one name": (
        lambda: changed(
            nodes=(
                *world().root.nodes,
                *_machine(
                    batch_key=key("b2").public_text, requests_key=key("r2").public_text
                ).nodes,
            )
        ),
        "bad_root",
    ),
}


@pytest.mark.parametrize("name", ONE_KEY_TWO_USES)
def test_one_key_serves_one_thing(name: str) -> None:
    made, code = ONE_KEY_TWO_USES[name]
    assert outcome(lambda: parse_root(encode_json(made()))) == code


# --- signatures that are told twice ------------------------------------------------------------


def _envelope(data: bytes) -> Envelope:
    return decode_json(data, Envelope)


def repeated(data: bytes, *order: int, **changes: str) -> bytes:
    found = _envelope(data)
    signatures = tuple(
        msgspec.structs.replace(found.signatures[n], **(changes if place else {}))
        for place, n in enumerate(order)
    )
    return encode_json(msgspec.structs.replace(found, signatures=signatures))


ONE = signed(changed(version=2), OLGA)
TOLD_TWICE: dict[str, tuple[Callable[[], bytes], str]] = {
    "the same signature twice": (lambda: repeated(ONE, 0, 0), "quorum_unmet"),
    "the same signature under another's id": (lambda: repeated(ONE, 0, 0, keyid=VERA.id), "forged"),
    "the same signature under no id": (lambda: repeated(ONE, 0, 0, keyid=""), "quorum_unmet"),
    "the same signature under its id in capitals": (
        lambda: repeated(ONE, 0, 0, keyid=_unlike(OLGA.id)),
        "quorum_unmet",
    ),
    "a second signature that does not hold": (
        lambda: repeated(signed(changed(version=2)), 0, 1, sig=encode_base64(bytes(64))),
        "forged",
    ),
}


@pytest.mark.parametrize("name", TOLD_TWICE)
def test_a_signature_counts_once(name: str) -> None:
    data, code = TOLD_TWICE[name]
    assert outcome(lambda: verify_root(data(), NOW, world().root)) == code


def test_a_signer_is_named_once_however_often_it_signed() -> None:
    keys = world().root.verifying_keys()
    twice = repeated(signed(changed()), 0, 1, 0, 1)
    assert verify_envelope(twice, ROOT_TYPE, keys)[1] == (OLGA.id, VERA.id)


# --- lost and compromised keys -----------------------------------------------------------------


SAM, SAM_NEW = key("safety:sam"), key("sam's next key")


def without_sams_key() -> Root:
    return verify_root(signed(rotated("safety", SAM, SAM_NEW, "sam")), NOW, world().root)


def judged(data: bytes, root: Root, now: int = NOW) -> str | None:
    held = world()
    return outcome(
        lambda: verify_certificate(
            data,
            root=root,
            plan=held.plan,
            plan_digest=held.plan_digest,
            fingerprint=held.fingerprint,
            now_ms=now,
        )
    )


def test_a_removed_key_certifies_nothing_any_more() -> None:
    data = world().signed_certificate("researchers")
    assert judged(data, world().root) is None
    assert judged(data, without_sams_key()) == "quorum_unmet"


def test_a_removed_key_stops_nothing_any_more_and_the_new_one_does() -> None:
    stop = Order(
        id="order_1",
        release=world().plan.name,
        target=Target(kind=TargetKind.RELEASE, name=world().plan.name),
        ceiling=None,
        reasons=("harm",),
        at=NOW,
    )
    data = world().sign("order", stop, "safety:sam")
    assert outcome(lambda: verify_order(data, world().root)) is None
    assert outcome(lambda: verify_order(data, without_sams_key())) == "unknown_signers"


def test_after_a_lost_key_the_rest_of_the_quorum_re_signs_the_root() -> None:
    """Three of the root role, two must sign: one key may be lost, two may not."""
    third = key("root:sam")
    base = world().root
    role = Role(keys=(*base.roles["root"].keys, third.id), threshold=2)
    three = parse_root(
        encode_json(
            changed(
                keys=base.keys | {third.id: entry(third, "sam")}, roles=base.roles | {"root": role}
            )
        )
    )
    keys = {kid: held for kid, held in three.keys.items() if kid != OLGA.id}
    keys[NEW.id] = entry(NEW, "olga")
    renewed = Role(keys=(NEW.id, VERA.id, third.id), threshold=2)
    after = changed(three, version=2, keys=keys, roles=three.roles | {"root": renewed})
    assert outcome(lambda: verify_root(signed(after, VERA, third), NOW, three)) is None
    assert outcome(lambda: verify_root(signed(after, third), NOW, three)) == "quorum_unmet"
    # The lost key, in a stranger's hands, with one accomplice: the new root does not know it.
    assert outcome(lambda: verify_root(signed(after, OLGA, third), NOW, three)) == "quorum_unmet"


def test_a_certificate_ends_with_its_root() -> None:
    data = world().signed_certificate("researchers")
    end = world().certificate("researchers").not_after
    assert judged(data, changed(expires_at=end)) is None
    assert judged(data, changed(expires_at=end - 1)) == "outlives_root"


def test_two_keys_of_one_person_are_one_vote() -> None:
    base = world().root
    role = Role(keys=(OLGA.id, NEW.id, VERA.id), threshold=2)
    after = changed(
        version=2,
        keys=base.keys | {NEW.id: entry(NEW, "olga")},
        roles=base.roles | {"root": role},
    )
    third = changed(after, version=3)
    second = verify_root(signed(after, OLGA, VERA), NOW, base)
    assert outcome(lambda: verify_root(signed(third, OLGA, NEW), NOW, second)) == "quorum_unmet"
    assert outcome(lambda: verify_root(signed(third, NEW, VERA), NOW, second)) is None


# --- the overseer ------------------------------------------------------------------------------


def _without_vera_in_the_root() -> Root:
    """A root whose root role is the operator's own: its overseer is only in its own role."""
    base = world().root
    keys = {kid: held for kid, held in base.keys.items() if kid != VERA.id}
    keys[NEW.id] = entry(NEW, "sam")
    roles = base.roles | {"root": Role(keys=(OLGA.id, NEW.id), threshold=2)}
    return parse_root(encode_json(changed(keys=keys, roles=roles)))


OVERSEER, NEXT_OVERSEER = key("overseer:vera"), key("the next overseer's")


def _other_overseer(base: Root, **changes: Any) -> Root:
    keys = {kid: held for kid, held in base.keys.items() if kid != OVERSEER.id}
    keys[NEXT_OVERSEER.id] = entry(NEXT_OVERSEER, "nora")
    people = (*base.people, Person(id="nora", organisation="nora.example"))
    roles = base.roles | {"overseer": Role(keys=(NEXT_OVERSEER.id,))}
    return changed(base, version=2, keys=keys, people=people, roles=roles, **changes)


CHANGES_OF_OVERSEER: dict[str, Callable[[Root], Root]] = {
    "another overseer": _other_overseer,
    "no overseer": lambda base: changed(
        base,
        version=2,
        keys={kid: held for kid, held in base.keys.items() if kid != OVERSEER.id},
        roles={name: role for name, role in base.roles.items() if name != "overseer"},
        own_calls_per_day=0,
    ),
    "her organisation": lambda base: changed(
        base,
        version=2,
        people=tuple(
            msgspec.structs.replace(p, organisation="friend.example") if p.id == "vera" else p
            for p in base.people
        ),
    ),
    "where she publishes orders": lambda base: changed(
        base, version=2, order_urls=("https://friend.example/orders",)
    ),
    "how often she calls unannounced": lambda base: changed(base, version=2, own_calls_per_day=0),
}


@pytest.mark.parametrize("name", CHANGES_OF_OVERSEER)
def test_who_changes_the_overseer_needs_the_overseers_signature(name: str) -> None:
    base = _without_vera_in_the_root()
    after = CHANGES_OF_OVERSEER[name](base)

    def by(*keys: SigningKey) -> str | None:
        return outcome(lambda: verify_root(signed(after, *keys), NOW, base))

    assert by(OLGA, NEW) == "overseer_missing"
    assert by(OLGA, NEW, NEXT_OVERSEER) == "overseer_missing"
    assert by(OLGA, NEW, key("safety:sam")) == "overseer_missing"
    assert by(OLGA, NEW, OVERSEER) is None
    # It adds a voice; it takes the place of none.
    assert by(OLGA, OVERSEER) == "quorum_unmet"


def test_a_root_that_leaves_the_overseer_alone_does_not_need_her() -> None:
    base = _without_vera_in_the_root()
    after = changed(base, version=2, expires_at=base.expires_at + HOUR)
    assert outcome(lambda: verify_root(signed(after, OLGA, NEW), NOW, base)) is None


# --- counting a quorum -------------------------------------------------------------------------


def voice(role: str, person: str, organisation: str = "o.example") -> Signer:
    return Signer(
        key=key_id(f"{role}{person}".encode()), person=person, organisation=organisation, role=role
    )


def counted(thresholds: dict[str, int], roles: tuple[str, ...], *signers: Signer) -> str | None:
    held = {name: Role(keys=(), threshold=count) for name, count in thresholds.items()}
    root = changed(roles=world().root.roles | held)
    return outcome(lambda: verify_quorum(root, signers, roles))


TWO = ("safety", "security")
QUORA: dict[str, tuple[Callable[[], str | None], str | None]] = {
    "each role its person": (
        lambda: counted({}, TWO, voice("safety", "a"), voice("security", "b")), None),
    "one person in both": (
        lambda: counted({}, TWO, voice("safety", "a"), voice("security", "a")), "person_twice"),
    "one in both beside another who frees one": (
        lambda: counted(
            {}, TWO, voice("safety", "a"), voice("security", "a"), voice("security", "b")), None),
    "two keys of one person in one role": (
        lambda: counted({"safety": 2}, ("safety",), voice("safety", "a"), voice("safety", "a")),
        "quorum_unmet"),
    "two of three roles by one of two": (
        lambda: counted(
            {"safety": 2}, TWO, voice("safety", "a"), voice("safety", "b"), voice("security", "a")),
        "person_twice"),
    "a role that the root lacks": (
        lambda: counted({}, ("nobody",), voice("safety", "a")), "quorum_unmet"),
    "no overseer": (
        lambda: counted({}, ("safety", "overseer"), voice("safety", "a"), voice("safety", "b")),
        "overseer_missing"),
    "two overseers of one organisation": (
        lambda: counted({"overseer": 2}, ("overseer",), voice("overseer", "a"), voice("overseer", "b")),
        "overseer_missing"),
    "two overseers of two organisations": (
        lambda: counted(
            {"overseer": 2}, ("overseer",),
            voice("overseer", "a"), voice("overseer", "b", "p.example")), None),
    "an overseer who is needed elsewhere": (
        lambda: counted(
            {"overseer": 2}, ("safety", "overseer"),
            voice("safety", "a"), voice("overseer", "a"), voice("overseer", "b", "p.example")),
        "person_twice"),
    "another of her organisation in her place": (
        lambda: counted(
            {"overseer": 2}, ("safety", "overseer"),
            voice("safety", "a"), voice("overseer", "a"), voice("overseer", "c"),
            voice("overseer", "b", "p.example")), None),
}  # fmt: skip


@pytest.mark.parametrize("name", QUORA)
def test_a_quorum_counts_roles_people_and_organisations(name: str) -> None:
    done, code = QUORA[name]
    assert done() == code


def test_a_quorum_of_many_is_counted_at_once() -> None:
    """Twelve of thirty: to try every choice would take longer than anybody waits."""
    names = [f"p{n}" for n in range(30)]
    everyone = (*(voice("safety", n) for n in names), *(voice("security", n) for n in names[:11]))
    thresholds = {"safety": 12, "security": 11}
    assert counted(thresholds, TWO, *everyone) is None
    few = (*(voice("safety", n) for n in names[:12]), *(voice("security", n) for n in names[:11]))
    assert counted(thresholds, TWO, *few) == "person_twice"


def test_an_overseers_threshold_counts_organisations() -> None:
    base = world().root
    second = key("overseer:wim")
    keys = base.keys | {second.id: entry(second, "wim")}
    roles = base.roles | {"overseer": Role(keys=(OVERSEER.id, second.id), threshold=2)}

    def of(organisation: str) -> str | None:
        people = (*base.people, Person(id="wim", organisation=organisation))
        made = changed(keys=keys, roles=roles, people=people)
        return outcome(lambda: parse_root(encode_json(made)))

    assert of("oversight.example") == "bad_root"
    assert of("second.example") is None


def test_witnessed_is_said_only_where_every_witness_is_independent() -> None:
    proven = World(proof=digest_of("passport"))
    signers = (
        voice("safety", "sam", "lab.example"), voice("overseer", "vera", "oversight.example")
    )  # fmt: skip
    own = msgspec.structs.replace(proven.root.witnesses[0], name="own", independent=False)
    foreign = _witness("a", "wa", "a.example")

    def level(*witnesses: Witness) -> str:
        root = changed(proven.root, witnesses=witnesses, witness_quorum=1)
        return assurance_of(root, signers).value

    assert level(foreign) == "witnessed"
    assert level(foreign, own) == "overseen"
