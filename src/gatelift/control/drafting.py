"""The certificate that could be signed for a stage now: everything on it follows from the log.

Invariants
- It is a draft: it says what `check_entry` will demand, and the gate's reasons while it is shut.
- It stays inside the approvals that stand: their conditions and ends are on it.
- Nothing is rounded up: sealing as probed, binding as the plan asks if it is seen (`measured` binds the
  stage to its sidecar, so it is not said without being asked for), assurance no higher than any choice
  of the quorum's people gives, unless the stage asks for more and they can.
"""

from __future__ import annotations

import msgspec

from gatelift.control.errors import ControlError
from gatelift.control.publisher import Cosigned
from gatelift.decide import (
    State,
    approvals_at,
    binding_of,
    bounds_at,
    clears_for,
    examine,
    next_sequence,
    sealing_of,
)
from gatelift.encoding import encode_base64
from gatelift.messages import Figure, Reason
from gatelift.plan import Stage
from gatelift.terms import Assurance, Binding, Sealing, ThresholdVerdict, at_least, meet
from gatelift.trust import (
    After,
    Certificate,
    Levels,
    Root,
    Signer,
    assurance_of,
    demanded_envelope,
)

__all__ = ["CertificateDraft", "draft_certificate"]


class CertificateDraft(msgspec.Struct, frozen=True, kw_only=True):
    """What to sign, by whom, and what still shuts the gate (empty: it is admissible now)."""

    certificate: Certificate
    quorum: tuple[str, ...]
    reasons: tuple[Reason, ...]
    figures: tuple[Figure, ...]
    conditions: tuple[str, ...]


def draft_certificate(
    state: State, stage_name: str, head: Cosigned | None, now_ms: int
) -> CertificateDraft:
    """Return the draft for a stage; raises `ControlError` while plan or cosigned head are missing."""
    root, plan = state.root, state.plan
    if root is None or plan is None or state.plan_digest is None or state.fingerprint is None:
        raise ControlError("no plan is in force: adopt one first", code="no_plan")
    if head is None:
        raise ControlError(
            "no head is cosigned yet: a certificate is signed after one", code="not_cosigned"
        )
    stage = plan.stage(stage_name)
    looked = examine(state, stage_name, now_ms)
    bounds = bounds_at(state, stage_name, now_ms)
    ends = [now_ms + stage.certificate_ms, root.expires_at]
    ends += [] if bounds.until is None else [bounds.until]
    certificate = Certificate(
        release=plan.name,
        stage=stage_name,
        fingerprint=state.fingerprint,
        plan=state.plan_digest,
        root_version=root.version,
        envelope=meet(demanded_envelope(plan, stage, looked.verdicts), bounds.envelope),
        thresholds={
            name: looked.verdicts.get(name, ThresholdVerdict.CANNOT_RULE_OUT)
            for name in stage.gate.thresholds
        },
        evidence=looked.evidence,
        clears=clears_for(state, stage_name),
        after=After(
            origin=head.checkpoint.origin,
            size=head.size,
            root=encode_base64(head.checkpoint.root),
        ),
        levels=Levels(
            assurance=_assurance(root, stage),
            sealing=sealing_of(state) or Sealing.OPEN,
            binding=min(
                stage.binding, binding_of(state) or Binding.CLAIMED, key=list(Binding).index
            ),
            durability=plan.trust.durability,
        ),
        status_ttl_ms=plan.trust.status_ttl_ms,
        sequence=next_sequence(state, stage_name),
        not_before=now_ms,
        not_after=min(ends),
    )
    return CertificateDraft(
        certificate=certificate,
        quorum=stage.quorum,
        reasons=looked.reasons,
        figures=looked.figures,
        conditions=tuple(
            condition.text
            for review in approvals_at(state, stage_name, now_ms)
            for condition in review.conditions
        ),
    )


def _assurance(root: Root, stage: Stage) -> Assurance:
    everyone = tuple(
        Signer(
            key=kid,
            person=root.keys[kid].person,
            organisation=root.person(root.keys[kid].person).organisation,
            role=role,
        )
        for role in stage.quorum
        for kid in (root.roles[role].keys if role in root.roles else ())
    )
    sure = assurance_of(root, everyone)
    # Where only some choices of people reach what the stage asks for, the gate says whether any does.
    return sure if at_least(sure, stage.assurance) else stage.assurance
