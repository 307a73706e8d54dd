"""What committed runs say of a threshold or a measure.

Invariants
- A run counts only if it was committed before it, completed in time and as promised.
- All runs of one (assessment, metric, candidate, `under`) are pooled, so nothing is retried into
  green: attempts promised and not made, and every attempt of an abandoned commit, count as errors;
  of a revoked run the bad outcomes still count and the good ones do not.
- The fresh runs alone must say the same: old good runs do not water down a new bad one. Of several
  verdicts the worst holds.
- For a capability every `under` must rule it out; for a measure only runs made under it count.
- `under` names what was in force, each safeguard as `category:posture`.
- No fresh run with the plan's own parameters, or one announced and not here: undetermined.

Source: DESIGN.md section 5 (commit before result); reference/statistics.md M10.
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

import msgspec

from gatelift.decide.reasons import ReasonCode, reason
from gatelift.decide.state import CommitEntry, EvidenceEntry, State
from gatelift.encoding import Digest
from gatelift.messages import Figure, Reason
from gatelift.plan import EvidenceDemand, SafeguardDemand, Threshold
from gatelift.stats import Outcome, requirement_met, verdict
from gatelift.terms import Category, Posture, ThresholdVerdict, meet_posture

__all__ = ["Judgement", "judge_measure", "judge_threshold", "stale_from", "under_words"]

_WORST_FIRST = (Outcome.REACHED, Outcome.CANNOT_RULE_OUT, Outcome.RULED_OUT)
_verdict = lru_cache(maxsize=1024)(verdict)
_requirement = lru_cache(maxsize=1024)(requirement_met)


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What the runs say. `outcome` is None and `reasons` say why where they say nothing."""

    outcome: ThresholdVerdict | None
    reasons: tuple[Reason, ...]
    used: tuple[Digest, ...]
    figures: tuple[Figure, ...]


class _Pool(msgspec.Struct, frozen=True, kw_only=True):
    n: int = 0
    s: int = 0
    undetermined: int = 0
    errors: int = 0

    def plus(self, other: _Pool) -> _Pool:
        return _Pool(
            n=self.n + other.n,
            s=self.s + other.s,
            undetermined=self.undetermined + other.undetermined,
            errors=self.errors + other.errors,
        )


class _Runs(msgspec.Struct, frozen=True, kw_only=True):
    """The runs of one demand: completed, fresh ones among them, and broken promises."""

    completed: tuple[EvidenceEntry, ...]
    fresh: tuple[EvidenceEntry, ...]
    abandoned: _Pool
    reasons: tuple[Reason, ...]


def under_words(safeguards: dict[Category, Posture]) -> tuple[str, ...]:
    """Return how evidence names the safeguards that were in force."""
    return tuple(sorted(f"{category}:{posture}" for category, posture in safeguards.items()))


def _covers(under: tuple[str, ...], demanded: dict[Category, Posture]) -> bool:
    held: dict[str, str] = dict(word.partition(":")[::2] for word in under)
    for category, posture in demanded.items():
        have = held.get(str(category))
        if have not in {each.value for each in Posture}:
            return False
        if meet_posture(Posture(have), posture) is not Posture(have):
            return False
    return True


def stale_from(entry: EvidenceEntry, max_age_ms: int) -> int:
    """Return the time from which a run is too old, counted from its end or its logging."""
    return min(entry.evidence.finished, entry.at) + max_age_ms


def _counts(state: State, entry: EvidenceEntry) -> _Pool:
    run = entry.evidence
    if entry.digest in state.revoked:
        bad = run.s + run.undetermined + run.errors
        return _Pool(n=bad, s=run.s, undetermined=run.undetermined, errors=run.errors)
    promised = state.commits[run.commit].commit.attempts
    made = run.n + run.undetermined + run.errors
    missing = max(0, promised - made)
    return _Pool(
        n=made + missing, s=run.s, undetermined=run.undetermined, errors=run.errors + missing
    )


def _fits(commit: CommitEntry, demand: EvidenceDemand | SafeguardDemand) -> bool:
    made = commit.commit
    if isinstance(demand, EvidenceDemand):
        figures = (demand.limit, demand.margin, demand.confidence, demand.attempts)
    else:
        figures = (demand.below, Decimal(0), demand.confidence, demand.min_attempts)
    limit, margin, confidence, attempts = figures
    return (
        made.comparator == "below"
        and made.limit == limit
        and made.margin == margin
        and made.confidence == confidence
        and made.attempts >= attempts
    )


def _missing_code(
    state: State,
    demand: EvidenceDemand | SafeguardDemand,
    completed: tuple[EvidenceEntry, ...],
    after: int,
    now_ms: int,
) -> ReasonCode:
    """Return the nearest cause why no run is fresh."""
    standing = [each for each in completed if each.digest not in state.revoked]
    if not completed:
        elsewhere = any(
            each.evidence.assessment == demand.assessment
            and each.evidence.metric == demand.metric
            and each.evidence.fingerprint != state.fingerprint
            for each in state.evidence
        )
        return ReasonCode.EVIDENCE_WRONG_CANDIDATE if elsewhere else ReasonCode.EVIDENCE_MISSING
    if not standing:
        return ReasonCode.EVIDENCE_REVOKED
    young = [each for each in standing if now_ms < stale_from(each, demand.max_age_ms)]
    if not young:
        return ReasonCode.EVIDENCE_STALE
    if all(each.index <= after for each in young):
        return ReasonCode.EVIDENCE_BEFORE_STOP
    return ReasonCode.EVIDENCE_OTHER_PARAMETERS


