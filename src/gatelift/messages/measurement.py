"""Measurements: a sidecar's word that the files it hashed are still those that were sealed.

A sidecar runs beside a model server. Its enrolment (two people, `decide.measuring`) names its key
and the manifest; it signs one measurement for each nonce that it is asked with.

Invariants
- A measurement is about one placement, one candidate, one manifest, and answers one nonce: a replayed
  one, another placement's or another candidate's is refused.
- The key is the enrolled one. A manifest's signer, a node or a person cannot sign in its place.
- It lives for `lives_ms` from the moment of asking, on the asker's own clock: no clocks are compared.

It proves who said so, not that it is true: whoever is root on that host can lie (docs/threats.md).
"""

from __future__ import annotations

from typing import Final

import msgspec

from gatelift.encoding import Digest
from gatelift.errors import CallerError
from gatelift.messages.entries import Sidecar
from gatelift.trust import (
    STATEMENT_TYPE,
    Scheme,
    SigningKey,
    Subject,
    VerifyingKey,
    encode_statement,
    key_id,
    parse_public_key,
    parse_statement,
    sign_envelope,
    verify_envelope,
)

__all__ = [
    "MAX_MEASUREMENT_BYTES",
    "MAX_MEASUREMENT_LIVES_MS",
    "Measurement",
    "MeasurementAsk",
    "MeasurementError",
    "sign_measurement",
    "verify_measurement",
]

MAX_MEASUREMENT_BYTES: Final = 16 * 1024
MAX_MEASUREMENT_LIVES_MS: Final = 60_000
_KIND: Final = "measurement"


class MeasurementError(CallerError):
    """A measurement is not what was asked for, or not signed by the enrolled sidecar."""

    code = "bad_measurement"


class MeasurementAsk(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a keeper asks a sidecar with."""

    nonce: str


class Measurement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a sidecar says. Times in ms UTC by its own clock, for people to read.

    `weights` is the digest that the files make, `loaded_at` when they had been hashed and the model
    server was started.
    """

    placement: str
    fingerprint: Digest
    weights: Digest
    manifest: Digest
    nonce: str
    loaded_at: int
    measured_at: int
    lives_ms: int


def sign_measurement(value: Measurement, key: SigningKey) -> bytes:
    """Return the envelope of a measurement."""
    subjects = (
        Subject(name="candidate", digest=value.fingerprint),
        Subject(name="weights", digest=value.weights),
    )
    return sign_envelope(encode_statement(_KIND, subjects, value), STATEMENT_TYPE, [key])


def verify_measurement(
    data: bytes,
    sidecar: Sidecar,
    *,
    placement: str,
    fingerprint: Digest,
    nonce: str | None = None,
) -> Measurement:
    """Return the measurement in an envelope that the enrolled sidecar signed for this placement.

    Without a `nonce` it is read as what was once said: for a log, never to serve from. Raises
    `MeasurementError`, `StatementError`, `EncodingError` or `DsseError`.
    """
    if len(data) > MAX_MEASUREMENT_BYTES:
        raise MeasurementError(f"expected at most {MAX_MEASUREMENT_BYTES} bytes, got {len(data)}")
    public = parse_public_key(sidecar.key)
    key = VerifyingKey(scheme=Scheme.ED25519, public=public)
    payload, _ = verify_envelope(data, STATEMENT_TYPE, {key_id(public): key})
    found = parse_statement(payload, _KIND, Measurement).predicate
    for what, have, want in (
        ("placement", found.placement, placement),
        ("candidate", found.fingerprint, fingerprint),
        ("manifest", found.manifest, sidecar.manifest),
        ("nonce", found.nonce, found.nonce if nonce is None else nonce),
    ):
        if have != want:
            raise MeasurementError(
                f"expected a measurement of {what} {want[:40]}, got {have[:40]}: another one's, or "
                "an old one that was kept",
                code=f"other_{what}",
            )
    if not 0 < found.lives_ms <= MAX_MEASUREMENT_LIVES_MS:
        raise MeasurementError(
            f"expected a measurement that lives up to {MAX_MEASUREMENT_LIVES_MS} ms, "
            f"got {found.lives_ms}"
        )
    return found
