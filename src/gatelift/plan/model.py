"""The release plan as a value: stages in order, what opens each, what stops each.

Invariants
- A `Plan` that exists was checked as a whole (`plan.parse`): names resolve, stages are ordered, the
  first stage is small, every gate can open and every watched metric is defined.
- Stage order is order of exposure; `stages[0]` is stage zero.
- Limits are decimals, durations integer milliseconds, units in names.

The identity of a plan is the digest of its file's bytes, never of this value.
"""

from __future__ import annotations

import enum
from decimal import ROUND_FLOOR, Context, Decimal

import msgspec

from gatelift.errors import CallerError
from gatelift.terms import (
    Assurance,
    Audience,
    Band,
    Binding,
    Cap,
    Category,
    Durability,
    Envelope,
    Posture,
    Prices,
    Sealing,
    Severity,
    Side,
    WatchRole,
)

__all__ = [
    "BreachAction",
    "CandidateSource",
    "DriftTerms",
    "EventWatch",
    "EvidenceDemand",
    "Gate",
    "HarmCondition",
    "IncidentDemand",
    "Measures",
    "Metric",
    "MetricClearance",
    "MetricWatch",
    "Observed",
    "Plan",
    "RefusalForm",
    "ReviewDemand",
    "SafeguardDemand",
    "Sampling",
    "Soak",
    "Stage",
    "Threshold",
    "TrustTerms",
    "UnknownStageError",
]

_SHARES = Context(prec=28, rounding=ROUND_FLOOR)


class UnknownStageError(CallerError):
    """A stage was named that the plan does not have."""

    code = "unknown_stage"


class BreachAction(enum.StrEnum):
    """What a watch does when it is breached, mildest first."""

    HOLD = "hold"
    RESCOPE = "rescope"
    ROLL_BACK = "roll_back"
    HALT = "halt"


class RefusalForm(enum.StrEnum):
    """How a caller reads what a safeguard refused or withheld; no part of the envelope."""

    ERROR = "error"
    COMPLETION = "completion"


class Sampling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sampling that the gateway always sends: decimals as text, so that bytes are stable."""

    temperature: Decimal
    top_p: Decimal


class CandidateSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the candidate is made of, as far as the operator can say. Unknown parts are null.

    `system_prompt_file` is a path beside the plan (its text is in `Candidate`); `weights` a digest.
    """

    model: str
    dialect: str
    system_prompt_file: str | None = None
    weights: str | None = None
    engine: str | None = None
    sampling: Sampling


class TrustTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who must sign to widen, how long notice is, how fast silence closes."""

    quorum: tuple[str, ...]
    notice_ms: int = 0
    status_ttl_ms: int = 10_000
    durability: Durability = Durability.NODE


class DriftTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Probes at temperature 0: how many, how long, how often, how many changes close."""

    probes: int = 16
    tokens: int = 16
    every_ms: int = 5_000
    changed: int = 3


