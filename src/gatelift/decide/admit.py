"""What may not be logged: checks of an entry against the state, before it is appended.

Invariants
- An entry that raises here is not logged; nothing that narrows is refused for want of permission.
- What widens is checked against the gate as it is now, and the refusal lists every reason.
- Counts never go back, ids are used once, a result belongs to one promise made before it.

Signature, kind, shape and role were checked before (`messages.verify_body`); certificates are
checked here in full (`decide.admit_certificate`).
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from gatelift.decide.admit_certificate import check_certificate
from gatelift.decide.admit_counts import check_event, check_observation, check_probe
from gatelift.decide.admit_erasure import check_erasure, check_hold, check_hold_lift
from gatelift.decide.admit_error import (
    AdmitError,
    refuse,
    require_candidate,
    require_plan,
    require_release,
    require_stage,
)
from gatelift.decide.admit_review import check_review
from gatelift.decide.copies import check_closing, check_export
from gatelift.decide.fold import completes
from gatelift.decide.fold_words import withdraws
from gatelift.decide.measuring import check_measured, check_sidecar
from gatelift.decide.own_calls import check_disclosure, check_own_grant
from gatelift.decide.root_notice import check_root_announcement, check_root_change
from gatelift.decide.stages import standing_certificate
from gatelift.decide.state import State
from gatelift.encoding import Digest, sha256_digest
from gatelift.incidents import IncidentRefusal, change_incident
from gatelift.messages import (
    Body,
    Commit,
    CopyClosing,
    EntryKind,
    Erasure,
    EventCount,
    Evidence,
    Export,
    Hold,
    HoldLift,
    IncidentChange,
    IncidentOpening,
    Observation,
    PlacementEnrolment,
    PlanAdoption,
    Probe,
    Review,
    Revocation,
    Tick,
)
from gatelift.plan import parse_candidate, parse_plan
from gatelift.terms import is_within
from gatelift.trust import (
    Announcement,
    Certificate,
    Clear,
    Disclosure,
    Grant,
    GrantError,
    Objection,
    Order,
    OwnGrant,
    Root,
    RootAnnouncement,
    TargetKind,
    check_grant_within,
)

__all__ = ["check_entry"]

Read = Callable[[Digest], bytes]


def check_entry(
    state: State, kind: EntryKind, body: Body, data: bytes, now_ms: int, read: Read
) -> None:
    """Return if the entry may be logged at `now_ms`; raises `AdmitError`, for a plan `PlanError`.

    `body` is what `verify_body` made of the bytes `data`; `read` hands out files by digest and is
    asked for the plan and candidate of an adoption and for the proofs of a notice.
    """
    if body.kind is not kind:
        refuse("wrong_kind", f"expected a body of kind {kind.value}, got {body.kind.value}")
    value = body.value
    match value:
        case PlanAdoption():
            _plan(state, value, now_ms, read)
        case PlacementEnrolment():
            _placement(state, value)
            check_sidecar(state, body, value)
        case Probe():
            check_probe(state, value)
            check_measured(state, value)
        case Commit():
            _commit(state, value, now_ms)
        case Evidence():
            _evidence(state, value, sha256_digest(data), now_ms)
        case Revocation():
            _revocation(state, body, value)
        case Review():
            check_review(state, value, now_ms)
        case Announcement():
            _announcement(state, value)
        case RootAnnouncement():
            check_root_announcement(value)
        case Root():
            check_root_change(state, value, data)
        case Objection():
            _objection(state, body, value)
        case Certificate():
            check_certificate(state, value, data, now_ms, read)
        case Grant():
            _grant(state, value, now_ms)
        case Order():
            _order(state, value, sha256_digest(data))
        case Clear():
            _clear(state, value)
        case Observation():
            check_observation(state, value)
        case EventCount():
            check_event(state, value)
        case IncidentOpening():
            _incident(state, body, value)
        case IncidentChange():
            _incident_change(state, body, value, now_ms)
        case Tick():
            require_release(state, value.release)
        case _:
            _check_of_records_and_copies(state, body, data, now_ms)


def _check_of_records_and_copies(state: State, body: Body, data: bytes, now_ms: int) -> None:
    value = body.value
    match value:
        case Erasure():
            check_erasure(state, value)
        case Hold():
            check_hold(state, value)
        case HoldLift():
            check_hold_lift(state, value)
        case Export():
            check_export(state, body, value, now_ms)
        case CopyClosing():
            check_closing(state, body, value)
        case OwnGrant():
            check_own_grant(state, body, value, sha256_digest(data), now_ms)
        case Disclosure():
            check_disclosure(state, body, value)
        case _:
            # Heads and decisions are control's own.
            return


def _plan(state: State, value: PlanAdoption, now_ms: int, read: Read) -> None:
    if state.root is None:
        refuse("no_root", "no root is on the log: log it first")
    if state.release is not None:
        require_release(state, value.release)
    in_force = [
        name
        for name, held in state.certificates.items()
        if any(now_ms < entry.certificate.not_after for entry in held[-1:])
    ]
    if state.plan is not None and in_force:
        refuse(
            "plan_in_force",
            f"certificates stand for {in_force}: a running release keeps its plan until they lapse",
        )
    plan = parse_plan(read(value.plan))
    parse_candidate(read(value.candidate))
    if plan.name != value.release:
        refuse(
            "wrong_release", f"the plan is of release {plan.name!r}, adopted for {value.release!r}"
        )


def _placement(state: State, value: PlacementEnrolment) -> None:
    require_candidate(state, value.fingerprint)
    if not value.name or not value.base_url:
        refuse("bad_placement", "expected a placement with a name and a base URL")
    tls = value.tls
    if tls is not None and not (tls.server_name and value.base_url.startswith("https://")):
        refuse("bad_placement", "expected https:// and a server name beside pinned certificates")


def _commit(state: State, value: Commit, now_ms: int) -> None:
    require_candidate(state, value.fingerprint)
    if value.id in state.commits:
        refuse("id_taken", f"commit {value.id} is on the log: draw a new id")
    if any(entry.evidence.commit == value.id for entry in state.evidence):
        refuse("commit_after_evidence", f"evidence of {value.id} is there: commit before the run")
    if value.comparator != "below" or value.attempts < 1:
        refuse("bad_commit", "expected the comparator 'below' and at least one attempt")
    finite = all(each.is_finite() for each in (value.limit, value.confidence, value.margin))
    # NaN does not compare: it raises, so finiteness comes first.
    if not (
        finite
        and Decimal(0) <= value.margin < value.limit < Decimal(1)
        and Decimal(0) < value.confidence < Decimal(1)
    ):
        refuse("bad_commit", "expected limit and confidence between 0 and 1, margin below limit")
    if value.deadline <= now_ms:
        refuse("deadline_passed", f"the deadline {value.deadline} is not after now ({now_ms})")


def _evidence(state: State, value: Evidence, digest: Digest, now_ms: int) -> None:
    require_candidate(state, value.fingerprint)
    promise = state.commits.get(value.commit)
    if promise is None:
        refuse("no_commit", f"no commit {value.commit} is on the log: commit, then run again")
    if promise.completed_by is not None:
        refuse("second_evidence", f"commit {value.commit} has its result; commit to a new run")
    if any(e.digest == digest or e.evidence.id == value.id for e in state.evidence):
        refuse("id_taken", f"evidence {value.id} is on the log: draw a new id")
    if now_ms > promise.commit.deadline:
        refuse(
            "deadline_passed",
            f"commit {value.commit} was due by {promise.commit.deadline}: it counts as failed",
        )
    if value.finished < value.started or value.finished < promise.at:
        refuse("bad_times", "expected a run that ended after its commit and after its start")
    if not completes(promise, value, now_ms):
        refuse(
            "other_parameters",
            f"commit {value.commit} promised {promise.commit.assessment}/{promise.commit.metric} "
            f"with {promise.commit.attempts} attempts; the result is of {value.assessment}/"
            f"{value.metric}, {value.s} of {value.n}, {value.undetermined} undetermined, "
            f"{value.errors} errors",
        )


def _revocation(state: State, body: Body, value: Revocation) -> None:
    known = {entry.digest for entry in state.evidence} | {e.digest for e in state.reviews}
    known |= {entry.digest for entry in state.objections}
    if value.body not in known:
        refuse("unknown_digest", f"no evidence, review or objection {value.body} is on the log")
    if value.body in state.revoked:
        refuse("already_revoked", f"{value.body} is revoked")
    for each in state.objections:
        if each.digest == value.body and not withdraws(each, body.signers):
            refuse(
                "objection_of_another",
                f"an objection is withdrawn by an overseer of {each.organisation}, who made it",
            )
    people = {signer.person for signer in body.signers}
    for entry in state.reviews:
        authors = {signer.person for signer in entry.signers}
        if entry.digest == value.body and not people & authors:
            refuse(
                "review_of_another",
                f"a review is withdrawn by its author, {sorted(authors)}: refuse the stage yourself, "
                "or stop it with an order",
            )


def _announcement(state: State, value: Announcement) -> None:
    require_release(state, value.release)
    require_stage(state, value.stage)
    require_candidate(state, value.fingerprint)
    if value.plan != state.plan_digest:
        refuse("unknown_digest", f"the plan in force is {state.plan_digest}, not {value.plan}")
    if any(entry.announcement.id == value.id for entry in state.announcements):
        refuse("id_taken", f"announcement {value.id} is on the log: draw a new id")
    stage = require_plan(state).stage(value.stage)
    if not is_within(value.envelope, stage.envelope):
        refuse("envelope_too_wide", f"stage {stage.name} of the plan allows less than is announced")


def _objection(state: State, body: Body, value: Objection) -> None:
    require_release(state, value.release)
    known = {entry.digest for entry in state.announcements} | state.root_announcements.keys()
    if value.announcement not in known:
        refuse("unknown_digest", f"no announcement {value.announcement} is on the log")
    if not value.grounds.strip():
        refuse("no_grounds", "expected grounds: an objection is published with them")
    mine = {s.organisation for s in body.signers if s.role == "overseer"}
    for entry in state.objections:
        same = entry.objection.announcement == value.announcement
        if entry.objection.id == value.id or (same and entry.organisation in mine):
            refuse(
                "objected_already",
                f"{entry.organisation} has objected to it in entry {entry.index}: an objection "
                "delays once; stop it with an order, or object to the next announcement",
            )


def _grant(state: State, value: Grant, now_ms: int) -> None:
    require_release(state, value.release)
    require_stage(state, value.stage)
    plan = require_plan(state)
    envelope = plan.stage(value.stage).envelope
    try:
        check_grant_within(value, value.stage, envelope)
    except GrantError as error:
        raise AdmitError(str(error), code=error.code) from error
    if value.not_after <= now_ms:
        refuse("grant_expired", f"grant {value.id} ended at {value.not_after}, now is {now_ms}")
    others = [held.grant for name, held in state.grants.items() if name != value.id]
    taken = {key.public_id for grant in others for key in grant.keys}
    mine = [key.public_id for key in value.keys]
    if taken & set(mine) or len(set(mine)) != len(mine):
        refuse("id_taken", f"grant {value.id}: a key's public id is in use: draw a new key")
    most = envelope.audience.max_organisations
    standing = standing_certificate(state, value.stage, now_ms)
    if standing is not None:
        # A certificate may admit fewer than the plan: under measures, or as it was approved.
        narrower = standing.certificate.envelope.audience.max_organisations
        most = min((each for each in (most, narrower) if each is not None), default=None)
    there = {g.organisation for g in others if g.stage == value.stage and now_ms < g.not_after}
    if most is not None and len(there | {value.organisation}) > most:
        refuse(
            "organisations_full",
            f"stage {value.stage} admits {most} organisations and has {len(there)}",
        )


def _order(state: State, value: Order, digest: Digest) -> None:
    if state.release is not None:
        require_release(state, value.release)
    held = state.orders.get(value.id)
    if held is not None and held.standing.digest == digest:
        refuse("already_logged", f"order {value.id} is on the log: nothing to do")
    if held is not None:
        refuse("id_taken", f"another order has the id {value.id}: sign it with a new id")


def _clear(state: State, value: Clear) -> None:
    require_release(state, value.release)
    if not value.orders:
        refuse("unknown_order", "expected at least one order to clear")
    for name in value.orders:
        held = state.orders.get(name)
        if held is None or held.cleared_index is not None:
            refuse("unknown_order", f"no order {name} stands")
        if held.standing.order.target.kind in (TargetKind.RELEASE, TargetKind.STAGE):
            refuse(
                "not_clearable",
                f"order {name} is on a {held.standing.order.target.kind.value}: only a certificate "
                "that lists it in `clears` lifts it",
            )


def _incident(state: State, body: Body, value: IncidentOpening) -> None:
    require_release(state, value.release)
    if value.id in state.incidents:
        refuse("id_taken", f"incident {value.id} is on the log: draw a new id")
    machine = any(signer.role == "control" for signer in body.signers)
    if value.source.startswith("watch:") and not machine:
        refuse("source_of_control", "a source of watch: is control's own: write person")


def _incident_change(state: State, body: Body, value: IncidentChange, now_ms: int) -> None:
    held = state.incidents.get(value.id)
    if held is None:
        refuse("unknown_incident", f"no incident {value.id} is on the log")
    after = change_incident(held, value, {signer.person for signer in body.signers}, now_ms)
    if isinstance(after, IncidentRefusal):
        refuse(after.code, after.message)
