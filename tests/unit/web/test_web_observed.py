"""The page says what a stage records and does not enforce."""

from __future__ import annotations

from gatelift.cli.plan_template import PlanSize, render_plan
from gatelift.plan import parse_plan
from gatelift.web.allowances import describe_observed


def test_observed_terms_are_called_not_enforced() -> None:
    plan = parse_plan(render_plan(release="r", model="m", size=PlanSize.SMALL, observe=True))
    (term,) = describe_observed(plan.stage("internal").observe)
    assert "NOT enforced" in term.name
    assert "each principal: 120 requests a minute" in term.text
    assert "misuse: block" in term.text


def test_a_stage_that_enforces_all_it_says_has_no_such_line() -> None:
    assert describe_observed(None) == ()
