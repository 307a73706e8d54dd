"""The page of model servers names every setting, every code, and what holds without a setting."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from gatelift.encoding import EncodingError, decode_json
from gatelift.gateway.placements import PlacementTerms
from gatelift.gateway.replies import CODES
from gatelift.gateway.upstream_errors import PlacementError, told_of
from gatelift.wire.http_client import UpstreamError
from gatelift.wire.http_response import UpstreamErrorCode

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "upstream.md").read_text()
ROWS = dict(re.findall(r"^\| `([\w.]+)` \| ([\w.]+) \|", PAGE, re.MULTILINE))


def settings(value: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    for field in msgspec.structs.fields(type(value)):
        found = getattr(value, field.name)
        if isinstance(found, msgspec.Struct):
            yield from settings(found, f"{field.name}.")
        else:
            yield prefix + field.name, found


def test_every_setting_is_there_with_its_default() -> None:
    said = {name: value for name, value in ROWS.items() if value not in {"yes", "no", "either"}}
    assert said == {name: str(value) for name, value in settings(PlacementTerms())}


def test_every_code_is_there() -> None:
    # `closed` is our own doing and ends no exchange.
    codes = set(get_args(UpstreamErrorCode)) - {"closed"}
    assert {name for name, value in ROWS.items() if value in {"yes", "no", "either"}} == codes


@pytest.mark.parametrize("code", get_args(UpstreamErrorCode))
def test_every_code_is_told_as_one_that_callers_know(code: UpstreamErrorCode) -> None:
    told = told_of(UpstreamError("m", code=code, sent=True))
    assert told.code in CODES
    assert (told.code == "upstream_timeout") is (
        code.startswith("timeout") and code != "timeout_pool"
    )


def test_a_placement_error_says_itself_when_to_come_again() -> None:
    told = told_of(PlacementError("m", code="upstream_busy", retry_after_s=7, retry=False))
    assert told == ("upstream_busy", "m", 7, False)


@pytest.mark.parametrize(
    "text",
    [
        '{"timeouts": {"connect_s": 0}}',
        '{"timeouts": {"connect_s": -1}}',
        '{"timeouts": {"connect_S": 1}}',
        '{"limits": {"max_connections": -1}}',
        '{"breaker": {"failures": 0}}',
        '{"max_attempts": 0}',
        '{"attempts": 1}',
        "[]",
    ],
)
def test_settings_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(EncodingError):
        decode_json(text.encode(), PlacementTerms)
