"""What the page shows, as values: the view model of one release at one moment.

Invariants
- Values only, all of them public: no grant, principal, key, prompt, canary or address is in here.
- Text is raw; the template escapes it. Times are ms UTC.
- A state is a word (`Mode`), never only a colour.
"""

from __future__ import annotations

import enum

import msgspec

from gatelift.decide import Commitment

__all__ = [
    "Answer",
    "AssessmentLine",
    "CandidateCard",
    "ClockLine",
    "DecisionLine",
    "EventLine",
    "GuardrailLine",
    "IncidentCard",
    "LevelLine",
    "LogCard",
    "Mode",
    "NextStage",
    "ObjectionLine",
    "OrderLine",
    "Progress",
    "ReasonLine",
    "ReleaseView",
    "Rung",
    "Term",
    "TermChange",
    "ThresholdLine",
]


class Mode(enum.StrEnum):
    """How something stands. The template gives each a word, a shape and a colour."""

    OPEN = "open"
    NARROWED = "narrowed"
    STOPPED = "stopped"
    WITHHELD = "withheld"
    LAPSED = "lapsed"
    SHUT = "shut"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A first question and its answer; `href` is the section that says more."""

    question: str
    answer: str
    detail: str
    href: str
    alarm: bool = False


class Term(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that an envelope says."""

    name: str
    text: str


