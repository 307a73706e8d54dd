"""Which incidents the watches call for and the log lacks: control opens them, each once.

Invariants
- An incident of the same source counts only since its cause was last settled: by a certificate that
  opened a new account, by a clear, or by the resolution that moved an event's baseline.
- A copy that is overdue calls for one incident, ever.
"""

from __future__ import annotations

from gatelift.decide.copies import overdue_copies
from gatelift.decide.reasons import ReasonCode
from gatelift.decide.state import EventBaseline, State
from gatelift.decide.watching import Finding, IncidentDraft, watch
from gatelift.terms import Severity

__all__ = ["incidents_due"]


def _since(state: State, finding: Finding) -> int:
    if finding.reason.code == ReasonCode.EVENT_COUNT:
        return state.baselines.get(finding.reason.subject, EventBaseline()).index
    opened = state.account.opened_at if state.account else -1
    if finding.reason.code == ReasonCode.ORGANISATION_SUSPENDED:
        name = finding.reason.subject.partition("@")[2]
        return max(opened, state.pardons.get(name, -1))
    return opened


def incidents_due(state: State) -> tuple[IncidentDraft, ...]:
    """Return the incidents that watches, breaches and overdue copies call for and the log lacks."""
    due = []
    for finding in watch(state).findings:
        draft = finding.draft
        if draft is None:
            continue
        since = _since(state, finding)
        if not any(i.source == draft.source and i.index > since for i in state.incidents.values()):
            due.append(draft)
    return (*due, *_overdue(state))


def _overdue(state: State) -> tuple[IncidentDraft, ...]:
    known = {incident.source for incident in state.incidents.values()}
    drafts = (
        IncidentDraft(
            source=f"watch:copy_overdue:{each.export.id}",
            severity=Severity.SEV_2,
            title=f"a copy of the weights is overdue: {each.export.custodian}",
        )
        for each in overdue_copies(state, state.at)
    )
    return tuple(draft for draft in drafts if draft.source not in known)
