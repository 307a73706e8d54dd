"""Promise 5, with every unit and every subject capped in one plan.

Attacked here: 64 callers at a barrier over four workers against a plan that caps each unit for each
subject, first by one principal, then by its organisation, then by everybody; what the model server
counted is compared with arithmetic over the plan. Once counts bind, and once money (whose every
exchange is rounded up) and distinct prompts do. Then the same number of callers as a `parallel`
cap allows, each asking again only after its last answer: whoever is denied is denied falsely.
Principals that share nothing race at the same time, near their caps, so that recalls of different
counters cross. At last workers and keeper are killed and stopped in the middle of it all, and the
charges in the exported records are held against every cap.

Seen to fail: with a request setting aside what it holds while it waits for more (`gateway.leases`)
21 of 22 were served at the barrier (red); with one answer of a worker ending all its recalls
(`keeper.draws`) up to 5 of 1,536 were denied while there was room (red).
"""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.promises.outside import Deployment, say, wait_for
from tests.promises.siege import (
    Asked,
    ask,
    barrier,
    grants,
    request,
    run_all,
    statuses,
    write_plan,
)
from tests.support.upstream import ScriptedUpstream

WORKERS, CALLERS = 4, 64
WORD = "w" * 31 + " "
"""A word of as many bytes as are reserved for one token, so that every cap is exact at once."""
WORDS = 3
SHARE = 256
"""Enough that workers hold slices, which must come back from each other near the end."""
TEXT = "what a cap is good for"
INPUT = len(TEXT) + len(" 000") + 16
PRICES = {"input": Fraction("0.013"), "output": Fraction("0.17")}
"""In money for a million tokens: 42 in and 3 out are 1.056 millionths, which count as 2."""
MICROS = math.ceil(INPUT * PRICES["input"] + WORDS * PRICES["output"])
EACH = {
    "requests": 1,
    "input_tokens": INPUT,
    "output_tokens": WORDS,
    "bytes_out": WORDS * len(WORD),
    "cost": MICROS,
    "coverage": 1,
}
LIMITS = {
    "principal.requests/d": SHARE,
    "organisation.requests/d": 20_000,
    "organisation.output_tokens/d": 5 * SHARE * WORDS,
    "audience.input_tokens/d": 10_000_000,
    "stage.requests/d": 100_000,
    "stage.bytes_out/d": 10_000_000,
    "stage.cost/d": 10_000_000,
    "audience.coverage/none": 1_000,
}
UNITS = tuple(EACH)
# How many requests each cap is worth, by unit in this order; what binds for a subject is its smallest.
COUNTS = {
    "principal": (12, 14, 16, 18, 20, 22),
    "organisation": (30, 28, 26, 24, 32, 34),
    "audience": (62, 60, 50, 58, 56, 54),
    "stage": (70, 46, 64, 66, 48, 68),
}
MONEY_AND_PROMPTS = {
    "principal": (14, 16, 18, 20, 22, 12),
    "organisation": (30, 28, 26, 32, 24, 34),
    "audience": (62, 60, 50, 58, 56, 54),
    "stage": (70, 48, 64, 66, 68, 46),
}


class Binding(NamedTuple):
    """What each cap is worth, and which must be named where it binds."""

    worth: dict[str, tuple[int, ...]]
    principal: str
    organisation: str
    stage: str


BINDINGS = (
    Binding(COUNTS, "requests/d", "bytes_out/d", "input_tokens/d"),
    Binding(MONEY_AND_PROMPTS, "coverage/none", "cost/d", "coverage/none"),
)


def written(unit: str, amount: int) -> str:
    """Return a limit as a plan has it."""
    if unit == "cost":
        return f"0.{amount:06d} EUR/d"
    return str(amount) if unit in {"coverage", "parallel"} else f"{amount}/d"


def prices() -> str:
    return f"{{currency: EUR, input: {float(PRICES['input'])}, output: {float(PRICES['output'])}}}"


def charges(deployment: Deployment, out: Path) -> Counter[str]:
    """Return what Gatelift's own records charge to each counter, from a dossier."""
    deployment.cli("dossier", "export", "--dir", deployment.folder, "--out", out).must()
    spent: Counter[str] = Counter()
    for path in (out / "records").iterdir():
        for line in path.read_text().splitlines():
            record = json.loads(json.loads(line)["record"])
            for charge in record.get("spent", ()):
                spent[charge["counter"]] += charge["amount"]
    return spent


def charges_of(charged: Counter[str], subject: str) -> dict[str, int]:
    found = (name.split(":") for name in charged)
    return {cap: charged[f"{stage}:{cap}:{who}"] for stage, cap, who in found if who == subject}


def make_upstream(delay_s: float = 0.01) -> ScriptedUpstream:
    upstream = ScriptedUpstream([WORD] * 500, delay_s=delay_s, key="upstream-key-of-every-cap")
    upstream.tell = lambda made: {"prompt_tokens": INPUT, "completion_tokens": made}
    return upstream


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    found = make_upstream()
    yield found
    found.close()


@pytest.fixture(scope="module", params=BINDINGS, ids=["counts", "money-and-prompts"])
def binding(request: pytest.FixtureRequest) -> Binding:
    found: Binding = request.param
    return found


