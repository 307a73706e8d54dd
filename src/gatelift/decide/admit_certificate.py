"""What a certificate must be to be logged: the gate open, and nothing on it but what the log says.

Invariants
- It verifies as a gateway will verify it (`trust.verify_certificate`), under the root in force.
- It clears every stop that was ever logged on its stage or the release: a later certificate replaces
  an earlier one, and with it what that one cleared.
- Its verdicts are the computed ones, its evidence holds all that the gate rests on, its levels are
  no higher than what is probed and planned, its sequence follows, and it was signed after all of it.
- It outlives no approval that stands and is no wider than the narrowest condition of one.

Source: DESIGN.md sections 3 and 5.
"""

from __future__ import annotations

from collections.abc import Callable

from gatelift.decide.admit_error import AdmitError, refuse
from gatelift.decide.admit_review import check_approved_terms, check_deputies
from gatelift.decide.gates import Examination, examine
from gatelift.decide.notice import objections_to
from gatelift.decide.places import binding_of, sealing_of
from gatelift.decide.stages import next_sequence, stops_on
from gatelift.decide.state import State
from gatelift.encoding import Digest
from gatelift.errors import CallerError
from gatelift.messages import verify_notice
from gatelift.plan import Plan
from gatelift.terms import Binding, at_least
from gatelift.trust import Certificate, Root, verify_certificate

__all__ = ["check_certificate"]


def check_certificate(
    state: State,
    value: Certificate,
    data: bytes,
    now_ms: int,
    read: Callable[[Digest], bytes],
) -> None:
    """Return if the certificate in the envelope `data` may be logged; raises `AdmitError`.

    `read` is asked for the proofs of its notice, by digest.
    """
    root, plan = state.root, state.plan
    if root is None or plan is None or state.plan_digest is None or state.fingerprint is None:
        refuse("no_plan", "root, plan and candidate come before a certificate")
    try:
        held = verify_certificate(
            data,
            root=root,
            plan=plan,
            plan_digest=state.plan_digest,
            fingerprint=state.fingerprint,
            now_ms=now_ms,
        )
    except CallerError as error:
        raise AdmitError(str(error), code=error.code) from error
    looked = examine(state, value.stage, now_ms)
    if looked.reasons:
        causes = "; ".join(
            f"{each.code} {each.subject}: {each.message} ({each.opens_with})"
            for each in looked.reasons
        )
        raise AdmitError(
            f"the gate of stage {value.stage} is shut: {causes}",
            code="gate_shut",
            reasons=looked.reasons,
        )
    _check_notice(state, root, plan, value, read)
    check_approved_terms(state, value, now_ms)
    check_deputies(state, plan.stage(value.stage), held.signers, looked.evidence, now_ms)
    _check_clears(state, value)
    _check_contents(state, value, looked)
    _check_place(state, root, value)
    _check_levels(state, plan, value)
    _check_after(state, root, value, looked)


def _check_notice(
    state: State, root: Root, plan: Plan, value: Certificate, read: Callable[[Digest], bytes]
) -> None:
    notice_ms = plan.stage(value.stage).notice_ms
    if not notice_ms:
        return
    named = value.notice
    try:
        verify_notice(value, notice_ms, b"" if named is None else read(named.proofs), root)
    except CallerError as error:
        raise AdmitError(str(error), code=error.code) from error
    standing = {each.digest for each in objections_to(state, named.announcement)} if named else ()
    hidden = sorted(set(standing) - set(named.objections if named else ()))
    if hidden:
        refuse("objection_hidden", f"the certificate does not name the objections {hidden}")


def _check_clears(state: State, value: Certificate) -> None:
    missing = {e.standing.order.id for e in stops_on(state, value.stage)} - set(value.clears)
    if missing:
        refuse(
            "order_not_cleared",
            f"stage {value.stage} was stopped by {sorted(missing)}: list them in `clears` if the "
            "quorum lifts them",
        )
    unknown = set(value.clears) - set(state.orders)
    if unknown:
        refuse("unknown_order", f"orders {sorted(unknown)} are not on the log")


def _check_contents(state: State, value: Certificate, looked: Examination) -> None:
    if value.thresholds != looked.verdicts:
        refuse(
            "wrong_verdicts",
            f"the evidence gives {looked.verdicts}, the certificate says {value.thresholds}",
        )
    missing = set(looked.evidence) - set(value.evidence)
    if missing:
        refuse("evidence_not_listed", f"the gate rests on {sorted(missing)} as well: list it")
    known = {entry.digest for entry in state.evidence} | {entry.digest for entry in state.reviews}
    unknown = set(value.evidence) - known
    if unknown:
        refuse("unknown_digest", f"evidence {sorted(unknown)} is not on the log")


def _check_place(state: State, root: Root, value: Certificate) -> None:
    expected = next_sequence(state, value.stage)
    if value.sequence != expected:
        refuse(
            "wrong_sequence",
            f"expected sequence {expected} of stage {value.stage}, got {value.sequence}",
        )
    if value.root_version != root.version:
        refuse("wrong_root_version", f"root {root.version} is in force, not {value.root_version}")


def _check_levels(state: State, plan: Plan, value: Certificate) -> None:
    sealing = sealing_of(state)
    if sealing is None or not at_least(sealing, value.levels.sealing):
        have = "nothing" if sealing is None else sealing.value
        refuse(
            "sealing_overstated",
            f"the certificate says {value.levels.sealing.value}, probes show {have}",
        )
    binding = binding_of(state) or Binding.CLAIMED
    if not at_least(binding, value.levels.binding):
        refuse(
            "binding_overstated",
            f"the certificate says {value.levels.binding.value}, the log shows {binding.value}",
        )
    if value.levels.durability is not plan.trust.durability:
        refuse(
            "wrong_durability",
            f"the plan says {plan.trust.durability.value}, not {value.levels.durability.value}",
        )


def _check_after(state: State, root: Root, value: Certificate, looked: Examination) -> None:
    after = value.after
    if after.origin != f"{root.name}/releases" or not 0 < after.size <= state.size:
        refuse(
            "wrong_after",
            f"expected a checkpoint of {root.name}/releases of size 1 to {state.size}, got "
            f"{after.origin} {after.size}",
        )
    seen = [entry.index for entry in state.evidence if entry.digest in looked.evidence]
    seen += [state.orders[order].index for order in value.clears]
    if max(seen, default=-1) >= after.size:
        refuse(
            "after_too_old",
            f"the checkpoint of size {after.size} is older than the evidence or order at entry "
            f"{max(seen)}: sign after a newer one",
        )
