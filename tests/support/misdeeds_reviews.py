"""Certificates that go beyond what was approved, and people who withdraw what is another's."""

from __future__ import annotations

from typing import Any

import msgspec

from gatelift.messages import Condition, EntryKind, Review, Revocation
from gatelift.terms import Audience, Envelope, meet
from tests.integration.dossier_deployment import Deployment
from tests.support.world import HOUR

__all__ = [
    "approved",
    "beyond_a_condition",
    "beyond_an_approval",
    "inside_an_approval",
    "withdrawn_by_another",
]


def approved(deployment: Deployment, **changes: Any) -> str:
    """Log an approval of stage zero, which asks for none: it binds all the same."""
    value = Review(
        id="review_1",
        release="aurora",
        stage="assess",
        approves=True,
        plan=deployment.world.plan_digest,
        fingerprint=deployment.world.fingerprint,
        evidence=(),
        note="read",
    )
    value = msgspec.structs.replace(value, **changes)
    digest = deployment.log(EntryKind.REVIEW, value, "security:sue")
    deployment.settle()
    return digest


def beyond_an_approval(deployment: Deployment) -> None:
    approved(deployment, until=deployment.now + HOUR // 2)
    deployment.certify(admit=False)


def beyond_a_condition(deployment: Deployment) -> None:
    approved(deployment, stage="internal", conditions=(Condition(text="two", max_organisations=2),))
    base = deployment.world.certificate("internal")
    deployment.certify(
        admit=False,
        stage="internal",
        envelope=base.envelope,
        thresholds=base.thresholds,
        levels=base.levels,
    )


def withdrawn_by_another(deployment: Deployment) -> None:
    digest = approved(deployment, until=deployment.now + HOUR // 2)
    value = Revocation(body=digest, reason="in the way")
    deployment.log(EntryKind.REVOCATION, value, "operator:olga", admit=False)
    deployment.settle()
    deployment.certify(admit=False)


def inside_an_approval(deployment: Deployment) -> None:
    """What is no misdeed: inside what stands, beyond what ended, was withdrawn or is another's."""
    end = deployment.now + HOUR // 2
    digest = approved(deployment, until=end)
    deployment.certify(not_after=end)
    value = Revocation(body=digest, reason="changed my mind")
    deployment.log(EntryKind.REVOCATION, value, "security:sue")
    deployment.settle()
    deployment.certify(
        envelope=meet(
            deployment.world.certificate("assess").envelope,
            Envelope(audience=Audience(max_organisations=1)),
        )
    )
