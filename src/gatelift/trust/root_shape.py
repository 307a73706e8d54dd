"""The shape of a root: people, keys, roles, nodes, witnesses, as they stand in its bytes.

Invariants
- A key's id is the digest of its point (`keys`), so that a point stands once in a root, whatever its
  scheme; `root_checks` refuses an id that is another's.
- Values here are read, not yet consistent: `root.parse_root` gives consistent ones.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gatelift.encoding import parse_base64
from gatelift.trust.errors import RootError
from gatelift.trust.keys import KeyId, Scheme, VerifyingKey
from gatelift.trust.witnesses import Witness

__all__ = ["UNPROVEN", "Key", "Node", "Person", "Role", "Root", "Signer"]

DEFAULT_WITNESS_MAX_AGE_MS = 86_400_000
UNPROVEN = "unproven"


class Person(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One stable pseudonym. `proof` is a digest of identity evidence, or `unproven`."""

    id: str
    organisation: str
    proof: str = UNPROVEN


class Key(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """One public key of one person: how it signs, and its point in base64 (`keys` says which).

    `rp_id` is the relying party of a `webauthn` key and the application of an SSH security key.
    """

    scheme: Scheme
    public: str
    person: str
    rp_id: str | None = None

    def verifying(self) -> VerifyingKey:
        """Return the key as signatures are verified with it; `check_root` judges its bytes."""
        return VerifyingKey(scheme=self.scheme, public=parse_base64(self.public), rp_id=self.rp_id)


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
    beacon_urls: tuple[str, ...] = ()
    """Where control asks for the signatures that `beacon` makes each status wait for."""
    witness_max_age_ms: int = DEFAULT_WITNESS_MAX_AGE_MS
    """How old a quorum's word on the newest head may be before nodes take no status that names it."""
    own_calls_per_day: int = 0
    """How many own calls each overseer organisation may make a UTC day; 0: none."""

    def verifying_keys(self) -> Mapping[KeyId, VerifyingKey]:
        """Return every key by id; `parse_root` has checked each of them."""
        return {kid: key.verifying() for kid, key in self.keys.items()}

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