@pytest.fixture(scope="module")
def deployment(
    binding: Binding, upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("p05-all")
    caps = {
        subject: {
            unit: written(unit, worth * EACH[unit])
            for unit, worth in zip(UNITS, worths, strict=True)
        }
        | {"parallel": str(CALLERS)}
        for subject, worths in binding.worth.items()
    }
    upstream.bodies.clear()
    found = Deployment(
        folder / "d",
        upstream=upstream.url,
        upstream_key=upstream.key,
        plan=write_plan(folder / "plan", caps, prices=prices()),
        workers=WORKERS,
    )
    yield found
    found.stop()


def reached(upstream: ScriptedUpstream) -> int:
    return sum(body["messages"][-1]["content"].startswith(TEXT) for body in list(upstream.bodies))


def caps_named(found: list[Asked]) -> set[str]:
    return {each.error["cap"] for each in found if each.status == 429}


def test_each_subjects_smallest_cap_is_served_exactly(
    deployment: Deployment, binding: Binding, upstream: ScriptedUpstream
) -> None:
    number = itertools.count()
    a, b, c, *two = grants(deployment, dict(zip("abcdef", ["one"] * 3 + ["two"] * 3, strict=True)))

    def race(*keys: str) -> list[Asked]:
        asked = [keys[n % len(keys)] for n in range(CALLERS)]
        return barrier(
            deployment,
            [
                # No prompt twice, and all of them equally long.
                request(deployment, key, f"{TEXT} {next(number):03d}", max_tokens=WORDS)
                for key in asked
            ],
        )

    first = race(a)
    assert statuses(first) == {200: 12, 429: CALLERS - 12}
    assert caps_named(first) == {f"principal.{binding.principal}"}
    second = race(b)
    assert statuses(second) == {200: 12, 429: CALLERS - 12}
    third = race(c)
    assert statuses(third) == {429: CALLERS}, "the organisation's bytes, or money, are spent"
    assert caps_named(third) == {f"organisation.{binding.organisation}"}
    rest = race(*two)
    assert statuses(rest) == {200: 46 - 24, 429: CALLERS - 22}, "the stage's cap is spent"
    assert reached(upstream) == 46
    last = race(*two)
    assert statuses(last) == {429: CALLERS}
    assert f"stage.{binding.stage}" in caps_named(last)
    assert reached(upstream) == 46


@pytest.fixture(scope="module")
def busy(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("p05-busy")
    caps: dict[str, dict[str, str]] = {}
    for name, limit in LIMITS.items():
        subject, _, rest = name.partition(".")
        unit = rest.partition("/")[0]
        caps.setdefault(subject, {})[unit] = (
            f"{limit // 10**6} EUR/d" if unit == "cost" else written(unit, limit)
        )
    caps["principal"]["parallel"] = "6"
    found = Deployment(
        folder / "d",
        upstream=upstream.url,
        upstream_key=upstream.key,
        plan=write_plan(folder / "plan", caps, prices=prices()),
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


def test_kills_and_stops_leave_exactly_the_cap_charged(
    busy: Deployment, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    (key,) = grants(busy, {"storm": "storm"})
    text = "in the storm"
    over = threading.Event()
    told: Counter[int] = Counter()
    lock = threading.Lock()

    def caller() -> None:
        while not over.is_set():
            answer = ask(busy, key, text, max_tokens=WORDS, stream=True)
            with lock:
                told[answer.status] += 1
            over.wait(0.02 if answer.status != 429 else 0.2)

    def trouble() -> None:
        for name in ("keeper", "worker", "keeper", "worker"):
            over.wait(0.3)
            busy.kill(name)
            over.wait(0.3)
            stopped = wait_for(lambda: busy.processes("worker"), seconds=20)[-1]
            try:
                os.kill(stopped, signal.SIGSTOP)
                over.wait(0.5)
            finally:
                os.kill(stopped, signal.SIGCONT)
        over.wait(0.5)
        over.set()

    run_all([trouble, *[caller] * 8])
    wait_for(lambda: len(busy.processes("worker")) == WORKERS, seconds=30)
    busy.wait_control()
    busy.wait_serving(key)
    until = time.monotonic() + 20
    while (
        not (last := ask(busy, key, text, max_tokens=WORDS))
        .error.get("cap", "")
        .startswith("principal.requests")
    ):
        assert time.monotonic() < until, last
        told[last.status] += 1
    seen = sum(body["messages"][-1]["content"] == text for body in list(upstream.bodies))
    say(f"callers were told {dict(told)}, the model saw {seen} of {SHARE}")
    assert seen <= SHARE
    charged = charges(busy, tmp_path / "dossier")

    def counted() -> tuple[int, int]:
        error = ask(busy, key, text, max_tokens=WORDS).error
        return error["used"], error["reserved"]

    wait_for(lambda: counted() == (SHARE, 0), seconds=20)
    recorded = charges_of(charged, "storm")["principal.requests/d"]
    # What a kill caught between its start's write and its commit counts and is in no record: nobody
    # was answered.
    assert SHARE - told[0] <= recorded <= SHARE
    for name, amount in charged.items():
        assert amount <= LIMITS[name.split(":")[1]], name