def _runs(
    state: State,
    demand: EvidenceDemand | SafeguardDemand,
    subject: str,
    after: int,
    now_ms: int,
    under: dict[Category, Posture] | None = None,
) -> _Runs:
    reasons: list[Reason] = []
    abandoned, gone = _Pool(), 0
    for promise in state.commits.values():
        made = promise.commit
        if (made.assessment, made.metric) != (demand.assessment, demand.metric):
            continue
        if made.fingerprint != state.fingerprint or promise.completed_by is not None:
            continue
        if now_ms > made.deadline:
            gone += 1
            abandoned = abandoned.plus(_Pool(n=max(0, made.attempts), errors=max(0, made.attempts)))
        else:
            text = f"{demand.assessment}: run {made.id} is due by {made.deadline}"
            reasons.append(reason(ReasonCode.COMMIT_PENDING, made.id, text))
    mine = tuple(
        each
        for each in state.evidence
        if each.usable
        and each.evidence.assessment == demand.assessment
        and each.evidence.metric == demand.metric
        and each.evidence.fingerprint == state.fingerprint
    )
    completed = (
        mine if under is None else tuple(e for e in mine if _covers(e.evidence.under, under))
    )
    fresh = tuple(
        each
        for each in completed
        if each.digest not in state.revoked
        and each.index > after
        and now_ms < stale_from(each, demand.max_age_ms)
        and _fits(state.commits[each.evidence.commit], demand)
    )
    if not fresh:
        code = _missing_code(state, demand, completed, after, now_ms)
        if not completed and mine:
            code = ReasonCode.MEASURE_NOT_IN_FORCE
        elif not completed and gone:
            code = ReasonCode.COMMIT_ABANDONED
        text = f"{subject} wants {demand.assessment}/{demand.metric}: {len(completed)} run(s) here"
        reasons.append(reason(code, subject, text))
    return _Runs(completed=completed, fresh=fresh, abandoned=abandoned, reasons=tuple(reasons))


def _pools(state: State, runs: _Runs) -> list[_Pool]:
    """Return the pool of all runs and of the fresh runs, for every `under` by itself."""
    groups: dict[tuple[str, ...], list[EvidenceEntry]] = {}
    for entry in runs.completed:
        groups.setdefault(tuple(sorted(entry.evidence.under)), []).append(entry)
    pools = []
    for entries in groups.values():
        whole, fresh = runs.abandoned, _Pool()
        for entry in entries:
            counts = _counts(state, entry)
            whole = whole.plus(counts)
            if entry in runs.fresh:
                fresh = fresh.plus(counts)
        pools.append(whole)
        if fresh.n:
            pools.append(fresh)
    return pools


def _used(state: State, runs: _Runs) -> tuple[Digest, ...]:
    return tuple(sorted(each.digest for each in runs.completed if each.digest not in state.revoked))


def judge_threshold(state: State, threshold: Threshold, after: int, now_ms: int) -> Judgement:
    """Return the verdict on a threshold; runs up to entry `after` are not fresh."""
    demand = threshold.evidence
    runs = _runs(state, demand, threshold.name, after, now_ms)
    if runs.reasons:
        return Judgement(outcome=None, reasons=runs.reasons, used=_used(state, runs), figures=())
    worst = None
    for pool in _pools(state, runs):
        said = _verdict(
            pool.n,
            pool.s,
            limit=demand.limit,
            margin=demand.margin,
            confidence=demand.confidence,
            undetermined=pool.undetermined,
            errors=pool.errors,
        )
        rank = (_WORST_FIRST.index(said.outcome), -said.upper)
        if worst is None or rank < worst[0]:
            worst = (rank, said)
    if worst is None:
        return Judgement(outcome=None, reasons=(), used=(), figures=())
    said = worst[1]
    figure = Figure(
        name=f"upper/{threshold.name}", value=str(said.upper), n=said.attempts, s=said.counted
    )
    return Judgement(
        outcome=ThresholdVerdict(said.outcome.value),
        reasons=(),
        used=_used(state, runs),
        figures=(figure,),
    )


def judge_measure(
    state: State, threshold: Threshold, demand: SafeguardDemand, after: int, now_ms: int
) -> Judgement:
    """Return whether a measure of a threshold is shown to work; `outcome` says nothing here."""
    subject = f"{threshold.name}/{demand.assessment}"
    postures = threshold.unless_ruled_out.safeguards
    runs = _runs(state, demand, subject, after, now_ms, postures)
    if runs.reasons:
        return Judgement(outcome=None, reasons=runs.reasons, used=_used(state, runs), figures=())
    worst = None
    for pool in _pools(state, runs):
        said = _requirement(
            pool.n,
            pool.s,
            below=demand.below,
            min_attempts=demand.min_attempts,
            confidence=demand.confidence,
            undetermined=pool.undetermined,
            errors=pool.errors,
        )
        if worst is None or (said.met, -said.upper) < (worst[0].met, -worst[0].upper):
            worst = (said, pool)
    if worst is None:
        return Judgement(outcome=None, reasons=(), used=(), figures=())
    said, pool = worst
    counted = pool.s + pool.undetermined + pool.errors
    reasons: tuple[Reason, ...] = ()
    if not said.met:
        text = (
            f"{subject}: {counted} of {pool.n} failed, upper bound {said.upper} is not below "
            f"{demand.below}"
        )
        reasons = (reason(ReasonCode.MEASURE_UNPROVEN, subject, text),)
    figure = Figure(name=f"measure_upper/{subject}", value=str(said.upper), n=pool.n, s=counted)
    return Judgement(outcome=None, reasons=reasons, used=_used(state, runs), figures=(figure,))
