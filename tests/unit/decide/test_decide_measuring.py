"""Who may be enrolled to measure weights, and what must stand beside `measured`."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gatelift.decide import AdmitError
from gatelift.encoding import sha256_digest
from gatelift.messages import (
    EntryKind,
    Measurement,
    PlacementEnrolment,
    Sidecar,
    sign_measurement,
)
from gatelift.terms import Binding
from tests.support.world import NOW, key
from tests.unit.decide.build import ANSWERS, PLAN, Story

SIDECAR = Sidecar(
    url="http://10.0.0.5:8095",
    key=key("sidecar").public_text,
    manifest=sha256_digest(b"manifest"),
)
BOTH = ("operator:olga", "security:sue")
MEASURED_PLAN = PLAN.replace(
    b"    sealing: open\n", b"    sealing: open\n    binding: measured\n", 1
)


def enrol(story: Story, *signers: str, name: str = "p1", **changes: Any) -> Story:
    value = PlacementEnrolment(
        name=name,
        base_url="http://127.0.0.1:1",
        model="m",
        fingerprint=story.world.fingerprint,
        baseline=ANSWERS,
        sidecar=msgspec.structs.replace(SIDECAR, **changes),
    )
    story.log(EntryKind.PLACEMENT, value, *signers)
    return story


def measurement(story: Story, signer: str = "sidecar", **changes: Any) -> str:
    value = Measurement(
        placement="p1",
        fingerprint=story.world.fingerprint,
        weights=sha256_digest(b"weights"),
        manifest=SIDECAR.manifest,
        nonce="0" * 32,
        loaded_at=NOW,
        measured_at=NOW,
        lives_ms=5_000,
    )
    return sign_measurement(msgspec.structs.replace(value, **changes), key(signer)).decode()


def refused(call: Any) -> str:
    with pytest.raises(AdmitError) as caught:
        call()
    return caught.value.code


@pytest.mark.parametrize(
    ("signers", "code"),
    [
        pytest.param(("operator:olga",), "quorum_unmet", id="the operator alone"),
        pytest.param(("operator:olga", "safety:sam"), "quorum_unmet", id="another second role"),
    ],
)
def test_a_sidecar_is_enrolled_by_two_people(signers: tuple[str, ...], code: str) -> None:
    story = Story().adopt()
    assert refused(lambda: enrol(story, *signers)) == code
    enrol(story, *BOTH)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"key": key("batch").public_text}, "key_in_two_roles", id="a node's key"),
        pytest.param({"key": key("witness").public_text}, "key_in_two_roles", id="a witness's"),
        pytest.param({"key": key("stop:sam").public_text}, "key_in_two_roles", id="a person's"),
        pytest.param({"key": "AAAA"}, "bad_public_key", id="no key"),
        pytest.param({"url": "file:///etc/passwd"}, "bad_placement", id="no address"),
    ],
)
def test_a_sidecars_key_serves_nothing_else(changes: dict[str, str], code: str) -> None:
    story = Story().adopt()
    assert refused(lambda: enrol(story, *BOTH, **changes)) == code


def test_two_placements_have_sidecars_with_keys_of_their_own() -> None:
    story = enrol(Story().adopt(), *BOTH)
    assert refused(lambda: enrol(story, *BOTH, name="p2")) == "key_in_two_roles"
    enrol(story, *BOTH, name="p2", key=key("second sidecar").public_text)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        pytest.param(lambda s: None, "not_measured", id="none"),
        pytest.param(lambda s: measurement(s, "batch"), "unknown_signers", id="another key's"),
        pytest.param(
            lambda s: measurement(s, placement="p2"), "other_placement", id="another placement's"
        ),
        pytest.param(
            lambda s: measurement(s, fingerprint=ANSWERS),
            "other_candidate",
            id="another candidate's",
        ),
        pytest.param(
            lambda s: measurement(s, manifest=ANSWERS), "other_manifest", id="another manifest's"
        ),
    ],
)
def test_a_probe_says_measured_only_beside_the_sidecars_word(make: Any, code: str) -> None:
    story = enrol(Story().adopt(), *BOTH)
    said = {"binding": Binding.MEASURED, "measurement": make(story)}
    assert refused(lambda: story.probe(**said)) == code
    story.probe(binding=Binding.MEASURED, measurement=measurement(story))


def test_a_measurement_without_an_enrolled_sidecar_is_refused() -> None:
    story = Story().adopt().enrol()
    said = {"binding": Binding.MEASURED, "measurement": measurement(story)}
    assert refused(lambda: story.probe(**said)) == "not_measured"


def test_a_stage_that_asks_for_measured_weights_is_shut_until_a_probe_shows_them() -> None:
    story = enrol(Story(MEASURED_PLAN).adopt(), *BOTH).probe()
    levels = story.world.certificate("assess").levels
    asked = msgspec.structs.replace(levels, binding=Binding.MEASURED)
    with pytest.raises(AdmitError) as caught:
        story.certify("assess", levels=asked)
    assert "binding_below" in {reason.code for reason in caught.value.reasons}
    story.probe(binding=Binding.MEASURED, measurement=measurement(story))
    story.certify("assess", levels=asked)


def test_a_certificate_says_no_more_binding_than_the_log_shows() -> None:
    story = Story().adopt().enrol().probe()
    levels = story.world.certificate("assess").levels
    more = msgspec.structs.replace(levels, binding=Binding.MEASURED)
    assert refused(lambda: story.certify("assess", levels=more)) == "binding_overstated"


def test_an_enrolment_anew_forgets_what_was_measured() -> None:
    story = enrol(Story(MEASURED_PLAN).adopt(), *BOTH)
    story.probe(binding=Binding.MEASURED, measurement=measurement(story))
    story.enrol().probe()
    levels = story.world.certificate("assess").levels
    asked = msgspec.structs.replace(levels, binding=Binding.MEASURED)
    with pytest.raises(AdmitError) as caught:
        story.certify("assess", levels=asked)
    assert "binding_below" in {reason.code for reason in caught.value.reasons}
