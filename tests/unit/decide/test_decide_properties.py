"""Properties over many stories: total, deterministic, more orders never widen, less never opens."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gatelift.decide import State, changed, decide, gate, preview, replay, standing_envelope
from gatelift.errors import CallerError
from gatelift.terms import DecisionKind, Envelope, is_within
from gatelift.trust import TargetKind
from tests.support.world import HOUR
from tests.unit.decide.build import Entry, Story, at, begun

STAGES = ("assess", "internal", "researchers", "partners", "public")
stage = st.sampled_from(STAGES)
small = st.integers(-1, 30)

Act = Callable[[Story], Any]


def _acts() -> st.SearchStrategy[Act]:
    def tell(name: str, *arguments: Any, **named: Any) -> Act:
        return lambda story: getattr(story, name)(*arguments, **named)

    return st.one_of(
        st.builds(lambda up, n: tell("probe", up=up, changed=n), st.booleans(), small),
        st.builds(lambda s: tell("assess", s), small),
        st.builds(lambda s: tell("prove_measure", s), small),
        st.builds(lambda d: tell("commit", deadline=d), st.integers(0, 2**52)),
        st.builds(lambda c, n: tell("result", c, n=n, admit=False), st.text(max_size=3), small),
        st.builds(lambda w: tell("review_all", w), stage),
        st.builds(lambda w, a: tell("review", w, "safety:sam", approves=a), stage, st.booleans()),
        st.builds(lambda w, f: tell("certify", w, admit=f), stage, st.booleans()),
        st.builds(lambda w: tell("order", TargetKind.STAGE, w), stage),
        st.just(tell("order", TargetKind.RELEASE, "aurora")),
        st.builds(lambda w, n: tell("events", w, n), stage, small),
        st.just(tell("incident")),
        st.just(tell("resolve_all")),
        st.builds(lambda ms: tell("later", ms), st.sampled_from([0, 11_000, HOUR, 30 * HOUR])),
        st.just(tell("act")),
        st.builds(_traffic, stage, st.lists(st.tuples(small, small), max_size=4), small),
    )


def _traffic(where: str, counts: list[tuple[int, int]], stretch: int) -> Act:
    def act(story: Story) -> None:
        if story.state.newest_certificate(where) is None:
            return
        organisations = {f"org{k}": pair for k, pair in enumerate(counts)}
        # Past admission on purpose: the decision must bear counts that contradict themselves.
        log = story.log
        story.log = lambda *a, **k: log(*a, **{**k, "admit": False})  # type: ignore[method-assign]
        try:
            story.traffic(where, organisations, stretch=stretch)
        finally:
            del story.log

    return act


def tell(story: Story, acts: list[Act]) -> Story:
    for act in acts:
        # What control does not admit is not logged; the story goes on.
        with contextlib.suppress(CallerError):
            act(story)
        story.settle()
    return story


@given(st.sampled_from(["begun", "internal", "partners"]), st.lists(_acts(), max_size=8))
@settings(max_examples=25, deadline=None)
def test_every_story_has_a_decision_a_preview_and_a_replay(start: str, acts: list[Act]) -> None:
    story = tell(begun() if start == "begun" else at(start), acts)
    decision, wake = decide(story.state, story.now)
    assert decide(story.state, story.now) == (decision, wake)
    assert decision.reasons
    assert wake is None or wake > story.now
    assert len(preview(story.state, story.now).stages) == len(STAGES)
    if decision.kind is DecisionKind.ADVANCE:
        assert decision.target is not None
        assert not gate(story.state, decision.target, story.now)
    assert replay(story.groups, story.read) == []


def test_an_empty_state_holds() -> None:
    decision, wake = decide(State(), 0)
    assert decision.kind is DecisionKind.HOLD
    assert wake is None
    assert not changed(decision, decision)


@given(
    st.lists(_acts(), max_size=4),
    st.lists(st.sampled_from([*STAGES, "release"]), min_size=1, max_size=3),
    st.booleans(),
)
@settings(max_examples=12, deadline=None)
def test_more_orders_never_widen(acts: list[Act], targets: list[str], nothing: bool) -> None:
    story = tell(at("partners"), acts)
    before = {name: standing_envelope(story.state, name, story.now) for name in STAGES}
    gates = {name: bool(gate(story.state, name, story.now)) for name in STAGES}
    ceiling = None if nothing else story.world.plan.stages[0].envelope
    for name in targets:
        kind = TargetKind.RELEASE if name == "release" else TargetKind.STAGE
        story.order(kind, "aurora" if name == "release" else name, ceiling=ceiling)
    for name in STAGES:
        after = standing_envelope(story.state, name, story.now)
        held = before[name]
        assert after is None or (held is not None and is_within(after, held))
        # A shut gate stays shut; the first stage's asks for nothing that a stop makes old.
        assert not gates[name] or gate(story.state, name, story.now)
    assert Envelope() not in before.values()


def _without(groups: list[tuple[Entry, ...]], gone: int) -> list[tuple[Entry, ...]]:
    return [
        tuple(entry for place, entry in enumerate(group) if (number, place) != divmod(gone, 100))
        for number, group in enumerate(groups)
    ]


def test_without_any_one_of_its_entries_the_gate_is_shut() -> None:
    from gatelift.decide import fold
    from gatelift.messages import EntryKind

    story = at("internal").serve_clean("internal").review_all("researchers")
    assert gate(story.state, "researchers", story.now) == ()
    story.settle()
    kinds = set()
    for number, group in enumerate(story.groups):
        for place, (header, _) in enumerate(group):
            wanted = {EntryKind.DECISION, EntryKind.CERTIFICATE, EntryKind.REVIEW}
            state = State()
            for kept in _without(story.groups, number * 100 + place):
                for each, body in kept:
                    state = fold(state, state.size, each, body, story.read)
            shut = gate(state, "researchers", story.now)
            needless = header.kind in wanted and not shut
            # Decisions open nothing; stage zero's certificate and internal's review were used up.
            assert shut or needless, header.kind
            if shut:
                kinds.add(header.kind)
    assert kinds == {
        EntryKind.ROOT,
        EntryKind.PLAN,
        EntryKind.PLACEMENT,
        EntryKind.PROBE,
        EntryKind.COMMIT,
        EntryKind.EVIDENCE,
        EntryKind.REVIEW,
        EntryKind.CERTIFICATE,
        EntryKind.OBSERVATION,
    }
