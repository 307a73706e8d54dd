"""The files of a model: found, hashed in parallel, and held open so that a swap is seen.

Invariants
- Nothing is followed: a symbolic link, a socket, a device, another file system's mount point or a
  name that is no plain text refuses the whole model, unless it lies under a path that is ignored.
- Every file is opened once, without following links, and hashed through that descriptor; what
  changed while it was read (inode, size, times) refuses the model.
- What is held stays open. `changes` compares, for every path, what lies there now with what was
  hashed: the same inode, size, time of content and time of status, folders too (one that was moved
  away and back shows it). It reads no content and costs one `stat` a path; `rehash` reads everything
  again through the descriptors.
- A file that came after is a change too: the set of paths is compared.

Does not judge against a manifest's signer; `compare_files` says what differs from what was sealed.
What only somebody with root on this host can do (a write that sets the clock back, another kernel)
it cannot see.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import resource
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple, Self

from gatelift.encoding import Digest, parse_digest
from gatelift.errors import CallerError
from gatelift.trust import check_file_path, path_order

__all__ = ["HeldModel", "ModelFilesError", "compare_files", "hold_model", "list_files"]

_PIECE_BYTES: Final = 4 * 1024 * 1024
_MAX_FILES: Final = 100_000
_MOST_WORKERS: Final = 8
_SPARE_DESCRIPTORS: Final = 512


class ModelFilesError(CallerError):
    """A model's folder holds what cannot be sealed or measured.

    Codes: `bad_model_folder`, `model_symlink`, `model_changed`, `model_differs`.
    """

    code = "bad_model_folder"


class _Mark(NamedTuple):
    """What a file's status says; any change of content or of the name shows in it."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


class _Held(NamedTuple):
    descriptor: int
    mark: _Mark
    digest: Digest


