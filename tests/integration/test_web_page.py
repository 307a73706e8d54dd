"""The page of a release: what it says, what it leaves out, and that anybody can read it."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from collections.abc import Callable
from decimal import Decimal

import pytest

from gatelift.decide import State, examine
from gatelift.terms import Assurance, Binding, Durability, Sealing, Tier
from gatelift.trust import TargetKind
from gatelift.web import HEADERS, NOT_SAID, Glance, build_view, render_release
from gatelift.web.allowances import TIER_WORDS
from gatelift.web.formats import instant, length, plain, share
from gatelift.web.levels import ASSURANCE, BINDING, DURABILITY, SEALING
from gatelift.web.model import Mode
from tests.integration.web_scenes import (
    HOSTILE,
    SECRETS,
    Outline,
    admitted,
    glance_of,
    halted,
    hostile,
    page_of,
    ready,
    title_as,
    waiting,
)
from tests.support.world import NOW, PROMPT
from tests.unit.decide.build import Story, at, begun
from tests.unit.decide.test_decide_commitments import seal


def empty() -> str:
    return render_release(build_view(State(), NOW, Glance()))


PAGES: dict[str, Callable[[], str]] = {
    "empty": empty,
    "begun": lambda: page_of(begun()),
    "waiting": lambda: page_of(waiting()),
    "ready": lambda: page_of(ready()),
    "halted": lambda: page_of(halted()),
    "hostile": lambda: page_of(hostile()),
}


@pytest.mark.parametrize("name", PAGES)
def test_page_is_well_formed_and_structured(name: str) -> None:
    page = PAGES[name]()
    seen = Outline(page)
    assert page.startswith("<!doctype html>")
    assert not seen.wrong
    assert not seen.unclosed
    assert seen.named("html") == [{"lang": "en"}]
    assert len(seen.named("title")) == len(seen.named("h1")) == len(seen.named("main")) == 1
    assert all(cell.get("scope") in {"col", "row"} for cell in seen.named("th"))
    ids = [each["id"] for _, each in seen.tags if "id" in each]
    assert len(ids) == len(set(ids))
    inside = [each["href"][1:] for each in seen.named("a") if each["href"].startswith("#")]
    assert set(inside) <= set(ids)
    levels = [int(tag[1]) for tag, _ in seen.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(later <= before + 1 for before, later in itertools.pairwise(levels))
    assert NOT_SAID in seen.words


@pytest.mark.parametrize("name", PAGES)
def test_page_needs_no_script_and_no_network(name: str) -> None:
    seen = Outline(PAGES[name]())
    assert not {tag for tag, _ in seen.tags} & {"script", "img", "link", "iframe", "form", "object"}
    for _, attributes in seen.tags:
        assert not {key for key in attributes if key.startswith("on") or key in {"style", "src"}}
        assert (attributes.get("href") or "#").startswith(("#", "/"))


def test_policy_allows_exactly_the_style_sheet_of_the_page() -> None:
    inlined = re.findall(r"<style>(.*?)</style>", page_of(ready()), re.DOTALL)
    assert len(inlined) == 1
    digest = base64.b64encode(hashlib.sha256(inlined[0].encode()).digest()).decode()
    policy = HEADERS["content-security-policy"]
    assert f"style-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_hostile_names_are_shown_as_text() -> None:
    page = page_of(hostile())
    assert "<script" not in page
    assert "onerror=alert" not in page.replace("onerror=alert(2)&gt;", "")
    assert HOSTILE in Outline(page).words


def test_an_empty_log_says_that_nothing_is_served_and_what_is_missing() -> None:
    words = Outline(empty()).words
    assert "No release yet" in words
    assert "No root of trust is on the log" in words
    assert "No plan was adopted" in words


def test_the_stage_that_stands_is_named_with_its_end_and_its_signers() -> None:
    story = waiting()
    words = Outline(page_of(story)).words
    assert "Open to the operator's own people" in words
    newest = story.state.newest_certificate("internal")
    assert newest is not None
    assert f"Certificate until {instant(newest.certificate.not_after)}" in words
    assert "Signed by operator:olga, safety:sam" in words


def test_the_next_stage_lists_every_reason_of_its_gate_with_what_opens_it() -> None:
    story = waiting()
    view = build_view(story.state, story.now, glance_of(story))
    assert view.next is not None
    assert view.next.name == "researchers"
    wanted = examine(story.state, "researchers", story.now).reasons
    assert {(r.code, r.subject) for r in wanted} == {(r.code, r.subject) for r in view.next.reasons}
    assert all(each.opens_with for each in view.next.reasons)
    # 16 of 43 sessions of 4 of 6 organisations: the counts of the scene against the plan's file.
    bars = {each.label: (each.have, each.need) for each in view.next.progress}
    assert bars["Sessions"] == (16, 43)
    assert bars["Organisations"] == (4, 6)
    assert view.next.reviews == (("safety", False), ("security", False))
    assert view.next.quorum == ("safety", "security", "overseer")
    assert "16 of 43" in Outline(page_of(story)).words


def test_an_open_gate_asks_the_quorum_to_sign() -> None:
    story = ready()
    view = build_view(story.state, story.now, glance_of(story))
    assert view.next is not None
    assert view.next.reasons == ()
    assert view.next.reviews == (("safety", True), ("security", True))
    words = Outline(page_of(story)).words
    assert "gate open" in words
    assert "safety, security, overseer" in words


def test_a_halt_says_who_stopped_what_and_why() -> None:
    story = halted()
    view = build_view(story.state, story.now, glance_of(story))
    assert view.mode is Mode.STOPPED
    assert [rung.mode for rung in view.rungs] == [Mode.STOPPED] * 3 + [Mode.SHUT] * 2
    assert view.levels == ()
    words = Outline(page_of(story)).words
    assert "Stopped: nobody is served" in words
    assert "by overseer:vera" in words
    assert "weights may be out" in words
    assert "SEV-1, open" in words


def test_a_stop_on_one_stage_leaves_the_others_and_is_no_longer_held_once_cleared() -> None:
    story = at("researchers")
    name = story.order(TargetKind.STAGE, "researchers")
    story.act()
    view = build_view(story.state, story.now, glance_of(story))
    assert [rung.mode for rung in view.rungs][:3] == [Mode.OPEN, Mode.OPEN, Mode.STOPPED]
    assert view.rungs[2].orders == (name,)
    assert view.orders[0].holds == ("researchers",)
    assert view.mode is Mode.NARROWED
    assert view.next is not None
    assert view.next.reopens
    story.serve_clean("internal")
    story.assess()
    story.open_stage("researchers")
    view = build_view(story.state, story.now, glance_of(story))
    assert view.rungs[2].mode is Mode.OPEN
    assert view.orders[0].holds == ()


def test_a_certificate_that_ran_out_is_lapsed_not_open() -> None:
    story = at("internal").later(400 * 86_400_000)
    view = build_view(story.state, story.now, glance_of(story))
    assert {rung.mode for rung in view.rungs[:2]} == {Mode.LAPSED}
    assert "Lapsed: nobody is served" in Outline(page_of(story)).words


def test_levels_are_those_of_the_certificate() -> None:
    view = build_view(waiting().state, waiting().now, glance_of(waiting()))
    assert view.level_stage == "internal"
    assert [each.level for each in view.levels] == ["dev", "declared", "claimed", "node"]


def test_every_level_and_tier_has_words() -> None:
    assert set(ASSURANCE) == set(Assurance)
    assert set(SEALING) == set(Sealing)
    assert set(BINDING) == set(Binding)
    assert set(DURABILITY) == set(Durability)
    assert set(TIER_WORDS) == set(Tier)


def test_what_nobody_stated_of_the_candidate_is_listed() -> None:
    words = Outline(page_of(waiting())).words
    assert "Not stated by the operator: weights, adapters, tokenizer" in words
    assert waiting().world.fingerprint in words


def test_a_candidate_that_cannot_be_read_is_said() -> None:
    story = waiting()
    page = render_release(build_view(story.state, story.now, Glance()))
    assert "The candidate's file cannot be read" in Outline(page).words


def test_prompt_and_addresses_stay_out() -> None:
    for page in (page_of(waiting()), page_of(halted())):
        assert PROMPT not in page
        assert "127.0.0.1" not in page


def test_nobody_who_was_admitted_is_named() -> None:
    story = admitted()
    page = page_of(story).lower()
    assert not [secret for secret in SECRETS if secret.lower() in page]
    view = build_view(story.state, story.now, glance_of(story))
    assert view.private_orders == 2
    assert len(view.orders) == 1
    assert view.rungs[1].admitted == 1


def test_a_suspended_organisation_is_not_named() -> None:
    story = at("internal")
    story.traffic("internal", {f"fine{k}": (8, 0) for k in range(5)} | {"vladimir": (16, 16)})
    decision = story.act()
    assert any("vladimir" in each.message for each in decision.reasons)
    assert len(story.state.incidents) == 1
    title_as(story, "leak_rate: vladimir had 16 harmful of 16 units")
    page = page_of(story)
    assert "vladimir" not in page
    assert "fine0" not in page
    assert "The evidence names one organisation" in page


def test_blindness_stands_beside_every_guardrail_also_when_calm() -> None:
    view = build_view(waiting().state, waiting().now, glance_of(waiting()))
    assert [each.metric for each in view.guardrails] == ["leak_rate"]
    assert (view.guardrails[0].n, view.guardrails[0].s) == (16, 0)
    begun_story: Story = begun()
    calm = build_view(begun_story.state, begun_story.now, glance_of(begun_story))
    assert [each.delays for each in calm.guardrails] == [()]
    assert calm.guardrails[0].unseen == "100 %"


def test_a_refusal_is_shown_until_its_author_approves() -> None:
    story = at("internal")
    story.review("researchers", "security:sue", approves=False, note="too soon")
    assert "security:sue refuses stage researchers" in Outline(page_of(story)).words
    story.review("researchers", "security:sue")
    view = build_view(story.state, story.now, glance_of(story))
    assert [each.applies for each in view.objections] == [False]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0", "0 %"),
        ("1", "100 %"),
        ("0.1", "10 %"),
        ("0.0487", "4.87 %"),
        ("0.000001", "0.0001 %"),
        ("0.99999", "just below 100 %"),
        ("0.5", "50 %"),
    ],
)
def test_shares_are_never_rounded_to_none_or_all(value: str, text: str) -> None:
    assert share(Decimal(value)) == text


def test_times_are_written_for_people() -> None:
    assert instant(0) == "1970-01-01 00:00 UTC"
    assert instant(10**18) == f"{10**18} ms"
    assert length(90_061_000) == "1 d 1 h"
    assert length(59_999) == "59 s"
    assert plain("due by 1790000000000; 5000 of 10000 ms") == (
        "due by 2026-09-21 14:13 UTC; 5 s of 10 s"
    )
    assert plain("order_1790000000000x") == "order_1790000000000x"


def _luminance(colour: str) -> float:
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    lin = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * lin[0] + 0.7152 * lin[1] + 0.0722 * lin[2]


def _contrast(one: str, other: str) -> float:
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(theme: int) -> None:
    style = re.findall(r"<style>(.*?)</style>", empty(), re.DOTALL)[0]
    block = re.findall(r":root \{(.*?)\}", style, re.DOTALL)[theme]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
    surfaces = ("ground", "surface", "sunk")
    pairs = [(text, on) for text in ("ink", "muted", "link") for on in surfaces]
    words = ("open", "narrowed", "stopped", "shut", "next")
    pairs += [(word, on) for word in words for on in (f"{word}-bg", "surface", "sunk")]
    weak = {
        pair: round(_contrast(colours[pair[0]], colours[pair[1]]), 2)
        for pair in pairs
        if _contrast(colours[pair[0]], colours[pair[1]]) < 4.5
    }
    assert not weak
    # A bar is told from its ground by 3 to 1 (WCAG 1.4.11).
    assert _contrast(colours["fill"], colours["sunk"]) >= 3


def test_promises_without_a_result_are_listed_the_overdue_first() -> None:
    told = begun()
    assert "every promise on the log has its result there" in page_of(told)
    seal(told)
    told.commit(deadline=told.now + 1_000)
    told.later(60_000)
    told.commit()
    told.settle()
    part = page_of(told).partition('id="promises"')[2].partition("</section>")[0]
    assert part.count("overdue") == 1
    assert part.index("overdue") < part.index("own calls of oversight.example")
    assert "counts as failed" in part
