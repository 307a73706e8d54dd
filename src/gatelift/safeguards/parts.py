"""Typed parts: what a dialect takes apart and a safeguard looks at.

Invariants
- The list of kinds is closed; text that a dialect cannot name by a kind does not pass.
- A part holds decoded text. Bytes, JSON escapes and transport framing are the dialect's business.

In an answer each pair (kind, channel) is one stream of text; a channel tells apart tool calls and
parallel choices.
"""

from __future__ import annotations

import enum

import msgspec

__all__ = ["Part", "PartKind"]


class PartKind(enum.StrEnum):
    """What a stretch of text is to the exchange."""

    # As the text it is, in C: looked up in a table at each step.
    __hash__ = str.__hash__

    SYSTEM = "system"
    USER = "user"
    ASSISTANT_TEXT = "assistant_text"
    REASONING = "reasoning"
    REFUSAL = "refusal"
    TOOL_DECLARATION = "tool_declaration"
    TOOL_CALL_NAME = "tool_call_name"
    TOOL_CALL_ARGUMENTS = "tool_call_arguments"
    TOOL_RESULT = "tool_result"


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One stretch of text and its kind; of a declared or called tool the text is its name."""

    kind: PartKind
    text: str
