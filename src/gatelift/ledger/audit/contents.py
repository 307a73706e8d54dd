"""What lies in a dossier beside what was verified: the table of contents, the policy, other files.

Invariants
- `dossier.json` and `tlog-policy` are compared with what the logs gave, and believed in nothing.
- A file that no check had a reason to read is named: whoever gets a dossier sees what was put beside
  it, and who wrote it cannot hand over something under the cover of its verdict.
- An attachment that an entry names and the dossier lacks is a warning: it may have been withheld.
"""

from __future__ import annotations

from collections.abc import Iterator

from gatelift.encoding import Digest
from gatelift.ledger.audit.folder import (
    FILES,
    MANIFEST,
    POLICY,
    RECORDS,
    RELEASES,
    REQUESTS,
    ROOT,
    Folder,
)
from gatelift.ledger.audit.log import CHECKPOINT, AuditedLog
from gatelift.ledger.audit.manifest import LogSize, Manifest, attachments_of, dossier_policy
from gatelift.ledger.audit.releases import Releases
from gatelift.ledger.audit.report import Findings
from gatelift.ledger.audit.requests import RequestsLog, node_of
from gatelift.messages import PlanAdoption
from gatelift.tlog import MAX_POLICY_BYTES, entry_tiles_for_size, tiles_for_size

__all__ = ["check_contents", "check_unlisted"]

_BODIES = f"{FILES}/sha256/"


def check_contents(
    folder: Folder,
    manifest: Manifest,
    releases: Releases,
    logs: tuple[RequestsLog, ...],
    *,
    release: str,
    records: int,
    findings: Findings,
) -> None:
    """Compare policy, attachments and table of contents with what was verified."""
    origins = tuple((held.log.origin, node_of(held.name)) for held in logs)
    with findings.reading(POLICY):
        if folder.read(POLICY, MAX_POLICY_BYTES) != dossier_policy(releases.root, origins):
            findings.error("policy_differs", POLICY, "expected the policy that the root gives")
    held = {f"sha256:{name}" for name in folder.names(f"{FILES}/sha256")}
    for entry in releases.entries:
        for digest in attachments_of(entry.body.value):
            if digest not in held:
                findings.warn(
                    "attachment_missing",
                    releases.place(entry.index),
                    f"{digest} is named here and not in the dossier",
                )
    said = (
        manifest.release,
        manifest.root,
        manifest.records,
        manifest.files,
        manifest.releases,
        sorted((each.origin, each.size) for each in manifest.requests),
    )
    found = (
        release,
        releases.roots[0].digest,
        records,
        len(held),
        LogSize(origin=releases.log.origin, size=releases.log.checkpoint.size),
        sorted((held.log.origin, held.log.checkpoint.size) for held in logs),
    )
    if said != found:
        findings.error(
            "manifest_differs", MANIFEST, "its table of contents is not what the files hold"
        )


def check_unlisted(
    names: tuple[str, ...], releases: Releases, logs: tuple[RequestsLog, ...], findings: Findings
) -> None:
    """Name every file that nothing here has a reason to hold. Call it for logs that hold."""
    listed = {MANIFEST, ROOT, POLICY}
    listed.update(_files_of(RELEASES, releases.log))
    for held in logs:
        listed.update(_files_of(f"{REQUESTS}/{held.name}", held.log))
        listed.add(f"{RECORDS}/{held.name}.jsonl")
    listed.update(_BODIES + digest.removeprefix("sha256:") for digest in _named(releases))
    for name in names:
        if name not in listed:
            findings.warn(
                "unexpected_file", name, "nothing in the logs has a reason for it; not read"
            )


def _files_of(folder: str, log: AuditedLog) -> Iterator[str]:
    yield f"{folder}/{CHECKPOINT}"
    size = log.checkpoint.size
    yield from (f"{folder}/{bundle.path}" for bundle in entry_tiles_for_size(size))
    yield from (f"{folder}/{tile.path}" for tile in tiles_for_size(size))


def _named(releases: Releases) -> Iterator[Digest]:
    yield from (held.digest for held in releases.roots)
    for entry in releases.entries:
        yield entry.header.body
        yield from attachments_of(entry.body.value)
        if isinstance(entry.body.value, PlanAdoption):
            yield entry.body.value.plan
            yield entry.body.value.candidate
