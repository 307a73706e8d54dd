"""What a stage observes: only within our own walls, only tighter, and no part of the envelope."""

from __future__ import annotations

import pytest

from gatelift.cli.plan_template import PlanSize, render_plan
from gatelift.plan import Observed, PlanError, parse_plan
from gatelift.terms import Cap, CapUnit, Category, Posture, Subject, Window

TEXT = render_plan(release="r", model="m", size=PlanSize.FULL).decode()
OBSERVED = render_plan(release="r", model="m", size=PlanSize.FULL, observe=True).decode()


def with_observe(stage: str, observe: str) -> bytes:
    head, name, rest = TEXT.partition(f"  - name: {stage}")
    line, _, tail = rest.partition("\n")
    return f"{head}{name}{line}\n    observe: {observe}\n{tail}".encode()


def test_the_envelope_of_an_observing_stage_is_what_is_in_force() -> None:
    stage = parse_plan(OBSERVED.encode()).stage("internal")
    assert stage.envelope.safeguards.postures[Category.MISUSE] is Posture.OBSERVE
    limits = {cap.key: cap.limit for cap in stage.envelope.caps}
    assert limits["principal.requests/min"] == 1200
    assert stage.observe is not None
    assert {cap.key: cap.limit for cap in stage.observe.caps}["principal.requests/min"] == 120
    assert stage.observe.safeguards[Category.MISUSE] is Posture.BLOCK


def test_a_plan_without_observe_observes_nothing() -> None:
    assert all(stage.observe is None for stage in parse_plan(TEXT.encode()).stages)


def test_it_is_read_field_by_field() -> None:
    data = with_observe("internal", "{caps: {stage: {bytes_out: 1k/h}}, safeguards: {leak: block}}")
    cap = Cap(subject=Subject.STAGE, unit=CapUnit.BYTES_OUT, window=Window.HOUR, limit=1000)
    assert parse_plan(data).stage("internal").observe == Observed(
        caps=(cap,), safeguards={Category.LEAK: Posture.BLOCK}
    )


@pytest.mark.parametrize("stage", ["researchers", "partners", "public"])
def test_a_stage_beyond_our_own_walls_enforces_all_that_it_says(stage: str) -> None:
    with pytest.raises(PlanError, match="enforces all that it says"):
        parse_plan(with_observe(stage, "{safeguards: {probing: block}}"))


@pytest.mark.parametrize(
    ("observe", "words"),
    [
        ("{}", "expected caps or safeguards"),
        ("{caps: {principal: {requests: 120/min}}}", "in force already"),
        ("{caps: {principal: {requests: 121/min}}}", "in force already"),
        ("{safeguards: {misuse: block}}", "no tighter"),
        ("{safeguards: {leak: observe}}", "no tighter"),
        ("{block_rules: []}", "block_rules"),
    ],
)
def test_what_would_say_nothing_is_refused(observe: str, words: str) -> None:
    with pytest.raises(PlanError, match=words):
        parse_plan(with_observe("internal", observe))


def test_a_safeguard_that_is_not_there_cannot_be_observed() -> None:
    data = with_observe("internal", "{safeguards: {probing: block}}").decode()
    bare = data.replace(
        "safeguards: {leak: cut, misuse: block, autonomy: block, probing: observe}",
        "safeguards: {leak: cut, misuse: block, autonomy: block}",
        1,
    )
    with pytest.raises(PlanError, match="nothing would be recorded"):
        parse_plan(bare.encode())
