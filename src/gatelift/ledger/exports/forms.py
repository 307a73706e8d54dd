"""How other people's formats write what the log holds: digests, times, and one run's verdict.

Invariants
- A run is judged by its own commit, as `decide` judges it: attempts promised and not made count as
  errors, undetermined and errored ones as successes.
- A run without its commit, late, not as promised or revoked passes nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime

from gatelift.decide import EvidenceEntry, State
from gatelift.encoding import Digest
from gatelift.stats import Outcome, Verdict, verdict

__all__ = ["hex_of", "instant", "judge_run", "passes"]


def hex_of(digest: Digest) -> str:
    """Return a digest's 64 digits."""
    return digest.removeprefix("sha256:")


def instant(at_ms: int) -> str:
    """Return a time as RFC 3339 writes it, in UTC, to the second."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def judge_run(state: State, run: EvidenceEntry) -> Verdict | None:
    """Return what one run says of the limit that it was committed to; none without its commit."""
    held = state.commits.get(run.evidence.commit)
    if held is None or held.commit.comparator != "below":
        return None
    commit, seen = held.commit, run.evidence
    made = seen.n + seen.undetermined + seen.errors
    missing = max(0, commit.attempts - made)
    return verdict(
        made + missing,
        seen.s,
        limit=commit.limit,
        margin=commit.margin,
        confidence=commit.confidence,
        undetermined=seen.undetermined,
        errors=seen.errors + missing,
    )


def passes(state: State, run: EvidenceEntry) -> bool:
    """Return whether a run counts and rules its limit out."""
    said = judge_run(state, run)
    counts = run.usable and run.digest not in state.revoked
    return counts and said is not None and said.outcome is Outcome.RULED_OUT
