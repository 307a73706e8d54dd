"""The root that a host pins, and the first that it ever pinned: files of a deployment's folder.

    root.sha256   the digest of the root in force here: what everything is judged by
    root.first    the digest of the first root pinned here, once another has followed it
    root.json, tlog-policy   the pinned root and its policy for people and tools; nothing is judged by them

What was logged under an earlier root is judged by that root, so whoever reads the log from its beginning
begins with the first root and lets the log lead to the pinned one.

Invariants
- `root.first` is durable before `root.sha256` names a successor, and is never written again.
- The digest is written last: a crash leaves a whole older pin, and from there the log leads on.

Whether a root follows is judged before (`trust.verify_root`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from gatelift.encoding import Digest, parse_digest
from gatelift.messages import releases_policy
from gatelift.tlog import format_policy
from gatelift.trust import Root
from gatelift.wire.files import FileStore, replace_durably

__all__ = ["PinnedRoots", "pin_root", "read_pinned_roots"]

_PINNED: Final = "root.sha256"
_FIRST: Final = "root.first"


class PinnedRoots(NamedTuple):
    """The first root that a host pinned, and the one that it pins now; often the same."""

    first: Digest
    pinned: Digest


def read_pinned_roots(directory: Path) -> PinnedRoots:
    """Return what the host pins in `directory`; raises `OSError`, or `EncodingError` for no digest."""
    pinned = _read(directory / _PINNED)
    first = directory / _FIRST
    return PinnedRoots(_read(first) if first.exists() else pinned, pinned)


def pin_root(directory: Path, files: FileStore, digest: Digest, root: Root) -> None:
    """Pin a successor that was verified; its bytes are in `files`."""
    before = read_pinned_roots(directory)
    if not (directory / _FIRST).exists():
        _write(directory / _FIRST, before.pinned)
    replace_durably(directory / "root.json", files.get(digest))
    replace_durably(directory / "tlog-policy", format_policy(releases_policy(root)))
    _write(directory / _PINNED, digest)


def _read(path: Path) -> Digest:
    return parse_digest(path.read_text("ascii").strip())


def _write(path: Path, digest: Digest) -> None:
    replace_durably(path, f"{digest}\n".encode("ascii"))
