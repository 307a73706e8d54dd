"""The availability contract names tests that exist and codes that callers know."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from gatelift.gateway.availability import ROWS, Failure
from gatelift.gateway.availability_page import render_availability
from gatelift.gateway.replies import CODES

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "reference" / "availability.md"


def functions(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text()).body if hasattr(node, "name")}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_every_test_of_a_row_exists_and_every_code_is_known(row: Failure) -> None:
    assert row.tests
    assert set(row.codes) <= set(CODES)
    for test in row.tests:
        path, _, name = test.partition("::")
        assert name.startswith("test_")
        assert name in functions(ROOT / path), test


def test_each_failure_has_one_row() -> None:
    assert len({row.what for row in ROWS}) == len(ROWS)


def test_every_temporary_code_is_in_the_contract() -> None:
    """What says that asking again helps says elsewhere for how long it lasts."""
    temporary = {code for code, known in CODES.items() if known.status in {502, 503, 504}}
    assert temporary <= {code for row in ROWS for code in row.codes}


def test_the_page_says_what_the_table_says() -> None:
    assert PAGE.read_text() == render_availability(), "run `make docs`"
