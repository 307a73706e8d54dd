"""Dossiers made from nothing, or with a root slipped in before the true one, and what an anchor makes of them.

The forger has every name, plan and public key of the true deployment, and none of its private keys.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatelift.encoding import encode_json, sha256_digest
from gatelift.messages import releases_policy
from gatelift.tlog import CosignatureSigner, NoteSigner, format_policy
from gatelift.trust import Key, Node, Role, parse_root
from tests.integration.dossier_deployment import Deployment
from tests.support.tamperings import manifest
from tests.support.world import World, key, seed


class Forged(World):
    """The same people, names and plan; every key is the forger's own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.keys = {name: key(f"forged {name}") for name in self.keys}
        self.log = NoteSigner(self.log.name, _private("log"))
        self.witness = CosignatureSigner(self.witness.name, _private("witness"))
        payload = self.root_payload()
        self.root_envelope = self.sign_root(payload)
        self.root = parse_root(payload)
        self.root_digest = sha256_digest(self.root_envelope)


def _private(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(seed(f"forged {name}"))


@dataclass(frozen=True)
class Shown:
    """What an auditor has: a dossier, and an anchor that is none, a root's digest or a policy."""

    path: Path
    now_ms: int
    root: str | None = None
    policy: bytes | None = None


@dataclass(frozen=True)
class Forgery:
    """A forgery held against an anchor. `codes` are the codes of which one must be found."""

    what: str
    show: Callable[[Path], Shown]
    exit_code: int
    codes: tuple[str, ...] = ()


def _forged(home: Path) -> Shown:
    deployment = Deployment(home / "forged", Forged())
    deployment.tell_shortly()
    deployment.export(home / "dossier")
    return Shown(home / "dossier", deployment.now)


def _against_root(home: Path) -> Shown:
    return _changed(_forged(home), root=World().root_digest)


def _against_policy(home: Path) -> Shown:
    return _changed(_forged(home), policy=format_policy(releases_policy(World().root)))


def _changed(shown: Shown, **changes: object) -> Shown:
    return Shown(**{**vars(shown), **changes})  # type: ignore[arg-type]


def _with_true_root(home: Path) -> Shown:
    """Put the true root, and the manifest's word for it, into the forged folder."""
    shown = _against_root(home)
    true = World()
    (shown.path / "root.json").write_bytes(true.root_envelope)
    manifest(root=true.root_digest)(shown.path, Deployment(home / "any"))
    return shown


def _second_root() -> World:
    """Return a deployment whose log begins with root 2: an earlier one was never logged."""
    world = World()
    payload = world.root_payload(version=2)
    world.root = msgspec.structs.replace(world.root, version=2)
    world.root_envelope = world.sign_root(payload)
    world.root_digest = sha256_digest(world.root_envelope)
    return world


def _slipped_in(home: Path) -> tuple[Shown, World]:
    """Write a root 1 of the forger's before the true root 2, with a key of his for the node's logs.

    The true root role is in it too, so that root 2 is signed by both; one signature is enough for it.
    """
    world = _second_root()
    deployment = Deployment(home / "true", world)
    deployment.tell_shortly()
    deployment.export(home / "dossier")
    mine = key("forger")
    roles = dict(world.root.roles)
    roles["root"] = Role(keys=(*roles["root"].keys, mine.id), threshold=1)
    first = msgspec.structs.replace(
        world.root,
        version=1,
        keys={
            **world.root.keys,
            mine.id: Key(scheme="ed25519", public=mine.public_text, person="olga"),
        },
        roles=roles,
        nodes=(
            Node(
                name="n1",
                batch_key=key("forger's batches").public_text,
                requests_key=key("forger's requests log").public_text,
            ),
        ),
    )
    world.keys["root:forger"] = mine
    envelope = world.sign_root(encode_json(first), "root:forger")
    path = home / "dossier"
    (path / "root.json").write_bytes(envelope)
    manifest(root=sha256_digest(envelope))(path, deployment)
    return Shown(path, deployment.now), world


def _slipped_in_against_root(home: Path) -> Shown:
    shown, world = _slipped_in(home)
    return _changed(shown, root=world.root_digest)


def _slipped_in_against_policy(home: Path) -> Shown:
    shown, world = _slipped_in(home)
    return _changed(shown, policy=format_policy(releases_policy(world.root)))


def _late_true_root(home: Path) -> Shown:
    """Nothing is forged: the log begins with root 2, and root 2 is the anchor."""
    deployment = Deployment(home / "true", _second_root())
    deployment.tell_shortly()
    deployment.export(home / "dossier")
    shutil.rmtree(home / "true")
    return Shown(home / "dossier", deployment.now, root=deployment.world.root_digest)


FORGERIES = (
    Forgery("made from nothing, under the true names; no anchor", _forged, 3),
    Forgery("the same, against the true root's digest", _against_root, 1, ("wrong_root",)),
    Forgery("the same, against the true policy", _against_policy, 1, ("unsigned", "bad_signature")),
    Forgery(
        "the same, with the true `root.json` in the folder, against its digest", _with_true_root, 1
    ),
    Forgery(
        "a true log, before whose first root another one was slipped in, against the true root's digest",
        _slipped_in_against_root,
        3,
        ("root_not_vouched",),
    ),
    Forgery(
        "the same, against the true policy", _slipped_in_against_policy, 3, ("root_not_vouched",)
    ),
    Forgery("for comparison, that log without the other root", _late_true_root, 0),
)
