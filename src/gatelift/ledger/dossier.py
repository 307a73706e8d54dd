"""The dossier: everything an auditor needs, copied out of a running deployment into one folder.

Invariants
- Nothing secret is in it: no key, no store, no token; only what was published or committed.
- Logs are written again from entries that lead to their checkpoint, at exactly its size; whatever
  the deployment published since is left out.
- A folder that holds anything is refused; the new one appears whole or not at all.
- What a logged erasure covers is not in it, whether the keeper has carried it out yet or not; what no
  keeper would carry out (a hold, other figures) is in it as it was.
- A file or batch that should be there and is not, is listed and never silently left out.

Format: docs/reference/dossier.md. `verify` reads it. It does not stop or lock the deployment.
"""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from gatelift.encoding import (
    Digest,
    EncodingError,
    decode_json,
    encode_base64,
    encode_json,
    parse_digest,
    sha256_digest,
)
from gatelift.errors import CallerError
from gatelift.journal import CommittedBatch
from gatelift.ledger.audit.folder import (
    FILES,
    MANIFEST,
    POLICY,
    RECORDS,
    RELEASES,
    REQUESTS,
    ROOT,
    origin_of,
)
from gatelift.ledger.audit.log import CHECKPOINT
from gatelift.ledger.audit.manifest import (
    VERSION,
    LogSize,
    Manifest,
    attachments_of,
    dossier_policy,
)
from gatelift.ledger.audit.record_lines import RecordLine
from gatelift.ledger.audit.requests import node_of, requests_keys
from gatelift.ledger.committed import CommittedBatches
from gatelift.ledger.erasing import TombstoneLines
from gatelift.ledger.tiles_reader import TileLog
from gatelift.messages import (
    EntryHeader,
    EntryKind,
    Erasure,
    Hold,
    HoldLift,
    PlanAdoption,
    holds_back,
    releases_policy,
    verify_body,
)
from gatelift.tlog import (
    MemoryTree,
    encode_entries,
    entry_tiles_for_size,
    parse_checkpoint,
    parse_note,
    tile_bytes,
    tiles_for_size,
    verify_log_signature,
    verify_witnessed,
)
from gatelift.trust import Root, verify_root
from gatelift.wire.files import FileStore, FileStoreError

__all__ = ["DossierError", "DossierSummary", "export_dossier"]


class DossierError(CallerError):
    """The dossier cannot be written.

    Codes: `not_empty`, `no_deployment`, `bad_log`, `erased_unlogged`.
    """

    code = "not_empty"


class DossierSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What was written."""

    path: str
    manifest: Manifest


def export_dossier(
    directory: Path, out: Path, *, checkpoint_note: bytes, now_ms: int | None = None
) -> DossierSummary:
    """Write the dossier of the deployment in `directory` to `out`, which is empty or not there.

    `checkpoint_note` is the newest cosigned head of the releases log; `now_ms` (by default the
    clock's) only dates the table of contents. Raises `DossierError`, and the error of the layer that
    failed when the deployment's own files do not hold.
    """
    exported_at = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise DossierError(f"{out.name} is there and not empty: name a new folder")
    temporary = out.with_name(f".{out.name}.{secrets.token_hex(6)}.partial")
    temporary.mkdir(parents=True)
    try:
        manifest = _Export(directory, temporary, checkpoint_note).run(exported_at)
        temporary.replace(out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return DossierSummary(path=str(out), manifest=manifest)


class _Export:
    """One export: reads the deployment, writes below `out`."""

    def __init__(self, directory: Path, out: Path, note: bytes) -> None:
        self._directory = directory
        self._out = out
        self._note = note
        self._files = FileStore(directory / FILES)
        self._copied: set[Digest] = set()
        self._missing: list[str] = []
        self._roots: list[Root] = []
        self._release = ""
        self._erased = TombstoneLines()
        self._holds: dict[str, Hold] = {}

    def run(self, exported_at: int) -> Manifest:
        """Write everything and return the table of contents."""
        first, releases = self._releases()
        journals = CommittedBatches(self._directory / "journal")
        logs: list[tuple[str, str, int]] = []
        records = 0
        folder = self._directory / "logs" / REQUESTS
        names = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
        for name in sorted(names, key=lambda n: (n[:-8], n)):
            if not (folder / name / CHECKPOINT).exists():
                continue  # opened and not published yet
            origin, size, lines = self._requests(folder / name, name, journals)
            logs.append((origin, node_of(name), size))
            records += lines
        policy = dossier_policy(self._roots[-1], tuple((o, node) for o, node, _ in logs))
        self._write(POLICY, policy)
        manifest = Manifest(
            v=VERSION,
            release=self._release,
            exported_at=exported_at,
            root=sha256_digest(first),
            releases=releases,
            requests=tuple(LogSize(origin=origin, size=size) for origin, _, size in logs),
            records=records,
            files=len(self._copied),
            missing=tuple(self._missing),
        )
        self._write(MANIFEST, encode_json(manifest) + b"\n")
        return manifest

    def _releases(self) -> tuple[bytes, LogSize]:
        checkpoint = parse_checkpoint(parse_note(self._note).text)
        log = TileLog(self._directory / "logs" / RELEASES, checkpoint)
        entries = [entry for _, entry in log.entries()]
        first = self._first_root(entries)
        self._roots.append(verify_root(first, now_ms=0))
        for index, leaf in enumerate(entries):
            self._take_entry(decode_json(leaf, EntryHeader), index)
        verify_witnessed(self._note, releases_policy(self._roots[-1]))
        self._write(ROOT, first)
        self._write_log(RELEASES, self._note, entries)
        return first, LogSize(origin=checkpoint.origin, size=checkpoint.size)

    def _first_root(self, entries: list[bytes]) -> bytes:
        # The pinned root may be a later one; the chain begins with the first that was logged.
        if entries:
            header = decode_json(entries[0], EntryHeader)
            if header.kind is EntryKind.ROOT:
                return self._files.get(header.body)
        try:
            pinned = (self._directory / "root.sha256").read_text("ascii").strip()
        except (FileNotFoundError, UnicodeDecodeError) as error:
            raise DossierError(
                f"expected a deployment with root.sha256 in {self._directory.name}",
                code="no_deployment",
            ) from error
        return self._files.get(parse_digest(pinned))

    def _take_entry(self, header: EntryHeader, index: int) -> None:
        data = self._files.get(header.body)
        self._copy(header.body)
        if header.kind is EntryKind.ROOT and index == 0:
            return
        value = verify_body(header.kind, data, self._roots[-1], header.at).value
        if isinstance(value, Root):
            self._roots.append(value)
        if isinstance(value, PlanAdoption):
            self._release = value.release
            self._copy(value.plan)
            self._copy(value.candidate)
        if isinstance(value, Hold):
            self._holds[value.id] = value
        if isinstance(value, HoldLift):
            self._holds.pop(value.id, None)
        if isinstance(value, Erasure) and not self._is_held(value):
            self._erased.add(value, self._files)
        for digest in attachments_of(value):
            self._copy(digest)

    def _is_held(self, value: Erasure) -> bool:
        return any(holds_back(hold, value) for hold in self._holds.values())

    def _copy(self, digest: Digest) -> None:
        if digest in self._copied:
            return
        try:
            data = self._files.get(digest)
        except (FileStoreError, EncodingError):
            self._missing.append(digest)
            return
        self._copied.add(digest)
        self._write(f"{FILES}/sha256/{digest.removeprefix('sha256:')}", data)

    def _requests(
        self, directory: Path, name: str, journals: CommittedBatches
    ) -> tuple[str, int, int]:
        note = (directory / CHECKPOINT).read_bytes()
        origin = origin_of(self._roots[-1].name, name)
        keys = requests_keys(tuple(self._roots), origin, node_of(name))
        if not keys:
            raise DossierError(f"node {node_of(name)!r} is in no root", code="bad_log")
        checkpoint, _ = verify_log_signature(parse_note(note), keys)
        entries = [entry for _, entry in TileLog(directory, checkpoint).entries()]
        self._write_log(f"{REQUESTS}/{name}", note, entries)
        path = self._out / RECORDS / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        written = 0
        with path.open("wb") as file:
            for index, leaf in enumerate(entries):
                batch = journals.find(leaf)
                if batch is None:
                    self._missing.append(f"{origin}#{index}")
                    continue
                for line in _record_lines(origin, index, batch, self._erased):
                    file.write(line + b"\n")
                    written += 1
        return origin, checkpoint.size, written

    def _write_log(self, name: str, note: bytes, entries: list[bytes]) -> None:
        tree = MemoryTree(entries)
        for bundle in entry_tiles_for_size(tree.size):
            rows = entries[bundle.first : bundle.first + bundle.width]
            self._write(f"{name}/{bundle.path}", encode_entries(rows))
        for tile in tiles_for_size(tree.size):
            self._write(f"{name}/{tile.path}", tile_bytes(tree, tile))
        self._write(f"{name}/{CHECKPOINT}", note)

    def _write(self, name: str, data: bytes) -> None:
        path = self._out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _record_lines(
    origin: str, index: int, batch: CommittedBatch, erased: TombstoneLines
) -> Iterator[bytes]:
    for offset, stored in enumerate(batch.records):
        line = erased.replacing(origin, index, offset, stored)
        if line is None and stored.gone is not None:
            raise DossierError(
                f"record {offset} of batch {index} of {origin} is erased, by {stored.gone.erasure[:60]}, "
                "which the releases log does not hold up to this head: export again in a moment",
                code="erased_unlogged",
            )
        if line is not None:
            yield encode_json(line)
            continue
        yield encode_json(
            RecordLine(
                log=origin,
                batch=index,
                i=offset,
                salt=encode_base64(stored.salt),
                record=stored.data.decode("utf-8"),
            )
        )
