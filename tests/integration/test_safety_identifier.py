"""A stage that asks for the end user: a request that names none is refused by the field's name."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from gatelift.messages import Outcome
from gatelift.terms import Endpoint
from tests.integration.doors_house import CALLERS, EXCHANGES, PLAN, Door, DoorHouse

CALLER = CALLERS["valid"]
ASKING = PLAN.replace(
    b"audience: {tier: internal, max_organisations: 10, requires: [identity]}",
    b"audience: {tier: internal, max_organisations: 10, requires: [identity], "
    b"safety_identifier: true}",
)
ASKED = [door for door in EXCHANGES if door.model and door.endpoint is not Endpoint.COUNT_TOKENS]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DoorHouse]:
    made = DoorHouse(tmp_path_factory.mktemp("end-user"), ASKING, {"valid": CALLER})
    yield made
    made.close()


def field_of(door: Door) -> str:
    """Return where a dialect names the end user."""
    return "metadata.user_id" if door.endpoint is Endpoint.MESSAGES else "safety_identifier"


def body(door: Door, **fields: object) -> bytes:
    if door.endpoint is Endpoint.MESSAGES and fields:
        (name,) = fields.values()
        fields = {"metadata": {"user_id": name}}
    return json.dumps(json.loads(door.send()) | fields).encode()


@pytest.mark.parametrize("door", ASKED, ids=lambda d: d.path)
@pytest.mark.parametrize("fields", [{}, {"safety_identifier": ""}, {"safety_identifier": None}])
def test_a_request_without_an_end_user_is_refused_by_the_fields_name(
    house: DoorHouse, door: Door, fields: dict[str, object]
) -> None:
    calls = house.upstream.calls
    reply = house.ask(door.method, door.url, body(door, **fields), key=CALLER.key)
    error = json.loads(reply.body)["error"]
    assert (reply.status, error["code"], error["param"]) == (
        400,
        "invalid_request",
        field_of(door),
    )
    assert field_of(door) in error["message"]
    assert reply.headers["x-should-retry"] == "false"
    assert house.counts().finishes[-1].outcome is Outcome.STOPPED
    assert house.upstream.calls == calls


@pytest.mark.parametrize("door", ASKED, ids=lambda d: d.path)
@pytest.mark.parametrize("field", ["safety_identifier", "user"])
def test_each_end_user_is_a_session_of_its_own_and_never_named_in_the_record(
    house: DoorHouse, door: Door, field: str
) -> None:
    for name in ("user-a", "user-b"):
        reply = house.ask(door.method, door.url, body(door, **{field: name}), key=CALLER.key)
        assert reply.status == 200, reply.body
    first, second = house.counts().finishes[-2:]
    assert first.session != second.session
    assert "safety_identifier" not in house.upstream.bodies[-1]
    assert "user" not in house.upstream.bodies[-1]
    assert "metadata" not in house.upstream.bodies[-1]
    for path in (house.directory / "journal").rglob("*.seg"):
        assert b"user-a" not in path.read_bytes()


def test_access_says_what_must_be_provided(house: DoorHouse) -> None:
    told = json.loads(house.ask("GET", "/v1/access", key=CALLER.key).body)
    assert [each["field"] for each in told["must_provide"]] == ["safety_identifier"]
    assert told["envelope"]["audience"]["safety_identifier"] is True


def test_what_leads_to_no_model_asks_for_no_end_user(house: DoorHouse) -> None:
    assert house.ask("GET", "/v1/models", key=CALLER.key).status == 200
