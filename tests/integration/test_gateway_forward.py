"""The way of one exchange, attempt by attempt, with what changes between two attempts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import msgspec
import pytest
import uvloop

from gatelift.encoding import Digest, sha256_digest
from gatelift.gateway.breaker import BreakerTerms
from gatelift.gateway.forward import Forward
from gatelift.gateway.holdings import Holdings
from gatelift.gateway.placements import Placements, PlacementTerms
from gatelift.gateway.upstream_errors import PlacementError, StoppedError
from gatelift.messages import Placement
from gatelift.trust import Refusal, TargetKind
from gatelift.wire.http_client import Upstream, UpstreamError
from tests.support.placements import FakePlacement
from tests.support.world import NOW
from tests.unit.gateway.test_holdings import House

TERMS = PlacementTerms(breaker=BreakerTerms(failures=100))


class Yard(House):
    """Real holdings, real sockets, and a worker's choice between placements."""

    def __init__(self, *places: FakePlacement) -> None:
        super().__init__()
        self.certify()
        self.enrol(*(place.enrolled for place in places))
        self.clients: dict[str, Upstream] = {}
        self.placements = Placements(self.holdings, client=self._client, headers=tuple, terms=TERMS)
        self.tried: list[str] = []
        self.between: Callable[[], None] = lambda: None

    def _client(self, placement: Placement) -> Upstream:
        return self.clients.setdefault(placement.base_url, Upstream(placement.base_url))

    def enrol(self, *enrolled: Placement, **changes: object) -> None:
        self.number += 1
        logged = (self.shelf.logged(1),)
        made = self.shelf.bundle(enrolled, certificates=logged, number=self.number, **changes)
        self.bundle = sha256_digest(made)
        self.holdings.adopt_bundle(self.bundle, NOW)
        self.roster = sha256_digest(
            self.shelf.roster(self.world.sign("grant", self.grant, "admissions:ada"))
        )
        self.holdings.adopt_roster(self.roster)
        self.live()
        for placement in enrolled:
            self.holdings.set_placement(placement.name, up=True)

    def way(self, candidate: Digest | None = None) -> Forward:
        def judge(placement: Placement) -> Refusal | None:
            found = self.may()
            return found if isinstance(found, Refusal) else None

        def body(placement: Placement) -> bytes:
            self.tried.append(placement.name)
            if len(self.tried) == 1:
                self.between()
            messages = [{"role": "user", "content": "x"}]
            return json.dumps({"model": placement.model, "messages": messages}).encode()

        return Forward(
            self.placements,
            "/v1/chat/completions",
            candidate=candidate or self.world.fingerprint,
            body=body,
            judge=judge,
            stream=False,
        )

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def bounded() -> None:
            try:
                async with asyncio.timeout(5):
                    await main()
            finally:
                for client in self.clients.values():
                    await client.aclose()

        uvloop.run(bounded())


@pytest.fixture
def places() -> Iterator[list[FakePlacement]]:
    """The first refuses every connection; the others serve."""
    made = [FakePlacement("a", listening=False), FakePlacement("b"), FakePlacement("c")]
    yield made
    for place in made:
        place.close()


def test_the_next_is_tried_where_nothing_was_sent(places: list[FakePlacement]) -> None:
    yard = Yard(*places)

    async def main() -> None:
        way = yard.way()
        assert not way.sent
        async with way as served:
            assert served.placement.name == "b"
            assert json.loads(await served.response.read())["usage"]["completion_tokens"] == 2
            assert way.sent
        assert yard.tried == ["a", "b"]

    yard.run(main)
    assert [place.calls for place in places] == [0, 1, 0]


def test_an_order_between_two_attempts_stops_the_second(places: list[FakePlacement]) -> None:
    yard = Yard(*places)
    order = yard.order(TargetKind.RELEASE, yard.world.plan.name)
    yard.between = lambda: yard.holdings.adopt_order(order) and None

    async def main() -> None:
        way = yard.way()
        with pytest.raises(StoppedError) as caught:
            async with way:
                pass
        assert (caught.value.code, way.sent) == ("stopped", False)

    yard.run(main)
    assert sum(place.calls for place in places) == 0


