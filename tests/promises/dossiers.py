"""A deployment with a history, and its dossier: for promises 7 and 8. Nothing is imported."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.promises.hands import Hands
from tests.promises.outside import PLANS, Deployment, leaf_hash, wait_for
from tests.support.upstream import ScriptedUpstream


def live_through(
    home: Path, upstream: ScriptedUpstream, *, plan: str = "harbour.yaml"
) -> Deployment:
    """Start a deployment and have it live through grants, traffic, refusals, a halt, a re-opening."""
    found = Deployment(
        home / "d", upstream=upstream.url, upstream_key=upstream.key, plan=PLANS / plan, workers=2
    )
    try:
        api_key = found.grant("partner", organisation="elsewhere")
        for number in range(6):
            assert found.chat(f"question {number}", key=api_key, max_tokens=3).status_code == 200
        assert found.cli("certify", "--stage", "internal", who=("operator", "safety")).code == 1
        reason = ["--reason", "a drill"]
        found.cli("halt", *reason, "--organisation", "elsewhere", who=("security",)).must()
        found.cli("halt", *reason, who=("overseer",)).must()
        assert found.chat().status_code == 403
        wait_for(
            lambda: (
                found.cli(*["certify", "--stage", "assess"], who=("operator", "safety")).code == 0
            ),
            seconds=20,
        )
        found.wait_serving()
        assert found.chat("after the drill", max_tokens=3).status_code == 200
        assert found.chat("still out", key=api_key).status_code == 403
    except BaseException:
        found.stop()
        raise
    return found


def export(deployment: Deployment, out: Path) -> Path:
    deployment.cli("dossier", "export", "--dir", deployment.folder, "--out", out).must()
    return out


def root_digest(deployment: Deployment) -> str:
    return (deployment.folder / "root.sha256").read_text().strip()


def bundles(log: Path, size: int) -> Iterator[bytes]:
    """Yield the entries of a C2SP tlog-tiles log below 2**16 entries, read from its bundles."""
    left = size
    for number in range(-(-size // 256)):
        width = min(256, left)
        name = log / "tile/entries" / (f"{number:03d}" + ("" if width == 256 else f".p/{width}"))
        data = name.read_bytes()
        for _ in range(width):
            length = int.from_bytes(data[:2], "big")
            yield data[2 : 2 + length]
            data = data[2 + length :]
        left -= width


def tree_hash(leaves: list[bytes]) -> bytes:
    """Return the RFC 6962 root over leaf hashes."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    left, right = tree_hash(leaves[:split]), tree_hash(leaves[split:])
    return hashlib.sha256(b"\x01" + left + right).digest()


def path_of(leaves: list[bytes], index: int) -> list[bytes]:
    """Return the RFC 6962 inclusion path of a leaf, from the leaf up."""
    if len(leaves) == 1:
        return []
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if index < split:
        return [*path_of(leaves[:split], index), tree_hash(leaves[split:])]
    return [*path_of(leaves[split:], index - split), tree_hash(leaves[:split])]


def head_of(log: Path) -> tuple[str, int, bytes, list[str]]:
    """Return origin, size, root and signature lines of a checkpoint."""
    text, _, signatures = (log / "checkpoint").read_text().partition("\n\n")
    origin, size, root = text.split("\n")[:3]
    return origin, int(size), base64.b64decode(root), signatures.strip().split("\n")


def entries_of(dossier: Path) -> list[dict[str, Any]]:
    """Return the headers of the releases log."""
    _, size, _, _ = head_of(dossier / "releases")
    return [json.loads(entry) for entry in bundles(dossier / "releases", size)]


def body_of(dossier: Path, header: dict[str, Any]) -> bytes:
    name: str = header["body"].removeprefix("sha256:")
    return (dossier / "files/sha256" / name).read_bytes()


def rewrite(dossier: Path, deployment: Deployment, index: int, body: bytes) -> None:
    """Replace an entry's body and fix everything that follows from it: digests, tiles, checkpoint.

    What a dishonest operator could do who holds the log's key and, here, the witness's as well.
    """
    hands = Hands(deployment)
    log = dossier / "releases"
    origin, size, _, _ = head_of(log)
    entries = list(bundles(log, size))
    header = json.loads(entries[index])
    old = header["body"]
    digest = "sha256:" + hashlib.sha256(body).hexdigest()
    (dossier / "files/sha256" / digest.removeprefix("sha256:")).write_bytes(body)
    (dossier / "files/sha256" / old.removeprefix("sha256:")).unlink()
    changed = entries[index].replace(old.encode(), digest.encode())
    changed = changed.replace(
        b'"body_bytes":%d' % header["body_bytes"], b'"body_bytes":%d' % len(body)
    )
    entries[index] = changed
    assert size < 256, "one tile a level is enough here"
    (log / f"tile/entries/000.p/{size}").write_bytes(
        b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)
    )
    leaves = [leaf_hash(entry) for entry in entries]
    (log / f"tile/0/000.p/{size}").write_bytes(b"".join(leaves))
    sign_checkpoint(log, hands, origin, size, tree_hash(leaves))


def sign_checkpoint(log: Path, hands: Hands, origin: str, size: int, root: bytes) -> None:
    """Sign a checkpoint as the log and as its witness (signed-note, cosignature/v1)."""
    text = f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"
    lines = []
    own = hands.key("releases-log")
    lines.append(_line(origin, 1, own.public_key().public_bytes_raw(), own.sign(text.encode())))
    witness = hands.key("witness")
    name = hands.deployment.root()["witnesses"][0]["vkey"].split("+")[0]
    at = int((hands.deployment.folder / "root.json").stat().st_mtime) + 60
    message = f"cosignature/v1\ntime {at}\n{text}".encode()
    signature = at.to_bytes(8, "big") + witness.sign(message)
    lines.append(_line(name, 4, witness.public_key().public_bytes_raw(), signature))
    (log / "checkpoint").write_text(text + "\n" + "".join(lines))


def _line(name: str, kind: int, public: bytes, signature: bytes) -> str:
    keyid = hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:4]
    return f"— {name} {base64.b64encode(keyid + signature).decode()}\n"
