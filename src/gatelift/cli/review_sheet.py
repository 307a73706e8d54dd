"""The sheet that a reviewer reads before signing: what is asked, evidence, what changed, conflicts.

Invariants
- Pure: the same packet, draft and person give the same sheet, with control at hand or without.
- Nothing is left out quietly: runs that do not count stand there as such, and so does what is missing.
- "Last time" is this person's newest review of the stage, else anybody's, else the certificate that
  stands, else nothing, and the sheet says which.
- Conflicts are facts of root, plan and signatures. The sheet judges none of them.

Source: DESIGN.md section 10 (the reviewer's first screen).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from gatelift.cli.envelopes import describe, differences
from gatelift.cli.output import ago, at_text, short
from gatelift.cli.review_conflicts import conflicts_of
from gatelift.cli.review_packet import Opened, OpenedReview, OpenedRun
from gatelift.encoding import Digest
from gatelift.messages import Review
from gatelift.plan import Candidate, Plan, Stage

__all__ = ["Section", "Sheet", "make_sheet"]

Row = tuple[str, str]


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """One part of the sheet: rows of a name and a text."""

    title: str
    rows: tuple[Row, ...]


class Sheet(msgspec.Struct, frozen=True, kw_only=True):
    """A headline and the parts in order; what would be signed stands first where there is a draft."""

    headline: str
    sections: tuple[Section, ...]


class _LastTime(NamedTuple):
    what: str
    plan: Digest
    fingerprint: Digest
    evidence: tuple[Digest, ...]


def make_sheet(opened: Opened, person: str | None, draft: Review | None = None) -> Sheet:
    """Return the sheet of a packet for one person of its root, or for everyone who may be asked.

    `draft` is what would be signed: its own words stand first.
    """
    stage = opened.plan.stage(opened.packet.stage)
    sections = (
        *(() if draft is None else (Section(title="You sign", rows=tuple(_draft(draft))),)),
        Section(title="What is asked", rows=tuple(_asked(opened, stage))),
        Section(title="What it opens", rows=tuple(describe(stage.envelope))),
        Section(title="Evidence", rows=tuple(_evidence(opened, stage))),
        Section(title="Since last time", rows=tuple(_changes(opened, stage, person))),
        Section(title="Conflicts", rows=conflicts_of(opened, stage, person)),
    )
    headline = f"Review of stage {stage.name} of {opened.packet.release}"
    return Sheet(headline=headline, sections=sections)


def _draft(draft: Review) -> Iterator[Row]:
    yield "judgement", "approve" if draft.approves else "refuse"
    yield "note", draft.note
    yield from _terms_of(draft)


def _terms_of(review: Review) -> Iterator[Row]:
    if review.until is not None:
        yield "ends", at_text(review.until)
    for number, condition in enumerate(review.conditions):
        held = condition.max_organisations
        mark = "" if held is None else f" (held on the log: at most {held} organisations)"
        yield ("" if number else "conditions"), f"- {condition.text}{mark}"


def _asked(opened: Opened, stage: Stage) -> Iterator[Row]:
    names = [each.name for each in opened.plan.stages]
    packet, demand = opened.packet, stage.gate.reviews
    yield "stage", f"{stage.name}, {names.index(stage.name) + 1} of {len(names)}"
    yield "for", stage.envelope.audience.tier.value
    level = f"assurance {stage.assurance.value}, sealing {stage.sealing.value}"
    yield "level", f"{level}, binding {stage.binding.value}"
    yield "certificate by", f"{', '.join(stage.quorum)}; lasts {ago(stage.certificate_ms)}"
    if stage.notice_ms:
        yield "notice", f"{ago(stage.notice_ms)}, in public"
    if demand is None:
        yield "reviews", "none asked for; a refusal shuts the gates of wider stages"
    else:
        yield "reviews", f"{', '.join(demand.roles)}; none older than {ago(demand.max_age_ms)}"
        for role, deputy in demand.deputies.items():
            wait = ago(demand.answer_by_ms or 0)
            yield (
                f"deputy of {role}",
                f"{deputy}, once {role} is silent for {wait} after being asked",
            )
    for each in opened.reviews:
        if each.counts and each.review.approves:
            by = ", ".join(sorted({signer.person for signer in each.signers}))
            yield from ((f"{name} of {by}", text) for name, text in _terms_of(each.review))
    yield "plan", opened.plan_digest
    yield "candidate", opened.fingerprint
    yield "root", opened.root_digest
    yield "log", f"{packet.size} entries at {at_text(packet.at)}"
    for number, cause in enumerate(packet.shut):
        yield ("" if number else "gate is shut"), f"- {cause}"


def _evidence(opened: Opened, stage: Stage) -> Iterator[Row]:
    wanted: set[tuple[str, str]] = set()
    for threshold in opened.plan.thresholds:
        if threshold.name not in stage.gate.thresholds:
            continue
        first = threshold.evidence
        words = f"below {first.limit} less {first.margin}"
        asks = [(threshold.name, first.assessment, first.metric, words, first.attempts)]
        asks += [
            (f"{threshold.name}, unless ruled out", m.assessment, m.metric, f"below {m.below}", n)
            for m in threshold.unless_ruled_out.evidence
            for n in (m.min_attempts,)
        ]
        ages = [first.max_age_ms, *(m.max_age_ms for m in threshold.unless_ruled_out.evidence)]
        for (name, assessment, metric, limit, attempts), age in zip(asks, ages, strict=True):
            wanted.add((assessment, metric))
            yield (
                name,
                f"{assessment}/{metric} {limit}, {attempts} attempts, at most {ago(age)} old",
            )
            runs = _of(opened, (assessment, metric))
            yield from (("", f"- {_told(run, opened.packet.at, age)}") for run in runs)
            if not runs:
                yield "", "- nothing was measured"
    for run in opened.runs:
        evidence = run.evidence
        if (evidence.assessment, evidence.metric) not in wanted and _is_current(opened, run):
            yield "asked by no threshold", f"- {_told(run, opened.packet.at, None)}"
    if not wanted:
        yield "thresholds", "this stage asks for none"


def _is_current(opened: Opened, run: OpenedRun) -> bool:
    return run.evidence.fingerprint == opened.fingerprint


def _of(opened: Opened, what: tuple[str, str]) -> list[OpenedRun]:
    return [
        run
        for run in opened.runs
        if (run.evidence.assessment, run.evidence.metric) == what and _is_current(opened, run)
    ]


def _told(run: OpenedRun, now_ms: int, max_age_ms: int | None) -> str:
    evidence, age = run.evidence, now_ms - run.at
    text = f"{evidence.s} of {evidence.n}"
    if evidence.undetermined or evidence.errors:
        text += f", {evidence.undetermined} undetermined, {evidence.errors} errors"
    text += f"; {ago(age)} old; {short(run.digest)}"
    by = ", ".join(f"{signer.role}:{signer.person}" for signer in run.signers)
    text += f" by {by or 'a key of an earlier root'}"
    if not run.counts:
        return f"LEFT OUT (withdrawn, late, or not as promised): {text}"
    if max_age_ms is not None and age >= max_age_ms:
        return f"TOO OLD: {text}"
    return text


def _last_time(opened: Opened, person: str | None) -> _LastTime | None:
    def spoke(each: OpenedReview) -> bool:
        return any(signer.person == person for signer in each.signers)

    mine = [each for each in opened.reviews if person is not None and spoke(each)]
    newest = max(mine or opened.reviews, key=lambda each: each.index, default=None)
    if newest is not None:
        review = newest.review
        by = ", ".join(sorted({signer.person for signer in newest.signers})) or "someone"
        word = "approval" if review.approves else "refusal"
        gone = "" if newest.counts else ", since withdrawn"
        what = f"{word} by {by} of {at_text(newest.at)}{gone}: {review.note}"
        return _LastTime(what, review.plan, review.fingerprint, review.evidence)
    held = opened.certificate
    if held is not None:
        what = f"certificate {held.sequence} until {at_text(held.not_after)}"
        return _LastTime(what, held.plan, held.fingerprint, held.evidence)
    return None


def _changes(opened: Opened, stage: Stage, person: str | None) -> Iterator[Row]:
    last = _last_time(opened, person)
    if last is None:
        yield (
            "compared with",
            "nothing: nobody reviewed this stage, and no certificate of it stands",
        )
        return
    yield "compared with", last.what
    before = opened.earlier_plan(last.plan)
    if last.plan == opened.plan_digest:
        yield "plan", "the same"
    else:
        yield "plan", f"{short(last.plan)} -> {short(opened.plan_digest)}"
        yield from _plan_changes(before, opened.plan, stage)
    if last.fingerprint == opened.fingerprint:
        yield "candidate", "the same"
    else:
        yield "candidate", f"{short(last.fingerprint)} -> {short(opened.fingerprint)}"
        yield from _candidate_changes(opened.earlier_candidate(last.fingerprint), opened.candidate)
    yield from _evidence_changes(opened, last.evidence)


def _plan_changes(before: Plan | None, after: Plan, stage: Stage) -> Iterator[Row]:
    if before is None:
        yield "  its words", "not here: the earlier plan is not in this sheet"
        return
    old = {each.name: each for each in before.stages}
    new = {each.name: each for each in after.stages}
    for name in dict.fromkeys([*old, *new]):
        if name not in new or name not in old:
            yield f"  stage {name}", "is gone" if name not in new else "is new"
        elif old[name] != new[name]:
            yield f"  stage {name}", ", ".join(_changed(old[name], new[name]))
    rest = [name for name in _changed(before, after) if name != "stages"]
    if rest:
        yield "  elsewhere", ", ".join(rest)
    if stage.name in old:
        for part, was, now in differences(old[stage.name].envelope, stage.envelope):
            yield f"  {part}", f"{was} -> {now}"


def _changed(before: msgspec.Struct, after: msgspec.Struct) -> list[str]:
    names = (field.name for field in msgspec.structs.fields(before))
    return [name for name in names if getattr(before, name) != getattr(after, name)]


def _candidate_changes(before: Candidate | None, after: Candidate) -> Iterator[Row]:
    if before is None:
        yield "  its parts", "not here: the earlier candidate is not in this sheet"
        return
    # Names alone: a prompt or a planted string is nobody's to print.
    for part, was, now in (
        ("model part", before.model_part, after.model_part),
        ("serving part", before.serving_part, after.serving_part),
    ):
        yield f"  {part}", ", ".join(_changed(was, now)) or "the same"


def _evidence_changes(opened: Opened, before: Iterable[Digest]) -> Iterator[Row]:
    runs = {run.digest: run for run in opened.runs}
    now = {run.digest for run in opened.runs if run.counts and _is_current(opened, run)}
    old = set(before)
    gone, new = sorted(old - now), sorted(now - old)
    pairs = {_name(runs[digest]): digest for digest in gone if digest in runs}
    rows: list[Row] = []
    for digest in new:
        run = runs[digest]
        was = pairs.pop(_name(run), None)
        count = f"{run.evidence.s} of {run.evidence.n}"
        if was is None:
            rows.append(("  new", f"{_name(run)} {count}; {short(digest)}"))
        else:
            earlier = runs[was].evidence
            rows.append(("  changed", f"{_name(run)} {earlier.s} of {earlier.n} -> {count}"))
            gone.remove(was)
    rows += [
        ("  gone", f"{_name(runs[each])} {short(each)}" if each in runs else short(each))
        for each in gone
    ]
    yield "evidence", f"{len(old & now)} as before, {len(rows)} not" if rows else "the same"
    yield from rows


def _name(run: OpenedRun) -> str:
    return f"{run.evidence.assessment}/{run.evidence.metric}"
