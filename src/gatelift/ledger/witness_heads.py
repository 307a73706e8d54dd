"""Comparing a log's head with what its witnesses saw of it.

Whoever reads only what the log shows may be shown a history of his own, an old one, or one that stopped.
The witnesses' own read side tells, past the log:

| code | when | alarm |
|---|---|---|
| `agrees` | same size, same root | |
| `ahead` | ours is larger and extends theirs | |
| `behind` | theirs is larger, and cosigned after ours was current | |
| `split_view` | same size and another root, or ours does not extend theirs | yes |
| `rollback` | theirs is larger, and was cosigned before ours was said to be current | yes |
| `stale_head` | no quorum cosigned ours within the maximal age | yes |
| `not_compared` | no answer, or nothing that the log and that witness signed | |

Invariants
- A head counts only if the log signed it and this very witness cosigned it: nobody else can raise an
  alarm, nor quieten one.
- Both notes of a split view are kept in the outcome: each is signed by the log, which is the proof.
- `is_enough` says whether those who were compared make up a quorum; less than that is no good news.

A larger head cannot be shown to extend ours without the log's help; `rollback` says only that we were
given less than there was. Times are the witnesses' own.

Follows C2SP tlog-witness, the monitoring prefix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from gatelift.errors import GateliftError
from gatelift.ledger.errors import LedgerError
from gatelift.ledger.tile_files import read_checkpoint
from gatelift.ledger.tiles_reader import TileLog
from gatelift.tlog import (
    Checkpoint,
    MerkleError,
    Policy,
    PolicyError,
    PolicyWitness,
    parse_note,
    verify_cosignatures,
    verify_log_signature,
    verify_witnessed,
)

__all__ = ["ALARMS", "HeadComparison", "HeadOutcome", "compare_heads"]

ALARMS = frozenset({"split_view", "rollback", "stale_head"})
_CLOCK_SLACK_S = 300


class HeadOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one witness's head says of ours; `witness` is empty where ours alone is judged."""

    witness: str
    code: str
    message: str
    size: int | None = None
    cosigned_at: int | None = None
    """In ms UTC."""
    note: str | None = None


class HeadComparison(msgspec.Struct, frozen=True, kw_only=True):
    """Our head and what all witnesses say of it."""

    origin: str
    size: int
    note: str
    outcomes: tuple[HeadOutcome, ...]
    is_enough: bool

    @property
    def alarms(self) -> tuple[HeadOutcome, ...]:
        """Those outcomes that are evidence against the log, or against who showed it to us."""
        return tuple(each for each in self.outcomes if each.code in ALARMS)


def compare_heads(
    directory: Path,
    policy: Policy,
    heads: Mapping[str, Callable[[str], bytes | None]],
    *,
    now_s: int,
    as_of_s: int,
    max_age_s: int,
    slack_s: int,
) -> HeadComparison:
    """Compare the head of the log in `directory` with its witnesses' heads.

    `heads` are by the witness's name in `policy`: each returns the last note of an origin, none
    where that witness tells of none, or raises `GateliftError`. `as_of_s` is when our head was said to be the newest; a head cosigned up to
    `slack_s` before may still have been on its way. Raises what our own head fails with.
    """
    note = _own_note(directory)
    until_s = now_s + _CLOCK_SLACK_S
    ours = verify_witnessed(note, policy, cosigned_until_s=until_s).checkpoint
    # First all of theirs, then our tiles: a log that goes on growing is never behind by that alone.
    seen: dict[str, _Seen | HeadOutcome] = {
        each.name: _look(each, heads.get(each.name), policy, ours.origin, until_s)
        for each in policy.witnesses
    }
    log = TileLog(directory, ours)
    found = [s for s in seen.values() if isinstance(s, _Seen)]
    outcomes = [
        each if isinstance(each, HeadOutcome) else _judge(log, each, found, as_of_s - slack_s)
        for each in seen.values()
    ]
    outcomes += _judge_age(note, policy, now_s, max_age_s)
    return HeadComparison(
        origin=ours.origin,
        size=ours.size,
        note=note.decode("utf-8"),
        outcomes=tuple(outcomes),
        is_enough=bool(found) and policy.is_met_by([s.witness.key for s in found]),
    )


