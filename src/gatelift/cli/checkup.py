"""The lines of a checkup: what was looked at, how it is, what to do."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from gatelift.cli.errors import first_error
from gatelift.errors import GateliftError

__all__ = ["Checkup", "Health", "Line"]


class Health(enum.StrEnum):
    """How one thing is."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "WRONG"


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at."""

    name: str
    health: Health
    found: str
    do: str = ""


class Checkup:
    """Collects lines. A check that fails on the way is a finding, not the end."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def ok(self, name: str, found: str) -> None:
        """Note that something is as it should be."""
        self.lines.append(Line(name=name, health=Health.OK, found=found))

    def warn(self, name: str, found: str, do: str) -> None:
        """Note something that people should judge."""
        self.lines.append(Line(name=name, health=Health.WARNING, found=found, do=do))

    def wrong(self, name: str, found: str, do: str) -> None:
        """Note that something is wrong."""
        self.lines.append(Line(name=name, health=Health.WRONG, found=found, do=do))

    @contextmanager
    def looking(self, name: str, do: str) -> Iterator[None]:
        """Turn an error inside into a line that says what is wrong."""
        try:
            yield
        except (GateliftError, OSError, ValueError, BaseExceptionGroup) as error:
            self.wrong(name, str(first_error(error)) or type(error).__name__, do)
