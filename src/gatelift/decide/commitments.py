"""Commitments without results: what was promised on the log, and has not been kept there.

| promise | kept by |
|---|---|
| `commit`: a measurement that will be made | evidence of exactly that, in time, not revoked since |
| `announcement`: a certificate that will be asked for | a certificate of that stage, plan and candidate |
| `export`: a copy of the weights that comes back | its closing |
| `own_grant`: calls of an overseer that will be disclosed | the disclosure |

Invariants
- Pure: the state and a time in, one line for each promise not kept out, in the order of the log.
- Only what the log holds keeps a promise. One that is past its time stays on the list for ever: a
  commit is then a failed measurement, however good the run was.
- Nobody's promise is left out, the overseer's own least of all.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter

import msgspec

from gatelift.decide.state import AnnouncementEntry, CommitEntry, State

__all__ = ["Commitment", "open_commitments"]


class Commitment(msgspec.Struct, frozen=True, kw_only=True):
    """A promise without its result. Times in ms UTC.

    `by` are its signers as `<role>:<person>`; `due` is null where the promise names no time;
    `settled_by` says what would keep it, or that nothing can any more.
    """

    index: int
    kind: str
    id: str
    what: str
    by: tuple[str, ...]
    at: int
    age_ms: int
    due: int | None
    overdue: bool
    settled_by: str


def open_commitments(state: State, now_ms: int) -> tuple[Commitment, ...]:
    """Return every promise on the log that has no result there at `now_ms`."""
    found = (
        *_commits(state, now_ms),
        *_announcements(state, now_ms),
        *_exports(state, now_ms),
        *_own_grants(state, now_ms),
    )
    return tuple(sorted(found, key=attrgetter("index")))


def _commits(state: State, now_ms: int) -> Iterator[Commitment]:
    for entry in state.commits.values():
        commit = entry.commit
        revoked = entry.completed_by in state.revoked
        if entry.completed_by is not None and not revoked:
            continue
        overdue = now_ms > commit.deadline
        yield Commitment(
            index=entry.index,
            kind="commit",
            id=commit.id,
            what=f"{commit.assessment}/{commit.metric} below {commit.limit}, {commit.attempts} attempts",
            by=entry.by,
            at=entry.at,
            age_ms=now_ms - entry.at,
            due=commit.deadline,
            overdue=overdue,
            settled_by=_commit_settled_by(entry, revoked=revoked, overdue=overdue),
        )


def _commit_settled_by(entry: CommitEntry, *, revoked: bool, overdue: bool) -> str:
    if revoked:
        return "nothing: its result was revoked; commit to a new run"
    if overdue:
        return "nothing: its time is over and it counts as failed"
    return f"evidence of commit {entry.commit.id}"


def _announcements(state: State, now_ms: int) -> Iterator[Commitment]:
    for entry in state.announcements:
        said = entry.announcement
        if _is_certified(state, entry):
            continue
        yield Commitment(
            index=entry.index,
            kind="announcement",
            id=said.id,
            what=f"a certificate of stage {said.stage}",
            by=entry.by,
            at=entry.at,
            age_ms=now_ms - entry.at,
            due=None,
            overdue=False,
            settled_by=f"a certificate of stage {said.stage} under the plan and candidate announced",
        )


def _is_certified(state: State, entry: AnnouncementEntry) -> bool:
    return any(
        held.index > entry.index
        and (held.certificate.stage, held.certificate.fingerprint, held.certificate.plan)
        == entry.announcement.terms
        for held in state.certificates.get(entry.announcement.stage, ())
    )


def _exports(state: State, now_ms: int) -> Iterator[Commitment]:
    for entry in state.copies.values():
        said = entry.export
        if entry.closing is not None:
            continue
        yield Commitment(
            index=entry.index,
            kind="export",
            id=said.id,
            what=f"a copy of the weights comes back from {said.destination}",
            by=entry.by,
            at=entry.at,
            age_ms=now_ms - entry.at,
            due=said.expires_at,
            overdue=now_ms >= said.expires_at,
            settled_by=f"the closing of copy {said.id}, by operator and security",
        )


def _own_grants(state: State, now_ms: int) -> Iterator[Commitment]:
    for entry in state.own_grants.values():
        own = entry.standing.own_grant
        if entry.disclosure is not None:
            continue
        yield Commitment(
            index=entry.index,
            kind="own_grant",
            id=own.id,
            what=f"own calls of {entry.standing.organisation}, {own.requests_per_day} a day at most",
            by=entry.by,
            at=entry.at,
            age_ms=now_ms - entry.at,
            due=own.disclose_by,
            overdue=now_ms > own.disclose_by,
            settled_by=f"its disclosure by {entry.standing.organisation}",
        )
