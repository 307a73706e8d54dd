"""What traffic each gate needs: clean sessions, organisations, time. For previews.

Invariants
- Figures come from the test that decides (`gatelift.stats`), never from a rule of thumb.
- They are the least that can do: sessions without a single harmful one. Each harmful session costs
  more.

Does not know how much traffic there is; whoever knows it divides.

Source: DESIGN.md section 8; reference/statistics.md section 4b.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from gatelift.plan.model import MetricClearance, Plan, Soak, Stage
from gatelift.stats import gate_alpha, units_to_clear

__all__ = ["ClearanceNeed", "SoakNeed", "UnitsNeeded", "units_needed"]


class SoakNeed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What stage `from_stage` must have served, whatever it showed."""

    from_stage: str
    sessions: int
    organisations: int
    time_ms: int


class ClearanceNeed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What clears one metric if no session is harmful.

    `clean_sessions` counted ones, None if no number does. `organisations` is how many it takes for
    every session to count: of fewer, only the first units in each stretch do, and more must come.
    `alpha` is this gate's part of the plan's `false_assurance`.
    """

    metric: str
    limit: Decimal
    from_stage: str
    alpha: Decimal
    clean_sessions: int | None
    organisations: int | None


class UnitsNeeded(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that the gate of `stage` needs of traffic; empty when it asks for none."""

    stage: str
    soak: SoakNeed | None
    clear: tuple[ClearanceNeed, ...]


def units_needed(plan: Plan, stage: Stage) -> UnitsNeeded:
    """Return what traffic the gate of a stage needs."""
    return UnitsNeeded(
        stage=stage.name,
        soak=None if stage.gate.soak is None else _soak(stage.gate.soak),
        clear=tuple(_clearance(plan, each) for each in stage.gate.clear),
    )


def _soak(soak: Soak) -> SoakNeed:
    return SoakNeed(
        from_stage=soak.from_stage,
        sessions=soak.sessions,
        organisations=soak.organisations,
        time_ms=soak.time_ms,
    )


def _clearance(plan: Plan, clear: MetricClearance) -> ClearanceNeed:
    alpha = gate_alpha(plan.false_assurance, plan.clearance_gates())
    sessions = units_to_clear(clear.limit, alpha)
    # Within one stretch an organisation counts with its first units only.
    together = None if sessions is None else min(sessions, plan.stretch)
    return ClearanceNeed(
        metric=clear.metric,
        limit=clear.limit,
        from_stage=clear.from_stage,
        alpha=alpha,
        clean_sessions=sessions,
        organisations=None if together is None else -(-together // plan.units_per_organisation),
    )
