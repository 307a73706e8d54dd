"""What tighter caps and postures would have refused, by the records of what was served.

A stage that observes serves under the envelope that is in force and records as always. Afterwards
this fold takes the exchanges in the order of their starts and judges each under the terms that were
observed. What it would have refused spends nothing of the later ones' caps (one request, where a
safeguard would have refused the prompt), as it would have been.

Invariants
- It changes nothing: records go in, counts come out. The same records give the same counts.
- Exchanges that were refused in truth are left out: nothing of theirs was served.

Limits, said in the report
- Tokens and bytes count as spent, not as reserved: a cap in force reserves the worst case and refuses
  a little earlier. So the counts are at least what would have been.
- A posture is judged where a rule spoke. An answer that would have been cut early is counted with all
  of its tokens.
- Caps on coverage are left out: records hold commitments to prompts, which nobody can compare.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from gatelift.messages import Finish, Outcome, RecordedVerdict, Start
from gatelift.plan import Observed
from gatelift.safeguards import action_of
from gatelift.terms import (
    Band,
    Cap,
    CapUnit,
    Posture,
    Prices,
    Side,
    Subject,
    Window,
    cost_of,
    window_start_ms,
)

__all__ = ["Exchange", "WouldHave", "would_have_refused"]

_NOT_SERVED = frozenset({Outcome.REFUSED, Outcome.CAPPED, Outcome.STOPPED})
_UNLOCKABLE = frozenset({Band.HIGH_RISK_DUAL_USE, Band.DUAL_USE})


class Exchange(NamedTuple):
    """A start and its finish, null while there is none."""

    start: Start
    finish: Finish | None


class WouldHave(msgspec.Struct, frozen=True, kw_only=True):
    """How many exchanges were served, how many would not have been, and for which reasons.

    `reasons` and `principals` are sorted by count. `cut` are answers that would have begun and been
    cut; they are not among `refused`.
    """

    served: int
    refused: int
    cut: int
    reasons: tuple[tuple[str, int], ...]
    principals: tuple[tuple[str, int], ...]
    first_at: int | None
    last_at: int | None


class _Use:
    """What was used of the observed caps."""

    def __init__(self, caps: Iterable[Cap]) -> None:
        self._caps = tuple(cap for cap in caps if cap.unit is not CapUnit.COVERAGE)
        self._used: dict[tuple[str, str, int], int] = {}
        self._open: dict[tuple[str, str], list[int]] = {}

    def over(self, exchange: Exchange, amounts: Mapping[CapUnit, int]) -> list[str]:
        """Return the caps that an exchange would have gone over."""
        found = []
        for cap in self._caps:
            if cap.unit is CapUnit.PARALLEL:
                used = len(self._still_open(cap, exchange.start))
            else:
                used = self._used.get(self._key(cap, exchange.start), 0)
            if used + amounts[cap.unit] > cap.limit:
                found.append(f"cap {cap.key}")
        return found

    def take(self, exchange: Exchange, amounts: Mapping[CapUnit, int], end_ms: int | None) -> None:
        """Count an exchange as served; `end_ms` is when it ended, null for one that never began."""
        for cap in self._caps:
            if cap.unit is CapUnit.PARALLEL:
                if end_ms is not None:
                    heapq.heappush(self._still_open(cap, exchange.start), end_ms)
                continue
            key = self._key(cap, exchange.start)
            self._used[key] = self._used.get(key, 0) + amounts[cap.unit]

    def _still_open(self, cap: Cap, start: Start) -> list[int]:
        ends = self._open.setdefault((cap.key, _subject(cap, start)), [])
        while ends and ends[0] <= start.at:
            heapq.heappop(ends)
        return ends

    @staticmethod
    def _key(cap: Cap, start: Start) -> tuple[str, str, int]:
        window = 0 if cap.window is Window.NONE else window_start_ms(cap.window, start.at)
        return cap.key, _subject(cap, start), window


def _subject(cap: Cap, start: Start) -> str:
    match cap.subject:
        case Subject.PRINCIPAL:
            return start.principal
        case Subject.ORGANISATION:
            return start.organisation
        case Subject.AUDIENCE | Subject.STAGE:
            # One stage at a time is judged, and one that observes has a single tier in practice.
            return ""


def _stopped_by(
    verdicts: Iterable[RecordedVerdict], observed: Observed, unlocked: tuple[Band, ...] | None
) -> Iterable[tuple[Side, str, bool]]:
    """Return side, reason and whether it would withhold, of each verdict that would have stopped."""
    for verdict in verdicts:
        posture = observed.safeguards.get(verdict.category)
        spared = verdict.band in _UNLOCKABLE and (unlocked is None or verdict.band in unlocked)
        if posture is None or spared or verdict.action is not Posture.OBSERVE:
            continue
        action = action_of(posture, verdict.side)
        if action is not Posture.OBSERVE:
            reason = f"{verdict.category.value} on the {verdict.side.value}: {verdict.rule}"
            yield verdict.side, reason, action is Posture.BLOCK


def would_have_refused(
    exchanges: Iterable[Exchange],
    observed: Observed,
    unlocked: tuple[Band, ...] | None,
    prices: Prices | None = None,
) -> WouldHave:
    """Return what `observed` would have refused of the exchanges of one stage.

    `unlocked` are the stage's unlocked bands, as in its scope. `prices` are what caps on cost count
    by; without them nothing is within such a cap.
    """
    served = refused = cut = 0
    reasons: dict[str, int] = {}
    principals: dict[str, int] = {}
    times: list[int] = []
    use = _Use(observed.caps)
    for exchange in sorted(exchanges, key=_order):
        start, finish = exchange
        if finish is not None and finish.outcome in _NOT_SERVED:
            continue
        served += 1
        times.append(start.at)
        amounts = _amounts(finish, prices)
        over = use.over(exchange, amounts)
        stops = list(_stopped_by(finish.verdicts if finish else (), observed, unlocked))
        prompt = [reason for side, reason, _ in stops if side is Side.PROMPT]
        withheld = [reason for side, reason, hold in stops if side is Side.ANSWER and hold]
        only_cut = [reason for side, reason, hold in stops if side is Side.ANSWER and not hold]
        if over:
            found = over
        else:
            found = prompt or withheld or only_cut
            end = finish.at if finish else start.at
            nothing = dict.fromkeys(CapUnit, 0) | {CapUnit.REQUESTS: 1}
            use.take(exchange, nothing if prompt else amounts, None if prompt else end)
        for reason in dict.fromkeys(found):
            reasons[reason] = reasons.get(reason, 0) + 1
        if over or prompt or withheld:
            refused += 1
            principals[start.principal] = principals.get(start.principal, 0) + 1
        elif only_cut:
            cut += 1
    return WouldHave(
        served=served,
        refused=refused,
        cut=cut,
        reasons=_ranked(reasons),
        principals=_ranked(principals),
        first_at=min(times, default=None),
        last_at=max(times, default=None),
    )


def _order(exchange: Exchange) -> tuple[int, str, str, int]:
    start = exchange.start
    return start.at, start.worker, start.run, start.seq


def _amounts(finish: Finish | None, prices: Prices | None) -> dict[CapUnit, int]:
    into, out = (finish.input_tokens, finish.output_tokens) if finish else (0, 0)
    return {
        CapUnit.REQUESTS: 1,
        CapUnit.PARALLEL: 1,
        CapUnit.INPUT_TOKENS: into,
        CapUnit.OUTPUT_TOKENS: out,
        CapUnit.BYTES_OUT: finish.answer_bytes if finish else 0,
        CapUnit.COST: cost_of(prices, into, out),
    }


def _ranked(counts: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
