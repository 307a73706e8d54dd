"""What is wrong with a log on disk: where, what was expected, what was found, what to do.

Invariants
- A fault says which of two kinds it is: `derivable` (every byte can be written again from what is
  still whole) or not (only a copy from elsewhere helps).
- A ruined disk cannot make the list grow without bound: each code keeps its first faults and the
  count of all.

It finds nothing itself (`recompute`, `published`, `node_logs`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from gatelift.errors import GateliftError

__all__ = ["KEPT_PER_CODE", "Fault", "Faults"]

KEPT_PER_CODE = 20


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not as the log says. `where` reads `<file or table>#<index>`."""

    code: str
    where: str
    expected: str
    found: str
    do: str
    derivable: bool = False

    def __str__(self) -> str:
        """Return it as one sentence."""
        return f"{self.where}: expected {self.expected}, found {self.found}: {self.do}"


class Faults:
    """Collects faults while checks run; each check goes on after a fault where it can."""

    def __init__(self) -> None:
        self._kept: list[Fault] = []
        self._by_code: dict[str, int] = {}

    def __len__(self) -> int:
        return sum(self._by_code.values())

    @property
    def kept(self) -> tuple[Fault, ...]:
        """The faults in the order in which they were found; of each code the first few."""
        return tuple(self._kept)

    @property
    def left_out(self) -> dict[str, int]:
        """How many more there were, by code."""
        return {
            code: count - KEPT_PER_CODE
            for code, count in self._by_code.items()
            if count > KEPT_PER_CODE
        }

    def add(self, fault: Fault) -> None:
        """Note a fault."""
        self._by_code[fault.code] = self._by_code.get(fault.code, 0) + 1
        if self._by_code[fault.code] <= KEPT_PER_CODE:
            self._kept.append(fault)

    def extend(self, other: Faults) -> None:
        """Note all that `other` holds, what it left out too."""
        for fault in other.kept:
            self.add(fault)
        for code, count in other.left_out.items():
            self._by_code[code] += count

    @contextmanager
    def reading(self, where: str, expected: str, do: str) -> Iterator[None]:
        """Turn an error of ours, or of the system, inside the block into a fault."""
        try:
            yield
        except (GateliftError, OSError, TypeError, ValueError) as error:
            code = error.code if isinstance(error, GateliftError) else "unreadable"
            found = str(error) or type(error).__name__
            self.add(Fault(code=code, where=where, expected=expected, found=found, do=do))