def list_files(folder: Path, ignored: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the relative paths of a model's files, in order; raises `ModelFilesError`."""
    return _walk(folder, ignored)[0]


def _walk(folder: Path, ignored: Iterable[str]) -> tuple[tuple[str, ...], dict[str, _Mark]]:
    """Return a model's files in order, and the marks of its folders, its own as ``."""
    left_out = frozenset(map(check_file_path, ignored))
    if folder.is_symlink() or not folder.is_dir():
        raise ModelFilesError(f"expected {folder} to be a folder and no symbolic link")
    found: list[str] = []
    folders: dict[str, _Mark] = {}
    device = folder.stat().st_dev
    waiting = [""]
    while waiting:
        below = waiting.pop()
        folders[below] = _mark((folder / below).stat(follow_symlinks=False))
        with os.scandir(folder / below) as entries:
            for entry in entries:
                path = f"{below}/{entry.name}" if below else entry.name
                if path in left_out:
                    continue
                check_file_path(path)
                kind = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(kind.st_mode) and kind.st_dev == device:
                    waiting.append(path)
                elif stat.S_ISREG(kind.st_mode):
                    found.append(path)
                else:
                    raise ModelFilesError(
                        f"{path} is no plain file of this folder (a link, a device or a mount): "
                        "put the file itself there, or leave it out by name",
                        code="model_symlink",
                    )
                if len(found) > _MAX_FILES:
                    raise ModelFilesError(f"expected at most {_MAX_FILES} files in {folder}")
    if not found:
        raise ModelFilesError(f"expected at least one file in {folder}, got none")
    return tuple(sorted(found, key=path_order)), folders


class HeldModel:
    """A model whose files were hashed and are held open. Close it, or use it as a context."""

    def __init__(
        self,
        folder: Path,
        ignored: tuple[str, ...],
        held: dict[str, _Held],
        folders: Mapping[str, _Mark],
    ) -> None:
        self._folder = folder
        self._ignored = ignored
        self._folders = folders
        self._held = held

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def files(self) -> Mapping[str, Digest]:
        """Every file's digest by path."""
        return {path: held.digest for path, held in self._held.items()}

    def changes(self) -> tuple[str, ...]:
        """Return the paths that are not what was hashed any more, in order; reads no content."""
        try:
            paths, folders = _walk(self._folder, self._ignored)
        except (CallerError, OSError) as error:
            return (f"{self._folder}: {error}",)
        other = set(paths) ^ self._held.keys()
        if folders != self._folders:
            other |= {
                f"{path or '.'}/"
                for path in folders.keys() | self._folders.keys()
                if folders.get(path) != self._folders.get(path)
            }
        for path, held in self._held.items():
            if path not in other and _mark_at(self._folder / path) != held.mark:
                other.add(path)
        return tuple(sorted(other, key=path_order))

    def rehash(self) -> tuple[str, ...]:
        """Read every held file again; return the paths whose content differs from before."""
        with _pool() as pool:
            paths = tuple(self._held)
            found = pool.map(lambda path: _hash(self._held[path].descriptor), paths)
            return tuple(
                path
                for path, digest in zip(paths, found, strict=True)
                if digest != self._held[path].digest
            )

    def pieces(self, path: str) -> Iterator[bytes]:
        """Yield the content of a held file, piece by piece."""
        return _pieces(self._held[path].descriptor)

    def close(self) -> None:
        """Close every file."""
        for held in self._held.values():
            os.close(held.descriptor)
        self._held = {}


def hold_model(folder: Path, ignored: Iterable[str] = ()) -> HeldModel:
    """Hash a model's files and keep them open; raises `ModelFilesError`."""
    left_out = tuple(ignored)
    held: dict[str, _Held] = {}
    paths, folders = _walk(folder, left_out)
    _allow_open(len(paths))
    try:
        with _pool() as pool:
            opened = pool.map(lambda path: _open_and_hash(folder, path), paths)
            held.update(zip(paths, opened, strict=True))
        model = HeldModel(folder, left_out, held, folders)
        changed = model.changes()
    except BaseException:
        HeldModel(folder, left_out, held, folders).close()
        raise
    if changed:
        model.close()
        raise ModelFilesError(
            f"{', '.join(changed[:5])} changed while the model was read: let nobody write there",
            code="model_changed",
        )
    return model


def compare_files(found: Mapping[str, Digest], sealed: Mapping[str, Digest]) -> None:
    """Return if a model's files are the sealed ones; raises `ModelFilesError` that names others."""
    missing = sorted(sealed.keys() - found.keys(), key=path_order)
    more = sorted(found.keys() - sealed.keys(), key=path_order)
    other = [path for path in found if path in sealed and found[path] != sealed[path]]
    said = [
        f"{what} {', '.join(paths[:5])}{' and more' if len(paths) > 5 else ''}"
        for what, paths in (("altered:", other), ("missing:", missing), ("not sealed:", more))
        if paths
    ]
    if said:
        raise ModelFilesError(
            f"the model's files are not the sealed ones; {'; '.join(said)}", code="model_differs"
        )


def _allow_open(files: int) -> None:
    # The usual soft limit of 1024 is for programs that use select; nothing here does.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = files + _SPARE_DESCRIPTORS
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise ModelFilesError(
            f"expected a limit of {wanted} open files for {files} files that are held, got {hard}: "
            f"raise it (ulimit -Hn {wanted}), or leave files out by name"
        )
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _pool() -> concurrent.futures.ThreadPoolExecutor:
    # Hashing releases the interpreter's lock, so threads use every core.
    workers = min(_MOST_WORKERS, os.cpu_count() or 1)
    return concurrent.futures.ThreadPoolExecutor(workers, thread_name_prefix="model-files")


def _open_and_hash(folder: Path, path: str) -> _Held:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(folder / path, flags)
    except OSError as error:
        raise ModelFilesError(f"{path} can't be read: {error.strerror}") from error
    try:
        before = _mark(os.fstat(descriptor))
        digest = _hash(descriptor)
        if _mark(os.fstat(descriptor)) != before:
            raise ModelFilesError(
                f"{path} changed while it was read: let nobody write there", code="model_changed"
            )
        return _Held(descriptor, before, digest)
    except BaseException:
        os.close(descriptor)
        raise


def _hash(descriptor: int) -> Digest:
    hasher = hashlib.sha256()
    for piece in _pieces(descriptor):
        hasher.update(piece)
    return parse_digest(f"sha256:{hasher.hexdigest()}")


def _pieces(descriptor: int) -> Iterator[bytes]:
    offset = 0
    while piece := os.pread(descriptor, _PIECE_BYTES, offset):
        yield piece
        offset += len(piece)


def _mark(found: os.stat_result) -> _Mark:
    return _Mark(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _mark_at(path: Path) -> _Mark | None:
    try:
        return _mark(path.stat(follow_symlinks=False))
    except OSError:
        return None
