"""Kinds of single values in a plan: how each is read from text and said in JSON Schema.

Invariants
- Reading and schema come from the same object, so the two cannot drift apart.
- `read` returns the value or `BAD` after reporting why; it never guesses and never raises.
- What two YAML parsers could read differently (`no`, `1e3`, `2026-01-01`, `~`) is refused where
  text is wanted, and numbers are exact decimals from their own digits.

Does not know the meaning of any field.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, Protocol, TypeVar

from gatelift.encoding import parse_digest
from gatelift.errors import CallerError
from gatelift.plan.problems import Report, shown
from gatelift.plan.yaml_nodes import Broken, ListNode, MapNode, Node, Scalar
from gatelift.terms import format_duration, parse_amount, parse_duration_ms, parse_number

__all__ = [
    "BAD",
    "Bad",
    "Digest",
    "Duration",
    "Flag",
    "Kind",
    "Nullable",
    "Number",
    "OrWord",
    "Text",
    "Whole",
    "Word",
    "describe",
    "expected",
    "is_text",
]

T = TypeVar("T")

# What YAML 1.1 or 1.2 reads as something other than text when it stands without quotes.
_AMBIGUOUS = re.compile(
    r"|~|null|true|false|yes|no|on|off|y|n"
    r"|[-+]?(0b[01_]+|0x[\da-f_]+|0o[0-7]+|\.?\d[\d_]*(:\d+)*(\.[\d_]*)?(e[-+]?\d+)?)"
    r"|\d{4}-\d\d?-\d\d?([T ].*)?"
    r"|[-+]?\.(inf|nan)",
    re.ASCII | re.IGNORECASE,
)
_AMOUNT_PATTERN = "^(0|[1-9][0-9]{0,15})[kMG]?$"
_DURATION_PATTERN = "^(0|[1-9][0-9]{0,15})(ms|s|min|h|d)$"


class Bad(enum.Enum):
    """The mark of a value that was refused; `BAD` is the only one."""

    BAD = "bad"


BAD: Final = Bad.BAD


class Kind(Protocol):
    """How one value is read and described."""

    def read(self, node: Node, path: str, report: Report) -> Any:
        """Return the value, or `BAD` after reporting."""

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the written form."""


def describe(node: Node) -> str:
    """Return what a node is, for `got ...`."""
    match node:
        case Scalar(text="", plain=True):
            return "nothing"
        case Scalar():
            return shown(node.text)
        case ListNode():
            return "a list"
        case MapNode():
            return "a mapping"
        case Broken():
            return "something unreadable"


def expected(node: Node, path: str, report: Report, what: str, write_instead: str) -> Bad:
    """Report `expected <what>, got <node>` unless the node was reported already; return `BAD`."""
    if not isinstance(node, Broken):
        report.add(path, f"expected {what}, got {describe(node)}", write_instead, at=node)
    return BAD


def is_text(node: Node) -> bool:
    """Return whether every YAML parser reads the node as text."""
    return isinstance(node, Scalar) and not (node.plain and _AMBIGUOUS.fullmatch(node.text))


@dataclass(frozen=True, kw_only=True)
class Text:
    """Text of a given form. `form` says it in words, `example` is written in messages."""

    pattern: str
    form: str
    example: str

    def read(self, node: Node, path: str, report: Report) -> str | Bad:
        """Return the text."""
        if isinstance(node, Scalar) and not is_text(node):
            return expected(node, path, report, f"{self.form} as text", f'"{node.text[:40]}"')
        if not isinstance(node, Scalar) or re.fullmatch(self.pattern, node.text) is None:
            return expected(node, path, report, self.form, self.example)
        return node.text

    def schema(self) -> dict[str, Any]:
        """Return a string with its pattern."""
        return {"type": "string", "pattern": f"^(?:{self.pattern})$"}


@dataclass(frozen=True, kw_only=True)
class Digest:
    """A digest, `sha256:` and 64 lowercase hex digits."""

    def read(self, node: Node, path: str, report: Report) -> str | Bad:
        """Return the digest as text."""
        form = "a digest of sha256: and 64 lowercase hex digits"
        try:
            if isinstance(node, Scalar):
                return parse_digest(node.text)
        except CallerError:
            return expected(node, path, report, form, "sha256:<64 hex digits>, or null")
        return expected(node, path, report, form, "sha256:<64 hex digits>, or null")

    def schema(self) -> dict[str, Any]:
        """Return a string with its pattern."""
        return {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}


@dataclass(frozen=True, kw_only=True)
class Word:
    """A word of a closed list. `refused` are known words that are not open here, with the reason."""

    words: tuple[Any, ...]
    refused: Mapping[str, str] = field(default_factory=dict)

    def read(self, node: Node, path: str, report: Report) -> Any:
        """Return the member of the list."""
        known = " or ".join(str(word) for word in self.words)
        if isinstance(node, Scalar):
            if node.text in self.refused:
                report.add(path, self.refused[node.text], known, at=node)
                return BAD
            for word in self.words:
                if node.text == word:
                    return word
        return expected(node, path, report, f"one of {known}", known)

    def schema(self) -> dict[str, Any]:
        """Return the list of words."""
        return {"enum": [str(word) for word in self.words]}


