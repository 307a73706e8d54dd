"""What an audit found: findings, what was proved, and what no log can prove.

Invariants
- A finding has a stable code, says where (file and index) and what was expected.
- A sentence stands under `proved` only if the checks behind it found nothing.
- A hostile dossier cannot make the report grow without bound: each code keeps its first findings
  and the count of all.

Does not print or exit: the command line does both.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import msgspec

from gatelift.decide import Commitment
from gatelift.errors import GateliftError

__all__ = ["CANNOT_PROVE", "SHOWN_PER_CODE", "AuditReport", "Finding", "Findings", "Severity"]

SHOWN_PER_CODE = 20
_MAX_MESSAGE_CHARS = 600
_MAX_WHERE_CHARS = 300

CANNOT_PROVE = (
    "that the plan is good, or its thresholds the right ones",
    "that safeguards' verdicts and assessors' labels are right: counts are recounted, not relabelled",
    "that no copy of the weights and no second door to the model exists",
    "that the model server ran this candidate: probes detect a change, they do not prove identity",
    "that every exchange was written down: for that, callers hold their tickets against the log",
    "that wall clocks were right: times are the writers' own, bounded only by cosignature times",
    "that witnesses and signers are who they say, beyond what the root of trust says of them",
)
"""Printed beside every result."""


_VERDICTS = {
    0: "It holds, and it is the deployment that you named.",
    1: "It does NOT hold.",
    2: "It cannot be read.",
    3: "Consistent with itself, NOT authenticated: a forger could have made it. Give --root or "
    "--policy from elsewhere.",
}


class Severity(enum.StrEnum):
    """An error means that something does not hold; a warning is for the reader to judge."""

    ERROR = "error"
    WARNING = "warning"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that does not hold, or is worth a look. `where` reads `<file>#<index>`."""

    code: str
    severity: Severity
    where: str
    message: str


class AuditReport(msgspec.Struct, frozen=True, kw_only=True):
    """The result of an audit. `counts` also holds `findings.<code>` where some were left out.

    `commitments` are promises on the log without a result there: for the reader to judge.
    """

    findings: tuple[Finding, ...]
    proved: tuple[str, ...]
    cannot_prove: tuple[str, ...]
    authenticated: bool
    readable: bool
    counts: dict[str, int]
    commitments: tuple[Commitment, ...] = ()

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that mean that something does not hold."""
        return tuple(f for f in self.findings if f.severity is Severity.ERROR)

    @property
    def exit_code(self) -> int:
        """Return 0 all holds and authenticated, 3 not authenticated, 1 broken, 2 unreadable."""
        if not self.readable:
            return 2
        if self.errors:
            return 1
        return 0 if self.authenticated else 3

    @property
    def verdict(self) -> str:
        """Return the exit code in a sentence."""
        return _VERDICTS[self.exit_code]


class Findings:
    """Collects findings while checks run. Each check goes on after a finding where it can."""

    def __init__(self) -> None:
        self._kept: list[Finding] = []
        self._by_code: dict[str, int] = {}
        self._errors = 0

    @property
    def errors(self) -> int:
        """How many errors there were so far, kept or not."""
        return self._errors

    def error(self, code: str, where: str, message: str) -> None:
        """Note that something does not hold."""
        self._errors += 1
        self._add(Severity.ERROR, code, where, message)

    def warn(self, code: str, where: str, message: str) -> None:
        """Note something that the reader should judge."""
        self._add(Severity.WARNING, code, where, message)

    @contextmanager
    def reading(self, where: str, code: str | None = None) -> Iterator[None]:
        """Turn what a parser or verifier raises inside into one finding.

        `code` overrides the error's own. Anything that is not ours is `unreadable`: a parser that
        fell over hostile bytes must not take the audit with it.
        """
        try:
            yield
        except Exception as error:  # noqa: BLE001 - hostile bytes may break any parser in any way
            self.broken(error, where, code)

    def broken(self, error: Exception, where: str, code: str | None = None) -> None:
        """Note what a parser or verifier raised, as `reading` does."""
        if isinstance(error, GateliftError):
            self.error(code or error.code, where, str(error))
        else:
            self.error("unreadable", where, f"{type(error).__name__} while reading: {error}")

    def kept(self) -> tuple[Finding, ...]:
        """Return the findings kept, in the order they were found."""
        return tuple(self._kept)

    def left_out(self) -> Mapping[str, int]:
        """Return how many there were in all, for each code of which some were left out."""
        return {c: n for c, n in sorted(self._by_code.items()) if n > SHOWN_PER_CODE}

    def _add(self, severity: Severity, code: str, where: str, message: str) -> None:
        seen = self._by_code.get(code, 0)
        self._by_code[code] = seen + 1
        if seen < SHOWN_PER_CODE:
            self._kept.append(
                Finding(
                    code=code,
                    severity=severity,
                    where=where[:_MAX_WHERE_CHARS],
                    message=message[:_MAX_MESSAGE_CHARS],
                )
            )
