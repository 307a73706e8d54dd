"""What an audit found, as a page shows it: the verdict first, then the log in sentences.

Invariants
- The page says nothing that the report does not say: no check is made here.
- Entries are shown only if the whole releases log held; else the findings stand alone.
- It is for the auditor who made it. It names signers by their pseudonyms, as the log does, and shows
  no grant, principal or organisation.
"""

from __future__ import annotations

from collections import Counter

import msgspec

from gatelift.ledger.audit import AuditReport
from gatelift.ledger.exports import VerifiedDossier, passes
from gatelift.messages import (
    Body,
    CopyClosing,
    Decision,
    Evidence,
    Export,
    IncidentOpening,
    PlanAdoption,
    Review,
    Revocation,
)
from gatelift.trust import Certificate, Clear, Order, Root, TargetKind
from gatelift.web.formats import counted, instant, short_digest
from gatelift.web.withheld import PRIVATE_TARGETS

__all__ = ["AuditView", "EntryLine", "build_audit_view"]


class EntryLine(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the releases log in a sentence. `at` in ms UTC."""

    index: int
    at: int
    kind: str
    by: tuple[str, ...]
    text: str


class AuditView(msgspec.Struct, frozen=True, kw_only=True):
    """A report with what it is of. `anchor` says by what it was authenticated, if it was."""

    name: str
    release: str
    at: int
    anchor: str
    report: AuditReport
    entries: tuple[EntryLine, ...]
    others: tuple[tuple[str, int], ...]


def build_audit_view(
    report: AuditReport, opened: VerifiedDossier | None, *, name: str, anchor: str, now_ms: int
) -> AuditView:
    """Return the page's values; `opened` is the releases log of the same dossier if it holds."""
    lines: list[EntryLine] = []
    others: Counter[str] = Counter()
    for entry in () if opened is None else opened.releases.entries:
        text = "" if opened is None else _sentence(entry.body, entry.index, opened)
        if text:
            header = entry.header
            lines.append(
                EntryLine(
                    index=entry.index,
                    at=header.at,
                    kind=header.kind.value,
                    by=header.actor,
                    text=text,
                )
            )
        else:
            others[entry.header.kind.value] += 1
    return AuditView(
        name=name,
        release="" if opened is None else opened.plan.name,
        at=now_ms,
        anchor=anchor,
        report=report,
        entries=tuple(lines),
        others=tuple(sorted(others.items())),
    )


def _sentence(body: Body, index: int, opened: VerifiedDossier) -> str:
    """Return what an entry says; empty for kinds that are only counted."""
    value = body.value
    match value:
        case Root():
            return f"root of trust {value.version}, until {instant(value.expires_at)}"
        case PlanAdoption():
            return f"plan {short_digest(value.plan)} for candidate {short_digest(value.candidate)}"
        case Evidence():
            run = next(each for each in opened.state.evidence if each.index == index)
            said = "rules" if passes(opened.state, run) else "does not rule"
            figure = f"{value.s} of {value.n} in {value.assessment}, {value.metric}"
            return f"{figure}: by itself it {said} its limit out"
        case Export():
            return f"a copy of the weights may go to {value.destination}: {value.purpose}"
        case CopyClosing():
            return f"copy {value.export} was {value.end.value}: {value.note}"
        case Revocation():
            return f"{short_digest(value.body)} no longer counts: {value.reason}"
        case Review():
            return (
                f"stage {value.stage}: {'approves' if value.approves else 'refuses'}. {value.note}"
            )
        case Certificate():
            told = f"stage {value.stage} until {instant(value.not_after)}"
            clears = f", clears {counted(len(value.clears), 'order')}" if value.clears else ""
            return f"{told}, assurance {value.levels.assurance.value}{clears}"
        case Order():
            return _order(value)
        case Clear():
            return f"lifts {counted(len(value.orders), 'order')}"
        case IncidentOpening():
            return f"{value.severity.value}: {value.title}"
        case Decision():
            why = (
                ", ".join(dict.fromkeys(each.code for each in value.reasons)) or "no reason against"
            )
            served = f"served up to {value.stage}" if value.stage else "nothing served"
            return f"{value.kind.value}, {served}: {why}"
        case _:
            return ""


def _order(value: Order) -> str:
    kind = value.target.kind
    target = kind.value
    if kind is not TargetKind.RELEASE and kind not in PRIVATE_TARGETS:
        target = f"{kind.value} {value.target.name}"
    effect = "nobody of it is served" if value.ceiling is None else "its ceiling is lowered"
    return f"{target}: {effect}. {'; '.join(value.reasons)}"
