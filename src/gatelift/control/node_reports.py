"""What a node reports, turned into entries: counts, heads, probes, orders that came another way.

Invariants
- Counts are whole and cumulative, so only the newest report matters: nothing queues up. Only what
  differs from the log is logged, at most once each `COUNTS_GAP_S`.
- What could stop a release (more found harmful, an event that the plan watches) is logged at once.
  What only grows (units, open ones, other events) waits until `GROWN_GAP_S` after the last, and once
  `GROWN_BURST` were logged, until one more is due, each `GROWN_EACH_S`: under load something always
  grows, and the log is kept for ever. So a day of traffic adds some 1,500 entries for each count, not
  43,000, and the first of a morning are there at once.
- A head is logged only if the node's key in the root signed it and it is larger than the one
  logged: the first of an origin at once, then once each `HEADS_GAP_S` (the releases log is kept for
  ever, and a node's log grows each second), and when somebody asks (`anchor`).
- A probe is logged when it differs from the one that the log rests on. What a node showed before a
  placement was enrolled anew is forgotten: it may have been another server.
- What the log refuses is told once and not offered again unchanged.

Control signs these entries: they are its own word about what a node showed, checked later against
the requests logs (`verify`), not believed because they are signed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import msgspec

from gatelift.control.errors import ControlError
from gatelift.control.signing import Draft
from gatelift.decide import State
from gatelift.encoding import Digest, parse_base64
from gatelift.errors import CallerError
from gatelift.messages import EntryKind, EventCount, Head, Observation, Probe
from gatelift.messages.frames import Counted, HeadFrame, KeeperToControl, ProbeReport
from gatelift.tlog import (
    KeyKind,
    VerifierKey,
    parse_checkpoint,
    parse_note,
    verify_checkpoint,
)
from gatelift.trust import Root

__all__ = [
    "COUNTS_GAP_S",
    "GROWN_BURST",
    "GROWN_EACH_S",
    "GROWN_GAP_S",
    "HEADS_GAP_S",
    "NodeReports",
    "Submit",
]

COUNTS_GAP_S = 0.35
GROWN_GAP_S = 2.0
GROWN_BURST = 60
GROWN_EACH_S = 60.0
HEADS_GAP_S = 60.0
_MAX_ORIGINS = 64
_KINDS: dict[type[msgspec.Struct], EntryKind] = {
    Observation: EntryKind.OBSERVATION,
    EventCount: EntryKind.EVENT,
    Probe: EntryKind.PROBE,
}
_LOG = logging.getLogger(__name__)


class Submit(Protocol):
    """The writer's door: returns the indices of the drafts, or raises why they were refused."""

    async def __call__(
        self, drafts: list[Draft], expected_size: int | None = None
    ) -> tuple[int, ...]:
        """Log the drafts."""


