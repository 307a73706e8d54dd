"""Files that survive a power cut: replaced as a whole, or named by their digest.

Invariants
- A reader sees the old bytes or the new ones, never a part: temporary file, `fsync`, rename, `fsync`
  of the folder. When a call returns, the bytes are durable.
- A file in a `FileStore` is named by the SHA-256 of its bytes and never changes; what `get` returns
  was hashed again, so a decayed or swapped file is an error, not an answer.
- An `OSError` from a sync is passed on: the caller must not go on as if the bytes were there.

It does not encrypt, and it does not list: a digest comes from something that was signed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gatelift.encoding import Digest, parse_digest, sha256_digest
from gatelift.errors import PeerError

__all__ = [
    "FileStore",
    "FileStoreError",
    "make_directory",
    "replace_all_durably",
    "replace_durably",
    "sync_directory",
]

_ALGORITHM = "sha256"
_AT_ONCE = 64
"""How many files are open at once."""
_MANY = 4
_SYNCERS = 8


class FileStoreError(PeerError):
    """The store does not hold the bytes of a digest. Codes: `file_missing`, `file_corrupt`."""

    code = "file_missing"


def replace_durably(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Put `data` at `path`, wholly or not at all, and durably. The folder must exist."""
    replace_all_durably({path: data}, mode=mode)


def replace_all_durably(files: Mapping[Path, bytes], *, mode: int = 0o644) -> None:
    """Put each of `files` in its place, in order, and durably once this returns.

    Each is there wholly or not at all; after an error some are and some are not. Folders are made.
    """
    for folder in {path.parent: None for path in files}:
        make_directory(folder)
    beside = {path: _temporary(path) for path in files}
    try:
        _write_all([(beside[path], data) for path, data in files.items()], mode)
        for path, temporary in beside.items():
            temporary.rename(path)
    except BaseException:
        for temporary in beside.values():
            with contextlib.suppress(OSError):
                temporary.unlink()
        raise
    for folder in {path.parent: None for path in files}:
        sync_directory(folder)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}.tmp")


def _write_all(files: Sequence[tuple[Path, bytes]], mode: int) -> None:
    """Write each file durably; many at once, because a disk syncs many in the time of few."""
    for first in range(0, len(files), _AT_ONCE):
        with contextlib.ExitStack() as opened:
            numbers = [_write(path, data, mode, opened) for path, data in files[first:][:_AT_ONCE]]
            if len(numbers) < _MANY:
                for number in numbers:
                    os.fsync(number)
            else:
                # Its threads end here: who starts processes must have none. All have synced before any
                # file is closed, also when one fails.
                with ThreadPoolExecutor(_SYNCERS, thread_name_prefix="sync") as threads:
                    synced = [threads.submit(os.fsync, number) for number in numbers]
                for each in synced:
                    each.result()


def _write(path: Path, data: bytes, mode: int, opened: contextlib.ExitStack) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    file = opened.enter_context(os.fdopen(os.open(path, flags, mode), "wb", buffering=0))
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
    return file.fileno()


def sync_directory(directory: Path) -> None:
    """Make the names in `directory` durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directory(directory: Path) -> None:
    """Create `directory` and its parents, durably; one that is there is no error."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_directory(path.parent)


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except FileNotFoundError:
        return False


class FileStore:
    """Bytes by digest, in files `<directory>/sha256/<64 hex digits>`. Any process may add."""

    __slots__ = ("_folder",)

    def __init__(self, directory: Path) -> None:
        self._folder = directory / _ALGORITHM
        make_directory(self._folder)

    def path(self, digest: Digest) -> Path:
        """Return where the bytes of `digest` lie or would lie."""
        return self._folder / parse_digest(digest).removeprefix(f"{_ALGORITHM}:")

    def put(self, data: bytes) -> Digest:
        """Keep `data` durably and return its digest. A damaged copy of it is mended."""
        return self.put_all([data])[0]

    def put_all(self, bodies: Sequence[bytes]) -> list[Digest]:
        """Keep all of `bodies` durably and return their digests, in order."""
        digests = [sha256_digest(data) for data in bodies]
        wanted = {self.path(d): data for d, data in zip(digests, bodies, strict=True)}
        missing = {p: data for p, data in wanted.items() if not _holds(p, data)}
        replace_all_durably(missing, mode=0o444)
        if not missing:
            # Another process may have renamed one into place a moment ago, and died.
            sync_directory(self._folder)
        return digests

    def has(self, digest: Digest) -> bool:
        """Say whether there is a file for `digest`; only `get` looks into it."""
        return self.path(digest).is_file()

    def get(self, digest: Digest) -> bytes:
        """Return the bytes of `digest`; raises `FileStoreError`."""
        try:
            data = self.path(digest).read_bytes()
        except FileNotFoundError as error:
            raise FileStoreError(
                f"no file for {digest}: fetch it again from where it was named"
            ) from error
        if sha256_digest(data) != digest:
            raise FileStoreError(
                f"the file for {digest} holds other bytes: restore it from a copy",
                code="file_corrupt",
            )
        return data
