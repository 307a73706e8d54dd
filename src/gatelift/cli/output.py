"""What the terminal shows: one JSON object, or text for people that fits 80 columns.

Invariants
- With `--json` standard output holds exactly one JSON object on one line, also for an error.
- Errors go to standard error as `error: <message> [<code>]`; nothing here prints a traceback.
- Text for people never relies on colour; width is the terminal's, 80 where there is none.

Does not decide exit codes (`errors`).
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

__all__ = [
    "JsonFlag",
    "ago",
    "at_text",
    "facts",
    "fail",
    "note",
    "say",
    "short",
    "show",
    "table",
    "visible",
]


class _Terminal:
    """Whether JSON was asked for; set by the flag before a command runs."""

    json = False


def _set_json(value: bool) -> bool:
    _Terminal.json = value
    return value


JsonFlag = Annotated[
    bool,
    typer.Option(
        "--json", callback=_set_json, is_eager=True, help="Print one JSON object, nothing else."
    ),
]


def _console() -> Console:
    return Console(highlight=False, soft_wrap=False)


def show(value: object, render: Callable[[], None]) -> None:
    """Print `value` as one line of JSON if that was asked for, else call `render`."""
    if _Terminal.json:
        sys.stdout.write(msgspec.json.encode(value).decode("utf-8") + "\n")
        sys.stdout.flush()
    else:
        render()


def _wrapped(text: str, width: int) -> str:
    # A list item's lines hang under its words, a plain line's under its indent.
    indent = len(text) - len(text.lstrip())
    hanging = indent + (2 if text.lstrip().startswith(("- ", "* ")) else 0)
    return textwrap.fill(
        text,
        width,
        subsequent_indent=" " * hanging,
        break_on_hyphens=False,
        drop_whitespace=True,
    )


def say(text: str = "") -> None:
    """Print a line for people, wrapped; nothing with `--json`. Markup is taken literally."""
    if not _Terminal.json:
        console = _console()
        console.print(Text(_wrapped(text, console.width)), soft_wrap=True)


def note(text: str) -> None:
    """Print a line beside the result, on standard error, in both modes."""
    console = Console(stderr=True, highlight=False)
    console.print(Text(_wrapped(text, console.width)), soft_wrap=True)


def facts(rows: Iterable[tuple[str, object]]) -> None:
    """Print names and values in two columns.

    Sentences wrap inside their column; one long word (a digest, a key) is never broken, so that it
    can be copied: it gets a line of its own.
    """
    if _Terminal.json:
        return
    given = [(name, str(value)) for name, value in rows]
    console = _console()
    start = max((len(name) for name, _ in given), default=0) + 2
    room = max(20, console.width - start)
    for name, value in given:
        lines = [part for line in value.splitlines() or [""] for part in _pieces(line, room)]
        if any(len(line) > room for line in lines):
            console.print(Text(name), soft_wrap=True)
            for line in lines:
                console.print(Text(f"    {line}"), soft_wrap=True)
            continue
        for number, line in enumerate(lines):
            label = name if number == 0 else ""
            console.print(Text(f"{label:<{start}}{line}".rstrip()), soft_wrap=True)


def _pieces(line: str, room: int) -> list[str]:
    return textwrap.wrap(line, room, break_long_words=False, break_on_hyphens=False) or [""]


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> None:
    """Print a table without vertical rules; the last column takes what is left of the width."""
    found = Table(title=escape(title) or None, title_justify="left", box=None, pad_edge=False)
    for name in columns:
        found.add_column(name, overflow="fold")
    if _Terminal.json:
        return
    for row in rows:
        found.add_row(*(Text(str(cell)) for cell in row))
    _console().print(found)


def fail(message: str, code: str, detail: Any = None) -> None:
    """Print an error: to standard error for people, and as JSON if that was asked for."""
    if _Terminal.json:
        error = {"code": code, "message": message}
        if detail is not None:
            error["detail"] = detail
        sys.stdout.write(msgspec.json.encode({"ok": False, "error": error}).decode("utf-8") + "\n")
        sys.stdout.flush()
    for line in f"error: {message} [{code}]".splitlines():
        note(line)


def short(digest: object) -> str:
    """Return a digest's first twelve digits, enough to compare by eye; `-` for none."""
    text = str(digest) if digest is not None else "-"
    return text.removeprefix("sha256:")[:12] if text.startswith("sha256:") else text


def at_text(at_ms: int | None) -> str:
    """Return a time as people read it, in UTC; `-` for none."""
    if at_ms is None:
        return "-"
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def visible(text: str) -> str:
    """Return other people's words with whatever could steer a terminal, or turn text around, escaped."""
    return "".join(
        each
        if each.isprintable() or each == "\n"
        else each.encode("unicode_escape").decode("ascii")
        for each in text
    )


def ago(ms: int) -> str:
    """Return a length of time in its two largest units."""
    seconds = max(0, ms) // 1000
    for unit, length, next_unit, next_length in (
        ("d", 86_400, "h", 3_600),
        ("h", 3_600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if seconds >= length:
            return f"{seconds // length} {unit} {seconds % length // next_length} {next_unit}"
    return f"{seconds} s"
