"""JSON Schema of the plan file, for editors.

Invariants
- Made from the field tables that the parser reads, so the two cannot drift apart.
- What the schema refuses, the parser refuses; the parser refuses more (bounds of durations, checks
  of the whole plan), because a schema cannot say it.

Follows JSON Schema 2020-12.
"""

from __future__ import annotations

from typing import Any

from gatelift.plan.fields import API_VERSION, PLAN

__all__ = ["plan_json_schema"]


def plan_json_schema() -> dict[str, Any]:
    """Return the schema of the YAML form of a plan."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Gatelift release plan ({API_VERSION})",
        **PLAN.schema(),
    }
