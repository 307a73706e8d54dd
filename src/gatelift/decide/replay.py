"""Replaying a releases log: the recorded decisions are the ones that follow, all of them.

Invariants
- Each group is one transaction: its entries are folded, then `decide` is run once, with `now` the
  `at` of the last entry that is not a decision.
- A decision that should have been recorded and was not is a mismatch, and so is one too many, one in
  the wrong place, and any difference in kind, stage, target, reasons, figures or narrowings.
- After a mismatch the replay goes on with what the log says, so that one fault is reported once.

It proves that decisions follow from their inputs, not that the inputs are true. Signatures, headers
and inclusion are checked by whoever reads the log (`messages`, `tlog`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from gatelift.decide.engine import changed, decide
from gatelift.decide.fold import fold
from gatelift.decide.state import State
from gatelift.encoding import Digest
from gatelift.messages import Body, Decision, EntryHeader, EntryKind

__all__ = ["Mismatch", "replay"]

Entry = tuple[EntryHeader, Body]
_COMPARED = ("release", "kind", "stage", "target", "reasons", "figures", "narrow")


class Mismatch(msgspec.Struct, frozen=True, kw_only=True):
    """Where the log and the computation part: the entry's index, what, and both sides as text."""

    index: int
    what: str
    recorded: str
    computed: str


def _show(value: object) -> str:
    return msgspec.json.encode(value).decode("utf-8")


def _compare(index: int, recorded: Decision, computed: Decision) -> list[Mismatch]:
    return [
        Mismatch(
            index=index,
            what=name,
            recorded=_show(getattr(recorded, name)),
            computed=_show(getattr(computed, name)),
        )
        for name in _COMPARED
        if getattr(recorded, name) != getattr(computed, name)
    ]


def _misplaced(index: int, recorded: Body) -> Mismatch:
    return Mismatch(
        index=index,
        what="decision in the wrong place",
        recorded=_show(recorded.value),
        computed="a transaction ends with at most one decision, after at least one other entry",
    )


def _judge(state: State, size: int, decisions: list[Body], now_ms: int | None) -> list[Mismatch]:
    if now_ms is None:
        return [_misplaced(size, each) for each in decisions]
    computed, _ = decide(state, now_ms)
    held = state.last_decision
    due = changed(None if held is None else held.decision, computed)
    found = [_misplaced(size, each) for each in decisions[1:]]
    recorded = decisions[0].value if decisions else None
    if isinstance(recorded, Decision) and due:
        return _compare(size, recorded, computed) + found
    if recorded is not None:
        text = "nothing changed, no decision was due"
        found.append(
            Mismatch(
                index=size,
                what="decision too many",
                recorded=_show(recorded),
                computed=text,
            )
        )
    elif due:
        found.append(
            Mismatch(
                index=size - 1,
                what="decision missing",
                recorded="none",
                computed=_show(computed),
            )
        )
    return found


def replay(
    groups: Iterable[Iterable[Entry]],
    read: Callable[[Digest], bytes],
    state: State | None = None,
) -> list[Mismatch]:
    """Return every difference between recorded and computed decisions; empty if there is none.

    `groups` are the transactions of the log from its beginning, or from `state` on, in order.
    """
    state = State() if state is None else state
    found: list[Mismatch] = []
    for group in groups:
        decisions: list[Entry] = []
        now_ms: int | None = None
        for header, body in group:
            if header.kind is EntryKind.DECISION:
                decisions.append((header, body))
                continue
            if decisions:
                found.append(_misplaced(state.size, body))
            state = fold(state, state.size, header, body, read)
            now_ms = header.at
        found += _judge(state, state.size, [body for _, body in decisions], now_ms)
        for header, body in decisions:
            state = fold(state, state.size, header, body, read)
    return found
