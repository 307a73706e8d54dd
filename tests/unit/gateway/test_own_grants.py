"""An overseer's own grant in a worker: opened by its key, judged as any grant, and never wider."""

from __future__ import annotations

from typing import Any

import pytest

from gatelift.errors import CallerError
from gatelift.gateway.holdings import Identified
from gatelift.gateway.standing import Standing
from gatelift.terms import Endpoint
from gatelift.trust import Grant, GrantKey, Refusal, TargetKind, key_digest
from tests.support.own_grants import API_KEY, inner, own_grant
from tests.support.world import HOUR, NOW
from tests.unit.gateway.test_holdings import House

VERA = "overseer:vera"
STAGE = "internal"


def made(**changes: Any) -> House:
    """Return a worker that serves stage `internal` and holds an own grant for it."""
    house = serving()
    adopt(house, **changes)
    return house


def adopt(house: House, requests: int = 5, **changes: Any) -> None:
    stage = house.world.plan.stage(changes.get("stage", STAGE))
    fitting = {"stage": STAGE, "tier": stage.envelope.audience.tier, "endpoints": (Endpoint.CHAT,)}
    fitting["proofs"] = stage.envelope.audience.requires
    grant = inner(house.world, **(fitting | changes))
    data = house.world.sign("own_grant", own_grant(grant, requests_per_day=requests), VERA)
    house.holdings.adopt_own_grant(data)


def shown(house: House, api_key: str = API_KEY) -> Identified | None:
    return house.holdings.identify(api_key.encode())


def judged(house: House, now_ms: int = NOW, boot_ms: int = 1) -> Standing | Refusal:
    who = shown(house)
    assert who is not None
    return house.holdings.standing(who, now_ms, boot_ms)


def test_the_key_opens_it_and_its_day_is_one_cap_more() -> None:
    house = made()
    found = judged(house)
    assert isinstance(found, Standing)
    limits = {cap.key: cap.limit for cap in found.envelope.caps}
    assert limits["principal.requests/d"] == 5
    plain = {cap.key for cap in house.world.plan.stage(STAGE).envelope.caps}
    assert plain <= limits.keys(), "nothing of the stage is lost"
    assert shown(house, API_KEY[:-1] + "x") is None
    assert judged(house) is found, "judged once"


def test_it_waits_for_a_root_and_is_judged_by_it() -> None:
    house = House()
    house.certify(sequence=1)
    adopt(house)
    assert shown(house) is None
    house.hand_over(1)
    house.live()
    assert isinstance(judged(house), Standing)


def test_what_narrows_others_narrows_it() -> None:
    house = made()
    lapsed = judged(house, boot_ms=20_000)
    over = judged(house, now_ms=NOW + HOUR)
    house.holdings.adopt_order(house.order(TargetKind.STAGE, STAGE))
    stopped = judged(house)
    codes = [each.code for each in (lapsed, over, stopped) if isinstance(each, Refusal)]
    assert codes == ["status_lapsed", "grant_expired", "stopped"]


def serving(grant: Grant | None = None) -> House:
    house = House()
    if grant is not None:
        house.grant = grant
    house.certify(sequence=1)
    house.hand_over(1)
    house.live()
    return house


def test_it_does_not_fall_back_to_an_earlier_stage() -> None:
    house = serving()
    plan = house.world.plan
    later, earlier = plan.stages[plan.stage_index(STAGE) + 1], plan.stage(STAGE)
    terms = {
        "stage": later.name,
        "tier": earlier.envelope.audience.tier,
        "endpoints": (Endpoint.CHAT,),
        "proofs": tuple({*later.envelope.audience.requires, *earlier.envelope.audience.requires}),
    }
    adopt(house, **terms)
    found = judged(house)
    assert isinstance(found, Refusal)
    assert found.code == "no_certificate"
    # A partner on the same terms is served from the earlier stage.
    partner = judged(serving(inner(house.world, **terms)))
    assert isinstance(partner, Standing)
    assert partner.stage == STAGE


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"principal": "PRINCIPAL"}, id="a partner's principal"),
        pytest.param({"organisation": "ORGANISATION"}, id="a partner's organisation"),
        pytest.param({"keys": "KEY"}, id="a partner's public id"),
        pytest.param({"stage": "nowhere", "tier": None}, id="no stage of the plan"),
        pytest.param({"proofs": (), "stage": "STAGE"}, id="without what the stage asks for"),
    ],
)
def test_what_is_not_its_own_is_not_taken(changes: dict[str, Any]) -> None:
    house = serving()
    partner = house.grant
    api_key = API_KEY
    if "principal" in changes:
        changes = {"principal": partner.principal}
    elif "organisation" in changes:
        changes = {"organisation": partner.organisation}
    elif "keys" in changes:
        api_key = f"gl_{partner.keys[0].public_id}_" + "s" * 48
        key = GrantKey(public_id=partner.keys[0].public_id, digest=key_digest(api_key))
        changes = {"keys": (key,)}
    elif "proofs" in changes:
        asking = [s for s in house.world.plan.stages if s.envelope.audience.requires]
        changes = {"proofs": (), "stage": asking[0].name}
    grant = inner(house.world, api_key, **({"stage": STAGE} | changes | _tier(house, changes)))
    data = house.world.sign("own_grant", own_grant(grant, api_key), VERA)
    house.holdings.adopt_own_grant(data)
    assert shown(house, api_key) is None


def _tier(house: House, changes: dict[str, Any]) -> dict[str, Any]:
    name = changes.get("stage", STAGE)
    stage = next((each for each in house.world.plan.stages if each.name == name), None)
    return {"tier": (stage or house.world.plan.stage(STAGE)).envelope.audience.tier}


def test_none_is_held_past_the_roots_bound() -> None:
    house = made(requests=20)
    other = "gl_fedcba9876543210_" + "t" * 48
    grant = inner(house.world, other, id="grant_two", stage=STAGE)
    data = house.world.sign("own_grant", own_grant(grant, other, requests_per_day=1), VERA)
    with pytest.raises(CallerError):
        house.holdings.adopt_own_grant(data)
    assert shown(house, other) is None
    assert isinstance(judged(house), Standing)


def test_nobody_else_makes_one() -> None:
    house = made()
    other = "gl_fedcba9876543210_" + "t" * 48
    grant = inner(house.world, other, id="grant_two", stage=STAGE)
    for name in ("admissions:ada", "operator:olga", "control:machine"):
        with pytest.raises(CallerError):
            house.holdings.adopt_own_grant(
                house.world.sign("own_grant", own_grant(grant, other), name)
            )
    assert shown(house, other) is None
