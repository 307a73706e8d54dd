"""A dossier's files, read as if their maker were hostile.

Invariants
- No symbolic link is followed, at any depth: each step is opened below the one before it.
- Only plain files are read, whole up to a limit or line by line up to a limit.
- A path is made of checked names; nothing that a file says is ever used as a path unchecked.

Does not know what the files mean, but for their names (docs/reference/dossier.md). The same files in an
archive: `audit.archive`.
"""

from __future__ import annotations

import os
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO

from gatelift.encoding import Digest, parse_digest, sha256_digest
from gatelift.errors import CallerError
from gatelift.ledger.audit.report import Findings

__all__ = [
    "FILES",
    "LOG_NAME",
    "MANIFEST",
    "MAX_DEPTH",
    "MAX_FILE_BYTES",
    "MAX_LINE_BYTES",
    "MAX_NAMES",
    "POLICY",
    "RECORDS",
    "RELEASES",
    "REQUESTS",
    "ROOT",
    "Folder",
    "FolderError",
    "PlainFolder",
    "checked_parts",
    "log_name_of",
    "origin_of",
]

MANIFEST = "dossier.json"
ROOT = "root.json"
POLICY = "tlog-policy"
RELEASES = "releases"
REQUESTS = "requests"
RECORDS = "records"
FILES = "files"

MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_LINE_BYTES = 256 * 1024
MAX_NAMES = 2_000_000
_PIECE = 128 * 1024
MAX_DEPTH = 16
_TOP = frozenset({MANIFEST, ROOT, POLICY, RELEASES, REQUESTS, RECORDS, FILES})
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)
LOG_NAME = re.compile(
    r"(?P<node>[A-Za-z0-9][A-Za-z0-9_.-]{0,63})-(?P<month>[0-9]{4}-(?:0[1-9]|1[0-2]))", re.ASCII
)
"""The folder of a requests log: `<node>-<yyyy-mm>`."""


class FolderError(CallerError):
    """A file is missing, too large, or no plain file.

    Codes: `missing`, `too_large`, `bad_name`, `symlink`, `not_a_file`, `wrong_bytes`,
    `line_too_long`, `bad_archive`.
    """

    code = "missing"


def origin_of(root_name: str, log_name: str) -> str:
    """Return the origin of the requests log in folder `<node>-<yyyy-mm>`."""
    found = LOG_NAME.fullmatch(log_name)
    if found is None:
        raise FolderError(
            f"expected a log's folder as <node>-<yyyy-mm>, got {log_name[:80]!r}", code="bad_name"
        )
    return f"{root_name}/requests/{found['node']}/{found['month']}"


def log_name_of(root_name: str, origin: str) -> str:
    """Return the folder of the requests log of an origin; raises `FolderError` (`bad_name`)."""
    prefix = f"{root_name}/requests/"
    parts = origin.removeprefix(prefix).split("/")
    name = "-".join(parts)
    if not origin.startswith(prefix) or len(parts) != 2 or origin_of(root_name, name) != origin:
        raise FolderError(
            f"expected an origin as {prefix}<node>/<yyyy-mm>, got {origin[:120]!r}", code="bad_name"
        )
    return name


