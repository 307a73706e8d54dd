"""Deployments whose people sign by other schemes than a key file, with a quorum that can be tricked.

Beside the people of `World` the root role has lea, any two of three, and three people oversee for two
organisations, both of which are needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from gatelift.encoding import decode_json, encode_base64, encode_json, sha256_digest
from gatelift.trust import Key, KeyId, Person, Role, Root, Scheme, parse_root
from tests.support.signers import (
    P256Signer,
    PasskeySigner,
    PlainSigner,
    SchemeSigner,
    SshSigner,
)
from tests.support.world import World

__all__ = ["SCHEMES", "PinnedSigner", "SchemeWorld", "mixed", "mixed_signer"]

SCHEMES: dict[str, Callable[[str], SchemeSigner]] = {
    "ed25519": PlainSigner,
    "ecdsa-p256": P256Signer,
    "sshsig": SshSigner,
    "sshsig by a security key": lambda name: SshSigner(name, rp_id="ssh:"),
    "webauthn on P-256": PasskeySigner,
    "webauthn on Ed25519": lambda name: PasskeySigner(name, edwards=True),
}
_MORE = {
    "root": ("root:lea",),
    "overseer": ("overseer:otto", "overseer:ida"),
}
_PEOPLE = {"lea": "lab.example", "otto": "oversight.example", "ida": "second.example"}
_MIXED = {
    "root:olga": "sshsig by a security key",
    "root:vera": "webauthn on Ed25519",
    "root:lea": "ecdsa-p256",
    "operator:olga": "ecdsa-p256",
    "safety:sam": "sshsig",
    "overseer:vera": "webauthn on P-256",
    "admissions:ada": "webauthn on Ed25519",
    "stop:sam": "sshsig by a security key",
}


@dataclass(frozen=True)
class PinnedSigner:
    """A signer as envelopes and roots want it: with the id of its point."""

    made: SchemeSigner

    @property
    def id(self) -> KeyId:
        return KeyId(f"sha256:{hashlib.sha256(self.made.public).hexdigest()}")

    @property
    def public_text(self) -> str:
        return encode_base64(self.made.public)

    def sign(self, message: bytes) -> bytes:
        return self.made.sign(message)

    def entry(self, person: str) -> Key:
        """Return this key as a root has it."""
        made = self.made
        return Key(
            scheme=Scheme(made.scheme), public=self.public_text, person=person, rp_id=made.rp_id
        )


@dataclass
class SchemeWorld(World):
    """Everybody signs as `signer` says; control, which is a machine, by its key file."""

    signer: Callable[[str], SchemeSigner] = PlainSigner

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [*self.keys, *(name for more in _MORE.values() for name in more)]
        made = {
            name: (PlainSigner if name == "control:machine" else self.signer)(name)
            for name in names
        }
        self.keys = {name: PinnedSigner(signer) for name, signer in made.items()}  # type: ignore[misc]
        payload = self.root_payload()
        self.root = parse_root(payload)
        self.root_envelope = self.sign_root(payload)
        self.root_digest = sha256_digest(self.root_envelope)

    def root_payload(self, **changes: Any) -> bytes:
        if "root:lea" not in self.keys:
            return super().root_payload(**changes)
        plain = decode_json(super().root_payload(), Root)
        more = {
            "keys": {k.id: k.entry(n.split(":")[1]) for n, k in self._pinned().items()},
            "roles": {
                **plain.roles,
                **{role: self._widened(plain.roles[role], names) for role, names in _MORE.items()},
            },
            "people": (*plain.people, *(Person(id=p, organisation=o) for p, o in _PEOPLE.items())),
        }
        return encode_json(msgspec.structs.replace(plain, **{**more, **changes}))

    def _pinned(self) -> Mapping[str, PinnedSigner]:
        return {n: k for n, k in self.keys.items() if isinstance(k, PinnedSigner)}

    def _widened(self, role: Role, names: tuple[str, ...]) -> Role:
        more = tuple(self.keys[name].id for name in names)
        return Role(keys=(*role.keys, *more), threshold=2)


def mixed_signer(name: str) -> SchemeSigner:
    """Return how each person of the mixed deployment signs."""
    return SCHEMES[_MIXED.get(name, "ed25519")](name)


def mixed() -> SchemeWorld:
    """Return a deployment in which people sign by all four schemes side by side."""
    return SchemeWorld(signer=mixed_signer)
