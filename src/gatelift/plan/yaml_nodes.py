"""YAML bytes as a tree of nodes with places, and nothing else of what YAML can do.

Invariants
- Built from parser events: no tag is resolved, no object constructed, no type guessed. A plain
  scalar is text until a field's kind reads it, so `no` and `1e3` mean one thing.
- Refused, each with its place: anchors, aliases, tags, merge keys, directives, a second document,
  duplicate keys, keys that are not plain words, unreadable characters.
- Bounds on bytes, nesting and nodes hold while reading, before a tree exists.

Does not know any field.

Follows YAML 1.2.2 as far as it goes: the subset that every parser reads alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import msgspec
from ruamel.yaml import YAML, events
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError

from gatelift.plan.problems import Report, path_part, shown

__all__ = ["MAX_BYTES", "MAX_DEPTH", "Broken", "ListNode", "MapNode", "Node", "Scalar", "load"]

MAX_BYTES = 256 * 1024
MAX_DEPTH = 16
MAX_NODES = 20_000


class Scalar(msgspec.Struct, frozen=True, kw_only=True):
    """Text as it stands; `plain` when it has no quotes."""

    text: str
    plain: bool
    line: int
    column: int


class ListNode(msgspec.Struct, frozen=True, kw_only=True):
    """Items in order."""

    items: tuple[Node, ...]
    line: int
    column: int


class MapNode(msgspec.Struct, frozen=True, kw_only=True):
    """Keys and values in order, each key once."""

    pairs: tuple[tuple[Scalar, Node], ...]
    line: int
    column: int


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was refused and reported already; readers pass it by in silence."""

    line: int
    column: int


Node: TypeAlias = Scalar | ListNode | MapNode | Broken


class _Place(msgspec.Struct, frozen=True, kw_only=True):
    line: int
    column: int


class _StopReadingError(Exception):
    """Raised inside this module when reading on makes no sense; the problem is reported."""


class _Open:
    """A list or mapping whose end has not come yet."""

    def __init__(self, *, is_map: bool, place: _Place) -> None:
        self.is_map = is_map
        self.place = place
        self.items: list[Node] = []
        self.pairs: list[tuple[Scalar, Node]] = []
        self.seen: set[str] = set()
        self.key: Node | None = None

    def close(self) -> Node:
        if self.is_map:
            return MapNode(pairs=tuple(self.pairs), line=self.place.line, column=self.place.column)
        return ListNode(items=tuple(self.items), line=self.place.line, column=self.place.column)


def load(data: bytes, report: Report) -> Node | None:
    """Return the root node of one YAML document, or None; what is wrong goes to `report`."""
    if len(data) > MAX_BYTES:
        report.add("", f"expected at most {MAX_BYTES} bytes, got {len(data)}", "a shorter plan")
        return None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        place = _Place(line=data.count(b"\n", 0, error.start) + 1, column=1)
        report.add("", "expected UTF-8", "the file in UTF-8", at=place)
        return None
    if text.startswith("\ufeff"):
        report.add("", "expected no byte order mark", "the file without one")
        return None
    try:
        return _Reader(report).read(YAML(typ="safe", pure=True).parse(text))
    except _StopReadingError:
        return None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = _Place(line=mark.line + 1, column=mark.column + 1) if mark else None
        report.add("", f"expected YAML: {error.problem or error.context}", "valid YAML", at=at)
    except ReaderError as error:
        place = _Place(line=text.count("\n", 0, error.position) + 1, column=1)
        report.add("", "expected readable characters", "text without control characters", at=place)
    except (YAMLError, ValueError, OverflowError) as error:
        # An escape such as "\UFFFFFFFF" ends in a ValueError of the parser itself.
        report.add("", f"expected YAML: {shown(str(error))}", "valid YAML")
    return None


class _Reader:
    def __init__(self, report: Report) -> None:
        self._report = report
        self._stack: list[_Open] = []
        self._root: Node | None = None
        self._documents = 0
        self._nodes = 0

    def read(self, stream: Iterator[Any]) -> Node | None:
        for event in stream:
            place = _Place(line=event.start_mark.line + 1, column=event.start_mark.column + 1)
            match event:
                case events.DocumentStartEvent():
                    self._document(event, place)
                case events.AliasEvent():
                    self._refuse(place, "expected no alias", "the value itself")
                    self._value(Broken(line=place.line, column=place.column))
                case events.ScalarEvent():
                    self._check(event, place)
                    self._value(self._scalar(event, place))
                case events.SequenceStartEvent() | events.MappingStartEvent():
                    self._check(event, place)
                    is_map = isinstance(event, events.MappingStartEvent)
                    self._stack.append(_Open(is_map=is_map, place=place))
                    if len(self._stack) > MAX_DEPTH:
                        self._refuse(
                            place, f"expected at most {MAX_DEPTH} levels", "it less deeply nested"
                        )
                        raise _StopReadingError
                case events.SequenceEndEvent() | events.MappingEndEvent():
                    self._value(self._stack.pop().close())
                case _:
                    pass
        if self._root is None and not self._documents:
            self._report.add("", "expected a plan, got an empty file", "a plan")
        return self._root

    def _refuse(self, place: _Place, message: str, write_instead: str) -> None:
        self._report.add(self._path(), message, write_instead, at=place)

    def _path(self) -> str:
        parts: list[str] = []
        for opened in self._stack:
            if not opened.is_map:
                parts.append(f"[{len(opened.items)}]")
            elif isinstance(opened.key, Scalar):
                parts.append(f".{path_part(opened.key.text)}")
        return "".join(parts).removeprefix(".")

    def _document(self, event: Any, place: _Place) -> None:
        self._documents += 1
        if event.version or event.tags:
            self._refuse(place, "expected no % directive", "the plan without it")
        if self._documents > 1:
            self._refuse(place, "expected one document, got another", "one plan a file")
            raise _StopReadingError

    def _check(self, event: Any, place: _Place) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES or self._report.full:
            self._refuse(place, f"expected at most {MAX_NODES} values", "a shorter plan")
            raise _StopReadingError
        if event.anchor is not None:
            self._refuse(place, f"expected no anchor, got &{event.anchor[:40]}", "the value itself")
        if event.tag is not None:
            self._refuse(place, f"expected no tag, got {shown(str(event.tag))}", "the value alone")

    def _scalar(self, event: Any, place: _Place) -> Node:
        text = str(event.value)
        # Escapes in quotes can smuggle in what the reader refuses as a character.
        if any(ord(char) < 32 and char not in "\n\t" for char in text) or any(
            "\ud800" <= char <= "\udfff" for char in text
        ):
            self._refuse(place, "expected readable characters", "text without control characters")
            return Broken(line=place.line, column=place.column)
        return Scalar(text=text, plain=event.style is None, line=place.line, column=place.column)

    def _value(self, node: Node) -> None:
        if not self._stack:
            self._root = node
            return
        top = self._stack[-1]
        if not top.is_map:
            top.items.append(node)
        elif top.key is None:
            top.key = node
        else:
            key, top.key = top.key, None
            self._pair(top, key, node)

    def _pair(self, top: _Open, key: Node, value: Node) -> None:
        place = _Place(line=key.line, column=key.column)
        if isinstance(key, Broken):
            return
        if not isinstance(key, Scalar):
            self._refuse(place, "expected a word as key, got a list or mapping", "a plain key")
        elif key.text == "<<":
            self._refuse(place, "expected no merge key <<", "the keys themselves")
        elif key.text in top.seen:
            self._refuse(place, f"duplicate key {shown(key.text)}", "each key once")
        else:
            top.seen.add(key.text)
            top.pairs.append((key, value))