class Folder(ABC):
    """Files below one root, by paths with `/` between names: a plain folder's, or an archive's."""

    def read(self, name: str, max_bytes: int = MAX_FILE_BYTES) -> bytes:
        """Return a whole file; raises `FolderError`."""
        with self.opened(name) as (file, size):
            if size > max_bytes:
                raise FolderError(
                    f"expected at most {max_bytes} bytes in {name}, got {size}", code="too_large"
                )
            return file.read(size)

    def read_digest(self, digest: Digest) -> bytes:
        """Return the file of a digest, hashed again; raises `FolderError`."""
        name = f"{FILES}/sha256/{parse_digest(digest).removeprefix('sha256:')}"
        data = self.read(name)
        if sha256_digest(data) != digest:
            raise FolderError(f"{name} holds other bytes than its name says", code="wrong_bytes")
        return data

    def pieces(self, name: str) -> Iterator[bytes]:
        """Yield a file in pieces of whole lines, each about as large as a cache holds; raises `FolderError`.

        What ends no line within `MAX_LINE_BYTES` is refused here; a longer line inside a piece is for
        the reader to see.
        """
        rest = b""
        with self.opened(name) as (file, size):
            left = size
            while left and len(rest) <= MAX_LINE_BYTES and (block := file.read(min(left, _PIECE))):
                left -= len(block)
                cut = block.rfind(b"\n") + 1
                if cut:
                    yield rest + block[:cut]
                    rest = block[cut:]
                else:
                    rest += block
        if rest or left:
            raise FolderError(
                f"the last line of {name}, or one within, has no end within {MAX_LINE_BYTES} bytes",
                code="line_too_long",
            )

    def inspect(self, findings: Findings) -> tuple[str, ...]:
        """Walk everything: report links, odd names and files by digest that hold other bytes.

        Returns the names of the files that have a dossier's form, in the order of the walk.
        """
        names: list[str] = []
        for count, (relative, kind) in enumerate(self.walk(), start=1):
            if count > MAX_NAMES:
                findings.error("too_large", relative, f"expected at most {MAX_NAMES} files")
                break
            top, _, rest = relative.partition("/")
            if kind in {"symlink", "special"}:
                findings.error("symlink", relative, "expected plain files and folders only")
            elif kind == "deep":
                findings.error("bad_name", relative, f"nested deeper than {MAX_DEPTH} folders")
            elif top not in _TOP or any(not _NAME.fullmatch(p) for p in relative.split("/")):
                findings.warn("unexpected_file", relative, "not part of a dossier; not read")
            elif top != FILES or self._inspect_file(relative, rest, findings):
                names.append(relative)
        return tuple(names)

    @abstractmethod
    def names(self, name: str) -> tuple[str, ...]:
        """Return the sorted names in a folder; none if it is not there."""

    @abstractmethod
    def walk(self) -> Iterator[tuple[str, str]]:
        """Yield every path and its kind: `file`, `symlink`, `special`, or `deep` for a folder."""

    @abstractmethod
    def opened(self, name: str) -> AbstractContextManager[tuple[BinaryIO, int]]:
        """Open a file at its first byte, and say how many bytes are its own; raises `FolderError`."""

    def _inspect_file(self, relative: str, rest: str, findings: Findings) -> bool:
        folder, _, name = rest.partition("/")
        if folder != "sha256" or _HEX.fullmatch(name) is None:
            findings.warn("unexpected_file", relative, "expected files/sha256/<64 hex digits>")
            return False
        with findings.reading(relative):
            self.read_digest(Digest(f"sha256:{name}"))
        return True


class PlainFolder(Folder):
    """Reads below one directory of the file system."""

    def __init__(self, path: Path) -> None:
        """Take the directory at `path`; raises `FolderError` if it is none."""
        if path.is_symlink() or not path.is_dir():
            raise FolderError(f"expected a dossier's folder, found none at {path.name!r}")
        self._path = path

    def names(self, name: str) -> tuple[str, ...]:
        """Return the sorted names in a folder; none if it is not there."""
        target = self._path / name
        if target.is_symlink() or not target.is_dir():
            return ()
        return tuple(sorted(path.name for path in target.iterdir()))

    def walk(self) -> Iterator[tuple[str, str]]:
        """Yield every path and its kind; folders are entered unless they lie too deep."""
        waiting = [""]
        while waiting:
            below = waiting.pop()
            with os.scandir(self._path / below) as entries:
                for entry in sorted(entries, key=lambda e: e.name):
                    relative = f"{below}/{entry.name}" if below else entry.name
                    if entry.is_symlink():
                        yield relative, "symlink"
                    elif entry.is_file(follow_symlinks=False):
                        yield relative, "file"
                    elif not entry.is_dir(follow_symlinks=False):
                        yield relative, "special"
                    elif relative.count("/") >= MAX_DEPTH:
                        yield relative, "deep"
                    else:
                        waiting.append(relative)

    @contextmanager
    def opened(self, name: str) -> Iterator[tuple[BinaryIO, int]]:
        """Open a plain file, each step below the one before it, following no link."""
        fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            parts = checked_parts(name)
            for index, part in enumerate(parts):
                last = index == len(parts) - 1
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
                flags |= os.O_NONBLOCK if last else os.O_DIRECTORY
                try:
                    below = os.open(part, flags, dir_fd=fd)
                except OSError as error:
                    raise _refused(name, error) from error
                os.close(fd)
                fd = below
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise FolderError(f"expected a plain file at {name}", code="not_a_file")
            with os.fdopen(os.dup(fd), "rb") as file:
                yield file, status.st_size
        finally:
            os.close(fd)


def checked_parts(name: str) -> list[str]:
    """Return the names of a path, each of a dossier's form; raises `FolderError`."""
    parts = name.split("/")
    for part in parts:
        if _NAME.fullmatch(part) is None:
            raise FolderError(f"{part[:80]!r} is no name of a dossier's file", code="bad_name")
    return parts


def _refused(name: str, error: OSError) -> FolderError:
    if isinstance(error, FileNotFoundError):
        return FolderError(f"expected a file at {name}, found none")
    return FolderError(
        f"expected a plain file at {name}, got {os.strerror(error.errno or 0)}: links and special "
        "files are refused",
        code="symlink",
    )
