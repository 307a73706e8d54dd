"""Own grants: who may seal one, what opens it, and how many calls a day the root leaves room for."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from gatelift.encoding import parse_base64
from gatelift.errors import CallerError
from gatelift.trust import (
    RootError,
    StandingOwnGrant,
    check_room,
    looks_like_own_grant,
    open_own_grant,
    parse_root,
    verify_own_grant,
)
from tests.support.own_grants import API_KEY, inner, own_grant, seed
from tests.support.world import HOUR, NOW, World

DAY = 24 * HOUR
MIDNIGHT = NOW - NOW % DAY
VERA = "overseer:vera"


def signed(world: World, *names: str, **changes: Any) -> bytes:
    return world.sign("own_grant", own_grant(inner(world), **changes), *names)


def code_of(make: Any) -> str:
    with pytest.raises(CallerError) as caught:
        make()
    return caught.value.code


def test_only_an_overseer_seals_one() -> None:
    world = World()
    held = verify_own_grant(signed(world, VERA), world.root)
    assert (held.organisation, held.per_day) == ("oversight.example", 20)
    for name in world.keys.keys() - {VERA}:
        assert code_of(lambda name=name: verify_own_grant(signed(world, name), world.root)) == (
            "role_not_allowed"
        ), name


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"requests_per_day": 21}, "own_calls_spent", id="more than the root allows"),
        pytest.param({"requests_per_day": 0}, "own_calls_spent", id="none"),
        pytest.param({"not_after": NOW}, "bad_own_grant", id="over before it begins"),
        pytest.param({"not_after": NOW + 31 * DAY + 1}, "bad_own_grant", id="too long"),
        pytest.param({"disclose_by": NOW}, "bad_own_grant", id="disclosed before its end"),
        pytest.param({"disclose_by": NOW + 91 * DAY}, "bad_own_grant", id="disclosed too late"),
        pytest.param({"sealed": "A" * 16388}, "bad_own_grant", id="too large"),
    ],
)
def test_what_it_says_of_itself_is_bounded(changes: dict[str, Any], code: str) -> None:
    world = World()
    assert code_of(lambda: verify_own_grant(signed(world, VERA, **changes), world.root)) == code


def test_a_root_without_own_calls_lets_nobody_make_any() -> None:
    world = World(own_calls_per_day=0)
    assert code_of(lambda: verify_own_grant(signed(world, VERA), world.root)) == (
        "own_calls_not_allowed"
    )


def test_a_root_bounds_what_it_gives() -> None:
    world = World()
    for wrong in (-1, 1_000_001):
        with pytest.raises(RootError):
            parse_root(world.root_payload(own_calls_per_day=wrong))
    roles = {name: role for name, role in world.root.roles.items() if name != "overseer"}
    keys = {
        kid: key
        for kid, key in world.root.keys.items()
        if kid not in world.root.roles["overseer"].keys
    }
    assert parse_root(world.root_payload(roles=roles, keys=keys, own_calls_per_day=0))
    with pytest.raises(RootError):
        parse_root(world.root_payload(roles=roles, keys=keys, own_calls_per_day=1))


def test_the_key_opens_it_and_nothing_else_does() -> None:
    world = World()
    own = own_grant(inner(world))
    assert open_own_grant(own, seed()) == inner(world)
    assert code_of(lambda: open_own_grant(own, seed(API_KEY + "x"))) == "seed_opens_nothing"


def test_the_envelope_is_as_the_page_writes_it() -> None:
    # Independent of the code under test: docs/reference/own-calls.md, with the standard library.
    own = own_grant(inner(World()))
    found = hashlib.sha256(b"gatelift/own-call/seed/v1\n" + API_KEY.encode()).digest()
    locator = hashlib.sha256(b"gatelift/own-call/locator/v1\n" + found).hexdigest()
    key = hashlib.sha256(b"gatelift/own-call/key/v1\n" + found).digest()
    assert own.locator == f"sha256:{locator}"
    text = ChaCha20Poly1305(key).decrypt(bytes(12), parse_base64(own.sealed), None)
    assert len(text) % 2048 == 0
    assert json.loads(text)["principal"] == "p-1"


def test_nothing_sealed_shows_in_the_envelope() -> None:
    world = World()
    grant = inner(world)
    data = world.sign("own_grant", own_grant(grant), VERA)
    payload = parse_base64(json.loads(data)["payload"]).decode()
    for told in (
        grant.principal,
        grant.organisation,
        grant.keys[0].public_id,
        grant.keys[0].digest,
    ):
        assert told not in payload
    assert '"stage"' not in payload
    longer = own_grant(inner(world, principal="p-" + "1" * 200))
    assert len(longer.sealed) == len(own_grant(grant).sealed), "its length tells nothing"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"id": "grant_other"}, id="another id"),
        pytest.param({"release": "other"}, id="another release"),
        pytest.param({"not_after": NOW + 2 * HOUR}, id="a longer life"),
        pytest.param({"keys": ()}, id="no key"),
    ],
)
def test_what_is_sealed_must_be_what_it_says(changes: dict[str, Any]) -> None:
    world = World()
    said = own_grant(inner(world))
    sealed = own_grant(inner(world, **changes)).sealed
    swapped = own_grant(inner(world), sealed=sealed)
    assert said.sealed != sealed
    assert code_of(lambda: open_own_grant(swapped, seed())) == "bad_own_grant"


def standing(
    requests: int, first: int, last: int, name: str = "a", **changes: Any
) -> StandingOwnGrant:
    world = World()
    own = own_grant(inner(world, not_before=first, not_after=last), requests_per_day=requests)
    held = {"organisation": "oversight.example", "per_day": 20, **changes}
    return StandingOwnGrant(own_grant=own, digest=f"sha256:{name * 64}", **held)


@pytest.mark.parametrize(
    ("first", "last", "requests", "fits"),
    [
        pytest.param(MIDNIGHT, MIDNIGHT + 1, 12, True, id="the same day, room for both"),
        pytest.param(MIDNIGHT, MIDNIGHT + 1, 13, False, id="the same day, one too many"),
        pytest.param(MIDNIGHT - DAY, MIDNIGHT, 13, True, id="ends as the day begins"),
        pytest.param(MIDNIGHT - DAY, MIDNIGHT + 1, 13, False, id="one millisecond of the day"),
        pytest.param(MIDNIGHT + DAY, MIDNIGHT + 2 * DAY, 13, True, id="begins as the day ends"),
    ],
)
def test_the_bound_counts_by_day(first: int, last: int, requests: int, *, fits: bool) -> None:
    # Held: 8 a day, of one hour. One that is over still counts: its calls were made.
    held = [standing(8, MIDNIGHT, MIDNIGHT + HOUR)]
    asked = standing(requests, first, last, "b")
    if fits:
        check_room(held, asked)
    else:
        assert code_of(lambda: check_room(held, asked)) == "own_calls_spent"


def test_the_bound_is_of_one_organisation_and_one_grant_counts_once() -> None:
    held = [standing(20, MIDNIGHT, MIDNIGHT + HOUR)]
    check_room(held, standing(20, MIDNIGHT, MIDNIGHT + HOUR, "b", organisation="other.example"))
    check_room(held, held[0])


def test_it_is_told_from_an_order_by_what_was_signed() -> None:
    world = World()
    assert looks_like_own_grant(signed(world, VERA))
    assert not looks_like_own_grant(world.sign("grant", inner(world), "admissions:ada"))
    assert not looks_like_own_grant(b"no envelope")
