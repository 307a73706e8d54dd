"""What the page needs beside the folded state: what control holds and what the log's entries say.

Invariants
- Bodies of decisions only are opened; a grant's is never looked at.
- The log is read backwards from its end, at most `MAX_LOOK_BACK` entries at a time, and what was
  read once is not read again.

Bodies come from control's own store, where each was verified before it was logged; so they are
parsed here and not verified again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import msgspec

from gatelift.messages import Decision, EntryHeader, EntryKind
from gatelift.plan import Candidate
from gatelift.trust import parse_envelope, parse_statement

__all__ = ["MAX_DECISIONS", "MAX_LOOK_BACK", "Glance", "LogReader", "LoggedDecision", "ReadEntries"]

MAX_DECISIONS = 12
MAX_LOOK_BACK = 4_096
_PAGE = 256

ReadEntries = Callable[[int, int], Awaitable[list[tuple[EntryHeader, bytes]]]]
"""Returns headers and bodies from the first index up to, not including, the second."""


class LoggedDecision(msgspec.Struct, frozen=True, kw_only=True):
    """A recorded decision, its entry and time in ms UTC."""

    index: int
    at: int
    decision: Decision


class Glance(msgspec.Struct, frozen=True, kw_only=True):
    """What is out beside the state. `signers` maps entries to `<role>:<person>` of who signed.

    `cosigned` is (size, root hash in base64, origin) of the newest head that meets the policy.
    """

    candidate: Candidate | None = None
    cosigned: tuple[int, str, str] | None = None
    delayed: bool = False
    healthy: bool = True
    connected: bool = True
    signers: dict[int, tuple[str, ...]] = {}
    decisions: tuple[LoggedDecision, ...] = ()


class LogReader:
    """Reads the newest decisions and who signed given entries, each entry once."""

    def __init__(self, read: ReadEntries) -> None:
        self._read = read
        self._seen = 0
        self._decisions: tuple[LoggedDecision, ...] = ()
        self._signers: dict[int, tuple[str, ...]] = {}

    async def decisions(self, size: int) -> tuple[LoggedDecision, ...]:
        """Return the newest recorded decisions of the first `size` entries, newest first."""
        found: list[LoggedDecision] = []
        floor, stop = max(self._seen, size - MAX_LOOK_BACK), size
        while stop > floor and len(found) < MAX_DECISIONS:
            start = max(floor, stop - _PAGE)
            for index, (header, body) in reversed(
                list(enumerate(await self._read(start, stop), start=start))
            ):
                if header.kind is EntryKind.DECISION:
                    found.append(_parse_decision(index, header, body))
            stop = start
        if size > self._seen:
            self._decisions = (*found, *self._decisions)[:MAX_DECISIONS]
            self._seen = size
        return self._decisions

    async def signers(self, indices: Iterable[int]) -> dict[int, tuple[str, ...]]:
        """Return who signed each of these entries."""
        wanted = frozenset(indices)
        for index in sorted(wanted - self._signers.keys()):
            for header, _ in await self._read(index, index + 1):
                self._signers[index] = header.actor
        # Only what is asked for now is kept: certificates that were superseded drop out.
        self._signers = {k: held for k, held in self._signers.items() if k in wanted}
        return dict(self._signers)


def _parse_decision(index: int, header: EntryHeader, body: bytes) -> LoggedDecision:
    payload = parse_envelope(body).unverified_payload()
    statement = parse_statement(payload, EntryKind.DECISION.value, Decision)
    return LoggedDecision(index=index, at=header.at, decision=statement.predicate)
