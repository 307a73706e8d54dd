"""The one-file verifier reads less of YAML than the package, and nothing otherwise than the package."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatelift.cli.plan_template import PlanSize, render_plan
from gatelift.plan import parse_plan
from gatelift.plan.problems import Report
from gatelift.plan.yaml_nodes import Broken, ListNode, MapNode, Node, Scalar, load
from tests.support.verifiers import load_file

ROOT = Path(__file__).parents[3]
PLANS = [
    ROOT / "docs/plan/annotated.yaml",
    ROOT / "tests/support/plan.yaml",
    ROOT / "examples/demo/plan.yaml",
    *sorted((ROOT / "tests/promises/plans").glob("*.yaml")),
]
REFUSED = object()


def plain(node: Node | None) -> Any:
    match node:
        case Scalar():
            return node.text
        case ListNode():
            return [plain(each) for each in node.items]
        case MapNode():
            return {key.text: plain(value) for key, value in node.pairs}
        case Broken() | None:
            return REFUSED


def by_package(data: bytes) -> Any:
    report = Report()
    node = load(data, report)
    return REFUSED if report._problems or node is None else plain(node)


def by_file(data: bytes) -> Any:
    file = load_file()
    try:
        return file.PlanReader(data).read()
    except file.BrokenError as error:
        return REFUSED if error.code == "plan_not_read" else error


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.name)
def test_every_plan_of_ours_is_read_alike(path: Path) -> None:
    data = path.read_bytes()
    assert by_file(data) == by_package(data) != REFUSED
    held, plan = load_file().Plan(data), parse_plan(data)
    assert held.status_ttl_ms == plan.trust.status_ttl_ms
    for stage in plan.stages:
        found = held.stages[stage.name]
        assert (tuple(found.quorum), found.assurance, found.sealing, found.certificate_ms) == (
            stage.quorum,
            stage.assurance,
            stage.sealing,
            stage.certificate_ms,
        )
        assert tuple(found.thresholds) == tuple(stage.gate.thresholds)


@pytest.mark.parametrize("size", list(PlanSize))
def test_the_plan_that_init_writes_is_read_alike(size: PlanSize) -> None:
    data = render_plan(release="aurora", model="m", size=size)
    assert by_file(data) == by_package(data) != REFUSED


PIECES = (
    *"[]{},:#&*!|>%@`?-\"' \n\\\t\r",
    ": ", "- ", " #", "\n  ", "\n- ", "---\n", "...\n", "'a'", '"b"', "''", "key: ", "x", "1e3", "~",
    "\n    more", "{a: b}", "[a, b]", "[a: b]", "{a}", "<<: ", "\u2028", "\x85", "\ufeff", "é", ":x", "x:y",
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(
    path=st.sampled_from(PLANS),
    seed=st.integers(0, 2**32),
    edits=st.lists(st.sampled_from(PIECES), min_size=1, max_size=3),
)
def test_what_it_reads_of_an_altered_plan_is_what_the_package_reads(
    path: Path, seed: int, edits: list[str]
) -> None:
    text, chance = path.read_text("utf-8"), random.Random(seed)
    for piece in edits:
        at = chance.randrange(len(text))
        text = text[:at] + piece + text[at + chance.choice((0, 0, 1, 4)) :]
    data = text.encode()
    found = by_file(data)
    if found is not REFUSED:
        assert found == by_package(data), text


LINES = st.lists(
    st.tuples(
        st.sampled_from(("", "  ", "    ")),
        st.lists(st.sampled_from((*PIECES, "a", "b: ", "c: d")), max_size=5).map("".join),
    ).map("".join),
    max_size=6,
).map("\n".join)


@settings(max_examples=1500, deadline=None)
@given(text=LINES)
def test_what_it_reads_of_any_text_is_what_the_package_reads(text: str) -> None:
    found = by_file(text.encode())
    if found is not REFUSED:
        assert found == by_package(text.encode()), text
