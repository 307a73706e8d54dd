"""What is decided: a table of scenes, then stops, latches, re-openings, suspensions."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gatelift.decide import TABLE, Fact, changed, decide, gate, preview, uncleared, widest_stage
from gatelift.decide.table import choose
from gatelift.encoding import sha256_digest
from gatelift.messages import Decision, EntryKind
from gatelift.terms import DecisionKind, Envelope, Severity
from gatelift.trust import Clear, TargetKind
from tests.support.world import HOUR
from tests.unit.decide.build import Story, assessed, at, begun, codes

K = DecisionKind
ORGS = [f"org{k}" for k in range(6)]


def leaks(stage: str, s: int = 3) -> Callable[[Story], object]:
    """Harm in every organisation alike: nobody to single out."""
    return lambda story: story.traffic(stage, dict.fromkeys(ORGS, (8, s)))


def one_bad(stage: str) -> Callable[[Story], object]:
    counts = dict.fromkeys(ORGS[1:], (8, 0)) | {"org0": (16, 16)}
    return lambda story: story.traffic(stage, counts)


Scene = tuple[str, Callable[[], Story], Callable[[Story], object], K, str | None, str | None]
SCENES: list[Scene] = [
    ("before a plan", Story, lambda s: s, K.HOLD, None, None),
    ("first gate open", begun, lambda s: s, K.ADVANCE, None, "assess"),
    ("assess stands", assessed, lambda s: s, K.HOLD, "assess", "internal"),
    (
        "reviewed",
        assessed,
        lambda s: s.review_all("internal"),
        K.ADVANCE,
        "assess",
        "internal",
    ),
    ("widest stands", lambda: at("public"), lambda s: s, K.HOLD, "public", None),
    (
        "a certificate lapses: back to the first",
        assessed,
        lambda s: s.later(HOUR),
        K.ADVANCE,
        None,
        "assess",
    ),
    (
        "placement down",
        lambda: at("internal"),
        lambda s: s.probe(up=False),
        K.HALT,
        None,
        "researchers",
    ),
    ("drift", lambda: at("internal"), lambda s: s.probe(changed=3), K.HALT, None, "researchers"),
    ("two answers changed", lambda: at("internal"), lambda s: s.probe(changed=2), K.HOLD, "internal", "researchers"),
    ("rescope", lambda: at("internal"), leaks("internal"), K.RESCOPE, "internal", "internal"),
    ("roll back", lambda: at("partners"), leaks("partners"), K.ROLL_BACK, "researchers", "partners"),
    ("event holds", lambda: at("internal"), lambda s: s.events("internal", 3), K.HOLD, "internal", "researchers"),
    ("event below its count", lambda: at("internal"), lambda s: s.events("internal", 2), K.HOLD, "internal", "researchers"),
    ("event rolls back", lambda: at("partners"), lambda s: s.events("partners", 3), K.ROLL_BACK, "researchers", "partners"),
    ("event halts", lambda: at("public"), lambda s: s.events("public", 3), K.HALT, None, "assess"),
    (
        "halt outranks roll-back",
        lambda: at("public"),
        lambda s: (s.events("partners", 3), s.events("public", 3)),
        K.HALT,
        None,
        "assess",
    ),
    (
        "signal holds",
        lambda: at("internal"),
        lambda s: s.traffic("internal", {"org0": (20, 14)}, metric="probing_rate"),
        K.HOLD,
        "internal",
        "researchers",
    ),
    ("one organisation is named", lambda: at("internal"), one_bad("internal"), K.HOLD, "internal", "researchers"),
    (
        "somebody stops a stage",
        lambda: at("partners"),
        lambda s: s.order(TargetKind.STAGE, "partners"),
        K.HOLD,
        "researchers",
        "partners",
    ),
    (
        "somebody stops everything",
        lambda: at("partners"),
        lambda s: s.order(TargetKind.RELEASE, "aurora"),
        K.HALT,
        None,
        "assess",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("start", "happens", "kind", "stage", "target"),
    [pytest.param(*scene[1:], id=scene[0]) for scene in SCENES],
)
def test_scenes(
    start: Callable[[], Story],
    happens: Callable[[Story], object],
    kind: K,
    stage: str | None,
    target: str | None,
) -> None:
    story = start()
    happens(story)
    decision = story.act()
    assert (decision.kind, decision.stage, decision.target) == (kind, stage, target)
    assert decision.reasons
    assert decision.narrow == ()  # everything was ordered


def test_the_table_puts_stopping_first_and_ends_with_hold() -> None:
    kinds = [row.kind for row in TABLE]
    assert kinds == [K.HALT] * 3 + [K.ROLL_BACK, K.RESCOPE, K.HOLD, K.RESUME, K.ADVANCE, K.HOLD]
    assert choose(set(Fact)).fact is TABLE[0].fact
    assert choose(set()).kind is K.HOLD


def test_rescope_lowers_scope_and_caps_and_nothing_else() -> None:
    story = at("internal")
    leaks("internal")(story)
    decision = story.settle()
    lower = story.world.plan.stage("assess").envelope
    assert [(n.target.kind, n.target.name, n.ceiling) for n in decision.narrow] == [
        (TargetKind.STAGE, "internal", Envelope(scope=lower.scope, caps=lower.caps))
    ]


def test_roll_back_takes_the_stage_and_every_wider_one() -> None:
    story = at("public")
    story.traffic("partners", dict.fromkeys(ORGS, (8, 3)), stretch=1)
    narrow = story.settle().narrow
    assert [(n.target.name, n.ceiling) for n in narrow] == [("partners", None), ("public", None)]


def test_harm_in_two_stages_narrows_both_each_in_its_way() -> None:
    story = at("partners")
    story.traffic("internal", dict.fromkeys(ORGS, (8, 2)), stretch=1)
    story.traffic("partners", dict.fromkeys(ORGS, (8, 3)))
    decision = story.act()
    assert decision.kind is K.ROLL_BACK
    assert {o.standing.order.target.name for o in story.state.orders.values()} == {
        "internal",
        "partners",
        "public",
    }


def test_harm_in_stage_zero_is_looked_for_and_stops_nothing() -> None:
    story = at("internal")
    story.traffic("assess", {"evaluators": (20, 20)})
    decision = story.settle()
    assert decision.kind is K.HOLD
    assert units(decision) == (0, 0)


def units(decision: Decision) -> tuple[int, int]:
    """The units that the account rests on."""
    figure = next(each for each in decision.figures if each.name == "stop_log_e/leak_rate")
    return figure.n, figure.s


def test_what_is_ordered_is_not_ordered_again_and_what_is_not_is() -> None:
    story = at("internal")
    leaks("internal")(story)
    first = story.settle()
    again, _ = decide(story.state, story.now)
    assert again.narrow == first.narrow  # control crashed before it ordered
    assert not changed(first, again)
    story.act()
    assert decide(story.state, story.now)[0].narrow == ()
    assert len(story.state.orders) == 1
    assert len(story.state.incidents) == 1


def test_a_breach_stays_when_the_rate_falls_again() -> None:
    story = at("internal")
    leaks("internal")(story)
    story.act()
    story.traffic("internal", dict.fromkeys(ORGS, (8, 0)))  # labels overturned
    assert story.act().kind is K.RESCOPE


def reopen(story: Story, stage: str) -> Decision:
    """Resolve what is open, assess and review afresh, and certify the stage again."""
    story.resolve_all()
    story.assess()
    story.review_all(stage)
    story.certify(stage)
    return story.settle()


def test_a_reopening_resumes_once_opens_a_new_account_and_guards_again() -> None:
    story = at("internal")
    leaks("internal")(story)
    story.act()
    assert gate(story.state, "internal", story.now)
    assert reopen(story, "internal").kind is K.RESUME
    assert not story.state.latches
    account = story.state.account
    assert account is not None
    assert account.number == 2
    assert not account.breaches
    story.probe()
    assert story.act().kind is K.HOLD
    leaks("internal")(story)  # the new certificate's own first stretch
    decision = story.act()
    assert decision.kind is K.RESCOPE
    assert len(story.state.orders) == 2
    assert {i.is_open for i in list(story.state.incidents.values())[1:]} == {True}


def test_late_harm_of_before_the_reopening_does_not_breach_the_new_account() -> None:
    story = at("internal")
    old = story.state.newest_certificate("internal")
    assert old is not None
    leaks("internal")(story)
    story.act()
    reopen(story, "internal")
    story.traffic("internal", dict.fromkeys(ORGS, (8, 8)), certificate=old.digest)
    story.traffic("internal", dict.fromkeys(ORGS, (8, 8)), stretch=1, certificate=old.digest)
    assert story.act().kind is K.HOLD


def test_a_new_account_starts_with_nothing_from_any_stage() -> None:
    story = at("partners")
    story.traffic("internal", dict.fromkeys(ORGS, (8, 2)), stretch=1)
    story.traffic("partners", dict.fromkeys(ORGS, (8, 3)))
    assert units(story.act()) == (216, 30)
    reopen(story, "internal")
    assert units(story.probe().act()) == (0, 0)
    # A stretch that began before goes on outside of the new account, a new one counts.
    story.traffic("partners", dict.fromkeys(ORGS, (9, 3)))
    story.traffic("researchers", {"org0": (5, 1)}, stretch=1)
    assert units(story.act()) == (5, 1)


def test_renewal_after_a_reopening_carries_the_cleared_orders_and_reopens_nothing() -> None:
    story = at("internal")
    leaks("internal")(story)
    story.act()
    reopen(story, "internal")
    index = story.state.reopenings["internal"]
    story.certify("internal")
    newest = story.state.newest_certificate("internal")
    assert newest is not None
    assert newest.certificate.clears
    assert not newest.reopens
    assert story.state.reopenings["internal"] == index
    assert uncleared(story.state, "internal") == ()


def test_after_a_halt_only_the_first_stage_can_be_reopened_then_the_next() -> None:
    story = at("public")
    story.events("public", 3)
    story.act()
    assert widest_stage(story.state, story.now) is None
    story.resolve_all()
    story.assess()
    for stage in ("internal", "researchers", "partners", "public"):
        story.review_all(stage)
        found = codes(gate(story.state, stage, story.now))
        assert "breach_latched" in found
        assert "earlier_stage_missing" in found
    story.certify("assess")
    assert story.settle().kind is K.RESUME
    assert story.probe().settle().target == "internal"
    assert gate(story.state, "internal", story.now) == ()


def test_a_breach_whose_stage_is_halted_anyway_hides_no_resume() -> None:
    story = at("partners")
    leaks("partners")(story)
    assert story.act().kind in {K.RESCOPE, K.ROLL_BACK}
    story.order(TargetKind.RELEASE, "aurora")
    assert story.act().kind is K.HALT
    story.resolve_all()
    story.certify("assess")
    assert story.settle().kind is K.RESUME
    assert story.state.latches
    assert "breach_latched" in codes(gate(story.state, "public", story.now))


def test_a_halt_stays_a_halt_when_the_certificates_lapse_under_it() -> None:
    story = at("internal")
    story.order(TargetKind.RELEASE, "aurora")
    story.settle()
    story.later(100 * HOUR)
    decision, _ = decide(story.state, story.now)
    assert decision.kind is K.HALT
    assert "order_standing" in codes(decision.reasons)


def test_an_event_hold_ends_with_its_incident_and_counts_anew() -> None:
    story = at("internal").serve_clean("internal").review_all("researchers")
    assert story.act().kind is K.ADVANCE
    story.events("internal", 3)
    held = story.act()
    assert held.kind is K.HOLD
    assert {"event_count", "incidents_open"} <= codes(held.reasons)
    story.resolve_all()
    assert story.act().kind is K.ADVANCE
    story.events("internal", 5)
    assert story.act().kind is K.ADVANCE
    story.events("internal", 6)
    assert story.act().kind is K.HOLD
    assert len(story.state.incidents) == 2


def test_the_severity_of_an_event_is_the_plans() -> None:
    story = at("public")
    story.events("public", 3)
    story.act()
    assert [i.severity for i in story.state.incidents.values()] == [Severity.SEV_1]


def test_a_suspension_ends_with_its_incident_and_a_pardon_starts_anew() -> None:
    story = at("internal")
    one_bad("internal")(story)
    held = story.act()
    assert "organisation_suspended" in codes(held.reasons)
    orders = list(story.state.orders.values())
    assert [(o.standing.order.target.kind, o.standing.order.target.name) for o in orders] == [
        (TargetKind.ORGANISATION, "org0")
    ]
    story.resolve_all()
    assert "organisation_suspended" not in codes(story.act().reasons)
    clear = Clear(release="aurora", orders=(orders[0].standing.order.id,), at=story.now)
    story.log(EntryKind.CLEAR, clear, "admissions:ada", "safety:sam")
    assert story.act().narrow == ()
    # Back again and as bad: named and suspended a second time.
    story.traffic("internal", {"org0": (8, 8), "org1": (8, 0)}, stretch=1)
    assert "organisation_suspended" in codes(story.act().reasons)
    assert len(story.state.orders) == 2


def test_many_bad_organisations_are_a_bad_stage() -> None:
    story = at("internal")
    counts = dict.fromkeys(ORGS, (8, 5)) | {"org0": (8, 8)}
    story.traffic("internal", counts)
    decision = story.act()
    assert decision.kind is K.RESCOPE
    assert codes(decision.reasons) >= {"guardrail_breach"}


def test_a_signal_never_narrows_and_lets_go_when_the_rate_falls() -> None:
    story = at("internal")
    story.traffic("internal", {"org0": (20, 14)}, metric="probing_rate")
    held = story.act()
    assert "signal_crossed" in codes(held.reasons)
    assert not story.state.orders
    assert not story.state.incidents
    story.traffic("internal", {"org0": (20, 1)}, metric="probing_rate")
    assert "signal_crossed" not in codes(story.act().reasons)


def test_a_hold_freezes_promotion_and_lets_renewal_through() -> None:
    story = at("internal").serve_clean("internal").review_all("researchers")
    story.traffic("internal", {"org0": (20, 14)}, metric="probing_rate")
    assert codes(gate(story.state, "researchers", story.now)) == {"signal_crossed"}
    assert gate(story.state, "internal", story.now) == ()


def test_a_signal_of_a_stage_that_is_stopped_holds_no_reopening() -> None:
    story = at("internal")
    story.traffic("internal", {"org0": (20, 14)}, metric="probing_rate")
    assert "signal_crossed" in codes(story.act().reasons)
    story.order(TargetKind.RELEASE, "aurora")
    story.act()
    assert "signal_crossed" not in codes(gate(story.state, "assess", story.now))
    assert "signal_crossed" not in codes(gate(story.state, "internal", story.now))


def test_wake_is_the_next_moment_at_which_time_alone_matters() -> None:
    story = at("internal")
    decision, wake = decide(story.state, story.now)
    assert wake == story.now + 10_000  # the soak of researchers
    commit = story.commit(deadline=story.now + 5_000)
    assert decide(story.state, story.now)[1] == story.state.commits[commit].commit.deadline + 1
    while wake is not None:
        following, after = decide(story.state, wake)
        assert after is None or after > wake
        wake = after
    assert following.release == decision.release


def test_only_kind_and_subjects_make_a_new_decision() -> None:
    story = at("internal")
    first = story.act()
    story.traffic("internal", {"org0": (3, 0)})
    second, _ = decide(story.state, story.now)
    assert second.figures != first.figures
    assert not changed(first, second)


def test_figures_name_their_units() -> None:
    story = at("internal")
    story.traffic("internal", {"org0": (8, 1)})
    decision, _ = decide(story.state, story.now)
    figures = {each.name: each for each in decision.figures}
    assert (figures["stop_log_e/leak_rate"].n, figures["stop_log_e/leak_rate"].s) == (8, 1)
    assert figures["account_number"].value == "1"
    assert figures["soak_sessions/internal"].value == "8"
    # One-sided Clopper-Pearson for 0 of 60 at 95%: 1 - 0.05 ** (1 / 60).
    assert abs(float(figures["upper/cyber_uplift"].value) - (1 - 0.05 ** (1 / 60))) < 1e-9


def test_control_orders_only_what_the_breach_is_about_after_a_persons_order() -> None:
    story = at("partners")
    story.order(TargetKind.STAGE, "partners")
    story.settle()
    leaks("partners")(story)
    story.act()
    by = [(o.standing.by.role, o.standing.order.target.name) for o in story.state.orders.values()]
    assert by == [("stop", "partners"), ("control", "partners"), ("control", "public")]


def test_the_preview_says_what_blocks_who_signs_and_what_remains() -> None:
    story = at("internal")
    story.traffic("internal", {"org0": (5, 0)})
    story.later(5_000)
    seen = {each.stage: each for each in preview(story.state, story.now).stages}
    assert seen["internal"].standing
    assert not seen["researchers"].standing
    assert seen["researchers"].must_sign == story.world.plan.stage("researchers").quorum
    assert seen["researchers"].earliest_at is None
    assert "review_missing" in (seen["researchers"].why_unknown or "")
    remaining = {each.what: each for each in seen["researchers"].remaining}
    # 43 clean units clear 0.1 in three gates; at 5 in 5,010 ms the other 38 take 38,076 ms.
    assert remaining["units to clear leak_rate"].need == 43
    assert remaining["sessions"].in_ms == -(-38 * 5_010 // 5)
    blind = preview(story.state, story.now).blindness
    assert [each.metric for each in blind] == ["leak_rate"]
    assert float(blind[0].unseen_bound) > 0.1
    assert blind[0].delays


def test_the_preview_gives_a_date_when_only_traffic_is_missing() -> None:
    story = at("internal")
    story.traffic("internal", dict.fromkeys(ORGS, (5, 0)))
    story.later(10_010).review_all("researchers")
    found = next(s for s in preview(story.state, story.now).stages if s.stage == "researchers")
    assert codes(found.blocked_by) == {"soak_sessions", "not_cleared"}
    stood = story.now - next(iter(story.state.certificates["internal"])).at
    assert found.earliest_at == story.now + -(-13 * stood // 30)


def test_an_unreadable_plan_holds_and_says_so() -> None:
    from gatelift.messages import PlanAdoption

    story = Story()
    bad = sha256_digest(b"no plan")
    story.files[bad] = b"kind: nothing"
    value = PlanAdoption(release="aurora", plan=bad, candidate=story.world.fingerprint)
    story.log(EntryKind.PLAN, value, "operator:olga", admit=False)
    decision = story.settle()
    assert decision.kind is K.HOLD
    assert codes(decision.reasons) == {"plan_unreadable"}