class _Seen(msgspec.Struct, frozen=True, kw_only=True):
    witness: PolicyWitness
    checkpoint: Checkpoint
    time_s: int
    note: bytes

    def outcome(self, code: str, message: str) -> HeadOutcome:
        return HeadOutcome(
            witness=self.witness.name,
            code=code,
            message=message,
            size=self.checkpoint.size,
            cosigned_at=self.time_s * 1000,
            note=self.note.decode("utf-8"),
        )


def _own_note(directory: Path) -> bytes:
    note = read_checkpoint(directory)
    if note is None:
        raise LedgerError(f"expected a published log in {directory}, found no checkpoint")
    return note


def _look(
    witness: PolicyWitness,
    fetch: Callable[[str], bytes | None] | None,
    policy: Policy,
    origin: str,
    until_s: int,
) -> _Seen | HeadOutcome:
    try:
        if fetch is None:
            raise LedgerError("nobody said where it is: give its URL", code="witness_failed")
        note = fetch(origin)
        if note is None:
            raise LedgerError(f"it tells of no head of {origin!r}", code="witness_failed")
        parsed = parse_note(note)
        checkpoint, _ = verify_log_signature(parsed, [log.key for log in policy.logs])
        given = verify_cosignatures(parsed, [witness.key])
        if checkpoint.origin != origin or not given or given[0].time_s > until_s:
            raise LedgerError(
                f"expected a head of {origin!r} that it cosigned, up to now; got one of "
                f"{checkpoint.origin[:80]!r} with {len(given)} cosignature(s) of its own",
                code="witness_failed",
            )
    except GateliftError as error:
        return HeadOutcome(witness=witness.name, code="not_compared", message=str(error))
    return _Seen(witness=witness, checkpoint=checkpoint, time_s=given[0].time_s, note=note)


def _judge(log: TileLog, theirs: _Seen, everybody: Sequence[_Seen], current_s: int) -> HeadOutcome:
    ours, head = log.checkpoint, theirs.checkpoint
    for other in everybody:
        if other.checkpoint.size == head.size and other.checkpoint.root != head.root:
            return theirs.outcome(
                "split_view",
                f"it cosigned another tree of {head.size} entries than {other.witness.name}: the log "
                "shows two histories. Keep both notes, and tell everybody",
            )
    if head.size > ours.size:
        if theirs.time_s < current_s:
            return theirs.outcome(
                "rollback",
                f"it saw {head.size} entries before this head of {ours.size} was given out as the "
                "newest: entries are withheld, the log was rolled back, or a quorum was away so long",
            )
        return theirs.outcome("behind", f"it saw {head.size - ours.size} entries more, since")
    if head.size == ours.size and head.root == ours.root:
        return theirs.outcome("agrees", f"it cosigned this very head of {ours.size} entries")
    try:
        log.verify_extends(head)
    except MerkleError as error:
        return theirs.outcome(
            "split_view",
            f"the tree of {ours.size} entries here does not hold the {head.size} that it cosigned "
            f"({error}): the log shows two histories. Keep both notes, and tell everybody",
        )
    return theirs.outcome("ahead", f"it cosigned the first {head.size} entries of these")


def _judge_age(note: bytes, policy: Policy, now_s: int, max_age_s: int) -> list[HeadOutcome]:
    if policy.quorum is None:
        return []
    try:
        verify_witnessed(note, policy, cosigned_from_s=now_s - max_age_s)
    except PolicyError as error:
        message = (
            f"no quorum cosigned this head within the last {max_age_s} s ({error}): the log stands "
            "still, or an old head is shown"
        )
        return [HeadOutcome(witness="", code="stale_head", message=message)]
    return []
