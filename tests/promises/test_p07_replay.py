"""Promise 7: every decision can be replayed.

Attacked here: a deployment lives through grants, a refused certificate, a halt and a re-opening;
`gatelift replay` on its dossier must find every recorded decision again. Then one decision is
rewritten by somebody who holds the keys of control, of the log and of the witness, so that every
signature, digest, tile and checkpoint is right again: only folding the log anew can find it. Each
part of a decision is tried: its kind, a reason, a figure's absence, what it narrowed.

Seen to fail: with `decide.replay` comparing the kinds of decisions only, every rewriting but that of
the kind passed (red).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.promises.dossiers import body_of, entries_of, export, live_through, rewrite, root_digest
from tests.promises.hands import STATEMENT, Hands, opened, seal
from tests.promises.outside import Deployment, Said, gatelift, say
from tests.support.upstream import ScriptedUpstream


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    upstream = ScriptedUpstream(key="upstream-key-of-promise-seven")
    found = live_through(tmp_path_factory.mktemp("p07"), upstream)
    yield found
    found.stop()
    upstream.close()


@pytest.fixture(scope="module")
def dossier(deployment: Deployment) -> Path:
    return export(deployment, deployment.folder.parent / "dossier")


def decisions(dossier: Path) -> list[tuple[int, dict[str, Any]]]:
    found = []
    for index, header in enumerate(entries_of(dossier)):
        if header["kind"] == "decision":
            found.append((index, opened(body_of(dossier, header))))
    return found


def test_every_decision_of_a_history_follows_from_the_log(dossier: Path) -> None:
    told = Said(gatelift("replay", dossier, "--json")).must()
    kinds = [value["predicate"]["kind"] for _, value in decisions(dossier)]
    say(f"{len(entries_of(dossier))} entries, decisions {kinds}")
    assert told["decisions"] == len(kinds) >= 4
    assert told["findings"] == []
    assert "halt" in kinds
    assert "resume" in kinds or kinds[-1] != "halt"


def _other_kind(value: dict[str, Any]) -> bool:
    if value["kind"] != "halt":
        return False
    value["kind"] = "hold"
    return True


def _other_reason(value: dict[str, Any]) -> bool:
    if not value["reasons"]:
        return False
    value["reasons"][0]["message"] += " and nothing else"
    return True


def _left_out(value: dict[str, Any]) -> bool:
    if len(value["reasons"]) < 2:
        return False
    value["reasons"].pop()
    return True


def _added_figure(value: dict[str, Any]) -> bool:
    value["figures"].append({"name": "made/up", "value": "0.01", "n": 100, "s": 1})
    return True


def _other_stage(value: dict[str, Any]) -> bool:
    value["stage"] = "internal"
    return True


@pytest.mark.parametrize(
    "change", [_other_kind, _other_reason, _left_out, _added_figure, _other_stage]
)
def test_a_rewritten_decision_is_found_though_every_signature_holds(
    deployment: Deployment,
    dossier: Path,
    tmp_path: Path,
    change: Callable[[dict[str, Any]], bool],
) -> None:
    forged = tmp_path / "forged"
    shutil.copytree(dossier, forged)
    for index, value in reversed(decisions(forged)):
        if change(value["predicate"]):
            body = seal(json.dumps(value).encode(), STATEMENT, Hands(deployment).key("control"))
            rewrite(forged, deployment, index, body)
            break
    else:
        pytest.fail("no decision of the history can be changed so")
    told = Said(gatelift("replay", forged, "--json"))
    assert told.code == 1, told.text
    codes = {each["code"] for each in told.value["findings"]}
    assert codes == {"decision_differs"}, told.text
    assert f"#{index}" in told.text
    # The whole audit agrees, and finds nothing wrong with a signature, a tile or a digest.
    audit = Said(gatelift("verify", forged, "--root", root_digest(deployment), "--json"))
    assert audit.code == 1
    assert audit.value["authenticated"], "the forgery was perfect but for what follows from the log"
    found = {each["code"] for each in audit.value["findings"] if each["severity"] == "error"}
    assert "decision_differs" in found
    assert found <= {"decision_differs", "wrong_after", "no_certificate", "not_recounted"}, found
