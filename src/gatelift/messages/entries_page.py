"""docs/reference/entries.md, made from the shapes and roles that `verify_body` goes by."""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec

from gatelift.encoding import Digest
from gatelift.messages.authority import may_sign
from gatelift.messages.entries import PREDICATES, EntryHeader, EntryKind
from gatelift.messages.notice import NoticeProofs
from gatelift.messages.records import BatchEntry, Beat, Finish, Start
from gatelift.trust import Certificate, Clear, Grant, KeyId, NoticedRoot, Order, Root

__all__ = ["render_entries"]

_SHAPES: dict[EntryKind, type[msgspec.Struct]] = {
    EntryKind.ROOT: Root,
    EntryKind.CERTIFICATE: Certificate,
    EntryKind.GRANT: Grant,
    EntryKind.ORDER: Order,
    EntryKind.CLEAR: Clear,
    **PREDICATES,
}
_BESIDE: tuple[tuple[str, type[msgspec.Struct]], ...] = (
    ("header of an entry", EntryHeader),
    ("entry of a requests log", BatchEntry),
    ("proofs of a notice", NoticeProofs),
    ("a root with its notice", NoticedRoot),
    ("record `start`", Start),
    ("record `finish`", Finish),
    ("record `beat`", Beat),
)
_WORDS = {
    Digest: "digest",
    KeyId: "digest",
    int: "integer",
    str: "text",
    bool: "boolean",
    Decimal: "decimal text",
    type(None): "null",
    object: "anything",
}


def _word(kind: Any) -> str:
    """Return how JSON holds a value of a type."""
    if kind in _WORDS:
        return _WORDS[kind]
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return f"[{_word(inside[0])}…]"
    if origin is dict:
        return f"{{{_word(inside[0])}: {_word(inside[1])}…}}"
    if origin in {typing.Union, types.UnionType}:
        return " or ".join(_word(each) for each in inside)
    if issubclass(kind, enum.Enum):
        return f"*{kind.__name__}*"
    return f"**{kind.__name__}**"


def _parts(kind: Any) -> Iterator[Any]:
    """Yield the named types inside a type: structs and closed lists of words."""
    if typing.get_origin(kind) is not None:
        for each in typing.get_args(kind):
            if each is not Ellipsis:
                yield from _parts(each)
    elif isinstance(kind, type) and issubclass(kind, msgspec.Struct | enum.Enum):
        yield kind


def _fields(shape: type[msgspec.Struct]) -> str:
    hints = typing.get_type_hints(shape)
    told = []
    for field in msgspec.structs.fields(shape):
        optional = "" if field.required else "?"
        told.append(f"`{field.encode_name}`{optional} {_word(hints[field.name])}")
    return ", ".join(told)


def _named(shapes: list[type[msgspec.Struct]]) -> list[Any]:
    """Return every type that the shapes name, in the order in which they are met."""
    found: list[Any] = []
    waiting: list[Any] = list(shapes)
    while waiting:
        shape = waiting.pop(0)
        for hint in typing.get_type_hints(shape).values():
            for part in _parts(hint):
                if part not in found and part not in shapes:
                    found.append(part)
                    if issubclass(part, msgspec.Struct):
                        waiting.append(part)
    return found


def render_entries() -> str:
    """Return docs/reference/entries.md."""
    if set(_SHAPES) != set(EntryKind):
        raise ValueError(f"no shape for {sorted(set(EntryKind) - set(_SHAPES))}")
    head = (
        "# What entries and records hold",
        "",
        "Made from `gatelift.messages`. How they are signed, hashed and checked says",
        "[ledger.md](ledger.md). A shape has these fields and no others, but for the payload of an",
        "envelope beside its predicate. `name?` may be left out; all others stand in every object.",
        "A digest is `sha256:` and 64 lowercase hex digits; an integer that is a time counts",
        "milliseconds UTC since 1970; decimal text is a number in quotes. *Words* are a closed list, a",
        "**Shape** is an object; both are listed below.",
        "",
        "## Bodies of the releases log",
        "",
        "| kind | signed in one of these roles | predicate |",
        "|---|---|---|",
    )
    rows = [
        f"| `{kind.value}` | {', '.join(sorted(may_sign(kind)))} | {_fields(_SHAPES[kind])} |"
        for kind in EntryKind
    ]
    beside = ["", "## Leaves and records", "", "| what | fields |", "|---|---|"]
    beside += [f"| {name} | {_fields(shape)} |" for name, shape in _BESIDE]
    named = _named([*_SHAPES.values(), *(shape for _, shape in _BESIDE)])
    shapes = ["", "## Shapes", "", "| shape | fields |", "|---|---|"]
    words = ["", "## Words", "", "| list | words |", "|---|---|"]
    for each in sorted(named, key=lambda kind: kind.__name__):
        if issubclass(each, enum.Enum):
            words.append(f"| *{each.__name__}* | {', '.join(f'`{w.value}`' for w in each)} |")
        else:
            shapes.append(f"| **{each.__name__}** | {_fields(each)} |")
    return "\n".join((*head, *rows, *beside, *shapes, *words)) + "\n"
