"""One worker before several placements: what is chosen, tried again, left alone, and told."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from gatelift.encoding import sha256_digest
from gatelift.messages import EntryKind, Finish, Outcome
from gatelift.messages.frames import BundleFrame, PlacementFrame
from tests.integration.test_gateway_worker import API_KEY, Deployment
from tests.support.bundles import Shelf
from tests.support.placements import FakePlacement
from tests.support.upstream import ScriptedUpstream

TERMS: dict[str, Any] = {
    "timeouts": {
        "pool_s": 0.3,
        "connect_s": 0.3,
        "first_byte_s": 0.6,
        "idle_s": 0.4,
        "total_s": 5.0,
    },
    "breaker": {"failures": 2, "wait_s": 0.5, "max_wait_s": 2.0},
}


class Pool:
    """A worker that a second bundle gave these placements, in this order."""

    def __init__(self, directory: Path, places: list[FakePlacement], terms: dict[str, Any]) -> None:
        self.places = places
        (directory / "upstream.json").write_text(json.dumps(TERMS | terms))
        self._first = ScriptedUpstream()
        self.house = Deployment(directory, self._first)
        self._number = 1
        self.asked = 0
        self.enrol(*places)

    def enrol(self, *places: FakePlacement, wait: bool = True) -> None:
        """Hand over a bundle of these placements, and say that the probes call them up."""
        self._number += 1
        world, keeper = self.house.world, self.house.keeper
        shelf = Shelf(world)
        shelf.log(EntryKind.ROOT, world.root_envelope)
        shelf.log(EntryKind.CERTIFICATE, world.signed_certificate("internal"))
        data = shelf.bundle(tuple(place.enrolled for place in places), number=self._number)
        digest = sha256_digest(data)
        name = digest.removeprefix("sha256:")
        (self.house.directory / "files" / "sha256" / name).write_bytes(data)
        keeper.bundle = digest
        for place in places:
            keeper.push(PlacementFrame(name=place.name, up=True, reason=""))
        keeper.push(BundleFrame(digest=digest))
        until = time.monotonic() + 5
        while wait and self.ask("ready?").status_code == 503 and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.1)

    def ask(self, text: str | None = None, **changes: Any) -> httpx.Response:
        """Ask something new each time, so that the placements can tell one request from another."""
        self.asked += 1
        return self.house.post(
            messages=[{"role": "user", "content": text or f"question {self.asked}"}],
            max_tokens=8,
            **changes,
        )

    def stream(self) -> str:
        """Return what arrived of a stream, `!` at its end if it broke off."""
        got = ""
        body = {
            "model": "smollm2-135m",
            "messages": [{"role": "user", "content": "stream"}],
            "max_tokens": 8,
            "stream": True,
        }
        with (
            httpx.Client(timeout=10) as client,
            client.stream(
                "POST",
                self.house.url + "/v1/chat/completions",
                json=body,
                headers={"authorization": f"Bearer {API_KEY}"},
            ) as answer,
        ):
            try:
                for text in answer.iter_text():
                    got += text
            except httpx.TransportError:
                return got + "!"
        return got

    def seen(self) -> dict[str, int]:
        """How often each question reached any placement."""
        found: dict[str, int] = {}
        for place in self.places:
            for text, times in place.seen.items():
                found[text] = found.get(text, 0) + times
        found.pop("ready?", None)
        return found

    def finishes(self) -> list[Finish]:
        time.sleep(0.2)
        return [record for record in self.house.records() if isinstance(record, Finish)]

    def close(self) -> None:
        self.house.close()
        self._first.close()
        for place in self.places:
            place.close()


Make = Callable[..., Pool]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Pool] = []

    def build(*places: FakePlacement, **terms: Any) -> Pool:
        made.append(Pool(tmp_path, list(places), terms))
        return made[-1]

    yield build
    for pool in made:
        pool.close()


def told(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_a_placement_that_is_dead_at_the_start_costs_no_caller_anything(make: Make) -> None:
    pool = make(FakePlacement("a", listening=False), FakePlacement("b"), FakePlacement("c"))
    answers = [pool.ask() for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 6
    assert set(pool.seen().values()) == {1}
    # What came before were questions whether the bundle is taken up yet.
    assert [finish.outcome for finish in pool.finishes()[-6:]] == [Outcome.SERVED] * 6


def test_open_exchanges_are_spread_and_an_idle_pool_keeps_the_bundles_order(make: Make) -> None:
    places = [FakePlacement(name, "slow") for name in "abc"]
    pool = make(*places)
    with ThreadPoolExecutor(3) as threads:
        answers = list(threads.map(lambda _: pool.ask(), range(3)))
    assert {answer.status_code for answer in answers} == {200}
    assert [place.calls - place.seen["ready?"] for place in places] == [1, 1, 1]
    for _ in range(2):
        pool.ask()
    assert [place.calls - place.seen["ready?"] for place in places] == [3, 1, 1]


def test_one_that_hangs_on_connect_is_left_and_then_left_alone(make: Make) -> None:
    hung = FakePlacement("a", listening=False)
    hung.hang_on_connect()
    pool = make(hung, FakePlacement("b"))
    answers = [pool.ask() for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200] * 4
    # Its breaker is open by now, so that nobody waits for it.
    assert answers[-1].elapsed.total_seconds() < 0.25
    assert set(pool.seen().values()) == {1}


@pytest.mark.parametrize(
    ("mode", "status", "code", "reason"),
    [
        ("hang_first_byte", 504, "upstream_timeout", "timeout_first_byte"),
        ("hang_midway", 504, "upstream_timeout", "timeout_idle"),
        ("die_first_byte", 502, "upstream_failed", "died"),
        ("die_midway", 502, "upstream_failed", "died"),
        ("odd", 502, "upstream_failed", "bad_upstream_answer"),
        ("status", 502, "upstream_failed", "upstream_failed"),
    ],
)
def test_what_was_sent_is_never_sent_again(
    make: Make, mode: Any, status: int, code: str, reason: str
) -> None:
    bad = FakePlacement("a")
    pool = make(bad, FakePlacement("b"))
    bad.mode = mode
    assert told(pool.ask("sent once")) == (status, code)
    assert pool.seen()["sent once"] == 1
    finish = pool.finishes()[-1]
    assert (finish.outcome, finish.reason) == (Outcome.UPSTREAM_FAILED, reason)
    assert (finish.upstream, finish.status) == (True, status)


@pytest.mark.parametrize(
    ("mode", "reason"), [("hang_midway", "timeout_idle"), ("die_midway", "died")]
)
def test_one_that_fails_amid_a_stream_breaks_it_off_and_others_go_on(
    make: Make, mode: Any, reason: str
) -> None:
    bad = FakePlacement("a")
    pool = make(bad, FakePlacement("b"), FakePlacement("c"))
    bad.mode = mode
    got = pool.stream()
    assert got.endswith("!")
    assert "from " in got
    assert "[DONE]" not in got
    assert pool.seen()["stream"] == 1
    finish = pool.finishes()[-1]
    assert (finish.outcome, finish.reason) == (Outcome.UPSTREAM_FAILED, reason)
    # Two in a row open its breaker; from then on nobody meets it.
    pool.stream()
    assert pool.ask().json()["choices"][0]["message"]["content"] == "from b"
    assert "[DONE]" in pool.stream()


def test_one_that_dies_while_it_answers_is_followed_by_the_others(make: Make) -> None:
    dying = FakePlacement("a", "slow")
    pool = make(dying, FakePlacement("b"), FakePlacement("c"))
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(pool.ask, "dies")
        while not dying.seen["dies"]:
            time.sleep(0.01)
        dying.close()
        assert told(asked.result()) == (502, "upstream_failed")
    assert [pool.ask().status_code for _ in range(4)] == [200] * 4
    assert set(pool.seen().values()) == {1}


def test_the_breaker_opens_after_failures_and_closes_again_when_they_end(make: Make) -> None:
    only = FakePlacement("a")
    pool = make(only)
    only.mode = "status"
    assert [told(pool.ask()) for _ in range(2)] == [(502, "upstream_failed")] * 2
    before = only.calls
    refused = pool.ask()
    assert told(refused) == (503, "no_placement")
    assert refused.headers["retry-after"] == "1"
    assert only.calls == before
    # Half open: one trial, it fails too, and the next wait is longer.
    time.sleep(0.55)
    assert told(pool.ask()) == (502, "upstream_failed")
    only.mode = "serve"
    time.sleep(0.55)
    assert told(pool.ask()) == (503, "no_placement")
    time.sleep(0.55)
    assert [pool.ask().status_code for _ in range(3)] == [200] * 3


def test_a_400_by_one_caller_closes_no_placement_for_the_others(make: Make) -> None:
    only = FakePlacement("a")
    pool = make(only)
    only.mode, only.status = "status", 400
    answers = [pool.ask() for _ in range(4)]
    assert [told(answer) for answer in answers] == [(502, "upstream_failed")] * 4
    assert answers[0].headers["x-should-retry"] == "false"
    only.mode = "serve"
    assert pool.ask().status_code == 200


@pytest.mark.parametrize("status", [429, 503])
def test_one_that_is_busy_rests_as_long_as_it_asks_and_is_not_hammered(
    make: Make, status: int
) -> None:
    busy, other = FakePlacement("a"), FakePlacement("b")
    pool = make(busy, other)
    busy.mode, busy.status, busy.headers = "status", status, b"retry-after: 2\r\n"
    first = pool.ask("busy")
    assert (told(first), first.headers["retry-after"]) == ((503, "upstream_busy"), "2")
    assert pool.seen()["busy"] == 1
    assert pool.ask().json()["choices"][0]["message"]["content"] == "from b"
    other.mode, other.status, other.headers = "status", status, b"retry-after: 99999\r\n"
    assert pool.ask().headers["retry-after"] == "30"
    calls = busy.calls + other.calls
    none = pool.ask()
    assert told(none) == (503, "upstream_busy")
    assert 1 <= int(none.headers["retry-after"]) <= 2
    assert busy.calls + other.calls == calls
    busy.mode = "serve"
    time.sleep(2.0)
    assert pool.ask().json()["choices"][0]["message"]["content"] == "from a"


def test_a_full_pool_goes_elsewhere_and_then_says_busy(make: Make) -> None:
    one, other = FakePlacement("a", "slow"), FakePlacement("b", "slow")
    pool = make(one, other, limits={"max_connections": 1, "max_waiting": 0})
    with ThreadPoolExecutor(3) as threads:
        answers = list(threads.map(lambda _: pool.ask(), range(3)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 503]
    busy = next(answer for answer in answers if answer.status_code == 503)
    assert told(busy) == (503, "upstream_busy")
    assert set(pool.seen().values()) == {1}
    last = [finish for finish in pool.finishes() if finish.outcome is Outcome.UPSTREAM_FAILED][-1]
    assert (last.reason, last.upstream) == ("too_many_connections", False)


def test_what_was_sent_nowhere_is_recorded_so_and_spends_no_tokens(make: Make) -> None:
    pool = make(FakePlacement("a", listening=False), FakePlacement("b"), FakePlacement("c"))
    for place in pool.places[1:]:
        place.close()
    time.sleep(0.1)
    assert told(pool.ask("nowhere")) == (502, "upstream_failed")
    finish = pool.finishes()[-1]
    assert (finish.upstream, finish.reason, finish.input_tokens) == (False, "connect_failed", 0)
    assert not [each for each in finish.spent if "tokens" in each.counter and each.amount]
    assert "nowhere" not in pool.seen()


def test_records_with_upstream_are_as_many_as_reached_a_placement(make: Make) -> None:
    places = [FakePlacement("a", listening=False), FakePlacement("b"), FakePlacement("c")]
    pool = make(*places)
    for mode in ("serve", "status", "serve", "odd", "die_first_byte", "serve"):
        places[1].mode = mode
        pool.ask()
        pool.stream()
    reached = sum(place.calls for place in places)
    assert sum(finish.upstream for finish in pool.finishes()) == reached


def test_a_placement_that_a_new_bundle_drops_gets_nothing_more(make: Make) -> None:
    dropped, kept = FakePlacement("a"), FakePlacement("b")
    pool = make(dropped, kept)
    assert pool.ask().json()["choices"][0]["message"]["content"] == "from a"
    # Before any status names the new bundle, too: what it takes away is gone at once.
    pool.house.keeper.answering = False
    pool.enrol(kept, wait=False)
    calls = dropped.calls
    assert pool.ask().json()["choices"][0]["message"]["content"] == "from b"
    pool.house.keeper.answering = True
    time.sleep(1.1)
    assert pool.ask().json()["choices"][0]["message"]["content"] == "from b"
    assert dropped.calls == calls


def test_a_retry_does_not_go_to_a_placement_that_was_dropped_meanwhile(make: Make) -> None:
    hung, dropped, kept = (
        FakePlacement("a", listening=False),
        FakePlacement("b"),
        FakePlacement("c"),
    )
    hung.hang_on_connect()
    pool = make(hung, dropped, kept, timeouts={"connect_s": 1.5}, breaker={"failures": 100})
    before = dropped.calls
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(pool.ask, "on its way")
        time.sleep(0.5)
        pool.enrol(hung, kept, wait=False)
        assert asked.result().json()["choices"][0]["message"]["content"] == "from c"
    assert dropped.calls == before


def test_a_stop_between_two_attempts_stops(make: Make) -> None:
    hung, other = FakePlacement("a", listening=False), FakePlacement("b")
    hung.hang_on_connect()
    pool = make(hung, other, timeouts={"connect_s": 1.5}, breaker={"failures": 100})
    before = other.calls
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(pool.ask, "stopped")
        time.sleep(0.5)
        ordered = time.monotonic()
        pool.house.keeper.order(pool.house.stop_order())
        assert told(asked.result()) == (403, "stopped")
        assert time.monotonic() - ordered < 1
    assert other.calls == before
    assert pool.finishes()[-1].outcome is Outcome.STOPPED


def test_drift_cuts_what_runs_on_that_placement_and_nothing_else(make: Make) -> None:
    drifted, other = FakePlacement("a", "slow"), FakePlacement("b", "slow")
    drifted.slow_s = other.slow_s = 0.5
    pool = make(drifted, other)
    with ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(pool.ask) for _ in range(2)]
        time.sleep(0.25)
        pool.house.keeper.push(PlacementFrame(name="a", up=False, reason="drift"))
        answers = [each.result() for each in asked]
    assert sorted(answer.status_code for answer in answers) == [200, 503]
    assert next(told(a) for a in answers if a.status_code == 503) == (503, "no_placement")
