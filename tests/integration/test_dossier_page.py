"""The report of an audit as one static page: the same verdict, everything escaped, nothing loaded."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gatelift.ledger.exports import open_verified
from gatelift.ledger.verify import verify_dossier
from gatelift.messages import EntryKind, IncidentOpening
from gatelift.terms import Severity
from gatelift.web import build_audit_view, render_audit
from tests.integration.dossier_deployment import Deployment
from tests.integration.web_scenes import Outline
from tests.support.tamperings import RECORDS, edit

HOSTILE = "<script>alert('x')</script>\"&"


def page_of(deployment: Deployment, path: Path, *, anchored: bool = True) -> str:
    asked: dict[str, Any] = {
        "anchor_root": deployment.world.root_digest if anchored else None,
        "policy": None,
        "now_ms": deployment.now,
    }
    report = verify_dossier(path, **asked)
    opened = open_verified(path, **asked) if report.exit_code in {0, 3} else None
    view = build_audit_view(
        report, opened, name=path.name, anchor="Held against <it>.", now_ms=deployment.now
    )
    return render_audit(view)


@pytest.fixture
def told(tmp_path: Path) -> tuple[Deployment, Path]:
    deployment = Deployment(tmp_path / "deployment")
    deployment.tell()
    incident = IncidentOpening(
        id="incident-1",
        release="aurora",
        severity=Severity.SEV_4,
        title=HOSTILE,
        source="person",
        occurred_at=None,
        detected_at=deployment.now,
        aware_at=None,
        discovered_at=None,
        reasonable_belief_at=None,
        determined_at=None,
    )
    deployment.log(EntryKind.INCIDENT, incident, "safety:sam")
    deployment.settle()
    deployment.export(tmp_path / "dossier")
    return deployment, tmp_path / "dossier"


def check(page: str) -> None:
    seen = Outline(page)
    assert page.startswith("<!doctype html>")
    assert (seen.wrong, seen.unclosed) == ([], [])
    assert "<script" not in page
    assert not re.search(r"""(?:src|href)=["']?(?!#)[a-z/]""", page), "nothing is loaded"
    assert "content-security-policy" in page


def test_a_dossier_that_holds_says_so_and_what_it_cannot_prove(
    told: tuple[Deployment, Path],
) -> None:
    page = page_of(*told)
    check(page)
    assert "It holds, and it is the deployment that you named." in page
    for words in (
        "What was proved",
        "What no log can prove",
        "that no copy of the weights and no second door to the model exists",
        "no cap was exceeded",
        "stage assess until",
        "nobody of it is served",
        "incident",
    ):
        assert words in page, words
    assert "&lt;script&gt;" in page, "what people wrote is shown, not run"
    assert "principal-g1" not in page
    assert "evals.example" not in page


def test_without_an_anchor_nothing_is_proved_outright(told: tuple[Deployment, Path]) -> None:
    page = page_of(*told, anchored=False)
    check(page)
    assert "NOT authenticated" in page
    assert "nothing from elsewhere says so" in page


def test_what_does_not_hold_stands_first_and_the_log_is_left_out(
    told: tuple[Deployment, Path],
) -> None:
    deployment, path = told
    edit(
        path / RECORDS, lambda d: d.replace(b'\\"output_tokens\\":20', b'\\"output_tokens\\":10', 1)
    )
    page = page_of(deployment, path)
    check(page)
    assert "It does NOT hold." in page
    assert page.index("batch_root") < page.index("What was proved")
    assert "The releases log</h2>" not in page


def test_a_folder_that_is_none_has_a_page_too(
    told: tuple[Deployment, Path], tmp_path: Path
) -> None:
    (tmp_path / "<b>").mkdir()
    page = page_of(told[0], tmp_path / "<b>")
    check(page)
    assert "It cannot be read." in page
    assert "&lt;b&gt;" in page


def test_the_same_audit_gives_the_same_page(told: tuple[Deployment, Path], tmp_path: Path) -> None:
    shutil.copytree(told[1], tmp_path / "again" / "dossier")
    assert page_of(*told) == page_of(told[0], tmp_path / "again" / "dossier")
    assert msgspec.json.encode(page_of(*told))
