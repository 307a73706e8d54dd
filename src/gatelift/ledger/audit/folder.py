"""A dossier's folder, read as if its maker were hostile.

Invariants
- No symbolic link is followed, at any depth: each step is opened below the one before it.
- Only plain files are read, whole up to a limit or line by line up to a limit.
- A path is made of checked names; nothing that a file says is ever used as a path unchecked.

Does not know what the files mean, but for their names (docs/reference/dossier.md).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gatelift.encoding import Digest, parse_digest, sha256_digest
from gatelift.errors import CallerError
from gatelift.ledger.audit.report import Findings

__all__ = [
    "FILES",
    "LOG_NAME",
    "MANIFEST",
    "MAX_FILE_BYTES",
    "MAX_LINE_BYTES",
    "POLICY",
    "RECORDS",
    "RELEASES",
    "REQUESTS",
    "ROOT",
    "Folder",
    "FolderError",
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
_MAX_DEPTH = 16
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
    `line_too_long`.
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


class Folder:
    """Reads below one directory. Paths are relative, with `/` between names."""

    def __init__(self, path: Path) -> None:
        """Take the directory at `path`; raises `FolderError` if it is none."""
        if path.is_symlink() or not path.is_dir():
            raise FolderError(f"expected a dossier's folder, found none at {path.name!r}")
        self._path = path

    def read(self, name: str, max_bytes: int = MAX_FILE_BYTES) -> bytes:
        """Return a whole file; raises `FolderError`."""
        with self._open(name) as fd:
            size = os.fstat(fd).st_size
            if size > max_bytes:
                raise FolderError(
                    f"expected at most {max_bytes} bytes in {name}, got {size}", code="too_large"
                )
            with os.fdopen(os.dup(fd), "rb") as file:
                data = file.read(max_bytes + 1)
        if len(data) > max_bytes:
            raise FolderError(f"expected at most {max_bytes} bytes in {name}", code="too_large")
        return data

    def read_digest(self, digest: Digest) -> bytes:
        """Return the file of a digest, hashed again; raises `FolderError`."""
        name = f"{FILES}/sha256/{parse_digest(digest).removeprefix('sha256:')}"
        data = self.read(name)
        if sha256_digest(data) != digest:
            raise FolderError(f"{name} holds other bytes than its name says", code="wrong_bytes")
        return data

    def lines(self, name: str) -> Iterator[bytes]:
        """Yield the lines of a file without their newlines; raises `FolderError`."""
        with self._open(name) as fd, os.fdopen(os.dup(fd), "rb") as file:
            number = 0
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if not line.endswith(b"\n"):
                    raise FolderError(
                        f"line {number} of {name} has no end within {MAX_LINE_BYTES} bytes",
                        code="line_too_long",
                    )
                yield line[:-1]

    def names(self, name: str) -> tuple[str, ...]:
        """Return the sorted names in a folder; none if it is not there."""
        target = self._path / name
        if target.is_symlink() or not target.is_dir():
            return ()
        return tuple(sorted(path.name for path in target.iterdir()))

    def inspect(self, findings: Findings) -> tuple[str, ...]:
        """Walk everything: report links, odd names and files by digest that hold other bytes.

        Returns the names of the files that have a dossier's form, in the order of the walk.
        """
        names: list[str] = []
        for count, (relative, kind) in enumerate(self._walk(), start=1):
            if count > MAX_NAMES:
                findings.error("too_large", relative, f"expected at most {MAX_NAMES} files")
                break
            top, _, rest = relative.partition("/")
            if kind in {"symlink", "special"}:
                findings.error("symlink", relative, "expected plain files and folders only")
            elif kind == "deep":
                findings.error("bad_name", relative, f"nested deeper than {_MAX_DEPTH} folders")
            elif top not in _TOP or any(not _NAME.fullmatch(p) for p in relative.split("/")):
                findings.warn("unexpected_file", relative, "not part of a dossier; not read")
            elif top != FILES or self._inspect_file(relative, rest, findings):
                names.append(relative)
        return tuple(names)

    def _inspect_file(self, relative: str, rest: str, findings: Findings) -> bool:
        folder, _, name = rest.partition("/")
        if folder != "sha256" or _HEX.fullmatch(name) is None:
            findings.warn("unexpected_file", relative, "expected files/sha256/<64 hex digits>")
            return False
        with findings.reading(relative):
            self.read_digest(Digest(f"sha256:{name}"))
        return True

    def _walk(self) -> Iterator[tuple[str, str]]:
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
                    elif relative.count("/") >= _MAX_DEPTH:
                        yield relative, "deep"
                    else:
                        waiting.append(relative)

    @contextmanager
    def _open(self, name: str) -> Iterator[int]:
        parts = name.split("/")
        for part in parts:
            if _NAME.fullmatch(part) is None:
                raise FolderError(f"{part[:80]!r} is no name of a dossier's file", code="bad_name")
        fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
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
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise FolderError(f"expected a plain file at {name}", code="not_a_file")
            yield fd
        finally:
            os.close(fd)


def _refused(name: str, error: OSError) -> FolderError:
    if isinstance(error, FileNotFoundError):
        return FolderError(f"expected a file at {name}, found none")
    return FolderError(
        f"expected a plain file at {name}, got {os.strerror(error.errno or 0)}: links and special "
        "files are refused",
        code="symlink",
    )
