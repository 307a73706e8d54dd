"""Orders by file: what the host's admin drops into `incoming/` acts without control or network.

    incoming/<name>.order.json -> incoming/done/<name>...  or  incoming/refused/<name>... + .reason

Invariants
- A file is moved only after its order was kept and passed on, so a crash in between repeats it,
  which changes nothing.
- A file that can't be read as JSON is given `SETTLE_S` to be written to its end.
- Links and oversize files are refused; what stands in a refused file is never shown.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from gatelift.errors import CallerError, PeerError
from gatelift.wire.files import make_directory, replace_durably

__all__ = ["SETTLE_S", "pick_up"]

SETTLE_S = 1.0
MAX_ORDER_BYTES = 256 * 1024
_SUFFIX = ".order.json"
_LOG = logging.getLogger(__name__)


class IncomingError(CallerError):
    """A dropped file is no order file."""

    code = "bad_order_file"


def pick_up(directory: Path, adopt: Callable[[bytes], object]) -> int:
    """Hand every waiting order to `adopt`, which keeps and passes it on or raises; return how many."""
    taken = 0
    for path in sorted(directory.glob(f"*{_SUFFIX}")):
        try:
            adopt(_read(path))
        except CallerError as error:
            if not _may_be_unfinished(path):
                _refuse(path, f"{error.code}: {error}")
        except (PeerError, OSError) as error:
            # Ours or the disk's fault, not the order's: it stays and is tried again.
            _LOG.error("order file %s could not be taken yet: %s", path.name, error)
        else:
            _move(path, "done")
            taken += 1
    return taken


def _refuse(path: Path, reason: str) -> None:
    _LOG.error("order file %s refused: %s", path.name, reason)
    _move(path, "refused")
    note = path.parent / "refused" / f"{path.name}.reason"
    replace_durably(note, f"{reason}\n".encode("utf-8", "replace"))


def _read(path: Path) -> bytes:
    if path.is_symlink():
        raise IncomingError(f"expected {path.name} to be a file, got a link")
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(fd, "rb") as file:
        data = file.read(MAX_ORDER_BYTES + 1)
    if len(data) > MAX_ORDER_BYTES:
        raise IncomingError(f"expected at most {MAX_ORDER_BYTES} bytes in {path.name}")
    return data


def _may_be_unfinished(path: Path) -> bool:
    try:
        return time.time() - path.lstat().st_mtime < SETTLE_S
    except FileNotFoundError:
        return True


def _move(path: Path, where: str) -> None:
    target = path.parent / where
    make_directory(target)
    path.rename(target / path.name)
