"""LiteLLM's rows: whose key comes, until when, under which caps."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from gatelift.arrivals import (
    Arrival,
    ArrivalError,
    Choice,
    Pseudonyms,
    Why,
    caps_yaml,
    carry_litellm,
    parse_rows,
    render_report,
)
from gatelift.terms import Cap, CapUnit, Subject, Window

NOW = 1_790_000_000_000
DAY = 86_400_000


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def key(name: str, **columns: Any) -> dict[str, Any]:
    return {"token": digest(name), "models": [], **columns}


def rows(*keys: dict[str, Any], **tables: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    given = {f"LiteLLM_{name}": found for name, found in tables.items()}
    teams = [{"team_id": "t1"}, {"team_id": "t2", "rpm_limit": 100}]
    return {"LiteLLM_VerificationToken": list(keys), "LiteLLM_TeamTable": teams} | given


def carry(
    tables: dict[str, list[dict[str, Any]]],
    *,
    choice: Choice = Choice.SMALLEST,
    plan_caps: tuple[Cap, ...] = (),
) -> Arrival:
    return carry_litellm(
        None,
        parse_rows(tables),
        model="aurora",
        plan_caps=plan_caps,
        plan_prices=None,
        choice=choice,
        prices=None,
        names=Pseudonyms(b"salt"),
        now_ms=NOW,
    )


def caps(arrival: Arrival) -> dict[str, int]:
    return {cap.key: cap.limit for cap in arrival.caps.caps}


def test_a_key_comes_by_its_digest_for_90_days_or_until_its_own_end() -> None:
    found = carry(rows(key("a", team_id="t1"), key("b", team_id="t1", expires=NOW + DAY)))
    by_digest = {each.key.digest: each for each in found.keys}
    assert by_digest[f"sha256:{digest('a')}"].not_after == NOW + 90 * DAY
    assert by_digest[f"sha256:{digest('b')}"].not_after == NOW + DAY
    assert {each.key.public_id for each in found.keys} == {
        f"sha256-{digest('a')[:32]}",
        f"sha256-{digest('b')[:32]}",
    }


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"blocked": True}, Why.KEY_BLOCKED),
        ({"team_id": "stopped"}, Why.KEY_BLOCKED),
        ({"project_id": "stopped"}, Why.KEY_BLOCKED),
        ({"expires": NOW}, Why.KEY_EXPIRED),
        ({"max_budget": 5.0, "spend": 5.0}, Why.KEY_BUDGET_SPENT),
        ({"team_id": "broke"}, Why.KEY_BUDGET_SPENT),
        ({"organization_id": "broke"}, Why.KEY_BUDGET_SPENT),
        ({"team_id": "t1", "user_id": "member"}, Why.KEY_BUDGET_SPENT),
        ({"models": ["gpt-4o"]}, Why.KEY_OTHER_MODEL),
        ({"models": ["no-default-models"]}, Why.KEY_OTHER_MODEL),
        ({"models": ["auror*"]}, Why.KEY_OTHER_MODEL),
        ({"models": ["all-team-models"], "team_id": "other"}, Why.KEY_OTHER_MODEL),
        ({"token": "sk-in-clear-0123456789"}, Why.KEY_NOT_DIGEST),
        ({"key_type": "management"}, Why.KEY_MANAGEMENT),
        ({"allowed_routes": ["/v1/embeddings"]}, Why.KEY_MANAGEMENT),
        ({"team_id": "litellm-dashboard"}, Why.KEY_DASHBOARD),
        ({"team_id": "gone"}, Why.KEY_UNKNOWN_OWNER),
    ],
)
def test_what_litellm_would_refuse_does_not_come(columns: dict[str, Any], why: Why) -> None:
    found = carry(
        rows(
            key("a", **columns),
            TeamTable=[
                {"team_id": "t1"},
                {"team_id": "stopped", "blocked": True},
                {"team_id": "broke", "max_budget": 1.0, "spend": 2.0},
                {"team_id": "other", "models": ["gpt-4o"]},
            ],
            ProjectTable=[{"project_id": "stopped", "blocked": True}],
            OrganizationTable=[{"organization_id": "broke", "budget_id": "b", "spend": 9.0}],
            BudgetTable=[{"budget_id": "b", "max_budget": 9.0, "budget_duration": "30d"}],
            TeamMembership=[{"user_id": "member", "team_id": "t1", "budget_id": "b", "spend": 9.5}],
        )
    )
    assert not found.keys
    assert [each.why for each in found.left] == [why]
    assert "sk-in-clear" not in repr(found)


@pytest.mark.parametrize(
    "columns",
    [
        {"models": ["aurora", "gpt-4o"]},
        {"models": ["all-proxy-models"]},
        {"models": ["all-team-models"], "team_id": "t1"},
        {"allowed_routes": ["llm_api_routes"]},
        {"key_type": "llm_api", "blocked": False},
        {"max_budget": 5.0, "budget_duration": "30d", "spend": 4.99},
        {"user_id": "default_user_id"},
        {"expires": NOW + 1},
    ],
)
def test_what_litellm_would_serve_comes(columns: dict[str, Any]) -> None:
    assert len(carry(rows(key("a", **columns))).keys) == 1


def test_the_outermost_body_is_the_organisation_and_names_are_pseudonyms() -> None:
    found = carry(
        rows(
            key("a", team_id="inner", user_id="ann@acme.example"),
            key("b", team_id="t1", user_id="ann@acme.example"),
            key("c", team_id="t1"),
            key("d", user_id="bob@acme.example"),
            key("e"),
            TeamTable=[{"team_id": "inner", "organization_id": "acme"}, {"team_id": "t1"}],
            OrganizationTable=[{"organization_id": "acme", "organization_alias": "Acme"}],
            UserTable=[{"user_id": "ann@acme.example"}, {"user_id": "bob@acme.example"}],
        )
    )
    a, b, c, d, e = (
        next(k for k in found.keys if k.key.digest.endswith(digest(name))) for name in "abcde"
    )
    assert a.organisation.startswith("org-")
    assert a.project.startswith("team-")
    assert b.organisation == c.organisation
    assert b.organisation.startswith("team-")
    assert a.principal != b.principal
    assert b.principal != c.principal
    # Keys of no team are one organisation: they never look like several independent ones.
    assert d.organisation == e.organisation
    assert "acme" not in render_report(found).lower()


def test_pseudonyms_hang_on_the_salt_alone() -> None:
    one, same, other = Pseudonyms(b"1"), Pseudonyms(b"1"), Pseudonyms(b"2")
    found = one.of("team", "t1", shown="Alpha")
    assert found == same.of("team", "t1", shown="renamed")
    assert one.names == {found: "t1 / Alpha"}
    assert one.of("team", "t1") != other.of("team", "t1")
    assert one.of("team", "a", "b") != one.of("team", "ab")


def test_the_smallest_limit_of_any_becomes_everybodys_cap_and_the_others_are_named() -> None:
    found = carry(
        rows(
            key("a", team_id="t1", rpm_limit=60, max_parallel_requests=2),
            key("b", team_id="t2", rpm_limit=90),
            key("c", team_id="t2"),
        )
    )
    assert caps(found) == {
        "organisation.requests/min": 100,
        "principal.parallel/none": 2,
        "principal.requests/min": 60,
    }
    effects = sorted((d.cap, d.there, d.here, d.effect) for d in found.caps.differences if d.there)
    assert effects == [("principal.requests/min", 90, 60, "tighter")]
    none = sorted(d.cap for d in found.caps.differences if d.there is None)
    assert none == [
        "organisation.requests/min",
        "principal.parallel/none",
        "principal.parallel/none",
        "principal.requests/min",
    ]


def test_the_largest_limit_on_request_and_whoever_had_less_is_named() -> None:
    found = carry(
        rows(key("a", team_id="t1", rpm_limit=60), key("b", team_id="t1", rpm_limit=90)),
        choice=Choice.LARGEST,
    )
    assert caps(found) == {"principal.requests/min": 90}
    assert [(d.there, d.here, d.effect) for d in found.caps.differences] == [(60, 90, "looser")]


def test_tokens_in_and_out_together_are_never_more_than_there() -> None:
    limited = rows(key("a", team_id="t1", tpm_limit=1001, tpd_limit=50_000))
    assert caps(carry(limited)) == {
        "principal.input_tokens/d": 25_000,
        "principal.input_tokens/min": 500,
        "principal.output_tokens/d": 25_000,
        "principal.output_tokens/min": 500,
    }
    assert caps(carry(limited, choice=Choice.LARGEST))["principal.input_tokens/min"] == 1001


def test_a_budget_row_says_what_the_key_does_not() -> None:
    table = rows(
        key("a", team_id="t1", budget_id="b", rpm_limit=5),
        BudgetTable=[{"budget_id": "b", "rpm_limit": 50, "tpm_limit": 1000}],
    )
    assert caps(carry(table)) == {
        "principal.input_tokens/min": 500,
        "principal.output_tokens/min": 500,
        "principal.requests/min": 5,
    }


def test_limits_of_a_team_inside_an_organisation_are_named() -> None:
    table = rows(
        key("a", team_id="inner"),
        TeamTable=[{"team_id": "inner", "organization_id": "o", "rpm_limit": 10}],
        OrganizationTable=[{"organization_id": "o", "budget_id": "b"}],
        BudgetTable=[{"budget_id": "b", "rpm_limit": 77}],
    )
    found = carry(table)
    assert caps(found) == {"organisation.requests/min": 77}
    assert [each.why for each in found.left] == [Why.PROJECT_LIMIT]


def test_a_proposal_never_loosens_the_plan() -> None:
    def cap(limit: int, window: Window) -> Cap:
        return Cap(subject=Subject.PRINCIPAL, unit=CapUnit.REQUESTS, window=window, limit=limit)

    plan = (cap(30, Window.MINUTE), cap(1000, Window.DAY))
    found = carry(rows(key("a", team_id="t1", rpm_limit=60)), plan_caps=plan, choice=Choice.LARGEST)
    assert set(found.caps.caps) == set(plan)
    assert found.caps.changed == ()
    assert [(d.there, d.here, d.effect) for d in found.caps.differences] == [(60, 30, "tighter")]
    assert caps_yaml(plan, "USD") == "caps:\n  principal:\n    requests: [30/min, 1000/d]\n"


def test_settings_of_a_key_are_named_and_a_row_of_another_shape_is_refused() -> None:
    found = carry(rows(key("a", team_id="t1", settings=["metadata.guardrails"])))
    assert [(each.why, each.what.split(": ")[1]) for each in found.left] == [
        (Why.KEY_SETTING, "metadata.guardrails")
    ]
    with pytest.raises(ArrivalError, match="LiteLLM_VerificationToken") as caught:
        parse_rows(rows(key("a", rpm_limit="PLANTED")))
    assert "PLANTED" not in str(caught.value)


def test_every_reason_has_its_sentence() -> None:
    assert all(why.reason for why in Why)
