"""Why: the closed list of reason codes, each with what it means and what opens or mends it.

Invariants
- A code is stable: people, pages and replays match on it. A new cause gets a new code.
- Every code has one row in `DOCS`; the page docs/reference/reasons.md is made from it.

Does not: hold figures. Those stand in a reason's message and in a decision's figures.
"""

from __future__ import annotations

import enum

from gatelift.messages import Reason

__all__ = ["BREACH_CODES", "DOCS", "ReasonCode", "reason", "render_reasons"]


class ReasonCode(enum.StrEnum):
    """Every cause that a decision or a shut gate may give."""

    # nothing to decide about
    ROOT_MISSING = "root_missing"
    ROOT_EXPIRED = "root_expired"
    PLAN_MISSING = "plan_missing"
    PLAN_UNREADABLE = "plan_unreadable"
    UNKNOWN_STAGE = "unknown_stage"
    # the candidate and where it runs
    PLACEMENT_MISSING = "placement_missing"
    PLACEMENT_UNPROBED = "placement_unprobed"
    PLACEMENT_DOWN = "placement_down"
    DRIFT = "drift"
    DRIFT_UNKNOWN = "drift_unknown"
    SEALING_BELOW = "sealing_below"
    BINDING_BELOW = "binding_below"
    # evidence
    EVIDENCE_MISSING = "evidence_missing"
    EVIDENCE_STALE = "evidence_stale"
    EVIDENCE_REVOKED = "evidence_revoked"
    EVIDENCE_WRONG_CANDIDATE = "evidence_wrong_candidate"
    EVIDENCE_OTHER_PARAMETERS = "evidence_other_parameters"
    EVIDENCE_BEFORE_STOP = "evidence_before_stop"
    COMMIT_PENDING = "commit_pending"
    COMMIT_ABANDONED = "commit_abandoned"
    MEASURES_IMPOSSIBLE = "measures_impossible"
    MEASURE_NOT_IN_FORCE = "measure_not_in_force"
    MEASURE_UNPROVEN = "measure_unproven"
    # people
    REVIEW_MISSING = "review_missing"
    REVIEW_STALE = "review_stale"
    REVIEW_OTHER_DIGESTS = "review_other_digests"
    REVIEW_BEFORE_STOP = "review_before_stop"
    REVIEW_ENDED = "review_ended"
    REVIEW_WITHDRAWN = "review_withdrawn"
    DEPUTY_WAITS = "deputy_waits"
    REVIEW_REFUSED = "review_refused"
    EARLIER_REVIEW_GONE = "earlier_review_gone"
    REVIEW_PERSON_TWICE = "review_person_twice"
    QUORUM_UNFILLABLE = "quorum_unfillable"
    ASSURANCE_BELOW = "assurance_below"
    # public notice
    NOT_ANNOUNCED = "not_announced"
    NOTICE_RUNNING = "notice_running"
    NOTICE_UNPROVABLE = "notice_unprovable"
    OBJECTION_HOLDS = "objection_holds"
    # traffic and incidents
    INCIDENTS_OPEN = "incidents_open"
    SOAK_TIME = "soak_time"
    SOAK_SESSIONS = "soak_sessions"
    SOAK_ORGANISATIONS = "soak_organisations"
    NOT_CLEARED = "not_cleared"
    FIGURES_UNUSABLE = "figures_unusable"
    # stages and orders
    EARLIER_STAGE_MISSING = "earlier_stage_missing"
    EARLIER_STAGE_NARROWED = "earlier_stage_narrowed"
    ORDER_STANDING = "order_standing"
    BREACH_LATCHED = "breach_latched"
    # watches
    GUARDRAIL_BREACH = "guardrail_breach"
    ACCOUNT_BREACH = "account_breach"
    EVENT_COUNT = "event_count"
    ORGANISATION_SUSPENDED = "organisation_suspended"
    SIGNAL_CROSSED = "signal_crossed"
    # good news
    REOPENED = "reopened"
    GATE_OPEN = "gate_open"
    NOTHING_WIDER = "nothing_wider"


BREACH_CODES = frozenset(
    {ReasonCode.GUARDRAIL_BREACH, ReasonCode.ACCOUNT_BREACH, ReasonCode.EVENT_COUNT}
)
"""Codes whose action latches until a certificate clears the orders that followed."""

