"""What makes a worker say `overloaded`."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from gatelift.encoding import EncodingError, decode_json
from gatelift.gateway.overload import Overload, OverloadTerms

TERMS = OverloadTerms(max_in_flight=3, max_waiting_records=5, max_lag_ms=100, lag_samples=3)


@pytest.mark.parametrize(
    ("in_flight", "waiting", "lags", "word"),
    [
        (2, 4, (), None),
        (3, 0, (), "exchanges"),
        (0, 5, (), "disk"),
        (0, 0, (101, 300, 150), "processor"),
        (0, 0, (300, 300), None),  # not yet a row of three
        (0, 0, (300, 100, 300), None),  # one good look among them
        (0, 0, (300, 300, 300, 0), None),
        (0, 0, (0, 300, 300, 300), "processor"),
    ],
)
def test_one_sign_is_enough_and_a_single_slow_turn_is_none(
    in_flight: int, waiting: int, lags: tuple[int, ...], word: str | None
) -> None:
    overload = Overload(TERMS)
    for lag in lags:
        overload.sample(lag)
    found = overload.reason(in_flight=in_flight, waiting_records=waiting)
    assert (found is None) if word is None else (found is not None and word in found)


def test_every_setting_is_in_the_docs_with_its_default() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "http.md").read_text()
    for field in msgspec.structs.fields(OverloadTerms):
        assert f"| `{field.name}` | {field.default} |" in page


@pytest.mark.parametrize("text", ['{"max_in_flight": 0}', '{"max_lag": 1}', "[]"])
def test_settings_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(EncodingError):
        decode_json(text.encode(), OverloadTerms)
