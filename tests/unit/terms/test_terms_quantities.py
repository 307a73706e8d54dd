"""Quantities as people write them: one spelling, exact values, nothing guessed."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatelift.terms import (
    QuantityError,
    Window,
    format_duration,
    parse_amount,
    parse_duration_ms,
    parse_number,
    parse_rate,
    parse_windowed,
    window_ms,
    window_start_ms,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("12", 12),
        ("500k", 500_000),
        ("2M", 2_000_000),
        ("1G", 1_000_000_000),
        ("9007199254740991", 9007199254740991),
    ],
)
def test_amounts_are_decimal(text, value):
    assert parse_amount(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "+1",
        "1.5k",
        "1 k",
        "1kk",
        "1m",
        "1K",
        "1_000",
        "1e3",
        "010",
        "0x10",
        "٣",
        "1\n",
        "9007199254740992",
        "9999999999G",
        "1" * 400,
    ],
)
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(QuantityError):
        parse_amount(text)


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("60/min", (60, Window.MINUTE)),
        ("5k/h", (5000, Window.HOUR)),
        ("500k/d", (500_000, Window.DAY)),
        ("4", (4, Window.NONE)),
    ],
)
def test_limits_have_a_window_or_none(text, pair):
    assert parse_windowed(text) == pair


@pytest.mark.parametrize("text", ["60/", "/min", "60/s", "60/none", "60/min/h", "60 /min", "60/D"])
def test_other_windows_are_refused(text):
    with pytest.raises(QuantityError):
        parse_windowed(text)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("0s", 0),
        ("250ms", 250),
        ("10s", 10_000),
        ("5min", 300_000),
        ("72h", 259_200_000),
        ("14d", 1_209_600_000),
    ],
)
def test_durations_are_milliseconds(text, ms):
    assert parse_duration_ms(text) == ms


@pytest.mark.parametrize(
    "text", ["", "10", "s", "1.5h", "-1s", "2bd", "1w", "1m", "1 s", "01s", "999999999d", "1S"]
)
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(QuantityError):
        parse_duration_ms(text)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**12))
def test_a_written_duration_reads_back(ms):
    assert parse_duration_ms(format_duration(ms)) == ms


@pytest.mark.parametrize("text", ["0", "0.05", "1", "1.0", "0.000001"])
def test_rates_are_exact(text):
    assert parse_rate(text) == Decimal(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-0",
        "-0.1",
        "1.01",
        "2",
        ".5",
        "5.",
        "1e-3",
        "5%",
        "NaN",
        "sNaN",
        "Infinity",
        "0_0.5",
        " 0.5",
        "0.5\n",
        "٠.٥",
        "0." + "1" * 18,
    ],
)
def test_what_is_no_share_is_refused(text):
    with pytest.raises(QuantityError):
        parse_rate(text)


def test_a_number_may_be_above_one():
    assert parse_number("1.5") == Decimal("1.5")
    with pytest.raises(QuantityError):
        parse_number("1234567890")


def test_windows_are_fixed_in_utc():
    # 2024-02-29T13:37:42.123Z, by `date -u -d @1709213862`.
    now_ms = 1_709_213_862_123
    assert window_start_ms(Window.MINUTE, now_ms) == 1_709_213_820_000
    assert window_start_ms(Window.HOUR, now_ms) == 1_709_211_600_000
    assert window_start_ms(Window.DAY, now_ms) == 1_709_164_800_000
    assert window_start_ms(Window.NONE, now_ms) == 0
    assert window_ms(Window.DAY) == 86_400_000
    with pytest.raises(QuantityError, match="no window length"):
        window_ms(Window.NONE)
