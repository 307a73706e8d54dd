"""What a certificate may not be: each way to be wrong is refused with its own reason."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from gatelift.errors import CallerError
from gatelift.terms import (
    Assurance,
    Audience,
    Envelope,
    Posture,
    SafeguardTerms,
    Sealing,
    ThresholdVerdict,
    Tier,
)
from gatelift.trust import Levels, VerifiedCertificate, verify_certificate
from tests.support.world import HOUR, NOW, World, digest_of


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def verify(world: World, data: bytes, now_ms: int = NOW) -> VerifiedCertificate:
    return verify_certificate(
        data,
        root=world.root,
        plan=world.plan,
        plan_digest=world.plan_digest,
        fingerprint=world.fingerprint,
        now_ms=now_ms,
    )


def test_a_certificate_of_the_whole_quorum_holds(world: World) -> None:
    held = verify(world, world.signed_certificate())
    assert held.certificate.stage == "internal"
    assert {s.role for s in held.signers} == set(world.plan.stage("internal").quorum)


def _flip_payload(world: World) -> bytes:
    envelope = json.loads(world.signed_certificate())
    payload = base64.b64decode(envelope["payload"]).replace(b'"sequence":1', b'"sequence":9')
    envelope["payload"] = base64.b64encode(payload).decode()
    return json.dumps(envelope).encode()


def _levels(world: World, **changes: Any) -> Levels:
    return msgspec.structs.replace(world.certificate().levels, **changes)


def _wider(world: World) -> Envelope:
    return msgspec.structs.replace(
        world.certificate().envelope, audience=Audience(tier=Tier.PUBLIC)
    )


def _without_measures(world: World) -> Envelope:
    envelope = world.plan.stage("internal").envelope
    postures = dict(envelope.safeguards.postures)
    loose = {c: Posture.OBSERVE if p is Posture.BLOCK else p for c, p in postures.items()}
    return msgspec.structs.replace(envelope, safeguards=SafeguardTerms(postures=loose))


def _quorum_without(world: World, role: str) -> bytes:
    names = [n for n in world.quorum_of("researchers") if not n.startswith(role)]
    return world.signed_certificate("researchers", *names)


CASES: dict[str, tuple[Callable[[World], bytes], str]] = {
    "altered after signing": (_flip_payload, "forged"),
    "signed by nobody known": (
        lambda w: World(plan_bytes=w.plan_bytes).sign_root(b"{}"),
        "wrong_type",
    ),
    "another candidate": (
        lambda w: w.signed_certificate(fingerprint=digest_of("other")),
        "wrong_candidate",
    ),
    "another plan": (lambda w: w.signed_certificate(plan=digest_of("other")), "wrong_plan"),
    "another release": (lambda w: w.signed_certificate(release="borealis"), "wrong_plan"),
    "a stage that is not there": (
        lambda w: w.sign(
            "certificate",
            msgspec.structs.replace(w.certificate(), stage="moon"),
            *w.quorum_of("internal"),
        ),
        "wrong_stage",
    ),
    "overseer missing": (lambda w: _quorum_without(w, "overseer"), "overseer_missing"),
    "safety missing": (lambda w: _quorum_without(w, "safety"), "quorum_unmet"),
    "envelope wider than the stage": (
        lambda w: w.signed_certificate(envelope=_wider(w)),
        "envelope_too_wide",
    ),
    "threshold not spoken of": (
        lambda w: w.signed_certificate(thresholds={}),
        "threshold_missing",
    ),
    "more assurance than its signers give": (
        lambda w: w.signed_certificate(levels=_levels(w, assurance=Assurance.OVERSEEN)),
        "assurance_overstated",
    ),
    "window longer than the plan allows": (
        lambda w: w.signed_certificate(not_after=NOW + 10_000 * HOUR),
        "window_too_long",
    ),
    "not yet valid": (
        lambda w: w.signed_certificate(not_before=NOW + 1, not_after=NOW + 2),
        "not_yet_valid",
    ),
    "expired": (
        lambda w: w.signed_certificate(not_before=NOW - 2, not_after=NOW),
        "expired",
    ),
    "status may live longer than the plan says": (
        lambda w: w.signed_certificate(status_ttl_ms=60_000),
        "wrong_status_ttl",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_is_refused_with_its_own_reason(world: World, name: str) -> None:
    make, code = CASES[name]
    with pytest.raises(CallerError) as caught:
        verify(world, make(world))
    assert caught.value.code == code


def test_a_threshold_not_ruled_out_demands_its_measures(world: World) -> None:
    plan = world.plan
    threshold = plan.thresholds[0]
    strict = msgspec.structs.replace(
        threshold,
        unless_ruled_out=msgspec.structs.replace(
            threshold.unless_ruled_out, audience=Audience(requires=("identity", "engagement"))
        ),
    )
    demanding = msgspec.structs.replace(plan, thresholds=(strict, *plan.thresholds[1:]))
    data = world.signed_certificate()
    with pytest.raises(CallerError) as caught:
        verify_certificate(
            data,
            root=world.root,
            plan=demanding,
            plan_digest=world.plan_digest,
            fingerprint=world.fingerprint,
            now_ms=NOW,
        )
    assert caught.value.code == "measures_missing"
    ruled_out = dict.fromkeys(plan.stage("internal").gate.thresholds, ThresholdVerdict.RULED_OUT)
    verify_certificate(
        world.signed_certificate(thresholds=ruled_out),
        root=world.root,
        plan=demanding,
        plan_digest=world.plan_digest,
        fingerprint=world.fingerprint,
        now_ms=NOW,
    )


def test_public_needs_more_assurance_than_one_machine_gives(world: World) -> None:
    with pytest.raises(CallerError) as caught:
        verify(world, world.signed_certificate("public"))
    assert caught.value.code == "assurance_below"


def test_an_open_upstream_opens_nothing_above_internal(world: World) -> None:
    data = world.signed_certificate("researchers", levels=_levels(world, sealing=Sealing.OPEN))
    with pytest.raises(CallerError) as caught:
        verify(world, data)
    assert caught.value.code == "sealing_below"


def test_the_same_signature_twice_is_one(world: World) -> None:
    names = world.quorum_of("internal")
    data = world.sign("certificate", world.certificate(), names[0], names[0])
    with pytest.raises(CallerError) as caught:
        verify(world, data)
    assert caught.value.code in {"quorum_unmet", "overseer_missing"}
