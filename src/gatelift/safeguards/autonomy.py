"""Tools and agent steps: what the scope does not name is denied.

Invariants
- A tool is in scope when the scope sets no limit on tools, or lists exactly this name; names are
  compared whole and by character. An empty list denies every tool.
- A step is one assistant turn that calls tools, however many calls stand side by side in it.
- With `agent_steps` n, a prompt may hold n steps, and an answer may take a step only while the
  prompt holds fewer than n.

Counts what the caller sends: one who rewrites the history hides steps. What a tool does when it
runs is not seen here at all.
"""

from __future__ import annotations

from collections.abc import Sequence

from gatelift.safeguards.parts import Part, PartKind
from gatelift.terms import Scope

__all__ = [
    "AGENT_STEPS_EXCEEDED",
    "AUTONOMY_IDS",
    "TOOL_NOT_IN_SCOPE",
    "count_steps",
    "prompt_violations",
    "tool_violation",
]

AUTONOMY_IDS = ("AML.T0053", "AML.T0086", "LLM06")
"""Invocation of agent tools, exfiltration by them; excessive agency."""

TOOL_NOT_IN_SCOPE = "tool_not_in_scope"
AGENT_STEPS_EXCEEDED = "agent_steps_exceeded"

_CALL = (PartKind.TOOL_CALL_NAME, PartKind.TOOL_CALL_ARGUMENTS)
_NAMED = (PartKind.TOOL_DECLARATION, PartKind.TOOL_CALL_NAME)
_OF_TOOLS = frozenset({*_CALL, *_NAMED})


def count_steps(parts: Sequence[Part]) -> int:
    """Return how many runs of neighbouring tool-call parts a prompt holds."""
    steps = 0
    in_call = False
    for part in parts:
        is_call = part.kind in _CALL
        steps += is_call and not in_call
        in_call = is_call
    return steps


def _in_scope(name: str, scope: Scope) -> bool:
    return scope.tools is None or name in scope.tools


def prompt_violations(parts: Sequence[Part], scope: Scope) -> tuple[tuple[str, int], ...]:
    """Return (rule, number of the part) for each tool outside the scope and for steps too many."""
    # Most prompts declare and call nothing: then there is no name and no step to look at.
    if _OF_TOOLS.isdisjoint([part.kind for part in parts]):
        return ()
    found = []
    if scope.tools is not None:
        found = [
            (TOOL_NOT_IN_SCOPE, number)
            for number, part in enumerate(parts)
            if part.kind in _NAMED and part.text not in scope.tools
        ]
    if scope.agent_steps is not None and count_steps(parts) > scope.agent_steps:
        last = max(number for number, part in enumerate(parts) if part.kind in _CALL)
        found.append((AGENT_STEPS_EXCEEDED, last))
    return tuple(found)


def tool_violation(name: str, scope: Scope, *, steps_taken: int) -> str | None:
    """Return the rule that an emitted call of tool `name` breaks, or None.

    `steps_taken` is how many steps the prompt held.
    """
    if not _in_scope(name, scope):
        return TOOL_NOT_IN_SCOPE
    if scope.agent_steps is not None and steps_taken >= scope.agent_steps:
        return AGENT_STEPS_EXCEEDED
    return None
