"""What a deployment can do wrong about its weights, and sign: sidecars, measurements, copies."""

from __future__ import annotations

from gatelift.encoding import sha256_digest
from gatelift.messages import (
    EntryKind,
    Export,
    Measurement,
    PlacementEnrolment,
    Probe,
    Sidecar,
    sign_measurement,
)
from gatelift.terms import Binding, Sealing
from tests.integration.dossier_deployment import Deployment
from tests.support.world import HOUR, key

BOTH = ("operator:olga", "security:sue")
WEIGHTS = sha256_digest(b"weights")
SIDECAR = Sidecar(
    url="http://10.0.0.5:8095",
    key=key("sidecar").public_text,
    manifest=sha256_digest(b"manifest"),
)


def register(deployment: Deployment, *signers: str, to: str = "the institute") -> None:
    value = Export(
        id="export_" + "0" * 26,
        release="aurora",
        weights=WEIGHTS,
        manifest=SIDECAR.manifest,
        destination=to,
        purpose="evaluation",
        custodian="the institute's desk",
        expires_at=deployment.now + HOUR,
    )
    deployment.log(EntryKind.EXPORT, value, *signers, admit=False)
    deployment.settle()


def enrol(deployment: Deployment, *signers: str) -> None:
    value = PlacementEnrolment(
        name="p1",
        base_url="http://127.0.0.1:1",
        model="m",
        fingerprint=deployment.world.fingerprint,
        baseline=None,
        sidecar=SIDECAR,
    )
    deployment.log(EntryKind.PLACEMENT, value, *signers, admit=False)
    deployment.settle()


def say_measured(deployment: Deployment, measurement: str | None) -> None:
    value = Probe(
        node="n1",
        placement="p1",
        sealing=Sealing.DECLARED,
        changed=0,
        of=16,
        up=True,
        reason="",
        binding=Binding.MEASURED,
        measurement=measurement,
    )
    deployment.log(EntryKind.PROBE, value, "control:machine", admit=False)
    deployment.settle()


def measured_by(deployment: Deployment, name: str, *, placement: str = "p1") -> str:
    value = Measurement(
        placement=placement,
        fingerprint=deployment.world.fingerprint,
        weights=WEIGHTS,
        manifest=SIDECAR.manifest,
        nonce="0" * 32,
        loaded_at=deployment.now,
        measured_at=deployment.now,
        lives_ms=5_000,
    )
    return sign_measurement(value, key(name)).decode()


def exported_alone(deployment: Deployment) -> None:
    register(deployment, "operator:olga")


def exported_elsewhere(deployment: Deployment) -> None:
    register(deployment, *BOTH)


def enrolled_alone(deployment: Deployment) -> None:
    enrol(deployment, "operator:olga")


def measured_by_nobody(deployment: Deployment) -> None:
    enrol(deployment, *BOTH)
    say_measured(deployment, None)


def measured_by_another_key(deployment: Deployment) -> None:
    enrol(deployment, *BOTH)
    say_measured(deployment, measured_by(deployment, "batch"))


def measured_elsewhere(deployment: Deployment) -> None:
    enrol(deployment, *BOTH)
    say_measured(deployment, measured_by(deployment, "sidecar", placement="p2"))
