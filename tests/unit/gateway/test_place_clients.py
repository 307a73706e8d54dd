"""Which client an exchange is sent with: the one of the enrolment in force, asked for once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from gatelift.encoding import Digest
from gatelift.gateway.placements import Placements, PlacementTerms
from gatelift.messages import Placement, UpstreamTls

PLAIN = Placement(name="a", base_url="https://a.test/v1", model="m", baseline=None)
SEALED = Placement(
    name="a",
    base_url="https://a.test/v1",
    model="m",
    baseline=None,
    tls=UpstreamTls(ca=Digest("sha256:" + "0" * 64), server_name="a.test"),
)


def test_a_changed_enrolment_is_never_served_with_the_last_ones_client() -> None:
    usable: list[tuple[Placement, ...]] = [(PLAIN,)]
    asked: list[Placement] = []

    def client(enrolled: Placement) -> Any:
        asked.append(enrolled)
        return SimpleNamespace(enrolled=enrolled)

    placements = Placements(
        cast("Any", SimpleNamespace(placements=lambda: usable[0])),
        client=client,
        headers=lambda: (),
        terms=PlacementTerms(),
    )

    def client_now() -> Any:
        place = placements.choose(frozenset(), 0.0)
        assert place is not None
        return place.client or placements.connect(place)

    assert client_now() is client_now()
    # While an exchange runs there, what is known of the place outlives a new enrolment.
    place = placements.choose(frozenset(), 0.0)
    assert place is not None
    place.open += 1
    usable[0] = (SEALED,)
    assert placements.choose(frozenset(), 0.0) is place
    assert client_now().enrolled is SEALED
    assert asked == [PLAIN, SEALED]
