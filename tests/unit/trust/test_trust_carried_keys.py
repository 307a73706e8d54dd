"""Keys that another gateway made: known by their digest, for 90 days at most."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from gatelift.trust import (
    MAX_CARRIED_MS,
    Grant,
    GrantError,
    GrantKey,
    carried_key,
    key_digest,
    public_id_of,
    verify_grant,
)
from tests.support.world import World
from tests.unit.messages.test_bundle import grant as make_grant

FOREIGN = "sk-" + "k" * 22


def signed(world: World, **changes: object) -> bytes:
    made: Grant = msgspec.structs.replace(make_grant(world), **changes)
    return world.sign("grant", made, "admissions:ada")


def test_the_public_id_is_made_of_the_digest() -> None:
    hexed = hashlib.sha256(FOREIGN.encode()).hexdigest()
    assert carried_key(key_digest(FOREIGN)) == GrantKey(
        public_id=f"sha256-{hexed[:32]}", digest=f"sha256:{hexed}"
    )
    assert public_id_of(FOREIGN) == f"sha256-{hexed[:32]}"


def test_our_own_keys_are_read_as_before() -> None:
    assert public_id_of("gl_abc_secret") == "abc"
    for text in ("gl_abc", "gl__x", "gl_a_b_c", "gl_"):
        with pytest.raises(GrantError):
            public_id_of(text)


@pytest.mark.parametrize("text", ["", "sk-1234", "k" * 15, "k" * 201])
def test_what_is_too_short_or_too_long_is_no_key(text: str) -> None:
    with pytest.raises(GrantError) as caught:
        public_id_of(text)
    assert text == "" or text not in str(caught.value)


def test_a_carried_key_holds_for_90_days_and_no_longer() -> None:
    world = World()
    key = carried_key(key_digest(FOREIGN))
    last = world.now + MAX_CARRIED_MS
    fits = signed(world, keys=(key,), not_before=world.now, not_after=last)
    assert verify_grant(fits, world.root).keys == (key,)
    with pytest.raises(GrantError) as caught:
        verify_grant(
            signed(world, keys=(key,), not_before=world.now, not_after=last + 1), world.root
        )
    assert caught.value.code == "carried_too_long"


def test_a_public_id_that_is_not_made_of_the_digest_is_refused() -> None:
    world = World()
    other = carried_key(key_digest("sk-" + "o" * 22))
    forged = GrantKey(public_id=other.public_id, digest=key_digest(FOREIGN))
    with pytest.raises(GrantError, match="digest"):
        verify_grant(signed(world, keys=(forged,)), world.root)
