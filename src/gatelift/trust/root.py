"""The root of trust: who may sign what, and which logs, nodes and witnesses count.

Invariants
- Every key stands once, in one role, and belongs to one person.
- A person is one pseudonym in one organisation; a role asks for distinct people.
- The overseer's and the witnesses' organisation is never the operator's.
- The quorum of witnesses counts organisations (`witnesses`).
- Root N is signed by the root role of N-1 and by its own; versions rise by one.
- A root expires; an expired root verifies nothing.

Follows TUF 1.0.33 sections 5.3 (root rotation) and 6.1 (key distinctness), counted by key bytes.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gatelift.encoding import decode_json, parse_base64
from gatelift.terms import Assurance
from gatelift.trust.dsse import parse_envelope, verify_envelope
from gatelift.trust.errors import RootError
from gatelift.trust.keys import KeyId, key_id, parse_public_key
from gatelift.trust.witnesses import Witness, check_url, check_witnesses, same_organisation

__all__ = [
    "ROOT_TYPE",
    "UNPROVEN",
    "Key",
    "Node",
    "Person",
    "Role",
    "Root",
    "Signer",
    "assurance_of",
    "parse_root",
    "verify_root",
    "verify_signers",
]

ROOT_TYPE = "application/vnd.gatelift.root+json"
UNPROVEN = "unproven"
DEFAULT_WITNESS_MAX_AGE_MS = 86_400_000
_MIN_WITNESS_MAX_AGE_MS = 60_000
_MAX_ORDER_URLS = 8
KNOWN_ROLES = frozenset(
    {
        "root",
        "operator",
        "safety",
        "security",
        "overseer",
        "admissions",
        "evaluator",
        "control",
        "stop",
    }
)


class Person(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One stable pseudonym. `proof` is a digest of identity evidence, or `unproven`."""

    id: str
    organisation: str
    proof: str = UNPROVEN


