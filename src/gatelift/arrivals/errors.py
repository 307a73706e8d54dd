"""How a file or a database of another gateway fails to be read.

Invariants
- The message says where (file and line, or table and column) and never quotes a value: what stands
  in such a place may be a secret.
"""

from __future__ import annotations

from gatelift.errors import CallerError

__all__ = ["ArrivalError"]


class ArrivalError(CallerError):
    """What another gateway left cannot be read as what it should be."""

    code = "bad_arrival"

    def __init__(self, message: str, *, line: int | None = None) -> None:
        self.line = line
        super().__init__(message if line is None else f"line {line}: {message}")
