"""When a keeper says that weights are measured, and when it stops saying so."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gatelift.encoding import sha256_digest
from gatelift.errors import CallerError
from gatelift.keeper.measuring import MeasuredState
from gatelift.messages import Measurement, Sidecar, sign_measurement
from gatelift.terms import Binding
from tests.support.world import NOW, key

FINGERPRINT, WEIGHTS = sha256_digest(b"candidate"), sha256_digest(b"weights")
SIDECAR = Sidecar(
    url="http://127.0.0.1:1",
    key=key("sidecar").public_text,
    manifest=sha256_digest(b"manifest"),
)
NONCE = "0" * 32
GOOD = Measurement(
    placement="p1",
    fingerprint=FINGERPRINT,
    weights=WEIGHTS,
    manifest=SIDECAR.manifest,
    nonce=NONCE,
    loaded_at=NOW,
    measured_at=NOW,
    lives_ms=5_000,
)


def fresh(weights: str | None = WEIGHTS) -> MeasuredState:
    return MeasuredState(SIDECAR, "p1", FINGERPRINT, weights)


def measured(**changes: Any) -> bytes:
    return sign_measurement(msgspec.structs.replace(GOOD, **changes), key("sidecar"))


def test_what_answers_our_nonce_is_measured_and_told_once() -> None:
    state = fresh()
    assert (state.binding, state.was_asked) == (Binding.CLAIMED, False)
    first = measured()
    state.answered(first, NONCE, 0)
    state.answered(measured(nonce="1" * 32), "1" * 32, 1_000)
    assert state.binding is Binding.MEASURED
    assert state.measurement == first.decode()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"nonce": "1" * 32}, "other_nonce", id="a replay"),
        pytest.param({"placement": "p2"}, "other_placement", id="another placement"),
        pytest.param({"fingerprint": WEIGHTS}, "other_candidate", id="another candidate"),
        pytest.param({"manifest": WEIGHTS}, "other_manifest", id="another manifest"),
        pytest.param({"weights": FINGERPRINT}, "other_weights", id="other weights"),
        pytest.param({"lives_ms": 0}, "bad_measurement", id="one that never lived"),
        pytest.param({"lives_ms": 3_600_000}, "bad_measurement", id="one that lives for an hour"),
    ],
)
def test_what_measures_something_else_ends_it_at_once(changes: dict[str, Any], code: str) -> None:
    state = fresh()
    state.answered(measured(), NONCE, 0)
    with pytest.raises(CallerError) as caught:
        state.answered(measured(**changes), NONCE, 1_000)
    assert caught.value.code == code
    assert state.binding is Binding.CLAIMED


def test_another_key_measures_nothing() -> None:
    state = fresh()
    with pytest.raises(CallerError) as caught:
        state.answered(sign_measurement(GOOD, key("batch")), NONCE, 0)
    assert caught.value.code == "unknown_signers"
    assert state.binding is Binding.CLAIMED


def test_a_candidate_that_names_no_weights_is_never_measured() -> None:
    state = fresh(weights=None)
    with pytest.raises(CallerError) as caught:
        state.answered(measured(), NONCE, 0)
    assert caught.value.code == "other_weights"


def test_silence_counts_once_the_last_measurement_has_lived() -> None:
    state = fresh()
    state.answered(measured(), NONCE, 1_000)
    state.silent(5_999)
    assert state.binding is Binding.MEASURED
    state.silent(6_000)
    assert (state.binding, state.measurement) == (Binding.CLAIMED, None)


def test_a_refusal_counts_at_once() -> None:
    state = fresh()
    state.answered(measured(), NONCE, 0)
    state.refused()
    assert state.binding is Binding.CLAIMED