class EvidenceDemand(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ruling out: upper bound of the rate plus `margin` must lie below `limit`.

    `attempts` is the committed number of attempts, `confidence` the level of the bound.
    """

    assessment: str
    metric: str
    limit: Decimal
    margin: Decimal
    attempts: int
    confidence: Decimal
    max_age_ms: int


class SafeguardDemand(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Evidence that a measure works: upper bound of the rate below `below`."""

    assessment: str
    metric: str
    below: Decimal
    min_attempts: int
    confidence: Decimal
    max_age_ms: int


class Measures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a threshold that is not ruled out switches on in every later stage."""

    audience: Audience = Audience()
    safeguards: dict[Category, Posture] = {}
    evidence: tuple[SafeguardDemand, ...] = ()


class Threshold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A dangerous capability level and what must be in force unless it is ruled out."""

    name: str
    evidence: EvidenceDemand
    unless_ruled_out: Measures


class HarmCondition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A unit is harmful when a safeguard of this category spoke on this side, in any exchange.

    `band` narrows it to verdicts of that band; null takes all.
    """

    safeguard: Category
    side: Side
    band: Band | None = None


class Metric(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rate over units: harmful sessions among sessions, labelled by the safeguards' rules."""

    name: str
    of: str
    harmful_when: HarmCondition
    labels: str


class ReviewDemand(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Reviews that a gate wants: one approving review from each role, not older than `max_age`.

    `deputies` are people of the root by role: each counts only after the role was asked for the stage
    and said nothing for `answer_by_ms`.
    """

    roles: tuple[str, ...]
    max_age_ms: int
    deputies: dict[str, str] = {}
    answer_by_ms: int | None = None


class IncidentDemand(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """At most `open` incidents of severity `at_or_above` may be open."""

    open: int
    at_or_above: Severity


class Soak(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What must have been served in stage `from_stage` before this gate opens."""

    from_stage: str
    time_ms: int
    sessions: int
    organisations: int


class MetricClearance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The metric must be shown to lie below `limit` by the traffic of `from_stage`."""

    metric: str
    limit: Decimal
    from_stage: str


class Gate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What must hold to enter a stage. An empty part asks nothing."""

    thresholds: tuple[str, ...] = ()
    reviews: ReviewDemand | None = None
    incidents: IncidentDemand | None = None
    soak: Soak | None = None
    clear: tuple[MetricClearance, ...] = ()


class MetricWatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A metric watched against a limit. A signal may only hold.

    `rescope_to` names the earlier stage whose scope and caps become the ceiling on a rescope.
    """

    metric: str
    limit: Decimal
    role: WatchRole
    on_breach: BreachAction
    rescope_to: str | None = None


class EventWatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An event (a safeguard's verdict) counted over the release; at `count` it acts.

    It opens an incident of `severity` when it fires.
    """

    event: HarmCondition
    count: int
    on_breach: BreachAction
    severity: Severity


class Observed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a stage records and does not enforce: caps and postures tighter than those in force."""

    caps: tuple[Cap, ...] = ()
    safeguards: dict[Category, Posture] = {}


class Stage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rung of exposure: its envelope, its gate, its watches, its own quorum and levels.

    The envelope is what is in force. `observe` permits and forbids nothing. `notice_ms` is how long
    what a certificate permits is announced before it begins.
    """

    name: str
    envelope: Envelope
    gate: Gate
    watch: tuple[MetricWatch, ...] = ()
    events: tuple[EventWatch, ...] = ()
    quorum: tuple[str, ...]
    notice_ms: int = 0
    assurance: Assurance
    sealing: Sealing
    certificate_ms: int
    binding: Binding = Binding.CLAIMED
    refusal: RefusalForm = RefusalForm.ERROR
    observe: Observed | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A checked release plan.

    `false_alarm` and `false_assurance` hold over the whole rollout, all stages and metrics.
    `session_window_ms` defines the unit, `stretch` how many units make one. `prices` is null where
    no cap counts cost and nobody said what tokens cost.
    """

    name: str
    candidate: CandidateSource
    trust: TrustTerms
    false_alarm: Decimal
    false_assurance: Decimal
    session_window_ms: int
    stretch: int
    units_per_organisation: int
    drift: DriftTerms
    thresholds: tuple[Threshold, ...]
    metrics: tuple[Metric, ...]
    stages: tuple[Stage, ...]
    exposures: tuple[str, ...] = ()
    prices: Prices | None = None

    def stage(self, name: str) -> Stage:
        """Return the stage of that name; raises `UnknownStageError`."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise UnknownStageError(
            f"expected one of the plan's stages {[s.name for s in self.stages]}, got {name!r}"
        )

    def stage_index(self, name: str) -> int:
        """Return the position of a stage in the order of exposure."""
        return self.stages.index(self.stage(name))

    def metric_weight(self) -> Decimal:
        """Return each guardrail metric's share of `false_alarm`: equal, together at most 1."""
        guardrails = {
            watch.metric
            for stage in self.stages
            for watch in stage.watch
            if watch.role is WatchRole.GUARDRAIL
        }
        # Rounded down, so that the shares of any number of metrics never add up to more than all.
        return _SHARES.divide(Decimal(1), Decimal(max(1, len(guardrails))))

    def clearance_gates(self) -> int:
        """Return how many stages ask for a clearance; `false_assurance` is split over them."""
        return max(1, sum(1 for stage in self.stages if stage.gate.clear))