@dataclass(frozen=True, kw_only=True)
class Whole:
    """A whole number between `low` and `high`, with optional k, M, G."""

    low: int
    high: int

    def read(self, node: Node, path: str, report: Report) -> int | Bad:
        """Return the number."""
        what = f"a whole number from {self.low} to {self.high}"
        value = _quantity(node, parse_amount)
        if value is None or not self.low <= value <= self.high:
            return expected(node, path, report, what, f"{self.low} or more, such as 500k")
        return value

    def schema(self) -> dict[str, Any]:
        """Return a bounded integer, or its written form with k, M, G."""
        return {
            "anyOf": [
                {"type": "integer", "minimum": self.low, "maximum": self.high},
                {"type": "string", "pattern": _AMOUNT_PATTERN},
            ]
        }


@dataclass(frozen=True, kw_only=True)
class Number:
    """An exact decimal from `low` to `high`; `below` makes the upper end exclusive."""

    low: Decimal
    high: Decimal
    below: bool = False

    def read(self, node: Node, path: str, report: Report) -> Decimal | Bad:
        """Return the number."""
        end = "below" if self.below else "to"
        what = f"a decimal number from {self.low} {end} {self.high}"
        value = _quantity(node, parse_number, plain_only=True)
        if (
            value is None
            or not self.low <= value <= self.high
            or (self.below and value == self.high)
        ):
            return expected(node, path, report, what, "a decimal without quotes, such as 0.05")
        return value

    def schema(self) -> dict[str, Any]:
        """Return a bounded number."""
        end = "exclusiveMaximum" if self.below else "maximum"
        return {"type": "number", "minimum": _plain(self.low), end: _plain(self.high)}


@dataclass(frozen=True, kw_only=True)
class Duration:
    """A duration between two bounds, in milliseconds once read."""

    low_ms: int
    high_ms: int

    def read(self, node: Node, path: str, report: Report) -> int | Bad:
        """Return milliseconds."""
        low, high = format_duration(self.low_ms), format_duration(self.high_ms)
        if isinstance(node, Scalar) and re.fullmatch(r"\d+bd", node.text, re.ASCII):
            report.add(
                path, "this version does not enforce business days", "a duration in d or h", at=node
            )
            return BAD
        value = _quantity(node, parse_duration_ms)
        if value is None or not self.low_ms <= value <= self.high_ms:
            what = f"a duration from {low} to {high}"
            return expected(node, path, report, what, "a duration such as 10s, 5min, 72h or 14d")
        return value

    def schema(self) -> dict[str, Any]:
        """Return the written form; the bounds are the parser's."""
        return {"type": "string", "pattern": _DURATION_PATTERN}


@dataclass(frozen=True, kw_only=True)
class Flag:
    """`true` or `false`, in exactly this spelling."""

    def read(self, node: Node, path: str, report: Report) -> bool | Bad:
        """Return the truth value."""
        if isinstance(node, Scalar) and node.plain and node.text in {"true", "false"}:
            return node.text == "true"
        return expected(node, path, report, "true or false", "true or false")

    def schema(self) -> dict[str, Any]:
        """Return a boolean."""
        return {"type": "boolean"}


@dataclass(frozen=True, kw_only=True)
class Nullable:
    """A kind, or `null` where the value is not known."""

    kind: Kind

    def read(self, node: Node, path: str, report: Report) -> Any:
        """Return the value or None."""
        if isinstance(node, Scalar) and node.plain and node.text == "null":
            return None
        return self.kind.read(node, path, report)

    def schema(self) -> dict[str, Any]:
        """Return the kind's schema or null."""
        return {"anyOf": [self.kind.schema(), {"type": "null"}]}


@dataclass(frozen=True, kw_only=True)
class OrWord:
    """A kind, or one `word` that stands for `value`."""

    word: str
    value: Any
    kind: Kind

    def read(self, node: Node, path: str, report: Report) -> Any:
        """Return the value."""
        if isinstance(node, Scalar) and node.text == self.word:
            return self.value
        return self.kind.read(node, path, report)

    def schema(self) -> dict[str, Any]:
        """Return the word or the kind's schema."""
        return {"anyOf": [{"const": self.word}, self.kind.schema()]}


def _quantity(node: Node, parse: Callable[[str], T], *, plain_only: bool = False) -> T | None:
    if not isinstance(node, Scalar) or (plain_only and not node.plain):
        return None
    try:
        return parse(node.text)
    except CallerError:
        return None


def _plain(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)
