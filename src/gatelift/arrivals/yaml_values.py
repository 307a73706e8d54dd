"""Somebody else's YAML as values that know their line.

Unlike the plan's reader this one takes what such files hold in practice: anchors, aliases, merge
keys. It resolves no tag and guesses no type: a scalar stays text until somebody asks what it is.

Invariants
- Bytes, depth and nodes are bounded; an alias is read once, however often it is used.
- Duplicate keys are refused: two readers could see two files.
- No error quotes a value.

Follows YAML 1.2.2; `<<` as in the YAML 1.1 merge type.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, TypeAlias

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from gatelift.arrivals.errors import ArrivalError

__all__ = ["Items", "Map", "Text", "Value", "load_yaml"]

_MAX_BYTES = 4 * 1024 * 1024
_MAX_NODES = 200_000
_MAX_DEPTH = 40
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "yes", "on", "1"})


class Text(msgspec.Struct, frozen=True, kw_only=True):
    """A scalar as it stands; `plain` when it has no quotes."""

    text: str
    plain: bool
    line: int

    @property
    def is_null(self) -> bool:
        """Whether it is YAML's way to say nothing."""
        return self.plain and self.text in _NULLS

    @property
    def is_true(self) -> bool:
        """Whether it says yes, as LiteLLM's own reader would take it."""
        return self.text.lower() in _TRUE


class Items(msgspec.Struct, frozen=True, kw_only=True):
    """A list."""

    items: tuple[Value, ...]
    line: int


class Map(msgspec.Struct, frozen=True, kw_only=True):
    """A mapping, each key once, in the file's order."""

    pairs: Mapping[str, Value]
    line: int

    def text(self, name: str) -> str | None:
        """Return the text under a key, null if there is none; raises for a list or mapping."""
        value = self.pairs.get(name)
        if value is None or (isinstance(value, Text) and value.is_null):
            return None
        if not isinstance(value, Text):
            raise ArrivalError(f"{name}: expected one value", line=value.line)
        return value.text

    def number(self, name: str) -> Decimal | None:
        """Return a number of 0 or more, null if there is none; raises for anything else."""
        text = self.text(name)
        if text is None:
            return None
        try:
            found = Decimal(text)
        except InvalidOperation:
            found = Decimal(-1)
        if not found.is_finite() or found < 0:
            raise ArrivalError(
                f"{name}: expected a number of 0 or more", line=self.pairs[name].line
            )
        return found

    def whole(self, name: str) -> int | None:
        """Return a whole number of 0 or more, null if there is none."""
        found = self.number(name)
        if found is not None and found != found.to_integral_value():
            raise ArrivalError(f"{name}: expected a whole number", line=self.pairs[name].line)
        return None if found is None else int(found)

    def map(self, name: str) -> Map | None:
        """Return the mapping under a key, null if there is none."""
        value = self.pairs.get(name)
        if value is None or (isinstance(value, Text) and value.is_null):
            return None
        if not isinstance(value, Map):
            raise ArrivalError(f"{name}: expected a mapping", line=value.line)
        return value

    def items(self, name: str) -> tuple[Value, ...]:
        """Return the list under a key, empty if there is none."""
        value = self.pairs.get(name)
        if value is None or (isinstance(value, Text) and value.is_null):
            return ()
        if not isinstance(value, Items):
            raise ArrivalError(f"{name}: expected a list", line=value.line)
        return value.items


Value: TypeAlias = Text | Items | Map


def load_yaml(data: bytes) -> Map:
    """Return the mapping that one YAML document is; raises `ArrivalError` with the line."""
    if len(data) > _MAX_BYTES:
        raise ArrivalError(f"expected at most {_MAX_BYTES} bytes, got {len(data)}")
    try:
        root = YAML(typ="safe", pure=True).compose(data.decode("utf-8"))
        found = None if root is None else _Reader().read(root, 0)
    except UnicodeDecodeError as error:
        raise ArrivalError("expected UTF-8", line=data.count(b"\n", 0, error.start) + 1) from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        # Only the parser's own words: its snippet would quote the file.
        raise ArrivalError(
            "expected YAML; the parser stops here", line=mark.line + 1 if mark else None
        ) from None
    except (YAMLError, ValueError, OverflowError, RecursionError):
        raise ArrivalError("expected YAML of moderate depth with readable characters") from None
    if not isinstance(found, Map):
        raise ArrivalError("expected a mapping at the top of the file", line=1)
    return found


class _Reader:
    def __init__(self) -> None:
        self._done: dict[int, Value] = {}
        self._open: set[int] = set()

    def read(self, node: Any, depth: int) -> Value:
        line = node.start_mark.line + 1
        held = self._done.get(id(node))
        if held is not None:
            return held
        if id(node) in self._open or depth > _MAX_DEPTH or len(self._done) > _MAX_NODES:
            raise ArrivalError("expected a smaller file that does not contain itself", line=line)
        self._open.add(id(node))
        value: Value
        if node.id == "scalar":
            value = Text(text=str(node.value), plain=node.style is None, line=line)
        elif node.id == "sequence":
            value = Items(items=tuple(self.read(n, depth + 1) for n in node.value), line=line)
        else:
            value = Map(pairs=self._pairs(node, depth), line=line)
        self._open.discard(id(node))
        self._done[id(node)] = value
        return value

    def _pairs(self, node: Any, depth: int) -> dict[str, Value]:
        own: dict[str, Value] = {}
        merged: dict[str, Value] = {}
        for key, inner in node.value:
            line = key.start_mark.line + 1
            if key.id != "scalar":
                raise ArrivalError("expected a word as key", line=line)
            value = self.read(inner, depth + 1)
            if key.value == "<<" and key.style is None:
                for each in value.items if isinstance(value, Items) else (value,):
                    if not isinstance(each, Map):
                        raise ArrivalError("expected a mapping to merge", line=line)
                    # Of several the first one wins, and the mapping's own keys win over all.
                    merged = {**each.pairs, **merged}
            elif key.value in own:
                raise ArrivalError("expected each key once, this one stands twice", line=line)
            else:
                own[str(key.value)] = value
        return {**merged, **own}
