"""The parts of the command line that are values: exit codes, narrowing, grants, figures in words."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from gatelift.cli.certify import finish
from gatelift.cli.envelopes import differences
from gatelift.cli.errors import (
    AdminRefusedError,
    AdminUnreachableError,
    Exit,
    InputError,
    exit_code,
    first_error,
)
from gatelift.cli.evidence import demand_of
from gatelift.cli.grants import draw_api_key, make_grant
from gatelift.cli.narrowing import block_rule, narrowed
from gatelift.cli.output import ago, at_text, short
from gatelift.cli.plan_template import PlanSize, render_plan
from gatelift.cli.submit import kind_of
from gatelift.cli.witness_urls import parse_witness_urls
from gatelift.encoding import EncodingError
from gatelift.errors import CallerError, PeerError
from gatelift.plan import PlanError, parse_plan
from gatelift.terms import Category, Envelope, Posture, is_within
from gatelift.trust import GrantError, matches_key, split_api_key
from tests.support.world import World

PLAN = parse_plan(render_plan(release="aurora", model="m", size=PlanSize.FULL))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("x"), Exit.UNREADABLE),
        (PlanError(()), Exit.UNREADABLE),
        (EncodingError("x"), Exit.UNREADABLE),
        (AdminRefusedError("x", code="bad_plan"), Exit.REFUSED),
        (AdminUnreachableError("x"), Exit.PEER),
        (PeerError("x"), Exit.PEER),
        (CallerError("x"), Exit.REFUSED),
    ],
)
def test_every_error_has_its_exit_code(error: CallerError | PeerError, code: Exit) -> None:
    assert exit_code(error) is code


def test_of_a_group_of_errors_the_first_speaks() -> None:
    inner = InputError("the cause")
    assert first_error(ExceptionGroup("a", [ExceptionGroup("b", [inner])])) is inner


def test_postures_and_phrases_only_tighten() -> None:
    envelope = PLAN.stage("internal").envelope
    rule = block_rule("r", ("purple bomb",))
    found = narrowed(envelope, ("leak=observe", "misuse=observe", "probing=block"), (rule,))
    assert is_within(found, envelope)
    assert found.safeguards.postures[Category.LEAK] is Posture.CUT
    assert found.safeguards.postures[Category.MISUSE] is Posture.BLOCK
    assert found.safeguards.postures[Category.PROBING] is Posture.BLOCK
    assert found.safeguards.block_rules == (rule,)
    changed = {name: (old, new) for name, old, new in differences(envelope, found)}
    assert changed == {
        "safeguard probing": ("observe", "block"),
        "block rule r": ("-", "purple bomb"),
    }


@pytest.mark.parametrize("text", ["misuse", "misuse=", "nonsense=block", "misuse=shout"])
def test_a_posture_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="category=posture"):
        narrowed(Envelope(), (text,), ())


def test_a_draft_wider_than_the_plan_is_not_signed() -> None:
    world = World()
    draft = world.certificate("internal")
    wide = msgspec.structs.replace(draft, envelope=Envelope())
    with pytest.raises(InputError, match="do not sign"):
        finish(wide, world.plan)
    made = finish(draft, world.plan, phrases=("purple bomb",), lasts_ms=60_000)
    assert made.not_after - made.not_before == 60_000
    assert is_within(made.envelope, world.plan.stage("internal").envelope)
    longer = finish(draft, world.plan, lasts_ms=10**12)
    assert longer.not_after - longer.not_before == world.plan.stage("internal").certificate_ms


def test_a_new_api_key_matches_its_grant_and_no_other() -> None:
    one, other = draw_api_key(), draw_api_key()
    assert split_api_key(one.text) == one.public_id
    assert matches_key(one.text, one.entry())
    assert not matches_key(other.text, one.entry())
    assert one.text.split("_")[2] not in repr(one.entry())


def test_a_grant_without_a_demanded_proof_is_refused_before_it_is_signed() -> None:
    arguments = {
        "stage": "internal",
        "principal": "p",
        "organisation": "o",
        "project": "x",
        "keys": (draw_api_key().entry(),),
        "lasts_ms": 1000,
    }
    with pytest.raises(GrantError, match="identity"):
        make_grant(PLAN, proofs=(), **arguments)  # type: ignore[arg-type]
    assert make_grant(PLAN, proofs=("identity",), **arguments).tier == "internal"  # type: ignore[arg-type]


def test_a_commit_takes_its_figures_from_the_plan() -> None:
    demand = demand_of(PLAN, "cyber_uplift", None)
    assert (demand.limit, demand.margin, demand.attempts) == (Decimal("0.1"), Decimal("0.02"), 60)
    measure = demand_of(PLAN, None, "safeguard-red-team")
    assert (measure.limit, measure.margin, measure.attempts) == (Decimal("0.2"), Decimal(0), 60)
    for threshold, name in (("nonsense", None), (None, "nonsense"), (None, None)):
        with pytest.raises(InputError, match="cyber_uplift"):
            demand_of(PLAN, threshold, name)


def test_an_envelope_says_its_kind() -> None:
    world = World()
    assert kind_of(world.signed_certificate()) == "certificate"
    assert kind_of(world.root_envelope) == "root"


def test_figures_in_words() -> None:
    assert short("sha256:" + "ab" * 32) == "abababababab"
    assert at_text(0) == "1970-01-01 00:00:00Z"
    assert [ago(s * 1000) for s in (0, 59, 60, 3_661, 90_000)] == [
        "0 s",
        "59 s",
        "1 min 0 s",
        "1 h 1 min",
        "1 d 1 h",
    ]


def test_where_witnesses_are_is_told_by_name_or_for_the_first() -> None:
    assert parse_witness_urls(["https://w.example/a=b", "x/w1=http://127.0.0.1:1"]) == {
        "": "https://w.example/a=b",
        "x/w1": "http://127.0.0.1:1",
    }
    for wrong in (["w1"], ["w1=ftp://x"], ["w1=https://a", "w1=https://b"], ["https://a"] * 2):
        with pytest.raises(InputError, match="NAME=URL"):
            parse_witness_urls(wrong)
