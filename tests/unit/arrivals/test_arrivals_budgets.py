"""LiteLLM's budgets as caps on cost: the share of a window, the price, and what is lost.

Expected numbers are worked out by hand, the working beside each.
"""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from gatelift.arrivals import (
    Arrival,
    Choice,
    Pseudonyms,
    Why,
    caps_yaml,
    carry_litellm,
    parse_config,
    parse_rows,
    prices_yaml,
    render_report,
)
from gatelift.terms import Cap, CapUnit, Prices, Subject, Window

PRICED = "{model: m, input_cost_per_token: 0.0000025, output_cost_per_token: 1e-05}"
DEARER = "{model: m, input_cost_per_token: 0.000003, output_cost_per_token: 1e-05}"
NO_PRICE = "{model: m}"
# 0.0000025 and 0.00001 dollars a token are 2.5 and 10 dollars a million.
DOLLARS = Prices(currency="USD", input_micros=2_500_000, output_micros=10_000_000)


def rows(name: str = "a", **columns: Any) -> dict[str, list[dict[str, Any]]]:
    token = hashlib.sha256(name.encode()).hexdigest()
    key = {"token": token, "models": [], "team_id": "t1", **columns}
    return {"LiteLLM_VerificationToken": [key], "LiteLLM_TeamTable": [{"team_id": "t1"}]}


def carry(
    tables: dict[str, list[dict[str, Any]]],
    *deployments: str,
    more: str = "",
    choice: Choice = Choice.SMALLEST,
    prices: Prices | None = None,
    plan_prices: Prices | None = None,
    plan_caps: tuple[Cap, ...] = (),
) -> Arrival:
    listed = "".join(
        f"  - {{model_name: aurora, litellm_params: {each}}}\n" for each in deployments or (PRICED,)
    )
    return carry_litellm(
        parse_config(f"model_list:\n{listed}{more}".encode()),
        parse_rows(tables),
        model="aurora",
        plan_caps=plan_caps,
        plan_prices=plan_prices,
        choice=choice,
        prices=prices,
        names=Pseudonyms(b"salt"),
        now_ms=1_790_000_000_000,
    )


def caps(arrival: Arrival) -> dict[str, int]:
    return {cap.key: cap.limit for cap in arrival.caps.caps}


def money_left(arrival: Arrival) -> list[tuple[str, Why]]:
    """Return what is left of budgets, without the deployments that have no address here."""
    return [
        (each.what.split(": ")[-1], each.why)
        for each in arrival.left
        if each.why not in {Why.NO_ADDRESS, Why.MODELS_IN_DATABASE, Why.OTHER_API}
    ]


@pytest.mark.parametrize("choice", Choice)
@pytest.mark.parametrize(
    ("duration", "cap"),
    [
        ("60s", "principal.cost/min"),
        ("1m", "principal.cost/min"),
        ("1h", "principal.cost/h"),
        ("60m", "principal.cost/h"),
        ("1d", "principal.cost/d"),
        ("24h", "principal.cost/d"),
    ],
)
def test_a_budget_for_one_of_our_windows_is_that_cap(
    duration: str, cap: str, choice: Choice
) -> None:
    table = rows(max_budget=12.5, budget_duration=duration)
    found = carry(table, choice=choice)
    assert caps(found) == {cap: 12_500_000}
    assert money_left(found) == []
    assert (found.prices, found.proposes_prices) == (DOLLARS, True)


@pytest.mark.parametrize(
    ("duration", "cap", "micros", "part"),
    [
        # 300 / 7 = 42.857142857...
        ("7d", "principal.cost/d", 42_857_142, "1/7 of it a day"),
        ("1w", "principal.cost/d", 42_857_142, "1/7 of it a day"),
        # LiteLLM resets both on the first of a month: 300 / 31 = 9.677419354...
        ("30d", "principal.cost/d", 9_677_419, "1/31 of it a day"),
        ("1mo", "principal.cost/d", 9_677_419, "1/31 of it a day"),
        # 300 / 29 = 10.344827586..., 300 / 90 = 3.333333333...
        ("29d", "principal.cost/d", 10_344_827, "1/29 of it a day"),
        ("90d", "principal.cost/d", 3_333_333, "1/90 of it a day"),
        # A day and a half touches two days, 90 seconds two minutes: 300 / 2.
        ("36h", "principal.cost/d", 150_000_000, "1/2 of it a day"),
        ("90s", "principal.cost/min", 150_000_000, "1/2 of it a minute"),
        ("7h", "principal.cost/h", 42_857_142, "1/7 of it an hour"),
        # Twice in a minute there, once here.
        ("30s", "principal.cost/min", 300_000_000, "all of it a minute"),
    ],
)
def test_another_duration_is_a_share_rounded_down_and_the_loss_is_named(
    duration: str, cap: str, micros: int, part: str
) -> None:
    found = carry(rows(max_budget=300.0, budget_duration=duration))
    assert caps(found) == {cap: micros}
    assert money_left(found) == [(f"max_budget, {part}", Why.BUDGET_SHARE)]