class NodeReports:
    """Holds the newest report of each kind and logs what changed.

    `state` returns the folded state, `sign(kind, predicate)` a draft signed by control.
    """

    def __init__(
        self,
        *,
        state: Callable[[], State],
        sign: Callable[[EntryKind, msgspec.Struct], Draft],
        submit: Submit,
    ) -> None:
        self._state = state
        self._sign = sign
        self._submit = submit
        self._counted: Counted | None = None
        self._probes: dict[tuple[str, str], Probe] = {}
        self._heads: dict[str, tuple[int, str]] = {}
        self._refused: set[bytes] = set()
        self._news = asyncio.Event()
        self._grown_s = -GROWN_GAP_S
        self._budget = float(GROWN_BURST)
        self._budgeted_s = time.monotonic()
        self._anchored_s = -HEADS_GAP_S
        self._anchoring = asyncio.Lock()
        self._counting = asyncio.Lock()

    def take(self, node: str, frame: KeeperToControl) -> None:
        """Remember what a node reports; what does not hold is told and left out."""
        try:
            match frame:
                case Counted():
                    self._take_counts(node, frame)
                case HeadFrame():
                    self._take_head(node, frame)
                case ProbeReport():
                    self._take_probe(node, frame.probe)
                case _:
                    return
        except CallerError as error:
            _LOG.warning("a report of node %s was refused: %s: %s", node, error.code, error)

    def forget_probes(self, placement: str) -> None:
        """Forget what was seen of a placement, because it was enrolled anew."""
        self._probes = {key: held for key, held in self._probes.items() if key[1] != placement}

    def _take_counts(self, node: str, frame: Counted) -> None:
        if frame.node != node:
            raise ControlError(f"expected counts of node {node!r}, got {frame.node!r}")
        self._counted = frame
        self._news.set()

    def _take_probe(self, node: str, probe: Probe) -> None:
        if probe.node != node:
            raise ControlError(f"expected a probe by node {node!r}, got {probe.node!r}")
        self._probes[(node, probe.placement)] = probe
        self._news.set()

    def _take_head(self, node: str, frame: HeadFrame) -> None:
        root = self._state().root
        if root is None:
            return
        size = _verify_head(root, node, frame)
        held = self._heads.get(frame.origin)
        if held is None or size > held[0]:
            self._heads[frame.origin] = (size, frame.checkpoint)
        while len(self._heads) > _MAX_ORIGINS:
            self._heads.pop(next(iter(self._heads)))

    async def run_counts(self) -> None:
        """Log changed counts and probes until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            if self._may_log_growth() or any(map(self._may_stop, self._changed())):
                await self._log_changed()
                await asyncio.sleep(COUNTS_GAP_S)

    async def run_grown(self) -> None:
        """Log what has grown, and anchor heads that are due, until cancelled."""
        while True:
            await asyncio.sleep(GROWN_GAP_S)
            # Both at once, so that the writer makes one transaction of them.
            await asyncio.gather(self._log_growth(), self._anchor_due())

    async def _anchor_due(self) -> None:
        is_new = self._heads.keys() - self._state().heads.keys()
        if is_new or time.monotonic() - self._anchored_s >= HEADS_GAP_S:
            await self.anchor()

    async def anchor(self) -> None:
        """Log the newest head of every requests log that grew, now."""
        async with self._anchoring:
            self._anchored_s = time.monotonic()
            state = self._state()
            await self._log_each(
                [
                    (EntryKind.HEAD, Head(origin=origin, checkpoint=text))
                    for origin, (size, text) in self._heads.items()
                    if _size_of(state.heads.get(origin)) < size
                ]
            )

    async def _log_growth(self) -> None:
        if self._may_log_growth():
            await self._log_changed()

    def _may_log_growth(self) -> bool:
        now_s = time.monotonic()
        due = (now_s - self._budgeted_s) / GROWN_EACH_S
        self._budget, self._budgeted_s = min(GROWN_BURST, self._budget + due), now_s
        return now_s - self._grown_s >= GROWN_GAP_S and self._budget >= 1

    async def _log_changed(self) -> None:
        async with self._counting:
            if found := self._changed():
                self._grown_s = time.monotonic()
                self._budget = max(0.0, self._budget - 1)
                await self._log_each([(_KINDS[type(each)], each) for each in found])

    def _changed(self) -> list[Observation | EventCount | Probe]:
        return [*self._changed_counts(), *self._changed_probes()]

    def _may_stop(self, found: Observation | EventCount | Probe) -> bool:
        """Return whether a changed report may stop something, rather than only have grown."""
        state = self._state()
        match found:
            case Observation():
                held = state.observations.get(_key_of(found))
                return found.s > (0 if held is None else held.observation.s)
            case EventCount():
                stages = () if state.plan is None else state.plan.stages
                watched = [watch.event for stage in stages for watch in stage.events]
                return (found.category, found.side) in {(e.safeguard, e.side) for e in watched}
            case Probe():
                return True

    def _changed_counts(self) -> Iterator[Observation | EventCount]:
        counted, state = self._counted, self._state()
        if counted is None or state.plan is None:
            return
        for each in counted.observations:
            held = state.observations.get(_key_of(each))
            if held is None or _figures(held.observation) != _figures(each):
                yield each
        for event in counted.events:
            if event.count > state.events.get((event.stage, event.category, event.side), 0):
                yield event

    def _changed_probes(self) -> Iterator[Probe]:
        state = self._state()
        for key, probe in self._probes.items():
            held = state.probes.get(key)
            differs = held is None or held.probe != probe
            if differs and probe.placement in state.placements:
                yield probe

    async def _log_each(self, found: list[tuple[EntryKind, msgspec.Struct]]) -> None:
        # One submission each: what is refused must not hold up the rest.
        waiting = []
        for kind, value in found:
            mark = kind.value.encode() + msgspec.json.encode(value)
            if mark not in self._refused:
                waiting.append(self._log_one(kind, value, mark))
        if waiting:
            await asyncio.gather(*waiting)

    async def _log_one(self, kind: EntryKind, value: msgspec.Struct, mark: bytes) -> None:
        try:
            await self._submit([self._sign(kind, value)])
        except CallerError as error:
            if len(self._refused) >= 1024:
                self._refused.clear()
            self._refused.add(mark)
            _LOG.warning("a reported %s was not logged: %s: %s", kind.value, error.code, error)


def _key_of(observation: Observation) -> tuple[str, str, Digest, int]:
    return (
        observation.metric,
        observation.stage,
        observation.certificate,
        observation.stretch,
    )


def _figures(observation: Observation) -> tuple[object, ...]:
    # Ranges grow with every batch, also with batches that changed no count.
    return (
        observation.n,
        observation.s,
        observation.open,
        observation.units,
        observation.organisations,
    )


def _size_of(checkpoint: str | None) -> int:
    # What is on the log was verified before it came there.
    if checkpoint is None:
        return 0
    return parse_checkpoint(parse_note(checkpoint.encode("utf-8")).text).size


def _verify_head(root: Root, node: str, frame: HeadFrame) -> int:
    expected = f"{root.name}/requests/{node}/"
    if not frame.origin.startswith(expected):
        raise ControlError(
            f"expected the head of a log {expected}<yyyy-mm>, got {frame.origin[:80]!r}",
            code="wrong_origin",
        )
    key = VerifierKey(
        name=frame.origin,
        kind=KeyKind.NOTE,
        public_key=parse_base64(root.node(node).requests_key),
    )
    return verify_checkpoint(frame.checkpoint.encode("utf-8"), key).size
