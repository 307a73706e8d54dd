"""An auditor recounts money and coverage: what was charged, and what it should have been."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from gatelift.ledger.audit import AuditReport
from gatelift.ledger.verify import verify_dossier
from gatelift.messages import Charge
from tests.integration.dossier_deployment import Deployment
from tests.support.world import PLAN_FILE, World

OLD = "caps: {principal: {requests: 600/min, parallel: 8}, stage: {output_tokens: 100k/d}}"
NEW = (
    "caps: {principal: {requests: 600/min, parallel: 8, coverage: 2}, "
    "stage: {output_tokens: 100k/d, cost: 1 EUR/d}}"
)
PRICES = "prices: {currency: EUR, input: 2.5, output: 10}\n"


def audit_of(tmp_path: Path, scene: Callable[[Deployment], object]) -> AuditReport:
    text = PLAN_FILE.read_text()
    assert OLD in text
    plan = text.replace(OLD, NEW).replace("trust: {", PRICES + "trust: {", 1)
    deployment = Deployment(tmp_path / "deployment", World(plan_bytes=plan.encode()))
    deployment.begin()
    deployment.certify()
    deployment.grant()
    scene(deployment)
    deployment.commit()
    deployment.head()
    deployment.export(tmp_path / "dossier")
    deployment.put_records(tmp_path / "dossier")
    return verify_dossier(
        tmp_path / "dossier",
        anchor_root=deployment.world.root_digest,
        policy=None,
        now_ms=deployment.now,
    )


def changed(unit: str, change: Callable[[Charge], Charge | None]) -> Callable[[Deployment], None]:
    """Serve one exchange whose charges of a unit are others, in start and finish."""

    def scene(deployment: Deployment) -> None:
        start = deployment.start()
        spent = deployment.finish(start).spent
        del deployment.pending["w0", "r0"][-2:]
        deployment.seqs["w0", "r0"] -= 2

        def other(charges: tuple[Charge, ...]) -> tuple[Charge, ...]:
            found = [change(c) if f".{unit}/" in c.counter else c for c in charges]
            return tuple(c for c in found if c is not None)

        deployment.finish(deployment.start(reserved=other(start.reserved)), spent=other(spent))

    return scene


def test_money_and_coverage_that_add_up_hold(tmp_path: Path) -> None:
    def scene(deployment: Deployment) -> None:
        spent = deployment.served().spent
        deployment.served("v")
        # A third exchange with a prompt that the worker knows.
        known = tuple(
            msgspec.structs.replace(c, amount=0) if ".coverage/" in c.counter else c for c in spent
        )
        deployment.served("w", spent=known)

    assert audit_of(tmp_path, scene).findings == ()


@pytest.mark.parametrize(
    ("scene", "code"),
    [
        (changed("cost", lambda c: msgspec.structs.replace(c, amount=212)), "charged_too_little"),
        (changed("cost", lambda _: None), "cap_not_charged"),
        (changed("coverage", lambda _: None), "cap_not_charged"),
        (changed("coverage", lambda c: msgspec.structs.replace(c, window=60_000)), "bad_charge"),
        (lambda d: [d.served(user) for user in "abc"], "cap_exceeded"),
    ],
    ids=["rounded-down", "no-cost", "no-coverage", "coverage-in-a-window", "a-third-prompt"],
)
def test_money_and_coverage_that_do_not_are_found(
    tmp_path: Path, scene: Callable[[Deployment], object], code: str
) -> None:
    report = audit_of(tmp_path, scene)
    assert {each.code for each in report.errors} == {code}, report.findings
    assert report.exit_code == 1
