"""The releases log of a dossier: every entry opened, under the root that was in force at it.

Invariants
- The chain of roots begins with `root.json`; each later root is an entry that its predecessor signed.
- An entry counts once its header reads strictly, its body has the digest and size that the header
  names, and its signers may say what it says. `at` never decreases; the last group is closed.
- The checkpoint is verified by the log's key and the witness quorum of the newest root.

Does not judge what entries mean: `authority` and `decisions` do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gatelift.encoding import Digest, decode_json, sha256_digest
from gatelift.ledger.audit.folder import Folder
from gatelift.ledger.audit.log import CHECKPOINT, AuditedLog, read_checkpoint, read_log
from gatelift.ledger.audit.report import Findings
from gatelift.ledger.audit.root_notices import check_days_of
from gatelift.ledger.following.root_notices import RootNotices
from gatelift.messages import Body, EntryHeader, EntryKind, releases_policy, verify_body
from gatelift.tlog import (
    CheckpointError,
    WitnessedCheckpoint,
    parse_checkpoint,
    parse_note,
    parse_policy,
    verify_witnessed,
)
from gatelift.trust import Root, Signer, verify_root

__all__ = [
    "Releases",
    "ReleasesEntry",
    "RootInForce",
    "is_vouched",
    "open_first_root",
    "read_releases",
    "verify_head",
]

_CLOCK_SLACK_S = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasesEntry:
    """An entry that was opened and verified."""

    index: int
    header: EntryHeader
    body: Body
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RootInForce:
    """A root and the index of the first entry that it judges."""

    root: Root
    digest: Digest
    since: int


class Releases:
    """The opened log. `entries` lacks those that did not hold; `is_whole` says whether any did."""

    def __init__(
        self, log: AuditedLog, roots: tuple[RootInForce, ...], entries: tuple[ReleasesEntry, ...]
    ) -> None:
        self.log = log
        self.roots = roots
        self.entries = entries
        self.is_whole = len(entries) == len(log.entries)
        self.witnessed: WitnessedCheckpoint | None = None

    @property
    def root(self) -> Root:
        """The newest root."""
        return self.roots[-1].root

    def root_at(self, index: int) -> Root:
        """Return the root in force at entry `index`."""
        return next(r.root for r in reversed(self.roots) if r.since <= index)

    def place(self, index: int) -> str:
        """Return where entry `index` stands, for a finding."""
        return self.log.place(index)


def open_first_root(data: bytes) -> tuple[Root, Digest]:
    """Return the root of the bytes of `root.json`, signed by its own root role, and its digest."""
    # Its own time of issue: whether it had expired is asked of each entry, at that entry's time.
    issued = verify_root(data, now_ms=0)
    return issued, sha256_digest(data)


def read_releases(
    folder: Folder, name: str, first: tuple[Root, Digest], findings: Findings
) -> Releases | None:
    """Return the releases log below `name`, opened; none if it does not lead to its checkpoint.

    Its checkpoint's signatures are checked by `verify_head`.
    """
    where = f"{name}/{CHECKPOINT}"
    log = None
    with findings.reading(where):
        checkpoint = parse_checkpoint(parse_note(read_checkpoint(folder, name)).text)
        expected = f"{first[0].name}/releases"
        if checkpoint.origin != expected:
            raise CheckpointError(
                f"expected the log {expected!r}, got {checkpoint.origin[:80]!r}",
                code="wrong_origin",
            )
        log = read_log(folder, name, checkpoint, findings)
    return None if log is None else _open(folder, log, first, findings)


def _open(
    folder: Folder, log: AuditedLog, first: tuple[Root, Digest], findings: Findings
) -> Releases:
    roots = [RootInForce(root=first[0], digest=first[1], since=0)]
    notices = RootNotices()
    entries: list[ReleasesEntry] = []
    headers: list[EntryHeader] = []
    for index, leaf in enumerate(log.entries):
        where = log.place(index)
        with findings.reading(where):
            header = decode_json(leaf, EntryHeader)
            headers.append(header)
            _check_header(header, headers, roots[-1].root, where, findings)
            data = folder.read_digest(header.body)
            if len(data) != header.body_bytes:
                findings.error(
                    "body_size",
                    where,
                    f"expected a body of {header.body_bytes} bytes, got {len(data)}",
                )
            if header.kind is EntryKind.ROOT:
                notice = notices.check(data)
                if notice is not None:
                    check_days_of(log, notice)
            body = _open_body(header, data, index, roots)
            notices.take(header.body, body)
            _check_actor(header, body.signers, where, findings)
            entries.append(ReleasesEntry(index=index, header=header, body=body, data=data))
    if headers and not headers[-1].end:
        findings.error(
            "group_open", log.place(len(log.entries) - 1), "expected the end of a transaction here"
        )
    return Releases(log, tuple(roots), tuple(entries))


def _open_body(header: EntryHeader, data: bytes, index: int, roots: list[RootInForce]) -> Body:
    newest = roots[-1]
    if header.kind is not EntryKind.ROOT:
        return verify_body(header.kind, data, newest.root, header.at)
    if header.body == newest.digest:
        # The log begins by naming the root that is in force already.
        return Body(kind=header.kind, value=newest.root, signers=())
    body = verify_body(header.kind, data, newest.root, header.at)
    if isinstance(body.value, Root):
        roots.append(RootInForce(root=body.value, digest=header.body, since=index + 1))
    return body


def _check_header(
    header: EntryHeader, headers: Sequence[EntryHeader], root: Root, where: str, findings: Findings
) -> None:
    before = headers[-2] if len(headers) > 1 else None
    if header.v != 1:
        findings.error("bad_header", where, f"expected version 1, got {header.v}")
    if before is not None and header.at < before.at:
        findings.error(
            "time_went_back", where, f"expected a time from {before.at} on, got {header.at}"
        )
    if header.kind is EntryKind.DECISION and (
        not header.end or before is None or before.end or before.kind is EntryKind.DECISION
    ):
        findings.error(
            "bad_group", where, "expected a decision once, at the end of the group it follows from"
        )
    if header.at >= root.expires_at and header.kind is not EntryKind.ROOT:
        findings.error("root_expired", where, f"root {root.version} expired at {root.expires_at}")


def _check_actor(
    header: EntryHeader, signers: tuple[Signer, ...], where: str, findings: Findings
) -> None:
    expected: tuple[str, ...] = ("root",)
    if header.kind is not EntryKind.ROOT:
        expected = tuple(sorted({f"{s.role}:{s.person}" for s in signers}))
    if header.actor != expected:
        findings.error(
            "actor_mismatch", where, f"expected the signers {expected}, it names {header.actor}"
        )


def verify_head(
    folder: Folder, releases: Releases, policy: bytes | None, now_ms: int, findings: Findings
) -> None:
    """Verify the checkpoint by the newest root's policy, and by the auditor's own if given.

    Sets `releases.witnessed` when both hold.
    """
    where = f"{releases.log.folder}/{CHECKPOINT}"
    until_s = now_ms // 1000 + _CLOCK_SLACK_S
    with findings.reading(where):
        note = read_checkpoint(folder, releases.log.folder)
        witnessed = verify_witnessed(note, releases_policy(releases.root), cosigned_until_s=until_s)
        if policy is not None:
            witnessed = verify_witnessed(note, parse_policy(policy), cosigned_until_s=until_s)
        if witnessed.checkpoint != releases.log.checkpoint:
            raise CheckpointError("the checkpoint changed while it was read")
        releases.witnessed = witnessed


def is_vouched(releases: Releases, anchor_root: Digest | None, *, with_policy: bool) -> bool:
    """Return whether an anchor leads to `root.json`, and not only to something after it.

    A policy pins the log, and a later root pins what follows it; either vouches for the root that the
    chain begins with only if the log itself begins by naming it. That the anchor was met at all is
    asked elsewhere.
    """
    first_root = releases.roots[0].digest
    if anchor_root == first_root:
        return True
    if anchor_root is None and not with_policy:
        return False
    first = releases.entries[0] if releases.entries else None
    return first is not None and (first.index, first.header.body) == (0, first_root)
