"""A dossier in one file: a plain ustar archive, read in place as if its maker were hostile.

Invariants
- Nothing is unpacked: no byte of an archive is ever written anywhere, so no path in it can hurt.
- Only the one form of docs/reference/dossier.md is read. Links, devices, extended headers,
  compression, doubled paths and bytes that belong to no file are refused as a whole: two readers of
  one archive must not see two dossiers.
- Not compressed, so what is read is never larger than what was handed over.

Follows POSIX.1-1988 ustar (IEEE Std 1003.1, "pax - ustar Interchange Format").
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from gatelift.ledger.audit.folder import (
    MAX_DEPTH,
    MAX_NAMES,
    Folder,
    FolderError,
    PlainFolder,
    checked_parts,
)

__all__ = ["BLOCK_BYTES", "Archive", "header_sum", "open_dossier"]

BLOCK_BYTES: Final = 512
_MAGIC: Final = b"ustar\x0000"
_PLAIN: Final = frozenset({b"0", b"\0"})
_FOLDER: Final = b"5"
_OCTAL: Final = re.compile(rb" *([0-7]+)[ \0]*")
_KINDS: Final = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a pipe",
    b"x": "an extended header",
    b"g": "an extended header",
    b"L": "a long name of GNU tar",
    b"K": "a long link of GNU tar",
    b"S": "a sparse file",
}


class _Member(NamedTuple):
    at: int
    size: int


def open_dossier(path: Path) -> Folder:
    """Return the files of a dossier: of a folder, or of an archive; raises `FolderError`."""
    if path.is_file() and not path.is_symlink():
        return Archive(path)
    return PlainFolder(path)


class Archive(Folder):
    """The files of one archive, found by reading every header once."""

    def __init__(self, path: Path) -> None:
        """Take the archive at `path`; raises `FolderError` (`bad_archive`) unless it has the form."""
        self._path = path
        self._members: dict[str, _Member] = {}
        self._folders: dict[str, set[str]] = {}
        with path.open("rb") as file:
            self._index(file)

    def names(self, name: str) -> tuple[str, ...]:
        """Return the sorted names in a folder; none if it is not there."""
        return tuple(sorted(self._folders.get(name, ())))

    def walk(self) -> Iterator[tuple[str, str]]:
        """Yield every path; all of them are files."""
        for name in sorted(self._members):
            yield name, "file"

    @contextmanager
    def opened(self, name: str) -> Iterator[tuple[BinaryIO, int]]:
        """Open the archive where the file begins."""
        checked_parts(name)
        if name not in self._members:
            raise FolderError(f"expected a file at {name}, found none")
        member = self._members[name]
        with self._path.open("rb") as file:
            file.seek(member.at)
            yield file, member.size

    def _index(self, file: BinaryIO) -> None:
        end = os.fstat(file.fileno()).st_size
        at = 0
        while True:
            file.seek(at)
            header = file.read(BLOCK_BYTES)
            if len(header) < BLOCK_BYTES:
                raise _refused("it ends without the two empty blocks of an archive's end")
            if not any(header):
                break
            name, kind, size = _parse_header(header)
            at += BLOCK_BYTES
            if kind in _PLAIN:
                self._take(name, _Member(at, size))
            at += -(-size // BLOCK_BYTES) * BLOCK_BYTES
            if at > end:
                raise _refused(f"{name[:120]!r} ends beyond the end of the archive")
        self._check_end(file, end - at - BLOCK_BYTES)

    def _take(self, name: str, member: _Member) -> None:
        if name in self._members or name in self._folders:
            raise _refused(f"{name[:120]!r} stands in it twice")
        if len(self._members) >= MAX_NAMES:
            raise FolderError(f"expected at most {MAX_NAMES} files", code="too_large")
        self._members[name] = member
        folder, _, last = name.rpartition("/")
        while folder:
            if folder in self._members:
                raise _refused(f"{folder[:120]!r} is a file and a folder in it")
            known = self._folders.setdefault(folder, set())
            if last in known:
                return
            known.add(last)
            folder, _, last = folder.rpartition("/")

    def _check_end(self, file: BinaryIO, left: int) -> None:
        if left < BLOCK_BYTES:
            raise _refused("it ends without the two empty blocks of an archive's end")
        while chunk := file.read(1 << 20):
            if any(chunk):
                raise _refused("something lies behind its end")


def _parse_header(header: bytes) -> tuple[str, bytes, int]:
    """Return path, kind and size of a member; raises `FolderError`."""
    if header[257:265] != _MAGIC:
        raise _refused(
            "it is no plain ustar archive. A compressed one is refused: decompress it yourself"
        )
    if _octal(header[148:156]) != header_sum(header):
        raise _refused("the checksum of a header is wrong")
    prefix, last = (field.partition(b"\0")[0] for field in (header[345:500], header[:100]))
    kind, size = header[156:157], _octal(header[124:136])
    path = b"/".join(part for part in (prefix, last) if part)
    name = path.decode("ascii", "backslashreplace")
    if kind == _FOLDER and size == 0:
        name = name.removesuffix("/")
    elif kind not in _PLAIN:
        what = _KINDS.get(kind, f"of the kind {kind!r}")
        raise _refused(f"{name[:120]!r} is {what}; expected plain files")
    parts = name.split("/")
    if "\\" in name or {"", ".", ".."} & set(parts) or len(parts) > MAX_DEPTH + 1:
        raise _refused(f"expected a relative path of plain names, got {name[:120]!r}")
    return name, kind, size


def header_sum(header: bytes) -> int:
    """Return the checksum of a header: the sum of its bytes, its own field read as blanks."""
    return sum(header[:148]) + 8 * 0x20 + sum(header[156:])


def _octal(field: bytes) -> int:
    found = _OCTAL.fullmatch(field)
    if found is None:
        raise _refused(f"expected an octal number in a header, got {field!r}")
    return int(found[1], 8)


def _refused(why: str) -> FolderError:
    return FolderError(f"not a dossier's archive: {why}", code="bad_archive")