def test_an_exchange_that_is_no_longer_permitted_is_not_tried_at_all(
    places: list[FakePlacement],
) -> None:
    yard = Yard(*places[1:])
    yard.holdings.adopt_order(yard.order(TargetKind.RELEASE, yard.world.plan.name))

    async def main() -> None:
        with pytest.raises(StoppedError):
            async with yard.way():
                pass

    yard.run(main)
    assert yard.tried == []


def test_a_placement_that_left_the_bundle_between_two_attempts_is_passed_over(
    places: list[FakePlacement],
) -> None:
    yard = Yard(*places)
    yard.between = lambda: yard.enrol(places[0].enrolled, places[2].enrolled)

    async def main() -> None:
        async with yard.way() as served:
            assert served.placement.name == "c"

    yard.run(main)
    assert yard.tried == ["a", "c"]


def test_one_enrolled_elsewhere_under_its_name_is_another_placement(
    places: list[FakePlacement],
) -> None:
    yard = Yard(places[0])
    moved = msgspec.structs.replace(places[1].enrolled, name="a")
    yard.between = lambda: yard.enrol(moved)

    async def main() -> None:
        async with yard.way() as served:
            assert served.placement == moved

    yard.run(main)
    assert yard.tried == ["a", "a"]


def test_an_exchange_of_another_candidate_goes_nowhere(places: list[FakePlacement]) -> None:
    yard = Yard(*places)

    async def main() -> None:
        with pytest.raises(PlacementError) as caught:
            async with yard.way(candidate=sha256_digest(b"another")):
                pass
        assert caught.value.code == "no_placement"

    yard.run(main)
    assert yard.tried == []


def test_each_is_tried_once_and_then_the_last_error_is_told(places: list[FakePlacement]) -> None:
    for place in places:
        place.close()
    yard = Yard(*places)

    async def main() -> None:
        way = yard.way()
        with pytest.raises(UpstreamError) as caught:
            async with way:
                pass
        assert (caught.value.code, way.sent) == ("connect_failed", False)

    yard.run(main)
    assert yard.tried == ["a", "b", "c"]


def test_a_caller_that_leaves_is_no_failure_and_leaves_nothing_open(
    places: list[FakePlacement],
) -> None:
    place = places[1]
    place.mode = "hang_first_byte"
    yard = Yard(place)

    async def main() -> None:
        for number in range(3):
            way = yard.way()
            entering = asyncio.ensure_future(way.__aenter__())
            while place.calls <= number:  # noqa: ASYNC110 - a thread counts them
                await asyncio.sleep(0.005)
            entering.cancel()
            with pytest.raises(asyncio.CancelledError):
                await entering
            assert way.sent
        found = yard.placements.choose(frozenset(), 0.0)
        assert found is not None
        assert (found.open, found.breaker._failures) == (0, 0)

    yard.run(main)


def test_a_pending_bundle_takes_away_at_once_and_adds_nothing_yet(
    places: list[FakePlacement],
) -> None:
    a, b, c = (place.enrolled for place in places)
    yard = Yard(*places[:2])
    holdings: Holdings = yard.holdings
    assert holdings.placements() == (a, b)
    assert holdings.placements() is holdings.placements()
    made = yard.shelf.bundle((b, c), certificates=(yard.shelf.logged(1),), number=99)
    holdings.set_placement("c", up=True)
    holdings.adopt_bundle(sha256_digest(made), NOW)
    assert holdings.placements() == (b,)
    yard.bundle = sha256_digest(made)
    yard.live(boot_ms=1)
    assert holdings.placements() == (b, c)
    holdings.take_out("b")
    assert holdings.placements() == (c,)
    holdings.set_placement("c", up=False)
    assert holdings.placements() == ()
