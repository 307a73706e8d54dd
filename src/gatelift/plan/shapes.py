"""Shapes of a plan: records of named fields, lists, maps by name, and limits of caps.

Invariants
- A record refuses keys that it does not know and names the nearest one that it does; keys of the
  design that this version does not enforce are refused by name.
- Reading goes on after a problem, so that one parse finds all. A list keeps `BAD` in the place of
  a refused item, so that positions stay true; a record leaves a refused field out.

Does not check one field against another: that is `plan.checks` and `plan.stage_checks`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gatelift.encoding import MAX_SAFE_INTEGER
from gatelift.errors import CallerError
from gatelift.plan.kinds import BAD, Bad, Kind, expected, is_text
from gatelift.plan.problems import Report, path_part, shown
from gatelift.plan.yaml_nodes import ListNode, MapNode, Node, Scalar
from gatelift.terms import Window, parse_windowed

__all__ = ["CapLimits", "Field", "ListOf", "MapOf", "Record", "WrittenLimit", "limits_of"]

_MAX_NAME_CHARS = 60


@dataclass(frozen=True, kw_only=True)
class Field:
    """One key of a record. `says` is its one-line meaning, in the schema too."""

    name: str
    kind: Kind
    says: str
    required: bool = True


@dataclass(frozen=True, kw_only=True)
class Record:
    """A mapping with known keys. `title` names it in messages; `unenforced` maps to what to do."""

    title: str
    fields: tuple[Field, ...]
    unenforced: Mapping[str, str] = field(default_factory=dict)

    def read(self, node: Node, path: str, report: Report) -> dict[str, Any] | Bad:
        """Return the fields that are given and valid."""
        if not isinstance(node, MapNode):
            keys = ", ".join(each.name for each in self.fields[:3])
            return expected(node, path, report, f"a mapping ({self.title})", f"{{{keys}, ...}}")
        known = {each.name: each for each in self.fields}
        values: dict[str, Any] = {}
        given = set()
        for key, value in node.pairs:
            inner = f"{path}.{path_part(key.text)}" if path else path_part(key.text)
            if key.text not in known:
                self._refuse(key, inner, report)
                continue
            given.add(key.text)
            report.place(inner, value)
            found = known[key.text].kind.read(value, inner, report)
            if found is not BAD:
                values[key.text] = found
        for name, each in known.items():
            if each.required and name not in given:
                report.add(
                    f"{path}.{name}" if path else name,
                    f"expected the key {name} in {self.title}",
                    f"{name}: {each.says}",
                    at=node,
                )
        return values

    def _refuse(self, key: Scalar, path: str, report: Report) -> None:
        if report.full:
            return
        if key.text in self.unenforced:
            message = f"this version does not enforce {key.text}"
            report.add(path, message, self.unenforced[key.text], at=key)
            return
        names = [each.name for each in self.fields]
        close = difflib.get_close_matches(key.text[:_MAX_NAME_CHARS], names, n=1, cutoff=0.6)
        report.add(
            path,
            f"unknown key {shown(key.text)} in {self.title}",
            close[0] if close else f"one of {', '.join(names)}",
            at=key,
        )

    def schema(self) -> dict[str, Any]:
        """Return an object with these properties and no others."""
        properties = {
            each.name: {"description": each.says, **each.kind.schema()} for each in self.fields
        }
        return {
            "type": "object",
            "additionalProperties": False,
            "required": [each.name for each in self.fields if each.required],
            "properties": properties,
        }


@dataclass(frozen=True, kw_only=True)
class ListOf:
    """A list of `low` to `high` items."""

    kind: Kind
    low: int = 0
    high: int = 64
    unique: bool = False

    def read(self, node: Node, path: str, report: Report) -> tuple[Any, ...] | Bad:
        """Return the items, `BAD` in the place of refused ones."""
        if not isinstance(node, ListNode) or not self.low <= len(node.items) <= self.high:
            size = f"{self.low} to {self.high}"
            return expected(
                node, path, report, f"a list of {size} items", f"a list of {size} items"
            )
        values: list[Any] = []
        for index, item in enumerate(node.items):
            inner = f"{path}[{index}]"
            report.place(inner, item)
            found = self.kind.read(item, inner, report)
            if self.unique and found is not BAD and found in values:
                report.add(inner, f"{shown(str(found))} stands twice", "it once", at=item)
            values.append(found)
        return tuple(values)

    def schema(self) -> dict[str, Any]:
        """Return an array of bounded length."""
        schema: dict[str, Any] = {"type": "array", "items": self.kind.schema()}
        if self.low:
            schema["minItems"] = self.low
        if self.unique:
            schema["uniqueItems"] = True
        return {**schema, "maxItems": self.high}


@dataclass(frozen=True, kw_only=True)
class MapOf:
    """A mapping from names of a given form to values of one kind."""

    pattern: str
    form: str
    kind: Kind
    high: int = 64

    def read(self, node: Node, path: str, report: Report) -> dict[str, Any] | Bad:
        """Return the entries that are valid."""
        if not isinstance(node, MapNode) or len(node.pairs) > self.high:
            what = f"a mapping of at most {self.high} names"
            return expected(node, path, report, what, "{name: {...}}")
        values: dict[str, Any] = {}
        for key, value in node.pairs:
            inner = f"{path}.{path_part(key.text)}"
            report.place(inner, value)
            if re.fullmatch(self.pattern, key.text) is None or not is_text(key):
                report.add(
                    inner, f"expected {self.form}, got {shown(key.text)}", "such a name", at=key
                )
                continue
            found = self.kind.read(value, inner, report)
            if found is not BAD:
                values[key.text] = found
        return values

    def schema(self) -> dict[str, Any]:
        """Return an object whose property names have the form."""
        return {
            "type": "object",
            "propertyNames": {"pattern": f"^(?:{self.pattern})$"},
            "additionalProperties": self.kind.schema(),
            "maxProperties": self.high,
        }


class WrittenLimit(NamedTuple):
    """One limit of a cap as the file has it; only money has a currency, and is in micro-units."""

    limit: int
    window: Window
    currency: str = ""


def limits_of(
    node: Node,
    path: str,
    report: Report,
    parse: Callable[[str], WrittenLimit | None],
    form: str,
    example: str,
) -> tuple[WrittenLimit, ...] | None:
    """Return one limit or a list of them, each window once; null after reporting.

    `parse` returns null, or raises `CallerError`, for text that is no limit.
    """
    found: list[WrittenLimit] = []
    for item in node.items if isinstance(node, ListNode) else (node,):
        try:
            limit = parse(item.text) if isinstance(item, Scalar) else None
        except CallerError:
            limit = None
        if limit is None:
            expected(item, path, report, form, example)
            return None
        if limit.window in {each.window for each in found}:
            message = f"a limit per {limit.window} stands twice"
            report.add(path, message, "one limit a window", at=item)
            return None
        found.append(limit)
    if not found:
        expected(node, path, report, form, example)
        return None
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class CapLimits:
    """The limits of one unit: `60/min`, or a list `[60/min, 5k/d]`; without a window one number."""

    windowed: bool

    def read(self, node: Node, path: str, report: Report) -> tuple[WrittenLimit, ...] | Bad:
        """Return the limits, each window once."""
        if not self.windowed and isinstance(node, ListNode):
            return expected(node, path, report, self._form(), self._example())
        found = limits_of(node, path, report, self._one, self._form(), self._example())
        return BAD if found is None else found

    def _one(self, text: str) -> WrittenLimit | None:
        limit, window = parse_windowed(text)
        if limit < 1 or (window is not Window.NONE) != self.windowed:
            return None
        return WrittenLimit(limit, window)

    def _form(self) -> str:
        if self.windowed:
            return "a limit of 1 or more in a window of /min, /h or /d"
        return "a whole number of 1 or more without a window"

    def _example(self) -> str:
        return "60/min, or a list such as [60/min, 500k/d]" if self.windowed else "4"

    def schema(self) -> dict[str, Any]:
        """Return one limit or a list of them."""
        if not self.windowed:
            return {
                "anyOf": [
                    {"type": "integer", "minimum": 1, "maximum": MAX_SAFE_INTEGER},
                    {"type": "string", "pattern": "^[1-9][0-9]{0,15}[kMG]?$"},
                ]
            }
        one = {"type": "string", "pattern": "^[1-9][0-9]{0,15}[kMG]?/(min|h|d)$"}
        return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1, "maxItems": 3}]}
