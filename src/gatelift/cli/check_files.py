"""Checks of a deployment's files: root, keys and their modes, tokens, plan, disk."""

from __future__ import annotations

import os
import shutil
import stat

from gatelift.cli.checkup import Checkup
from gatelift.cli.desk import now_ms
from gatelift.cli.layout import Deployment
from gatelift.cli.output import ago, at_text
from gatelift.encoding import Digest, decode_json, parse_digest, sha256_digest
from gatelift.plan import parse_plan
from gatelift.tlog import NoteSigner
from gatelift.trust import Root, parse_public_key, unverified_root, verify_root
from gatelift.wire.files import FileStore, replace_durably
from gatelift.wire.keyfiles import load_private_key, load_signing_key

__all__ = ["check_files"]

_SOON_MS = 14 * 24 * 3_600_000
_LOW_DISK_BYTES = 500_000_000
_MACHINE_KEYS = frozenset({"control", "releases-log", "witness", "upstream", "developer-api"})


def check_files(deployment: Deployment, checkup: Checkup) -> Root | None:
    """Check everything that can be seen without a process; return the root, expired or not."""
    root: Root | None = None
    with checkup.looking("root", "restore root.json and root.sha256 from the ceremony"):
        root = _check_root(deployment, checkup)
    if root is not None:
        with checkup.looking("keys", "restore the key that the root names"):
            _check_keys(deployment, root, checkup)
    with checkup.looking("modes", "chmod 600 the files in keys/"):
        _check_modes(deployment, checkup)
    with checkup.looking("tokens", "restore keys/admin-tokens.json from the ceremony"):
        tokens = decode_json(deployment.read("keys/admin-tokens.json"), dict[str, str])
        for digest in tokens.values():
            parse_digest(digest)
        checkup.ok("tokens", ", ".join(sorted(tokens)))
    with checkup.looking("plan", "`gatelift plan check` says what to write instead"):
        if deployment.path("plan.yaml").exists():
            plan = parse_plan(deployment.read("plan.yaml"))
            checkup.ok("plan", f"{plan.name}, {len(plan.stages)} stages")
    with checkup.looking("disk", "make the folder writable for this user, or free some space"):
        _check_disk(deployment, checkup)
    return root


def _check_root(deployment: Deployment, checkup: Checkup) -> Root:
    pinned: Digest = deployment.read_root_digest()
    data = FileStore(deployment.path("files")).get(pinned)
    root = unverified_root(data)
    # At its own time of issue: expiry is a line of its own.
    verify_root(data, root.issued_at)
    if sha256_digest(deployment.read("root.json")) != pinned:
        checkup.warn("root.json", "is not the pinned root", "compare it with root.sha256")
    left = root.expires_at - now_ms()
    found = f"{root.name} version {root.version}, expires {at_text(root.expires_at)}"
    if left <= 0:
        checkup.wrong("root", found, "sign its successor: an expired root verifies nothing")
    elif left < _SOON_MS:
        checkup.warn("root", f"{found}, in {ago(left)}", "have its successor signed")
    else:
        checkup.ok("root", found)
    return root


def _check_keys(deployment: Deployment, root: Root, checkup: Checkup) -> None:
    control = load_signing_key(deployment.key("control"))
    if control.id not in root.roles["control"].keys:
        checkup.wrong("keys", "control.key has no control role in the root", "restore control.key")
        return
    log = NoteSigner(f"{root.name}/releases", load_private_key(deployment.key("releases-log")))
    if log.vkey != root.releases_vkey:
        checkup.wrong("keys", "releases-log.key is not the root's", "restore releases-log.key")
        return
    node = root.node(deployment.read_settings().node)
    for what, public in (("batch", node.batch_key), ("requests", node.requests_key)):
        key = load_signing_key(deployment.key(f"node-{node.name}-{what}"))
        if key.public != parse_public_key(public):
            checkup.wrong(
                "keys",
                f"node-{node.name}-{what}.key is not the root's",
                "restore it, or enrol the node anew",
            )
            return
    checkup.ok("keys", "control, releases log and node keys are the root's")
    people = [
        path.stem
        for path in sorted(deployment.path("keys").glob("*.key"))
        if path.stem not in _MACHINE_KEYS and not path.stem.startswith("node-")
    ]
    if people:
        checkup.warn(
            "people's keys",
            f"{', '.join(people)} lie on this host",
            "fine in development; else move each to its holder's own machine",
        )


def _check_modes(deployment: Deployment, checkup: Checkup) -> None:
    loose = [
        f"{path.name} {stat.S_IMODE(path.stat().st_mode):04o}"
        for path in sorted(deployment.path("keys").iterdir())
        if path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    if loose:
        checkup.wrong(
            "modes",
            f"others may use {', '.join(loose)}",
            "chmod 600 them, and replace keys that somebody may have read",
        )
    else:
        checkup.ok("modes", "keys are readable by their owner alone")


def _check_disk(deployment: Deployment, checkup: Checkup) -> None:
    probe = deployment.path("run", f"doctor-{os.getpid()}")
    replace_durably(probe, b"")
    probe.unlink()
    free = shutil.disk_usage(deployment.directory).free
    found = f"writable, {free / 1_000_000_000:.1f} GB free"
    if free < _LOW_DISK_BYTES:
        checkup.wrong("disk", found, "free some space: without records nothing is served")
    else:
        checkup.ok("disk", found)
