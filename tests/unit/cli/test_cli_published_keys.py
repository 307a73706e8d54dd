"""A root's keys against what an organisation says is its own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gatelift.cli.errors import InputError
from gatelift.cli.published_keys import unpublished
from gatelift.encoding import EncodingError
from gatelift.errors import CallerError
from tests.support.world import World, key

OVERSIGHT = "oversight.example"


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def file_of(organisation: str, *names: str, **more: Any) -> bytes:
    listed = [{"id": key(name).id, "public": key(name).public_text} for name in names]
    return json.dumps({"v": 1, "organisation": organisation, "keys": listed, **more}).encode()


def test_all_keys_of_an_overseer_are_found_and_more_may_be_published(world: World) -> None:
    data = file_of(OVERSIGHT, "root:vera", "overseer:vera", "another release")
    assert unpublished(world.root, OVERSIGHT, data) == (2, ())


def test_a_key_that_the_operator_gave_the_overseer_is_found_out(world: World) -> None:
    data = file_of(OVERSIGHT, "root:vera")
    assert unpublished(world.root, OVERSIGHT, data) == (2, (key("overseer:vera").id,))
    # An id without its bytes is nobody's key.
    named = {"id": key("overseer:vera").id, "public": key("other").public_text}
    data = file_of(OVERSIGHT, "root:vera", keys=[named])
    assert len(unpublished(world.root, OVERSIGHT, data)[1]) == 2


def test_a_witness_is_found_by_its_key(world: World) -> None:
    vkey = world.witness.vkey
    data = file_of("witness.example", witnesses=[vkey])
    assert unpublished(world.root, "witness.example", data) == (1, ())
    assert unpublished(world.root, "witness.example", file_of("witness.example")) == (1, (vkey,))


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (file_of("lab.example", "root:vera"), InputError),
        (file_of(OVERSIGHT, "root:vera", v=2), InputError),
        (file_of(OVERSIGHT, "root:vera", extra=1), EncodingError),
        (file_of(OVERSIGHT, "root:vera", witnesses=["no key"]), CallerError),
        (b"<html>", EncodingError),
    ],
    ids=["of another", "version", "unknown field", "no vkey", "a page"],
)
def test_a_file_that_is_not_the_organisations_proves_nothing(
    world: World, data: bytes, error: type[Exception]
) -> None:
    with pytest.raises(error):
        unpublished(world.root, OVERSIGHT, data)
