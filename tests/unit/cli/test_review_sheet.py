"""The sheet that a reviewer reads: what is asked, evidence, what changed, conflicts; 80 columns wide."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gatelift.cli.errors import InputError
from gatelift.cli.review_packet import (
    Packet,
    check_packet,
    encode_packet,
    gather,
    open_packet,
    parse_packet,
)
from gatelift.cli.review_sheet import Sheet, make_sheet
from gatelift.cli.reviews import print_sheet
from gatelift.encoding import sha256_digest
from gatelift.messages import EntryKind, PlanAdoption, Review, Revocation
from gatelift.plan import encode_candidate, make_candidate, parse_plan
from tests.unit.decide.build import HOUR, PLAN, Story, assessed


def seen(story: Story, stage: str = "internal") -> Packet:
    """Return the packet that control's state of a story makes."""
    state = story.state

    def entry(each: Any, name: str) -> dict[str, Any]:
        told = {"digest": each.digest, "at": each.at, "index": each.index}
        told |= {name: msgspec.to_builtins(getattr(each, name))}
        return told | {"revoked": each.digest in state.revoked}

    held = state.newest_certificate(stage)
    places = [
        {
            "name": each.name,
            "certificate": msgspec.to_builtins(held.certificate) if held else None,
            "certificate_digest": held.digest if held else None,
        }
        for each in story.world.plan.stages
    ]
    told = {
        "release": state.release,
        "at": story.now,
        "size": state.size,
        "root_digest": state.root_digest,
        "plan_digest": state.plan_digest,
        "plan_entry": state.plan_entry,
        "fingerprint": state.fingerprint,
        "stages": places,
        "evidence": [entry(e, "evidence") | {"usable": e.usable} for e in state.evidence],
        "reviews": [entry(each, "review") for each in state.reviews],
    }
    return gather(told, stage, story.read, ("no review yet [review_missing]",))


def sheet(story: Story, person: str | None = "sam", stage: str = "internal") -> Sheet:
    return make_sheet(open_packet(seen(story, stage)), person)


def text(found: Sheet, title: str) -> str:
    (section,) = [each for each in found.sections if each.title == title]
    return "\n".join(f"{name}: {value}" for name, value in section.rows)


def test_it_says_what_is_asked_and_how_wide_it_opens() -> None:
    found = sheet(assessed())
    asked = text(found, "What is asked")
    assert "stage: internal, 2 of " in asked
    assert "assurance " in asked
    assert "review_missing" in asked
    assert "audience: internal" in text(found, "What it opens")


