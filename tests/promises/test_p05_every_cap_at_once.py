"""Promise 5, with every unit and every subject capped in one plan.

Attacked here: 64 callers at a barrier over four workers against a plan that caps each unit for each
subject, first by one principal, then by its organisation, then by everybody; what the model server
counted is compared with arithmetic over the plan. Then the same number of callers as a `parallel`
cap allows, each asking again only after its last answer: whoever is denied is denied falsely.
Principals that share nothing race at the same time, near their caps, so that recalls of different
counters cross.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.promises.outside import PLANS, Deployment, say
from tests.promises.siege import Asked, ask, barrier, request, run_all, statuses
from tests.support.upstream import ScriptedUpstream

WORKERS, CALLERS = 4, 64
WORD = "w" * 31 + " "
"""A word of as many bytes as are reserved for one token, so that every cap is exact at once."""
WORDS = 3
SHARE = 256
"""Enough that workers hold slices, which must come back from each other near the end."""
TEXT = "what a cap is good for"
INPUT = len(TEXT) + 16
COST = {
    "requests": 1,
    "input_tokens": INPUT,
    "output_tokens": WORDS,
    "bytes_out": WORDS * len(WORD),
}
# How many requests each cap is worth; what binds for a subject is its smallest.
WORTH = {
    "principal": {"requests": 12, "input_tokens": 14, "output_tokens": 16, "bytes_out": 18},
    "organisation": {"requests": 30, "input_tokens": 28, "output_tokens": 26, "bytes_out": 24},
    "audience": {"requests": 62, "input_tokens": 60, "output_tokens": 50, "bytes_out": 58},
    "stage": {"requests": 70, "input_tokens": 46, "output_tokens": 64, "bytes_out": 66},
}


def write_plan(folder: Path, caps: dict[str, dict[str, str]]) -> Path:
    """Write the plan of the narrows with other caps at its first stage."""
    text = (PLANS / "narrows.yaml").read_text()
    old = "caps: {principal: {requests: 40/d}, stage: {output_tokens: 10M/d}}"
    assert old in text
    folder.mkdir()
    (folder / "prompt.txt").write_text((PLANS / "prompt.txt").read_text())
    path = folder / "plan.yaml"
    path.write_text(text.replace(old, "caps: " + json.dumps(caps).replace('"', "")))
    return path


def make_upstream(delay_s: float = 0.01) -> ScriptedUpstream:
    upstream = ScriptedUpstream([WORD] * 500, delay_s=delay_s, key="upstream-key-of-every-cap")
    upstream.tell = lambda made: {"prompt_tokens": INPUT, "completion_tokens": made}
    return upstream


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    found = make_upstream()
    yield found
    found.close()


@pytest.fixture(scope="module")
def deployment(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("p05-all")
    caps = {
        subject: {unit: f"{worth * COST[unit]}/d" for unit, worth in units.items()}
        | {"parallel": str(CALLERS)}
        for subject, units in WORTH.items()
    }
    found = Deployment(
        folder / "d",
        upstream=upstream.url,
        upstream_key=upstream.key,
        plan=write_plan(folder / "plan", caps),
        workers=WORKERS,
    )
    yield found
    found.stop()


def grants(deployment: Deployment, organisations: dict[str, str]) -> list[str]:
    """Admit several principals at the same time; return their keys in order."""
    with ThreadPoolExecutor(len(organisations)) as pool:
        return list(
            pool.map(lambda n: deployment.grant(n, organisation=organisations[n]), organisations)
        )


def reached(upstream: ScriptedUpstream) -> int:
    return sum(body["messages"][-1]["content"] == TEXT for body in list(upstream.bodies))


def caps_named(found: list[Asked]) -> set[str]:
    return {each.error["cap"] for each in found if each.status == 429}


def test_each_subjects_smallest_cap_is_served_exactly(
    deployment: Deployment, upstream: ScriptedUpstream
) -> None:
    a, b, c, *two = grants(deployment, dict(zip("abcdef", ["one"] * 3 + ["two"] * 3, strict=True)))

    def race(*keys: str) -> list[Asked]:
        asked = [keys[n % len(keys)] for n in range(CALLERS)]
        return barrier(
            deployment, [request(deployment, key, TEXT, max_tokens=WORDS) for key in asked]
        )

    first = race(a)
    assert statuses(first) == {200: 12, 429: CALLERS - 12}
    assert caps_named(first) == {"principal.requests/d"}
    second = race(b)
    assert statuses(second) == {200: 12, 429: CALLERS - 12}
    third = race(c)
    assert statuses(third) == {429: CALLERS}, "the organisation's bytes are spent"
    assert caps_named(third) == {"organisation.bytes_out/d"}
    rest = race(*two)
    assert statuses(rest) == {200: 46 - 24, 429: CALLERS - 22}, "the stage's input is spent"
    assert reached(upstream) == 46
    last = race(*two)
    assert statuses(last) == {429: CALLERS}
    assert "stage.input_tokens/d" in caps_named(last)
    assert reached(upstream) == 46


@pytest.fixture(scope="module")
def busy(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("p05-busy")
    caps = {
        "principal": {"requests": f"{SHARE}/d", "parallel": "6"},
        "organisation": {"requests": "20k/d", "output_tokens": f"{5 * SHARE * WORDS}/d"},
        "stage": {"requests": "100k/d", "output_tokens": "10M/d"},
    }
    found = Deployment(
        folder / "d",
        upstream=upstream.url,
        upstream_key=upstream.key,
        plan=write_plan(folder / "plan", caps),
        workers=WORKERS,
    )
    yield found
    found.stop()


def test_nobody_is_denied_while_a_cap_has_room(busy: Deployment) -> None:
    """As many callers as `parallel` allows, each one request at a time: all must be served.

    Six principals do so at the same time, up to the last of their requests, so that slices are
    recalled from worker to worker for different counters at once.
    """
    keys = grants(busy, {f"steady-{n}": f"org-{n % 2}" for n in range(6)})
    found: list[Asked] = []
    lock = threading.Lock()

    def caller(key: str, share: int) -> None:
        for _ in range(share):
            answer = ask(busy, key, TEXT, max_tokens=WORDS)
            with lock:
                found.append(answer)

    calls = [(key, SHARE // 6 + (n < SHARE % 6)) for key in keys for n in range(6)]
    began = time.monotonic()
    run_all([lambda c=c: caller(*c) for c in calls])  # type: ignore[misc]
    denied = [each.error for each in found if each.status == 429]
    say(
        f"{len(denied)} of {len(found)} denied while there was room "
        f"({len(denied) / len(found):.2%}), in {time.monotonic() - began:.1f} s"
    )
    assert len(found) == 6 * SHARE
    assert not denied, denied[:3]
    assert statuses(found) == {200: 6 * SHARE}
    for key in keys:
        assert ask(busy, key, TEXT, max_tokens=WORDS).error["cap"] == "principal.requests/d"
