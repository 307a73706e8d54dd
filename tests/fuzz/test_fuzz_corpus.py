"""What the fuzzers found worth keeping, and what once broke a parser, holds for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.run import NAMES
from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("name", TARGETS)
def test_every_kept_input_keeps_its_property(name: str) -> None:
    inputs = sorted((CORPUS / name).iterdir())
    assert inputs
    for path in inputs:
        try:
            TARGETS[name](path.read_bytes())
        except Exception as error:
            raise AssertionError(f"{name}: {path.name} breaks its property") from error


def test_the_corpus_is_small_and_every_target_is_run() -> None:
    assert tuple(TARGETS) == NAMES
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < 500_000