def test_each_result_stands_against_the_plans_limit_with_its_age_and_signer() -> None:
    story = assessed().later(HOUR // 2)
    told = text(sheet(story), "Evidence")
    assert "cyber-proxy/end_to_end_success below 0.1 less 0.02, 60 attempts" in told
    assert "0 of 60; 30 min 0 s old" in told
    assert "by evaluator:eve" in told
    assert "TOO OLD" in text(sheet(story.later(HOUR)), "Evidence")


def test_what_does_not_count_is_shown_as_left_out() -> None:
    story = assessed()
    run = story.state.evidence[-1].digest
    value = Revocation(body=run, reason="a mistake")
    story.log(EntryKind.REVOCATION, value, "evaluator:eve")
    assert "LEFT OUT" in text(sheet(story), "Evidence")


def test_without_any_run_it_says_that_nothing_was_measured() -> None:
    story = Story().adopt().enrol().probe()
    assert "nothing was measured" in text(sheet(story), "Evidence")
    assert "nothing: nobody reviewed" in text(sheet(story), "Since last time")


def test_the_last_time_is_this_persons_before_anybodys() -> None:
    story = assessed()
    story.review("internal", "safety:sam", note="mine")
    story.review("internal", "security:sue", note="hers")
    assert "approval by sam" in text(sheet(story, "sam"), "Since last time")
    assert "approval by sue" in text(sheet(story, "olga"), "Since last time")
    assert "evidence: the same" in text(sheet(story, "sam"), "Since last time")


def test_a_run_in_place_of_another_is_a_change_and_a_withdrawn_one_is_gone() -> None:
    story = assessed()
    story.review("internal", "safety:sam")
    first = story.state.evidence[-1].digest
    story.assess(3)
    told = text(sheet(story), "Since last time")
    assert "  new: cyber-proxy/end_to_end_success 3 of 60" in told
    story.log(EntryKind.REVOCATION, Revocation(body=first, reason="no"), "evaluator:eve")
    told = text(sheet(story), "Since last time")
    assert "  changed: cyber-proxy/end_to_end_success 0 of 60 -> 3 of 60" in told
    other = Story().adopt().enrol().probe()
    digest = other.assess()
    other.review("internal", "safety:sam")
    other.log(EntryKind.REVOCATION, Revocation(body=digest, reason="no"), "evaluator:eve")
    assert "  gone: cyber-proxy/end_to_end_success" in text(sheet(other), "Since last time")


def test_another_plan_is_told_by_the_stages_whose_words_changed() -> None:
    story = Story().adopt().enrol().probe()
    story.assess()
    story.review("internal", "safety:sam")
    data = PLAN.replace(b"max_organisations: 10", b"max_organisations: 12", 1)
    assert data != PLAN
    candidate = encode_candidate(make_candidate(parse_plan(data), "Be brief."))
    story.files |= {sha256_digest(data): data, sha256_digest(candidate): candidate}
    value = PlanAdoption(
        release="aurora", plan=sha256_digest(data), candidate=sha256_digest(candidate)
    )
    story.log(EntryKind.PLAN, value, "operator:olga")
    told = text(sheet(story), "Since last time")
    assert "  stage internal: envelope" in told
    assert "  organisations: 10 -> 12" in told
    assert "  model part: system_prompt, system_prompt_digest" in told
    assert "Be brief" not in told
    assert "evidence: the same" not in told


def test_conflicts_are_what_root_plan_and_signatures_tell() -> None:
    story = assessed()
    assert "signed the evidence" in text(sheet(story, "eve"), "Conflicts")
    olga = text(sheet(story, "olga"), "Conflicts")
    assert "signed the plan" in olga
    assert "can sign the certificate as operator" in olga
    assert "none that root" in text(sheet(story, "ada"), "Conflicts")
    assert "sam" in text(sheet(story, None), "Conflicts")


def test_an_insider_is_named_where_the_stage_asks_for_outsiders() -> None:
    story = assessed()
    stage = next(s.name for s in story.world.plan.stages if "overseer" in s.quorum)
    assert "operator's organisation" in text(sheet(story, "sam", stage), "Conflicts")
    assert "operator's organisation" not in text(sheet(story, "vera", stage), "Conflicts")


def test_it_fits_80_columns_and_nothing_in_a_note_steers_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    story = assessed()
    story.review("internal", "security:sue", note="fine \x1b[2J\u202e " + "word " * 60)
    print_sheet(sheet(story))
    told = capsys.readouterr().out
    assert not {"\x1b", "\u202e"} & set(told)
    assert max(map(len, told.splitlines())) <= 80


def test_a_sheet_of_another_plan_or_without_the_evidence_is_refused() -> None:
    story = assessed()
    story.review("internal", "safety:sam")
    review: Review = story.state.reviews[-1].review
    packet = parse_packet(encode_packet(seen(story)))
    check_packet(open_packet(packet), review)
    for wrong in (
        msgspec.structs.replace(packet, runs=()),
        msgspec.structs.replace(packet, plan=packet.plan + "\n"),
        msgspec.structs.replace(packet, stage="researchers"),
    ):
        with pytest.raises(InputError, match=r"sheet|evidence"):
            check_packet(open_packet(wrong), review)


def test_a_run_that_was_edited_is_another_run() -> None:
    story = assessed()
    story.review("internal", "safety:sam")
    packet = seen(story)
    edited = packet.runs[0].envelope.replace('"keyid"', ' "keyid"', 1)
    runs = (msgspec.structs.replace(packet.runs[0], envelope=edited), *packet.runs[1:])
    opened = open_packet(msgspec.structs.replace(packet, runs=runs))
    with pytest.raises(InputError, match=r"does not show"):
        check_packet(opened, story.state.reviews[-1].review)