@pytest.mark.parametrize(
    ("written", "micros"),
    [
        # 0.1 + 0.2 as a double is 0.30000000000000004: nothing of it is above 0.30.
        (0.1 + 0.2, 300_000),
        (0.0000019, 1),
        # A double just below 2.3 micro-dollars a day.
        (0.0000022999, 2),
        (4.35, 4_350_000),
        # The most that a plan can write is 999,999,999.
        (1e300, 999_999_999_000_000),
        (float("inf"), 999_999_999_000_000),
    ],
)
def test_a_budget_is_whole_micro_dollars_rounded_down(written: float, micros: int) -> None:
    found = carry(rows(max_budget=written, budget_duration="1d"))
    assert caps(found) == {"principal.cost/d": micros}


def test_more_digits_than_a_decimal_computes_with_are_exact() -> None:
    more = "litellm_settings: {max_budget: 0.00000299999999999999999999999999999999999999"
    found = carry(rows(), more=more + ", budget_duration: 1d}\n")
    assert caps(found) == {"stage.cost/d": 2}


def test_a_share_that_a_plan_cannot_write_is_named_and_is_no_cap() -> None:
    # 0.00003 / 31 is below a millionth.
    for written, duration in (("0.00003", "30d"), ("1e-999999999", "1d"), ("0", "1d")):
        more = f"litellm_settings: {{max_budget: {written}, budget_duration: {duration}}}\n"
        found = carry(rows(), more=more)
        assert (caps(found), found.prices) == ({}, None)
        assert money_left(found) == [("max_budget", Why.BUDGET_SMALL)]


@pytest.mark.parametrize(
    ("written", "micros"),
    [
        # Dollars for one token, by 10**12, up to the next whole one.
        ("0.0000025", 2_500_000),
        ("1.5e-07", 150_000),
        ("0.00000012345678", 123_457),
        ("0.000000000000000001", 1),
        ("1e-999999999", 1),
        ("1", 1_000_000_000_000),
    ],
)
def test_a_price_rounds_up(written: str, micros: int) -> None:
    params = f"{{model: m, input_cost_per_token: {written}, output_cost_per_token: 0}}"
    found = carry(rows(max_budget=5.0, budget_duration="1d"), params)
    assert found.prices == Prices(currency="USD", input_micros=micros, output_micros=0)


def test_prices_stand_beside_the_parameters_or_in_model_info() -> None:
    both = "{model: m, input_cost_per_token: 0.0000025}, model_info: {output_cost_per_token: 1e-5}"
    found = carry(rows(max_budget=5.0, budget_duration="1d"), both)
    assert found.prices == DOLLARS


@pytest.mark.parametrize(
    ("deployments", "why"),
    [
        ((NO_PRICE,), Why.MONEY),
        ((PRICED, NO_PRICE), Why.MONEY),
        (("{model: m, input_cost_per_token: 0.0000025}",), Why.MONEY),
        (("{model: m, input_cost_per_token: 1.1, output_cost_per_token: 1}",), Why.MONEY),
        (("{model: m, input_cost_per_token: 1e999999999, output_cost_per_token: 1}",), Why.MONEY),
        ((PRICED, DEARER), Why.PRICES_DIFFER),
        (("{model: m, input_cost_per_token: 0, output_cost_per_token: 0.0}",), Why.PRICE_ZERO),
    ],
)
def test_a_budget_that_no_one_price_counts_is_named_and_prices_given_count_it(
    deployments: tuple[str, ...], why: Why
) -> None:
    table = rows(max_budget=5.0, budget_duration="1d")
    found = carry(table, *deployments)
    assert (caps(found), found.prices, found.proposes_prices) == ({}, None, False)
    assert money_left(found) == [("max_budget", why)]
    given = carry(table, *deployments, prices=DOLLARS)
    assert (caps(given), given.prices) == ({"principal.cost/d": 5_000_000}, DOLLARS)


def test_a_deployment_in_the_database_has_a_price_that_nobody_knows() -> None:
    table = rows(max_budget=5.0, budget_duration="1d")
    table["LiteLLM_ProxyModelTable"] = [{"model_name": "aurora"}]
    assert money_left(carry(table)) == [("max_budget", Why.MONEY)]
    table["LiteLLM_ProxyModelTable"] = [{"model_name": "gpt-4o"}]
    assert caps(carry(table)) == {"principal.cost/d": 5_000_000}