class TermChange(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that the next stage would allow otherwise. `now` null: nothing stands."""

    name: str
    now: str | None
    then: str


class ReasonLine(msgspec.Struct, frozen=True, kw_only=True):
    """Why: the code's meaning, the sentence of this case, what opens or mends it."""

    code: str
    subject: str
    meaning: str
    message: str
    opens_with: str


class OrderLine(msgspec.Struct, frozen=True, kw_only=True):
    """An order on the release or a stage. `holds` are the stages that it still holds down."""

    id: str
    at: int
    by: str
    target: str
    effect: str
    reasons: tuple[str, ...]
    holds: tuple[str, ...]
    until: int | None


class Rung(msgspec.Struct, frozen=True, kw_only=True):
    """A stage. `signed_by` are pseudonyms with their roles; `terms` is what may be served now.

    Where nothing may be served, `terms` is what the plan's envelope would allow at most. `withheld`:
    why nodes serve nothing although the certificate stands.
    """

    name: str
    mode: Mode
    is_next: bool
    audience: str
    admitted: int
    valid_from: int | None
    valid_until: int | None
    signed_by: tuple[str, ...]
    levels: str
    clears: int
    orders: tuple[str, ...]
    withheld: str | None
    terms: tuple[Term, ...]


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Something countable. `need` null: no number would do. `in_ms` null: no rate to go by."""

    label: str
    have: int
    need: int | None
    have_text: str
    need_text: str
    in_ms: int | None


class NextStage(msgspec.Struct, frozen=True, kw_only=True):
    """What stands between here and the next stage; no reasons: the quorum may sign."""

    name: str
    reopens: bool
    reasons: tuple[ReasonLine, ...]
    quorum: tuple[str, ...]
    reviews: tuple[tuple[str, bool], ...]
    progress: tuple[Progress, ...]
    earliest_at: int | None
    why_unknown: str | None
    changes: tuple[TermChange, ...]
    compared_with: str | None


class LevelLine(msgspec.Struct, frozen=True, kw_only=True):
    """One level: what the certificate says, what the words mean, and what was seen since."""

    name: str
    level: str
    meaning: str
    seen: str


class ThresholdLine(msgspec.Struct, frozen=True, kw_only=True):
    """A threshold. `n` and `counted` null: nothing that counts was measured."""

    name: str
    verdict: str
    meaning: str
    alarm: bool
    n: int | None
    counted: int | None
    upper: str
    bound: str
    measures: tuple[str, ...]


class GuardrailLine(msgspec.Struct, frozen=True, kw_only=True):
    """A guardrail metric: what was seen, and what could go unseen."""

    metric: str
    limit: str
    n: int
    s: int
    unseen: str
    blind: str
    delays: tuple[str, ...]


class EventLine(msgspec.Struct, frozen=True, kw_only=True):
    """An event watch: how often it was seen since it was last settled, when it acts and how."""

    event: str
    stage: str
    seen: int
    acts_at: int
    action: str


class ClockLine(msgspec.Struct, frozen=True, kw_only=True):
    """A reporting duty that may apply. `deadline` null: its start is not known."""

    duty: str
    modelled_on: str
    counts_from: str
    deadline: int | None
    left_ms: int | None
    overdue: bool


class IncidentCard(msgspec.Struct, frozen=True, kw_only=True):
    """An incident with its times and clocks."""

    id: str
    severity: str
    title: str
    status: str
    is_open: bool
    times: tuple[tuple[str, int | None], ...]
    clocks: tuple[ClockLine, ...]


class ObjectionLine(msgspec.Struct, frozen=True, kw_only=True):
    """A review that refuses and was not withdrawn."""

    by: str
    stage: str
    at: int
    note: str
    applies: bool


class NoticeObjection(msgspec.Struct, frozen=True, kw_only=True):
    """What an overseer says against an announcement."""

    organisation: str
    at: int
    grounds: str


class NoticeCard(msgspec.Struct, frozen=True, kw_only=True):
    """An announcement. `over_at`: when it may take effect at the earliest, by the log's own time."""

    title: str
    digest: str
    at: int
    over_at: int
    reason: str
    objections: tuple[NoticeObjection, ...]


class ConditionLine(msgspec.Struct, frozen=True, kw_only=True):
    """What an approval that stands is bound to; `until` null: it has no end of its own."""

    stage: str
    until: int | None
    conditions: tuple[str, ...]


class AssessmentLine(msgspec.Struct, frozen=True, kw_only=True):
    """A run: promised, and its result if there is one. `left_out` is what did not count as good."""

    name: str
    metric: str
    at: int
    promised: int
    n: int | None
    s: int | None
    left_out: int
    status: str
    alarm: bool


class DecisionLine(msgspec.Struct, frozen=True, kw_only=True):
    """A recorded decision."""

    index: int
    at: int
    kind: str
    stage: str | None
    reasons: tuple[ReasonLine, ...]


class ExposureLine(msgspec.Struct, frozen=True, kw_only=True):
    """A door outside that the plan declares: copies that went there and are not back, in words."""

    door: str
    copies: tuple[str, ...]


class CandidateCard(msgspec.Struct, frozen=True, kw_only=True):
    """What answers, as far as the operator says. `facts` null: the file cannot be read."""

    fingerprint: str
    facts: tuple[Term, ...] | None
    unknown: tuple[str, ...]
    exposures: tuple[ExposureLine, ...]
    copies: int


class LogCard(msgspec.Struct, frozen=True, kw_only=True):
    """The releases log: how long, how far cosigned, and what to compare it with."""

    size: int
    cosigned_size: int | None
    root_hash: str | None
    origin: str | None
    root_digest: str | None
    root_version: int | None
    root_expires_at: int | None
    witnesses: int
    independent: int
    quorum: int
    beacon: int
    delayed: bool
    requests_logs: int


class ReleaseView(msgspec.Struct, frozen=True, kw_only=True):
    """The page. `release` null: nothing was adopted yet. `false_alarm` is the plan's share."""

    release: str | None
    at: int
    mode: Mode
    headline: str
    summary: str
    answers: tuple[Answer, ...]
    problems: tuple[ReasonLine, ...]
    candidate: CandidateCard | None
    plan_digest: str | None
    level_stage: str | None
    levels: tuple[LevelLine, ...]
    rungs: tuple[Rung, ...]
    next: NextStage | None
    thresholds: tuple[ThresholdLine, ...]
    guardrails: tuple[GuardrailLine, ...]
    events: tuple[EventLine, ...]
    false_alarm: str
    resumes: int
    orders: tuple[OrderLine, ...]
    orders_left_out: int
    private_orders: int
    notices: tuple[NoticeCard, ...]
    conditions: tuple[ConditionLine, ...]
    objections: tuple[ObjectionLine, ...]
    incidents: tuple[IncidentCard, ...]
    incidents_left_out: int
    assessments: tuple[AssessmentLine, ...]
    assessments_left_out: int
    promises: tuple[Commitment, ...]
    promises_left_out: int
    decisions: tuple[DecisionLine, ...]
    log: LogCard