class Key(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One public key (base64 of 32 bytes) of one person. `scheme` is `ed25519`."""

    scheme: str
    public: str
    person: str


class Role(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys that may sign in a role and how many distinct people it takes."""

    keys: tuple[KeyId, ...]
    threshold: int = 1


class Node(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An enrolled node: the key of its batches and the key of its requests logs, in base64."""

    name: str
    batch_key: str
    requests_key: str


class Root(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Roles, people, keys, logs, nodes and witnesses of one deployment. Times in ms UTC."""

    name: str
    version: int
    issued_at: int
    expires_at: int
    people: tuple[Person, ...]
    keys: dict[KeyId, Key]
    roles: dict[str, Role]
    releases_vkey: str
    nodes: tuple[Node, ...]
    witnesses: tuple[Witness, ...]
    witness_quorum: int
    order_urls: tuple[str, ...] = ()
    """Where overseers publish orders: each keeper asks there itself, past the operator's control."""
    witness_max_age_ms: int = DEFAULT_WITNESS_MAX_AGE_MS
    """How old a quorum's word on the newest head may be before nodes take no status that names it."""

    def public_keys(self) -> Mapping[KeyId, bytes]:
        """Return every key's bytes by id; `parse_root` has checked each of them."""
        return {kid: parse_base64(key.public) for kid, key in self.keys.items()}

    def role_of(self, kid: KeyId) -> str:
        """Return the one role of a key; raises `RootError` when it has none."""
        for name, role in self.roles.items():
            if kid in role.keys:
                return name
        raise RootError(f"key {kid[:24]} has no role in this root", code="no_role")

    def person(self, person_id: str) -> Person:
        """Return a person by pseudonym; raises `RootError`."""
        for person in self.people:
            if person.id == person_id:
                return person
        raise RootError(f"person {person_id!r} is not in this root")

    def node(self, name: str) -> Node:
        """Return an enrolled node by name; raises `RootError`."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise RootError(
            f"node {name!r} is not enrolled in this root: enrol it first", code="unknown_node"
        )


class Signer(msgspec.Struct, frozen=True, kw_only=True):
    """Who stands behind one verified signature."""

    key: KeyId
    person: str
    organisation: str
    role: str


def _check_keys(root: Root) -> None:
    people = {person.id for person in root.people}
    if len(people) != len(root.people):
        raise RootError("a person stands twice: give each person one pseudonym")
    for kid, key in root.keys.items():
        if key.scheme != "ed25519":
            raise RootError(f"key {kid[:24]}: expected scheme 'ed25519', got {key.scheme!r}")
        if key_id(parse_public_key(key.public)) != kid:
            raise RootError(f"key {kid[:24]} is not the digest of its own bytes")
        if key.person not in people:
            raise RootError(f"key {kid[:24]} belongs to {key.person!r}, who is not in the root")


def _check_roles(root: Root) -> None:
    seen: dict[KeyId, str] = {}
    for name, role in root.roles.items():
        if name not in KNOWN_ROLES:
            raise RootError(f"expected one of the roles {sorted(KNOWN_ROLES)}, got {name!r}")
        for kid in role.keys:
            if kid not in root.keys:
                raise RootError(f"role {name}: key {kid[:24]} is not in the root")
            if kid in seen:
                raise RootError(
                    f"key {kid[:24]} stands in two roles, {seen[kid]} and {name}: one key, one role",
                    code="key_in_two_roles",
                )
            seen[kid] = name
        people = {root.keys[kid].person for kid in role.keys}
        if not 1 <= role.threshold <= len(people):
            raise RootError(
                f"role {name}: threshold {role.threshold} asks for more than its "
                f"{len(people)} distinct people, or for none"
            )
    for name in ("root", "operator", "control"):
        if name not in root.roles:
            raise RootError(f"expected a role {name!r}, found none")


def _check_organisations(root: Root) -> None:
    def organisations(role: str) -> set[str]:
        held = root.roles.get(role)
        keys = held.keys if held else ()
        return {root.person(root.keys[kid].person).organisation for kid in keys}

    operator = organisations("operator")
    if organisations("overseer") & operator:
        raise RootError(
            "the overseer's organisation is the operator's: name an overseer from outside",
            code="overseer_inside",
        )
    if root.witness_max_age_ms < _MIN_WITNESS_MAX_AGE_MS:
        raise RootError(
            f"expected a witness_max_age_ms of {_MIN_WITNESS_MAX_AGE_MS} or more, "
            f"got {root.witness_max_age_ms}: witnesses must have time to answer"
        )
    check_witnesses(root.releases_vkey, root.witnesses, root.witness_quorum, operator)


def _check_order_urls(root: Root) -> None:
    if len(root.order_urls) > _MAX_ORDER_URLS:
        raise RootError(f"expected at most {_MAX_ORDER_URLS} order_urls")
    for url in root.order_urls:
        check_url(url, "order_urls")


def parse_root(payload: bytes) -> Root:
    """Return a consistent root from payload bytes; says nothing about who signed it."""
    root = decode_json(payload, Root)
    if root.version < 1 or root.expires_at <= root.issued_at:
        raise RootError("expected a version of 1 or more and an expiry after the issue")
    _check_keys(root)
    _check_roles(root)
    _check_organisations(root)
    _check_order_urls(root)
    return root


def _check_root_role(root: Root, signers: tuple[KeyId, ...], which: str) -> None:
    role = root.roles["root"]
    people = {root.keys[kid].person for kid in signers if kid in role.keys}
    if len(people) < role.threshold:
        raise RootError(
            f"{which} asks for {role.threshold} distinct people of the root role, "
            f"{len(people)} signed",
            code="quorum_unmet",
        )


def verify_root(data: bytes, now_ms: int, previous: Root | None = None) -> Root:
    """Return the root in the envelope `data`, signed by its own root role and the previous one's.

    Raises `RootError` with code `expired`, `quorum_unmet`, `not_successor` or `bad_root`.
    """
    root = parse_root(parse_envelope(data).unverified_payload())
    _, own = verify_envelope(data, ROOT_TYPE, root.public_keys())
    _check_root_role(root, own, f"root {root.version}")
    if previous is not None:
        if root.version != previous.version + 1 or root.name != previous.name:
            raise RootError(
                f"expected root {previous.version + 1} of {previous.name!r}, "
                f"got {root.version} of {root.name!r}",
                code="not_successor",
            )
        _, old = verify_envelope(data, ROOT_TYPE, previous.public_keys())
        _check_root_role(previous, old, f"root {previous.version}")
    if now_ms >= root.expires_at:
        raise RootError(f"root {root.version} has expired: sign its successor", code="expired")
    return root


def verify_signers(data: bytes, payload_type: str, root: Root) -> tuple[bytes, tuple[Signer, ...]]:
    """Return the payload of an envelope and who of this root signed it."""
    payload, keys = verify_envelope(data, payload_type, root.public_keys())
    signers = []
    for kid in keys:
        person = root.person(root.keys[kid].person)
        signers.append(
            Signer(
                key=kid,
                person=person.id,
                organisation=person.organisation,
                role=root.role_of(kid),
            )
        )
    return payload, tuple(signers)


def assurance_of(root: Root, signers: tuple[Signer, ...]) -> Assurance:
    """Return the level that these signers can give: said, never implied.

    `dev` while any signer's identity is unproven; `self` for people of the operator; `overseen`
    with a proven overseer from outside; `witnessed` where no quorum of witnesses is without an
    independent one, and independent ones alone can make it up.
    """
    if not signers or any(root.person(s.person).proof == UNPROVEN for s in signers):
        return Assurance.DEV
    if len({s.person for s in signers}) < 2:
        return Assurance.DEV
    if not any(s.role == "overseer" for s in signers):
        return Assurance.SELF
    # An organisation is as independent as the least of its witnesses, for any of them speaks for it.
    everybody = {same_organisation(w.organisation) for w in root.witnesses}
    inside = {same_organisation(w.organisation) for w in root.witnesses if not w.independent}
    if len(inside) < root.witness_quorum <= len(everybody - inside):
        return Assurance.WITNESSED
    return Assurance.OVERSEEN
