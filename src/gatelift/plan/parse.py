"""A plan file's bytes to a checked `Plan`, or every problem at once.

Invariants
- `parse_plan` returns a plan that was checked as a whole, or raises `PlanError`; nothing else.
- Nothing in the file is executed, resolved or fetched.

The steps: `yaml_nodes.load` (bytes to nodes), `fields.PLAN` (nodes to values), `checks.check_plan`
(values against each other), `build.build_plan` (values to the model).

Does not read files: the caller hands over bytes and keeps them, their digest being the identity.
"""

from __future__ import annotations

from gatelift.plan.build import build_plan
from gatelift.plan.checks import check_plan
from gatelift.plan.fields import PLAN
from gatelift.plan.kinds import Bad
from gatelift.plan.model import Plan
from gatelift.plan.problems import PlanError, Report
from gatelift.plan.yaml_nodes import load

__all__ = ["parse_plan"]


def parse_plan(data: bytes) -> Plan:
    """Return the checked plan of a YAML file's bytes, or raise `PlanError` with all problems."""
    report = Report()
    root = load(data, report)
    if root is None:
        report.raise_if_any()
        report.add("", "expected a plan, got nothing", "a plan")
    else:
        tree = PLAN.read(root, "", report)
        if not isinstance(tree, Bad):
            check_plan(tree, report)
            report.raise_if_any()
            return build_plan(tree)
    report.raise_if_any()
    # Unreachable: a value is refused only with a report.
    raise PlanError(())
