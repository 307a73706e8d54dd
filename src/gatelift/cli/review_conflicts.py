"""What stands between a reviewer and an independent judgement, as far as signatures and root tell.

Invariants
- Only facts: who signed what, who holds which role, who is of whose organisation. None of them refuses a
  review; the quorum's own rules do (`trust.quorum`).
- A person of whom nothing is found is said to have none, by name: silence is no finding.
"""

from __future__ import annotations

from collections.abc import Iterator

from gatelift.cli.review_packet import Opened
from gatelift.plan import Stage
from gatelift.terms import Assurance, at_least
from gatelift.trust import UNPROVEN, Root, same_organisation

__all__ = ["conflicts_of"]


def conflicts_of(opened: Opened, stage: Stage, person: str | None) -> tuple[tuple[str, str], ...]:
    """Return a row for each conflict of a person, or of everyone whom the gate asks for a review."""
    if person is not None:
        asked = [person]
    else:
        roles = stage.gate.reviews.roles if stage.gate.reviews is not None else stage.quorum
        asked = sorted({each for role in roles for each in _people(opened.root, role)})
    rows: list[tuple[str, str]] = []
    for each in asked:
        found = list(_conflicts(opened, stage, each))
        rows += [
            ("" if number else each, f"- {text}")
            for number, text in enumerate(found or ["none that root, plan and evidence tell"])
        ]
    return tuple(rows) or (("nobody", "- the root names nobody in the roles that are asked"),)


def _people(root: Root, role: str) -> set[str]:
    keys = root.roles[role].keys if role in root.roles else ()
    return {root.keys[key].person for key in keys}


def _conflicts(opened: Opened, stage: Stage, person: str) -> Iterator[str]:
    root = opened.root
    made = sorted(
        f"{run.evidence.assessment}/{run.evidence.metric}"
        for run in opened.runs
        if run.evidence.fingerprint == opened.fingerprint
        and any(signer.person == person for signer in run.signers)
    )
    if made:
        yield f"signed the evidence {', '.join(dict.fromkeys(made))}"
    if any(signer.person == person for signer in opened.adopted_by):
        yield "signed the plan for the release"
    demand = stage.gate.reviews
    for role, deputy in demand.deputies.items() if demand is not None else ():
        if deputy == person:
            yield f"is the deputy of {role}: counts only in its silence"
    certifies = [role for role in stage.quorum if person in _people(root, role)]
    if certifies:
        yield f"can sign the certificate as {', '.join(certifies)}"
    named = {each.id: each for each in root.people}
    if person not in named:
        yield "is not in the root"
        return
    if named[person].proof == UNPROVEN:
        yield "nobody has proven who this is"
    asks_outside = at_least(stage.assurance, Assurance.OVERSEEN) or "overseer" in stage.quorum
    own = {
        same_organisation(named[each].organisation)
        for each in _people(root, "operator")
        if each in named
    }
    if asks_outside and same_organisation(named[person].organisation) in own:
        yield f"is of the operator's organisation ({named[person].organisation}); the stage asks for outsiders too"
