"""A quorum is counted right, and in bounded time whoever wrote the root."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatelift.trust import (
    Key,
    KeyId,
    Person,
    QuorumError,
    Role,
    Root,
    Signer,
    verify_quorum,
)
from tests.support.world import World


def root_with(thresholds: dict[str, int]) -> Root:
    """Return a root of which only the thresholds matter here."""
    roles = {name: Role(keys=(), threshold=threshold) for name, threshold in thresholds.items()}
    return Root(
        name="test.example",
        version=1,
        issued_at=0,
        expires_at=1,
        people=(Person(id="x", organisation="y"),),
        keys={KeyId("k"): Key(scheme="ed25519", public="", person="x")},
        roles=roles,
        releases_vkey="",
        nodes=(),
        witnesses=(),
        witness_quorum=0,
    )


def signed(pairs: list[tuple[str, str]]) -> tuple[Signer, ...]:
    return tuple(
        Signer(key=KeyId(f"{role}:{person}"), person=person, organisation="o", role=role)
        for role, person in pairs
    )


def can_be_seated(pairs: list[tuple[str, str]], places: list[str]) -> bool:
    """Try all ways: the definition, not the method."""
    people = [sorted({p for r, p in pairs if r == place}) for place in places]
    return any(len(set(pick)) == len(pick) for pick in product(*people))


@given(
    pairs=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("uvwx")), max_size=8),
    thresholds=st.tuples(*(st.integers(1, 2) for _ in range(3))),
)
def test_a_quorum_is_met_exactly_when_everybody_can_be_seated(
    pairs: list[tuple[str, str]], thresholds: tuple[int, ...]
) -> None:
    asked = dict(zip("abc", thresholds, strict=True))
    places = [role for role, threshold in asked.items() for _ in range(threshold)]
    try:
        verify_quorum(root_with(asked), signed(pairs), ("a", "b", "c"))
    except QuorumError:
        assert not can_be_seated(pairs, places)
    else:
        assert can_be_seated(pairs, places)


def test_many_people_in_a_hostile_root_are_counted_at_once() -> None:
    # 31 people for 32 places in one role and 1 in another: trying all ways would take for ever.
    people = [f"p{number}" for number in range(31)]
    pairs = [("safety", person) for person in people] + [("overseer", people[-1])]
    with pytest.raises(QuorumError) as caught:
        verify_quorum(root_with({"safety": 31}), signed(pairs), ("safety", "overseer"))
    assert caught.value.code == "person_twice"
    verify_quorum(root_with({"safety": 30}), signed(pairs), ("safety", "overseer"))


def test_one_key_in_two_signatures_is_one_person() -> None:
    world = World()
    signers = signed([("safety", "sam"), ("safety", "sam")])
    with pytest.raises(QuorumError):
        verify_quorum(world.root, signers, ("safety", "security"))
