"""Acts 5 and 6: harm begins and is stopped, one halts, a quorum re-opens; then the model is swapped."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterable
from typing import Any

from examples.demo.acts_open import measure
from examples.demo.commands import StoryError
from examples.demo.crowd import CANARY_ASKS, PROBING_ASKS, Caller, hold_sessions
from examples.demo.stage import Stage, codes, predicate
from examples.demo.story import Story

__all__ = ["harm_and_halt", "reopen", "swap_the_model"]

MAX_ROUNDS = 14
STREAMS = 4


def _asking_for_the_canary(chance: random.Random) -> Iterable[str]:
    return chance.sample(CANARY_ASKS, 2)


def _breach(stage: Stage) -> tuple[int, dict[str, Any]] | None:
    for index, decision in stage.decisions():
        if decision["kind"] in ("rescope", "roll_back", "halt"):
            return index, decision
    return None


def harm_and_halt(stage: Stage, story: Story) -> None:
    """Act 5, first half: the guardrail's test crosses by itself; then one person halts."""
    tell = stage.teller
    tell.act(5, "Harm begins: partners' callers ask for the canary")
    _probe_until_held(stage, story)
    rounds = 0
    while rounds < MAX_ROUNDS and not _breach(stage):
        rounds += 1
        hold_sessions(
            stage.callers["partners"],
            1,
            _asking_for_the_canary,
            stage.chance,
            stop=lambda: _breach(stage) is not None,
            max_tokens=24,
        )
    index, decision = stage.until(lambda: _breach(stage), "the guardrail's test crosses")
    kept = [f for f in decision["figures"] if "leak_rate" in f["name"]]
    told = "; ".join(f"{f['name']}={f['value']} n={f['n']} s={f['s']}" for f in kept[:3])
    story.observed("rounds of harmful sessions until the release was narrowed", rounds)
    story.entry("decision on the breach", index, "decision", "kind", decision["kind"])
    for number, figure in enumerate(decision["figures"]):
        if figure in kept:
            name = f"{figure['name']}: n at the breach"
            story.entry(name, index, "decision", f"figures.{number}.n", figure["n"])
    tell.say(f"{decision['kind']} by the machine itself (entry {index}): {told}")
    _incident(stage, story)
    _narrowed(stage, story)
    _halt(stage, story)


def _held_by_signal(stage: Stage) -> int | None:
    for index, decision in stage.decisions():
        if decision["kind"] == "hold" and "signal_crossed" in codes(decision["reasons"]):
            return index
    return None


def _probe_until_held(stage: Stage, story: Story) -> None:
    """Callers begin to probe: the signal may only hold, and does."""
    for _ in range(MAX_ROUNDS):
        if _held_by_signal(stage) is not None:
            break
        hold_sessions(
            stage.callers["partners"],
            1,
            lambda chance: chance.sample(PROBING_ASKS, 1),
            stage.chance,
        )
    index = stage.until(lambda: _held_by_signal(stage), "the signal probing_rate crosses and holds")
    story.entry("decision on the signal", index, "decision", "kind", "hold")
    stage.teller.say(
        f"callers probe: the signal probing_rate holds (entry {index}), promotions freeze"
    )


def _with_a_running_clock(stage: Stage, name: str) -> dict[str, Any] | None:
    found = [v for v in stage.state()["incidents"] if v["incident"]["id"] == name]
    runs = found and any(clock["deadline"] is not None for clock in found[0]["clocks"])
    return found[0] if runs else None


def _incident(stage: Stage, story: Story) -> None:
    opened = stage.until(lambda: stage.entries("incident"), "an incident opens by itself")
    incident = predicate(opened[0])
    story.entry("incident", opened[0]["index"], "incident", "severity", incident["severity"])
    stage.teller.say(f"incident {incident['severity']} opened by {incident['source']}")
    name = incident["id"]
    stage.sign(
        "incident", "change", name, "--now", "aware", "--note", "on call is aware", by=["security"]
    ).must("security is aware of the incident")
    view = stage.until(lambda: _with_a_running_clock(stage, name), "a clock runs for who is aware")
    running = [clock for clock in view["clocks"] if clock["deadline"] is not None]
    waiting = [clock for clock in view["clocks"] if clock["deadline"] is None]
    first = min(running, key=lambda clock: clock["deadline"])
    stage.teller.say(
        f"security is aware: {len(running)} clocks run (the first: {first['regime']}, "
        f"{first['left_ms'] // 3_600_000} h left), {len(waiting)} wait for their own event"
    )


def _narrowed(stage: Stage, story: Story) -> None:
    caller = stage.callers["partners"][0]
    before = 48
    now = stage.until(
        lambda: (
            found
            if (found := caller.access().get("envelope", {}).get("scope", {}).get("output_tokens"))
            != before
            else None
        ),
        "partners are narrowed",
    )
    story.observed("partners: output tokens after the re-scope", now)
    stage.teller.say(f"partners are still served, but narrower: output_tokens {before} -> {now}")


def _stream(
    caller: Caller, ends: list[float], broken: list[bool], begun: threading.Semaphore
) -> None:
    for at, finished in caller.listen("Write a long story about the sea.", user="sailor"):
        if at is None:
            broken.append(not finished)
        else:
            ends.append(at)
            begun.release()


