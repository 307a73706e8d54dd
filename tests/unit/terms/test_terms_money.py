"""Money: exact from the digits of the file, rounded up once an exchange, never above a reserve."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatelift.terms import (
    MAX_PRICE_MICROS,
    Prices,
    QuantityError,
    Window,
    cost_of,
    format_money,
    parse_cost_limit,
    parse_micros,
)

MOST = 2**53 - 1


def prices(into: int, out: int) -> Prices:
    return Prices(currency="EUR", input_micros=into, output_micros=out)


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("50", 50_000_000),
        ("0.25", 250_000),
        ("2.5", 2_500_000),
        ("0.000001", 1),
        ("0.10", 100_000),
        ("0", 0),
        ("999999999.999999", 999_999_999_999_999),
    ],
)
def test_an_amount_is_its_digits(text, micros):
    assert parse_micros(text) == micros
    assert parse_micros(text) == Fraction(text) * 1_000_000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "+1",
        ".5",
        "5.",
        "1e3",
        "1,5",
        "05",
        "1_000",
        "1k",
        "1 ",
        "٣",
        "1.0000001",
        "1" * 10,
    ],
)
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(QuantityError):
        parse_micros(text)


def test_a_limit_names_money_and_window():
    assert parse_cost_limit("50 EUR/d") == (50_000_000, Window.DAY, "EUR")
    assert parse_cost_limit("0.25 USD/min") == (250_000, Window.MINUTE, "USD")


@pytest.mark.parametrize(
    "text",
    [
        "50/d",
        "50 EUR",
        "50EUR/d",
        "50 eur/d",
        "50 EURO/d",
        "50 EUR/w",
        "50  EUR/d",
        "EUR 50/d",
        "50 EUR/",
    ],
)
def test_a_limit_without_money_or_window_is_refused(text):
    with pytest.raises(QuantityError):
        parse_cost_limit(text)


@pytest.mark.parametrize(
    ("into", "out", "tokens_in", "tokens_out", "micros"),
    [
        # 2.50 and 10 for a million: a thousand in and a hundred out are 2,500 + 1,000 millionths.
        (2_500_000, 10_000_000, 1_000, 100, 3_500),
        # 0.5 of a millionth rounds up, and so does the least there is; nothing stays nothing.
        (500_000, 0, 1, 0, 1),
        (500_000, 0, 3, 0, 2),
        (1, 0, 1, 0, 1),
        (0, 1, 0, 1_000_001, 2),
        (1, 1, 0, 0, 0),
        # Both halves together, not each by itself: 0.5 and 0.5 are 1.
        (500_000, 500_000, 1, 1, 1),
    ],
)
def test_an_exchange_is_rounded_up_once(into, out, tokens_in, tokens_out, micros):
    assert cost_of(prices(into, out), tokens_in, tokens_out) == micros


AMOUNTS = st.integers(0, MAX_PRICE_MICROS)
TOKENS = st.integers(0, 10**8)


@given(AMOUNTS, AMOUNTS, TOKENS, TOKENS, TOKENS, TOKENS)
@settings(max_examples=200)
def test_what_is_spent_is_never_above_what_was_reserved(
    into, out, used_in, more_in, used_out, more_out
):
    each = prices(into, out)
    reserved = cost_of(each, used_in + more_in, used_out + more_out)
    exact = Fraction(used_in * into + used_out * out, 10**6)
    assert cost_of(each, used_in, used_out) == min(MOST, math.ceil(exact))
    assert cost_of(each, used_in, used_out) <= reserved <= MOST


def test_a_cost_that_nobody_can_count_is_above_every_limit():
    most, _, _ = parse_cost_limit("999999999.999999 EUR/d")
    assert cost_of(None, 0, 0) == MOST > most
    assert cost_of(prices(MAX_PRICE_MICROS, MAX_PRICE_MICROS), 2**62, 2**62) == MOST


@pytest.mark.parametrize(
    ("micros", "text"),
    [(50_000_000, "50 EUR"), (250_000, "0.25 EUR"), (1, "0.000001 EUR"), (0, "0 EUR")],
)
def test_money_is_written_as_people_do(micros, text):
    assert format_money(micros, "EUR") == text
