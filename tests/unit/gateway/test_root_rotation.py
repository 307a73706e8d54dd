"""A worker under the next root: what is served goes on, and what only the old root vouched for ends."""

from __future__ import annotations

import msgspec
import pytest

from gatelift.encoding import Digest, encode_json
from gatelift.errors import CallerError
from gatelift.terms import Endpoint
from gatelift.trust import ROOT_TYPE, Key, Role, Root, Scheme, sign_envelope
from tests.support.own_grants import API_KEY, inner, own_grant
from tests.support.world import NOW, key
from tests.unit.gateway.test_holdings import House

SIGNERS = ("root:olga", "root:vera")


@pytest.fixture
def house() -> House:
    made = House()
    made.certify()
    made.hand_over(1)
    made.live()
    return made


def put_root(house: House, root: Root, *names: str) -> Digest:
    keys = [key(name) for name in names or SIGNERS]
    return house.shelf.put(sign_envelope(encode_json(root), ROOT_TYPE, keys))


def other_admissions(house: House) -> Root:
    """The next root, in which another key admits."""
    root, new = house.world.root, key("admissions:new")
    (old,) = root.roles["admissions"].keys
    keys = {kid: held for kid, held in root.keys.items() if kid != old}
    keys[new.id] = Key(scheme=Scheme.ED25519, public=new.public_text, person=root.keys[old].person)
    roles = root.roles | {"admissions": Role(keys=(new.id,), threshold=1)}
    return msgspec.structs.replace(root, version=2, keys=keys, roles=roles)


def next_bundle(house: House, root: Digest) -> None:
    data = house.shelf.bundle(root=root, certificates=(house.shelf.logged(1),), number=2)
    house.bundle = house.shelf.put(data)
    house.holdings.adopt_bundle(house.bundle, NOW)


def admitted(house: House) -> bool:
    roster = house.holdings.roster
    return roster is not None and bool(roster.by_public_id)


def test_a_grant_by_a_key_that_is_gone_ends_with_the_roster_that_was_held(house: House) -> None:
    root = put_root(house, other_admissions(house))
    house.holdings.adopt_root(root, NOW)
    assert admitted(house), "a root alone changes nothing that is served"
    next_bundle(house, root)
    assert admitted(house)
    house.live()  # control names the same roster again, and hands out no other
    assert not admitted(house)


def test_what_both_roots_vouch_for_is_served_without_a_gap(house: House) -> None:
    root = put_root(house, msgspec.structs.replace(house.world.root, version=2))
    house.holdings.adopt_root(root, NOW)
    before = house.may()
    next_bundle(house, root)
    house.live()
    assert admitted(house)
    assert type(house.may()) is type(before)
    assert house.holdings.bundle is not None
    assert house.holdings.bundle.root.version == 2


def test_a_bundle_of_a_root_that_was_not_taken_is_refused(house: House) -> None:
    root = put_root(house, other_admissions(house))
    with pytest.raises(CallerError, match="pinned"):
        next_bundle(house, root)


def test_only_the_signed_successor_is_taken_and_none_is_taken_back(house: House) -> None:
    held = house.holdings
    half = put_root(house, other_admissions(house), "root:olga")
    later = put_root(house, msgspec.structs.replace(house.world.root, version=3))
    for digest, code in ((half, "quorum_unmet"), (later, "not_successor")):
        with pytest.raises(CallerError) as caught:
            held.adopt_root(digest, NOW)
        assert caught.value.code == code
    held.adopt_root(house.world.root_digest, NOW)  # no newer: nothing to do
    root = put_root(house, other_admissions(house))
    held.adopt_root(root, NOW)
    held.adopt_root(house.world.root_digest, NOW)
    next_bundle(house, root)


@pytest.mark.parametrize("most", [0, 4, 5])
def test_an_overseers_own_grant_ends_with_a_root_that_does_not_allow_it(
    house: House, most: int
) -> None:
    stage = house.world.plan.stage("internal")
    audience = stage.envelope.audience
    terms = {"stage": stage.name, "tier": audience.tier, "proofs": audience.requires}
    grant = inner(house.world, endpoints=(Endpoint.CHAT,), **terms)
    sealed = own_grant(grant, requests_per_day=5)
    house.holdings.adopt_own_grant(house.world.sign("own_grant", sealed, "overseer:vera"))
    assert house.holdings.identify(API_KEY.encode()) is not None
    changed = msgspec.structs.replace(house.world.root, version=2, own_calls_per_day=most)
    root = put_root(house, changed)
    house.holdings.adopt_root(root, NOW)
    assert (house.holdings.identify(API_KEY.encode()) is not None) == (most == 5)
