"""Writing a dossier's folder as one file.

Invariants
- The bytes follow from the files alone: sorted by path, one mode, no owner, no time. Whoever exports
  the same files gets the same archive, and the same digest.
- A file that is there is never overwritten; the new one appears whole or not at all.

Format: docs/reference/dossier.md, "The archive". `audit.archive` reads it, and no other form.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import BinaryIO, Final

from gatelift.encoding import Digest
from gatelift.errors import CallerError
from gatelift.ledger.audit.archive import BLOCK_BYTES, header_sum

__all__ = ["ArchiveError", "write_archive"]

_NAME_BYTES: Final = 100
_PREFIX_BYTES: Final = 155
_MAX_SIZE: Final = 8**11 - 1
_CHUNK: Final = 1 << 20


class ArchiveError(CallerError):
    """The archive cannot be written. Codes: `archive_exists`, `archive_too_large`."""

    code = "archive_exists"


def write_archive(folder: Path, out: Path) -> Digest:
    """Write the files below `folder` to the new file `out`; return the digest of its bytes.

    Raises `ArchiveError`.
    """
    if out.is_symlink() or out.exists():
        raise ArchiveError(f"{out.name} is there already: name a new file")
    temporary = out.with_name(f".{out.name}.{secrets.token_hex(6)}.partial")
    try:
        with temporary.open("xb") as file:
            digest = _write(folder, file)
            file.flush()
            os.fsync(file.fileno())
        # A link, and not a rename: it fails if somebody else made the file meanwhile.
        os.link(temporary, out)
    except FileExistsError as error:
        raise ArchiveError(f"{out.name} is there already: name a new file") from error
    finally:
        temporary.unlink(missing_ok=True)
    return digest


def _write(folder: Path, file: BinaryIO) -> Digest:
    hashed = hashlib.sha256()

    def put(data: bytes) -> None:
        hashed.update(data)
        file.write(data)

    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    for name in sorted(paths, key=lambda each: each.encode("ascii")):
        if not paths[name].is_file():
            continue
        size = paths[name].stat().st_size
        put(_header(name, size))
        with paths[name].open("rb") as source:
            while chunk := source.read(_CHUNK):
                put(chunk)
        put(bytes(-size % BLOCK_BYTES))
    put(bytes(2 * BLOCK_BYTES))
    return Digest(f"sha256:{hashed.hexdigest()}")


def _header(name: str, size: int) -> bytes:
    if size > _MAX_SIZE:
        raise ArchiveError(
            f"{name} has {size} bytes, an archive holds files of {_MAX_SIZE} at most: hand over "
            "the folder",
            code="archive_too_large",
        )
    prefix, last = _split(name)
    fields = (
        last.ljust(_NAME_BYTES, b"\0"),
        b"0000644\0",
        b"0000000\0" * 2,  # owner and group
        b"%011o\0" % size,
        b"%011o\0" % 0,  # time
        b" " * 8,  # the checksum, read as blanks while it is made
        b"0".ljust(_NAME_BYTES + 1, b"\0"),  # a plain file, which links to nothing
        b"ustar\x0000".ljust(8 + 32 + 32, b"\0"),  # no names of owner and group
        b"0000000\0" * 2,  # no device
        prefix.ljust(BLOCK_BYTES - 345, b"\0"),
    )
    header = b"".join(fields)
    return header[:148] + b"%06o\0 " % header_sum(header) + header[156:]


def _split(name: str) -> tuple[bytes, bytes]:
    """Return a path as the two fields of a header hold it, split at a slash if it is long."""
    data = name.encode("ascii")
    if len(data) <= _NAME_BYTES:
        return b"", data
    cut = data.find(b"/", len(data) - _NAME_BYTES - 1)
    if not 0 < cut <= _PREFIX_BYTES:
        raise ArchiveError(f"{name} is too long for an archive", code="archive_too_large")
    return data[:cut], data[cut + 1 :]
