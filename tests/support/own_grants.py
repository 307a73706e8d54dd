"""Own grants as an overseer makes them, for tests that hold keys of their own."""

from __future__ import annotations

from typing import Any

import msgspec

from gatelift.terms import Endpoint, Tier
from gatelift.trust import Grant, GrantKey, OwnGrant, key_digest, locator_of, seal_grant, seed_of
from tests.support.world import HOUR, NOW, World

__all__ = ["API_KEY", "inner", "own_grant", "seed"]

API_KEY = "gl_0123456789abcdef_" + "s" * 48


def seed(api_key: str = API_KEY) -> bytes:
    return seed_of(api_key.encode())


def inner(world: World, api_key: str = API_KEY, **changes: Any) -> Grant:
    stage = world.plan.stages[-1]
    made = Grant(
        id="grant_own",
        release=world.plan.name,
        stage=stage.name,
        principal="p-1",
        organisation="o-1",
        project="default",
        tier=Tier.EVALUATORS,
        endpoints=(Endpoint.CHAT,),
        proofs=stage.envelope.audience.requires,
        vetting=None,
        keys=(GrantKey(public_id=api_key.split("_")[1], digest=key_digest(api_key)),),
        not_before=NOW,
        not_after=NOW + HOUR,
    )
    return msgspec.structs.replace(made, **changes)


def own_grant(grant: Grant, api_key: str = API_KEY, **changes: Any) -> OwnGrant:
    """Return the own grant that seals `grant` under `api_key`, with what it says of itself changed."""
    made = OwnGrant(
        id=grant.id,
        release=grant.release,
        requests_per_day=5,
        not_before=grant.not_before,
        not_after=grant.not_after,
        disclose_by=grant.not_after + HOUR,
        locator=locator_of(seed(api_key)),
        sealed=seal_grant(grant, seed(api_key)),
    )
    return msgspec.structs.replace(made, **changes)
