"""What is wrong with a plan: every problem with its place and what to write instead.

Invariants
- A problem has a line and a column, both from 1, and the path of the value in the plan.
- A `PlanError` holds all problems that were found, sorted by place, at most `MAX_PROBLEMS`.
- A problem about a value that is not there points at the nearest value around it.

Does not judge anything: readers and checks report here.
"""

from __future__ import annotations

import re
from typing import Protocol

import msgspec

from gatelift.errors import CallerError

__all__ = ["MAX_PROBLEMS", "PlanError", "Problem", "Report", "path_part", "shown"]

MAX_PROBLEMS = 100
_SHOWN_CHARS = 60
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,60}", re.ASCII)


class Placed(Protocol):
    """Anything that stands somewhere in the file; both counted from 1."""

    @property
    def line(self) -> int: ...

    @property
    def column(self) -> int: ...


class Problem(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing to mend. `line` and `column` count from 1; `path` reads `stages[1].gate.soak`."""

    line: int
    column: int
    path: str
    message: str
    write_instead: str

    def __str__(self) -> str:
        where = f"line {self.line}, column {self.column}"
        return f"{where}: {self.path or 'plan'}: {self.message}; write {self.write_instead}"


class PlanError(CallerError):
    """The plan is not one that can be held to. `problems` are all of them, sorted by line."""

    code = "bad_plan"

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        listed = "\n".join(str(problem) for problem in problems)
        super().__init__(f"expected a valid plan, got {len(problems)} problem(s):\n{listed}")


class Report:
    """Collects problems and remembers where each path stands. One for each parse."""

    def __init__(self) -> None:
        self._problems: list[Problem] = []
        self._places: dict[str, tuple[int, int]] = {"": (1, 1)}

    def place(self, path: str, node: Placed) -> None:
        """Remember that the value of `path` stands at `node`."""
        self._places[path] = (node.line, node.column)

    def given(self, path: str) -> bool:
        """Return whether the file holds something at `path`, valid or not."""
        return path in self._places

    def add(self, path: str, message: str, write_instead: str, *, at: Placed | None = None) -> None:
        """Add a problem, at a node or at the place of `path`; beyond `MAX_PROBLEMS` it is dropped."""
        if self.full:
            return
        line, column = (at.line, at.column) if at is not None else self._nearest(path)
        self._problems.append(
            Problem(
                line=line,
                column=column,
                path=path,
                message=message,
                write_instead=write_instead,
            )
        )

    @property
    def full(self) -> bool:
        """Whether further problems would be dropped, so that readers may stop looking."""
        return len(self._problems) >= MAX_PROBLEMS

    def raise_if_any(self) -> None:
        """Raise `PlanError` with all problems, sorted by place, if there are any."""
        if self._problems:
            ordered = sorted(self._problems, key=lambda p: (p.line, p.column, p.path))
            raise PlanError(tuple(ordered))

    def _nearest(self, path: str) -> tuple[int, int]:
        while path not in self._places:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self._places[path]


def path_part(key: str) -> str:
    """Return a key as it may stand in a path: itself when it is a plain word, else quoted."""
    return key if _PLAIN_KEY.fullmatch(key) else shown(key)


def shown(text: str) -> str:
    """Return text as it may stand in a message: quoted and short."""
    return repr(text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…")
