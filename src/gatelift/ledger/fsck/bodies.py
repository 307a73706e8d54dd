"""The files by digest: bodies of entries, and what bodies name.

Invariants
- A file holds the bytes that its name says, or is a fault, whoever names it.
- What was asked for when an entry was logged (its body; plan, candidate, pinned certificates) has to
  be there; what an entry may name before it exists, or without it, is looked at only if it is.
- A lost body is written again only from a file of the deployment with the same digest.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Final

import msgspec

from gatelift.encoding import Digest, sha256_digest
from gatelift.ledger.faults import Fault
from gatelift.ledger.fsck.report import Checkup
from gatelift.messages import EntryKind, Export, PlacementEnrolment, PlanAdoption
from gatelift.wire.files import FileStore

__all__ = ["Bodies"]

_COPIES: Final = ("root.json", "plan.yaml", "candidate.json")
_HEX: Final = frozenset("0123456789abcdef")


class Bodies:
    """Checks files of the deployment in `directory`; each file is read once."""

    NAMING: ClassVar = frozenset(
        {EntryKind.ROOT, EntryKind.PLAN, EntryKind.PLACEMENT, EntryKind.HEAD}
    )
    """The kinds whose bodies name what is checked here or elsewhere."""

    def __init__(self, directory: Path, checkup: Checkup) -> None:
        self._directory = directory
        self._folder = directory / "files" / "sha256"
        self._checkup = checkup
        self._files = FileStore(directory / "files")
        self._copies: dict[Digest, bytes] | None = None
        self._checked: set[Digest] = set()

    def check(self, digest: Digest, what: str) -> bytes | None:
        """Return the bytes of a file that must be there; none, and a fault, if it is not whole."""
        path = self._files.path(digest)
        data = path.read_bytes() if path.is_file() else None
        if data is not None and sha256_digest(data) == digest:
            self._checked.add(digest)
            return data
        if digest in self._checked:
            return None
        self._checked.add(digest)
        copy = self._copy_of(digest)
        fault = _fault(path.name, what, data, derivable=copy is not None)
        if copy is None:
            self._checkup.faults.add(fault)
            return None
        self._checkup.derivable(fault, lambda: self._put(copy))
        return copy

    def check_named(self, value: msgspec.Struct, index: int) -> None:
        """Check the files that must have been there when this body was logged."""
        if isinstance(value, PlanAdoption):
            _ = self.check(value.plan, f"the plan that entry {index} adopts")
            _ = self.check(value.candidate, f"the candidate that entry {index} adopts")
        if isinstance(value, PlacementEnrolment) and value.tls is not None:
            _ = self.check(value.tls.ca, f"the certificates that entry {index} pins")
        if isinstance(value, Export):
            _ = self.check(value.manifest, f"the manifest that entry {index} pins")
        if isinstance(value, PlacementEnrolment) and value.sidecar is not None:
            _ = self.check(value.sidecar.manifest, f"the manifest that entry {index} pins")

    def check_all(self) -> None:
        """Check every other file by its name."""
        for path in sorted(self._folder.iterdir()):
            if len(path.name) != 64 or not set(path.name) <= _HEX:
                continue  # a temporary file of a process that died
            digest = Digest(f"sha256:{path.name}")
            if digest in self._checked:
                continue
            data = path.read_bytes()
            if sha256_digest(data) != digest:
                what = "a file that no entry requires (bundle, roster, evidence, attachment)"
                self._checkup.faults.add(_fault(path.name, what, data, derivable=False))

    def _copy_of(self, digest: Digest) -> bytes | None:
        if self._copies is None:
            paths = [self._directory / name for name in _COPIES]
            read = [path.read_bytes() for path in paths if path.is_file()]
            self._copies = {sha256_digest(data): data for data in read}
        return self._copies.get(digest)

    def _put(self, data: bytes) -> None:
        _ = self._files.put(data)


def _fault(name: str, what: str, data: bytes | None, *, derivable: bool) -> Fault:
    return Fault(
        code="file_missing" if data is None else "file_corrupt",
        where=f"files/sha256/{name}",
        expected=f"{what}, with this SHA-256",
        found="no file" if data is None else f"{len(data)} bytes with {sha256_digest(data)}",
        do="`--repair` writes it again from the copy in the deployment's folder"
        if derivable
        else "restore it from a backup, or from a dossier, where it has the same name",
        derivable=derivable,
    )