def test_another_models_price_is_not_this_ones() -> None:
    other = "  - {model_name: gpt-4o, litellm_params: " + DEARER + "}\n"
    found = carry(rows(max_budget=5.0, budget_duration="1d"), more=other)
    assert found.prices == DOLLARS


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        (("USD", 2_500_000, 10_000_000), None),
        (("USD", 3_000_000, 12_000_000), None),
        (("USD", 2_499_999, 12_000_000), Why.PLAN_PRICES),
        (("USD", 3_000_000, 9_999_999), Why.PLAN_PRICES),
        (("EUR", 3_000_000, 12_000_000), Why.PLAN_CURRENCY),
    ],
)
def test_a_plans_own_prices_stay_and_never_buy_more_for_the_same_money(
    plan: tuple[str, int, int], why: Why | None
) -> None:
    currency, into, out = plan
    has = Prices(currency=currency, input_micros=into, output_micros=out)
    own = Cap(subject=Subject.PRINCIPAL, unit=CapUnit.COST, window=Window.DAY, limit=9_000_000)
    table = rows(max_budget=5.0, budget_duration="1d")
    found = carry(table, plan_prices=has, plan_caps=(own,))
    assert (found.prices, found.proposes_prices) == (has, False)
    assert caps(found) == {"principal.cost/d": 9_000_000 if why else 5_000_000}
    assert money_left(found) == ([("max_budget", why)] if why else [])
    shown = f"{9 if why else 5} {currency}/d"
    assert f"cost: {shown}" in caps_yaml(found.caps.caps, found.currency)


def test_a_plans_prices_count_budgets_whose_price_is_known_nowhere_else() -> None:
    found = carry(rows(max_budget=5.0, budget_duration="1d"), NO_PRICE, plan_prices=DOLLARS)
    assert caps(found) == {"principal.cost/d": 5_000_000}


def test_a_budget_for_ever_and_one_that_only_warns_are_named() -> None:
    table = rows(max_budget=300.0, budget_id="b")
    table["LiteLLM_BudgetTable"] = [{"budget_id": "b", "soft_budget": 20.0}]
    more = "litellm_settings: {soft_budget: 3}\n"
    found = carry(table, more=more)
    assert caps(found) == {}
    assert money_left(found) == [
        ("litellm_settings.soft_budget", Why.SOFT_BUDGET),
        ("soft_budget", Why.SOFT_BUDGET),
        ("max_budget", Why.NO_WINDOW),
    ]


def test_every_budget_of_whoever_has_a_key_is_a_cap_of_its_subject() -> None:
    table = rows(user_id="u", max_budget=8.0, budget_duration="1d")
    table["LiteLLM_UserTable"] = [{"user_id": "u", "max_budget": 6.0, "budget_duration": "1d"}]
    table["LiteLLM_TeamMembership"] = [{"user_id": "u", "team_id": "t1", "budget_id": "b"}]
    table["LiteLLM_BudgetTable"] = [{"budget_id": "b", "max_budget": 2.0, "budget_duration": "1h"}]
    table["LiteLLM_TeamTable"] = [{"team_id": "t1", "max_budget": 70.0, "budget_duration": "7d"}]
    more = "litellm_settings: {max_budget: 62, budget_duration: 30d}\n"
    found = carry(table, more=more)
    # Of key and user the smaller; 70 / 7; 62 / 31.
    assert caps(found) == {
        "organisation.cost/d": 10_000_000,
        "principal.cost/d": 6_000_000,
        "principal.cost/h": 2_000_000,
        "stage.cost/d": 2_000_000,
    }
    assert caps_yaml(found.caps.caps, "USD") == (
        "caps:\n"
        "  principal:\n"
        "    cost: [6 USD/d, 2 USD/h]\n"
        "  organisation:\n"
        "    cost: 10 USD/d\n"
        "  stage:\n"
        "    cost: 2 USD/d\n"
    )
    assert prices_yaml(DOLLARS) == "prices: {currency: USD, input: 2.5, output: 10}\n"
    assert [why for _, why in money_left(found)] == [Why.BUDGET_SHARE, Why.BUDGET_SHARE]


def test_a_teams_budget_inside_an_organisation_is_no_cap_and_is_named_once() -> None:
    table = rows(team_id="inner")
    inner = {"team_id": "inner", "organization_id": "o", "max_budget": 7.0}
    table["LiteLLM_TeamTable"] = [inner]
    table["LiteLLM_OrganizationTable"] = [{"organization_id": "o", "budget_id": "b"}]
    table["LiteLLM_BudgetTable"] = [{"budget_id": "b", "max_budget": 9.0, "budget_duration": "1d"}]
    found = carry(table)
    assert caps(found) == {"organisation.cost/d": 9_000_000}
    assert [why for _, why in money_left(found)] == [Why.PROJECT_LIMIT]


def test_other_prices_are_named_and_shown_to_be_no_secrets() -> None:
    params = PRICED.removesuffix("}") + ", cache_read_input_token_cost: 1e-7}"
    found = carry(rows(), params + ", model_info: {input_cost_per_second: 1, mode: chat}")
    assert money_left(found) == [
        ("cache_read_input_token_cost", Why.OTHER_PRICE),
        ("input_cost_per_second", Why.OTHER_PRICE),
    ]


def test_the_report_says_money_as_money() -> None:
    table = rows(max_budget=300.0, budget_duration="30d")
    table["LiteLLM_VerificationToken"] += rows("b")["LiteLLM_VerificationToken"]
    page = render_report(carry(table))
    assert "    cost: 9.677419 USD/d\n" in page
    assert "prices: {currency: USD, input: 2.5, output: 10}\n" in page
    assert "| principal.cost/d | none | 9.677419 USD | tighter |" in page
    assert "| budget_share |" in page