def _halt(stage: Stage, story: Story) -> None:
    tell = stage.teller
    out = stage.build / "halt.json"
    stage.sign("halt", "--reason", "canary leaks in partners", "--out", out, by=["overseer"]).must(
        "sign the halt"
    )
    callers = stage.callers["internal"][:STREAMS]
    last: list[list[float]] = [[] for _ in callers]
    broken: list[bool] = []
    begun = threading.Semaphore(0)
    threads = [
        threading.Thread(target=_stream, args=(caller, ends, broken, begun))
        for caller, ends in zip(callers, last, strict=True)
    ]
    for thread in threads:
        thread.start()
    for _ in range(STREAMS * 2):
        if not begun.acquire(timeout=30):
            raise StoryError("the streams did not begin")
    ordered = time.monotonic()
    stage.admin.order(out.read_text())
    for thread in threads:
        thread.join(30)
    late_ms = max(0.0, (max(ends[-1] for ends in last) - ordered) * 1000)
    cut = sum(broken)
    if late_ms > 1000 or cut < 1:
        raise StoryError(f"expected the streams cut within 1 s, got {cut} cut, {late_ms:.0f} ms")
    story.observed("ms from the order to the last byte", round(late_ms))
    story.observed("open streams cut by the halt", cut)
    tell.say(f"the overseer alone halted: {cut} open streams cut, last byte after {late_ms:.0f} ms")
    order = stage.until(
        lambda: [
            e
            for e in stage.entries("order")
            if predicate(e)["ceiling"] is None and predicate(e)["target"]["kind"] == "release"
        ],
        "the halt is logged",
    )[0]
    story.entry("halt", order["index"], "order", "target.kind", "release")
    refused = callers[0].ask("What is the sun?", user="late")
    if (refused.status, refused.code) != (403, "stopped"):
        raise StoryError(f"expected 403 stopped after the halt, got {refused}")


def reopen(stage: Stage, story: Story) -> None:
    """Act 5, second half: one alone cannot re-open; a quorum re-opens internal only, with a rule."""
    tell = stage.teller
    alone = stage.certify("internal", "operator")
    stage.must_be_refused(alone, "quorum_unmet", "one person re-opens internal")
    tell.say("one person alone cannot re-open: quorum_unmet")
    _resolve_incidents(stage)
    rule = ("--block-phrase", "door code")
    stage.certify("assess", "operator", "safety", more=rule).must("re-open assess")
    evaluator = stage.callers["assess"][0]
    stage.until(evaluator.may, "the evaluator may assess again")
    heard = evaluator.ask(CANARY_ASKS[0], user="red-after")
    if heard.code != "refused":
        raise StoryError(f"expected the rule to block the ask, got {heard}")
    tell.say("stage zero re-opened with a prompt rule that blocks such asks; seen to block")
    measure(stage, story, first=True)
    stage.review("internal", "fresh assessment under the new rule", "safety")
    made = stage.certify("internal", "operator", "safety", more=rule).must("re-open internal")
    story.entry("internal re-opened", made["index"], "certificate", "stage", "internal")
    caller = stage.callers["internal"][0]
    stage.until(caller.may, "internal is served again")
    if stage.callers["partners"][0].may() or stage.callers["researchers"][0].may():
        raise StoryError("expected internal only to be re-opened")
    kinds = [decision["kind"] for _, decision in stage.decisions()]
    if "resume" not in kinds:
        raise StoryError(f"expected a decision to resume, got {kinds}")
    tell.say("operator and safety re-opened internal only; researchers and partners stay stopped")


def _resolve_incidents(stage: Stage) -> None:
    text = stage.build / "retrospective.md"
    text.write_text("Callers could ask for the planted words. A prompt rule refuses such asks.\n")
    for view in stage.state()["incidents"]:
        if not view["open"]:
            continue
        name = view["incident"]["id"]
        steps: tuple[tuple[str, ...], ...] = (
            ("--now", "contained", "--note", "halted"),
            ("--retrospective", str(text), "--now", "resolved", "--note", "rule added"),
        )
        for options in steps:
            stage.sign("incident", "change", name, *options, by=["safety"]).must("incident change")
    stage.teller.say("safety contained and resolved the incident, with a retrospective")


def swap_the_model(stage: Stage, story: Story) -> None:
    """Act 6: another model behind the same address, name and key; the drift probes notice."""
    tell = stage.teller
    tell.act(6, "The model is swapped behind its API and claims the same identity")
    before = dict(stage.model.said)
    stage.model.swap()
    if stage.model.said != before:
        raise StoryError("expected the swapped server to claim the same identity")
    probe = stage.until(
        lambda: [
            e
            for e in stage.entries("probe")
            if (p := predicate(e))["reason"] == "drift" and not p["up"]
        ],
        "the drift probes notice",
        seconds=90,
        every=0.5,
    )[0]
    found = predicate(probe)
    story.entry("drift: probes changed", probe["index"], "probe", "changed", found["changed"])
    heard = stage.callers["internal"][0].ask("What is the sun?", user="after-swap")
    if heard.status == 200:
        raise StoryError(f"expected the gateway to be closed, got {heard}")
    tell.say(
        f"{found['changed']} of {found['of']} probes changed: the gateway closed ({heard.code})"
    )
