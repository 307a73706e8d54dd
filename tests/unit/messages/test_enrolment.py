"""A bundle's word on a sidecar, held against the enrolment that two people signed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gatelift.encoding import sha256_digest
from gatelift.errors import CallerError
from gatelift.messages import (
    Placement,
    PlacementEnrolment,
    Sidecar,
    verify_sidecar,
)
from tests.support.world import NOW, World, key

WORLD = World()
SIDECAR = Sidecar(
    url="http://10.0.0.5:8095",
    key=key("sidecar").public_text,
    manifest=sha256_digest(b"manifest"),
)
ENROLMENT = PlacementEnrolment(
    name="p1",
    base_url="http://10.0.0.5:8000",
    model="m",
    fingerprint=WORLD.fingerprint,
    baseline=None,
    sidecar=SIDECAR,
)
BOTH = ("operator:olga", "security:sue")
SAID = Placement(
    name="p1", base_url="http://10.0.0.5:8000", model="m", baseline=None, sidecar=SIDECAR
)


def verified(*signers: str, said: Placement = SAID, **changes: Any) -> Sidecar:
    data = WORLD.sign("placement", msgspec.structs.replace(ENROLMENT, **changes), *signers)
    return verify_sidecar(said, data, WORLD.root, WORLD.fingerprint, NOW)


def test_what_two_people_enrolled_is_believed() -> None:
    assert verified(*BOTH) == SIDECAR


@pytest.mark.parametrize(
    ("signers", "code"),
    [
        pytest.param(("control:machine",), "role_not_allowed", id="control alone"),
        pytest.param(("operator:olga",), "quorum_unmet", id="the operator alone"),
        pytest.param(("operator:olga", "control:machine"), "quorum_unmet", id="with control"),
    ],
)
def test_what_fewer_enrolled_is_not(signers: tuple[str, ...], code: str) -> None:
    with pytest.raises(CallerError) as caught:
        verified(*signers)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"sidecar": None}, id="an enrolment without a sidecar"),
        pytest.param({"name": "p2"}, id="another placement's"),
        pytest.param({"base_url": "http://10.0.0.6:8000"}, id="of another address"),
        pytest.param({"fingerprint": SIDECAR.manifest}, id="of another candidate"),
    ],
)
def test_an_enrolment_of_something_else_is_not_believed(changes: dict[str, Any]) -> None:
    with pytest.raises(CallerError) as caught:
        verified(*BOTH, **changes)
    assert caught.value.code == "other_enrolment"


def test_a_bundle_that_names_a_key_of_its_own_is_not_believed() -> None:
    own = msgspec.structs.replace(SIDECAR, key=key("control:machine").public_text)
    with pytest.raises(CallerError) as caught:
        verified(*BOTH, said=msgspec.structs.replace(SAID, sidecar=own))
    assert caught.value.code == "other_enrolment"
