"""The reference page of reasons is the list in the code."""

from __future__ import annotations

from pathlib import Path

from gatelift.decide import DOCS, ReasonCode, render_reasons

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "reasons.md"


def test_every_code_is_documented() -> None:
    assert set(DOCS) == set(ReasonCode)


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text() == render_reasons()
