"""What can be done wrong about an overseer's own calls, and signed."""

from __future__ import annotations

from typing import Any

import msgspec

from gatelift.encoding import Digest, encode_base64
from gatelift.messages import Charge, EntryKind, Start
from gatelift.terms import Window, window_start_ms
from gatelift.trust import Disclosure, Grant
from tests.integration.dossier_deployment import Deployment
from tests.support.own_grants import API_KEY, inner, own_grant, seed
from tests.support.world import HOUR

VERA = "overseer:vera"
_OTHER_KEY = "gl_fedcba9876543210_" + "t" * 48
_BY_DAY = "assess:principal.requests/d:p-1"


def sealed(deployment: Deployment) -> Grant:
    """Return the grant that the scenes' own grant holds: two calls a day, for an hour."""
    return inner(
        deployment.world,
        stage="assess",
        proofs=(),
        not_before=deployment.now,
        not_after=deployment.now + HOUR,
    )


def seal(deployment: Deployment, requests: int = 2) -> tuple[Grant, Digest]:
    grant = sealed(deployment)
    value = own_grant(grant, requests_per_day=requests)
    digest = deployment.log(EntryKind.OWN_GRANT, value, VERA)
    deployment.settle()
    return grant, digest


def call(deployment: Deployment, grant: Grant, *, by_day: bool = True, **changes: Any) -> None:
    start: Start = deployment.start()
    start = msgspec.structs.replace(
        start,
        grant=grant.id,
        principal=grant.principal,
        organisation=grant.organisation,
        reserved=tuple(
            msgspec.structs.replace(each, counter=each.counter.replace("principal-g1", "p-1"))
            for each in start.reserved
        ),
        **changes,
    )
    if by_day:
        window = window_start_ms(Window.DAY, deployment.now)
        charge = Charge(counter=_BY_DAY, window=window, amount=1)
        start = msgspec.structs.replace(start, reserved=(*start.reserved, charge))
    deployment.pending["w0", "r0"][-1] = start
    deployment.finish(start)


def disclose(deployment: Deployment, digest: Digest, calls: int = 2, **changes: Any) -> None:
    value = Disclosure(
        release="aurora",
        own_grant=digest,
        seed=encode_base64(seed()),
        calls=calls,
        results=(),
        note="",
    )
    value = msgspec.structs.replace(value, **changes)
    deployment.log(EntryKind.DISCLOSURE, value, VERA, admit=False)
    deployment.settle()


def rightly(deployment: Deployment, *, disclosed: bool) -> None:
    """Seal, call as often as it was sealed, and disclose, or not yet."""
    grant, digest = seal(deployment)
    for _ in range(2):
        call(deployment, grant)
    if disclosed:
        disclose(deployment, digest)


def past_the_root(deployment: Deployment) -> None:
    seal(deployment, 20)
    grant = msgspec.structs.replace(sealed(deployment), id="grant_two")
    value = own_grant(grant, _OTHER_KEY, requests_per_day=1)
    deployment.log(EntryKind.OWN_GRANT, value, VERA, admit=False)
    deployment.settle()


def past_its_day(deployment: Deployment) -> None:
    grant, _ = seal(deployment)
    for _ in range(3):
        call(deployment, grant)


def past_its_end(deployment: Deployment) -> None:
    grant, _ = seal(deployment)
    deployment.now += HOUR + 5_000
    deployment.certify()
    call(deployment, grant)


def off_its_cap(deployment: Deployment) -> None:
    grant, _ = seal(deployment)
    call(deployment, grant, by_day=False)


def under_another_name(deployment: Deployment) -> None:
    grant, digest = seal(deployment)
    call(deployment, msgspec.structs.replace(grant, organisation="o-2"))
    disclose(deployment, digest)


def opened_with_a_lie(deployment: Deployment) -> None:
    _, digest = seal(deployment)
    disclose(deployment, digest, seed=encode_base64(seed(API_KEY + "x")))


def opened_twice(deployment: Deployment) -> None:
    _, digest = seal(deployment)
    disclose(deployment, digest)
    disclose(deployment, digest, calls=0)