_R = ReasonCode
DOCS: dict[ReasonCode, tuple[str, str, str]] = {
    _R.ROOT_MISSING: ("", "No root of trust is on the log.", "log a root"),
    _R.ROOT_EXPIRED: ("root version", "The root has expired.", "sign and log its successor"),
    _R.PLAN_MISSING: ("release", "No plan was adopted.", "have the operator adopt a plan"),
    _R.PLAN_UNREADABLE: ("plan digest", "The plan or candidate cannot be read.", "adopt another"),
    _R.UNKNOWN_STAGE: ("stage", "The plan has no such stage.", "name one of the plan's stages"),
    _R.PLACEMENT_MISSING: (
        "candidate",
        "No placement is enrolled for this candidate.",
        "enrol a placement",
    ),
    _R.PLACEMENT_UNPROBED: (
        "placement",
        "Nothing is known of this placement and no other is up.",
        "wait for a keeper to probe it",
    ),
    _R.PLACEMENT_DOWN: (
        "placement",
        "The newest probe found it down and no other is up.",
        "bring it up; a probe must see it",
    ),
    _R.DRIFT: (
        "placement",
        "It answers the drift probes otherwise than the candidate, and no other is up.",
        "run the candidate there, or assess what runs there as a new one",
    ),
    _R.DRIFT_UNKNOWN: (
        "placement",
        "It serves without a baseline of answers, so drift would not show.",
        "enrol it with a baseline",
    ),
    _R.SEALING_BELOW: (
        "placement",
        "The upstream answers without our credential; the stage needs more.",
        "close the upstream's other door and let a probe see it",
    ),
    _R.BINDING_BELOW: (
        "placement",
        "Nobody measures the weights where they are loaded; the stage needs it.",
        "run the model server under an enrolled sidecar and let a probe see it",
    ),
    _R.EVIDENCE_MISSING: (
        "threshold or measure",
        "No completed run that was committed before it counts.",
        "commit, run, and log the result",
    ),
    _R.EVIDENCE_STALE: (
        "threshold or measure",
        "All runs are older than the plan allows.",
        "commit to a new run and log its result",
    ),
    _R.EVIDENCE_REVOKED: (
        "threshold or measure",
        "All runs were revoked; their bad outcomes still count.",
        "commit to a new run and log its result",
    ),
    _R.EVIDENCE_WRONG_CANDIDATE: (
        "threshold or measure",
        "The runs are of another candidate.",
        "assess this candidate",
    ),
    _R.EVIDENCE_OTHER_PARAMETERS: (
        "threshold or measure",
        "The runs were committed with other figures than the plan demands.",
        "commit with the plan's limit, margin, confidence and attempts",
    ),
    _R.EVIDENCE_BEFORE_STOP: (
        "threshold or measure",
        "The evidence is older than an order that stands on this stage.",
        "run it again: re-opening takes fresh evidence",
    ),
    _R.COMMIT_PENDING: (
        "commit",
        "A run was announced and its result is not here.",
        "log its result; after its deadline it counts as failed",
    ),
    _R.COMMIT_ABANDONED: (
        "threshold or measure",
        "Runs were announced and never completed; all their attempts count as failed.",
        "commit to a run and complete it",
    ),
    _R.MEASURES_IMPOSSIBLE: (
        "stage",
        "The measures that the thresholds demand leave nobody to admit.",
        "rule the threshold out, or sign another plan",
    ),
    _R.MEASURE_NOT_IN_FORCE: (
        "measure",
        "The run was not made under the measure that it is to prove.",
        "run it with `under` naming each demanded safeguard as category:posture",
    ),
    _R.MEASURE_UNPROVEN: (
        "measure",
        "The measure's failure rate may be as high as the plan's bound.",
        "improve the safeguard; new runs are added to the old ones",
    ),
    _R.REVIEW_MISSING: ("role", "No review of this role stands.", "have the role review it"),
    _R.REVIEW_STALE: ("role", "The review is older than the plan allows.", "review again"),
    _R.REVIEW_OTHER_DIGESTS: (
        "role",
        "The review is of another plan, candidate or set of evidence.",
        "review what is on the log now",
    ),
    _R.REVIEW_BEFORE_STOP: (
        "role",
        "The review is older than an order that stands on this stage.",
        "review again: re-opening takes fresh reviews",
    ),
    _R.REVIEW_ENDED: (
        "role",
        "The approval ended at the time that it names itself.",
        "the role reviews again, for longer",
    ),
    _R.REVIEW_WITHDRAWN: (
        "role",
        "Whoever approved took it back.",
        "the same person, or another of the role, approves",
    ),
    _R.DEPUTY_WAITS: (
        "role",
        "Only a deputy approved, and the role itself may still answer or has.",
        "the role reviews; or, asked by an announcement, it is silent for the plan's answer_by",
    ),
    _R.EARLIER_REVIEW_GONE: (
        "stage",
        "An approval of an earlier stage was withdrawn, or that stage is refused since.",
        "the earlier stage is approved again",
    ),
    _R.REVIEW_REFUSED: (
        "person",
        "A reviewer refuses.",
        "mend what they name; only the same person can approve instead or withdraw it",
    ),
    _R.REVIEW_PERSON_TWICE: (
        "stage",
        "One person reviews in two roles, or a role lacks people.",
        "have a different person review in each role",
    ),
    _R.QUORUM_UNFILLABLE: (
        "stage",
        "The root's people cannot make this stage's quorum.",
        "sign a root with distinct people in each role",
    ),
    _R.ASSURANCE_BELOW: (
        "level",
        "The root's people cannot give the assurance that the stage needs.",
        "prove the people's identities, name an outside overseer or foreign witnesses in the root",
    ),
    _R.NOT_ANNOUNCED: (
        "stage",
        "Nothing on the log announces what would be certified: candidate, plan, envelope, lifted orders.",
        "`gatelift announce`, then wait for the plan's notice",
    ),
    _R.NOTICE_RUNNING: (
        "stage",
        "It was announced, and the plan's notice is not over.",
        "wait; the time counts from the witnesses' cosignature",
    ),
    _R.NOTICE_UNPROVABLE: (
        "stage",
        "The plan asks for notice, and without witnesses nobody can prove when anything was said.",
        "name witnesses and a quorum of them in the root",
    ),
    _R.OBJECTION_HOLDS: (
        "organisation",
        "An overseer objects; that holds for as long as the notice, from the objection on.",
        "wait, mend what it names and announce anew, or have the same overseer withdraw it",
    ),
    _R.INCIDENTS_OPEN: (
        "severity",
        "More incidents of this severity are open than the gate allows.",
        "contain and resolve them with a retrospective",
    ),
    _R.SOAK_TIME: ("stage", "The earlier stage has not stood long enough.", "wait"),
    _R.SOAK_SESSIONS: ("stage", "The earlier stage has served too few sessions.", "more traffic"),
    _R.SOAK_ORGANISATIONS: (
        "stage",
        "Too few organisations have used the earlier stage.",
        "admit and serve more organisations",
    ),
    _R.NOT_CLEARED: (
        "metric",
        "Traffic does not yet show that the rate is below the limit; open units count as harmful.",
        "more clean traffic in the earlier stage",
    ),
    _R.FIGURES_UNUSABLE: (
        "metric",
        "Counts contradict themselves or are beyond counting.",
        "find out why; control must log counts that add up",
    ),
    _R.EARLIER_STAGE_MISSING: (
        "stage",
        "The stage before does not stand: no certificate in its window, or stopped.",
        "certify the stage before first",
    ),
    _R.EARLIER_STAGE_NARROWED: (
        "stage",
        "An order stands on an earlier stage.",
        "re-open that stage first",
    ),
    _R.ORDER_STANDING: (
        "order",
        "A stop stands and no certificate has cleared it.",
        "a quorum signs a certificate that lists it in `clears`, on fresh evidence and reviews",
    ),
    _R.BREACH_LATCHED: (
        "breach",
        "A breach is latched.",
        "re-open the narrowest stage that it stopped",
    ),
    _R.GUARDRAIL_BREACH: (
        "metric@stage",
        "A guardrail metric crossed: evidence that its rate is above the limit.",
        "re-open the stage by quorum, clearing the orders that followed",
    ),
    _R.ACCOUNT_BREACH: (
        "overall",
        "All guardrail metrics together crossed, none of them alone.",
        "re-open the first stage by quorum, clearing the halt",
    ),
    _R.EVENT_COUNT: (
        "event@stage",
        "A watched event was seen as often as the plan allows before it acts.",
        "resolve its incident (hold), or re-open by quorum",
    ),
    _R.ORGANISATION_SUSPENDED: (
        "metric@organisation",
        "The evidence names this organisation and the others alone do not cross.",
        "resolve its incident; admissions and a second role may clear the suspension",
    ),
    _R.SIGNAL_CROSSED: (
        "metric@stage",
        "A signal metric crossed; a signal only holds.",
        "the rate must be seen to fall, or the stage be re-opened by quorum",
    ),
    _R.REOPENED: ("stage", "A quorum re-opened this stage.", ""),
    _R.GATE_OPEN: ("stage", "Everything that the gate asks for is there.", "the quorum may sign"),
    _R.NOTHING_WIDER: ("stage", "The widest stage of the plan is open.", ""),
}
"""What the subject is, what it means, what opens or mends it."""


def reason(code: ReasonCode, subject: str, message: str, opens_with: str | None = None) -> Reason:
    """Return a reason; what opens it is the code's own unless said more exactly."""
    return Reason(
        code=code.value,
        subject=subject,
        message=message,
        opens_with=DOCS[code][2] if opens_with is None else opens_with,
    )


def render_reasons() -> str:
    """Return the reference page of all codes, in the order of the list."""
    lines = [
        "# Reasons",
        "",
        "Every decision and every shut gate says why, with one of these codes. The subject says",
        "what it is about. Made from `gatelift.decide.reasons`; a test keeps the two equal.",
        "",
        "| code | subject | what it means | what opens or mends it |",
        "|---|---|---|---|",
    ]
    for code in ReasonCode:
        about, meaning, opens = DOCS[code]
        lines.append(f"| `{code.value}` | {about or '-'} | {meaning} | {opens or '-'} |")
    return "\n".join(lines) + "\n"
