"""From a commit to a cosigned head: sign, publish tiles, ask the witnesses, publish the checkpoint.

Invariants
- A head is shown to others only once it meets the policy of the root (its quorum of organisations that
  witness); until then the one before it stands. While the quorum is away no new certificate can be
  proved, so nothing widens; orders act without it.
- Each head is held before all witnesses until it meets the policy or `ROUND_S` are over, so that those
  who answer at different speeds cosign the same one. Who is not needed for it holds nobody up; what
  comes later is added to the head that stands.
- Statuses name `last` before the checkpoint's file shows it, so that no reader of the file ever sees a
  status that is older than it.
- At most one head each `MIN_GAP_S`; after growth the next one begins within that.
- Nothing is signed before a quorum was asked, since the start, what it holds of this log: a store from
  a backup must not sign a size twice. A witness is asked again when it refuses a head.
- A head that stands is cosigned again well before nodes would take it for frozen
  (`witness_max_age_ms` of the root), so that a log in which nothing happens is not.
- While the quorum is away a newer head is tried later each time, up to `_BACK_OFF_MAX_S`.

The ledger is used through `call`, in the writer's thread, because it serves one thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol, TypeVar

from gatelift.control.errors import ControlFailedError
from gatelift.errors import GateliftError, PeerError
from gatelift.ledger import ReleasesLog
from gatelift.messages import releases_policy
from gatelift.tlog import (
    Policy,
    PolicyError,
    parse_checkpoint,
    parse_note,
    verify_witnessed,
)
from gatelift.trust import Root

__all__ = ["MIN_GAP_S", "ROUND_S", "Call", "Cosigned", "Publisher", "Witnesses"]

MIN_GAP_S = 0.1
ROUND_S = 5.0
_BACK_OFF_MIN_S = 0.2
_BACK_OFF_MAX_S = 5.0
_LOG = logging.getLogger(__name__)
T = TypeVar("T")


class Call(Protocol):
    """Runs work in the writer's thread and returns its result."""

    def __call__(self, work: Callable[[], T]) -> Awaitable[T]:
        """Run `work`."""


class Witnesses(Protocol):
    """All who cosign; what they cosign comes to `Publisher.take`."""

    def have_compared(self, root: Root) -> bool:
        """Whether the log leads to what those hold who can make up the root's quorum."""

    def offer(self, note: bytes, now_ms: int, renewal_ms: int) -> None:
        """Have all of them cosign the head in `note`, and again after `renewal_ms`."""

    def may_meet(self, root: Root, text: bytes) -> bool:
        """Whether those that are well, or have cosigned `text`, can make up the root's quorum."""

    def problems(self, root: Root, text: bytes) -> str:
        """Say why cosignatures on `text` are missing."""


class Cosigned:
    """A head that meets the root's policy: its note, what it says, since when a quorum confirms it.

    `confirmed_at` is in ms UTC, null where the root asks for no witness.
    """

    __slots__ = ("checkpoint", "confirmed_at", "note")

    def __init__(self, note: bytes, policy: Policy) -> None:
        """Verify the head in `note`; raises `PolicyError` and the errors of the layers below."""
        witnessed = verify_witnessed(note, policy)
        confirmed_at_s = witnessed.confirmed_at_s(policy)
        self.note = note
        self.checkpoint = witnessed.checkpoint
        self.confirmed_at = None if confirmed_at_s is None else confirmed_at_s * 1000

    @property
    def size(self) -> int:
        """How many entries it covers."""
        return self.checkpoint.size


class Publisher:
    """Publishes the log as it grows. `witnesses` is null where the root names none."""

    def __init__(
        self,
        *,
        log: ReleasesLog,
        root: Callable[[], Root],
        call: Call,
        witnesses: Witnesses | None,
        on_cosigned: Callable[[], None],
        now_ms: Callable[[], int],
    ) -> None:
        self._log = log
        self._root = root
        self._call = call
        self._witnesses = witnesses
        self._on_cosigned = on_cosigned
        self._now_ms = now_ms
        self._grown = asyncio.Event()
        self._grown.set()
        self._changed = asyncio.Condition()
        self._cosigned: Cosigned | None = None
        self._signed_size = 0
        self._problem: str | None = None

    @property
    def last(self) -> Cosigned | None:
        """The newest head that meets the policy."""
        return self._cosigned

    @property
    def problem(self) -> str | None:
        """Why the newest head is not cosigned yet, if something is wrong."""
        return self._problem

    def grow(self) -> None:
        """Note that the log grew."""
        self._grown.set()

    async def cosigned(self, size: int, timeout_s: float) -> Cosigned:
        """Return a cosigned head of at least `size` entries; raises `PeerError` when it takes long."""
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(
                    lambda: self._cosigned is not None and self._cosigned.size >= size
                )
        except TimeoutError as error:
            raise PeerError(
                f"the log is not cosigned up to {size} within {timeout_s:g} s: "
                f"{self._problem or 'the witnesses take long'}; it is logged all the same",
                code="not_cosigned",
            ) from error
        if self._cosigned is None:
            raise ControlFailedError("no cosigned head after it was waited for")
        return self._cosigned

    async def run(self) -> None:
        """Publish until cancelled; raises `ControlFailedError` when store or log fail."""
        standing = await self._call(self._standing)
        if standing is not None:
            await self._adopt(standing)
        back_off_s = _BACK_OFF_MIN_S
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._renewal_ms() / 1000):
                    await self._grown.wait()
            self._grown.clear()
            try:
                await self._publish()
            except ControlFailedError:
                raise
            except (GateliftError, OSError) as error:
                # They may be away for long, so this says it once for each kind of trouble.
                if self._problem != str(error):
                    _LOG.warning("head not cosigned: %s", error)
                self._problem = str(error)
                self._grown.set()
                await asyncio.sleep(back_off_s)
                back_off_s = min(2 * back_off_s, _BACK_OFF_MAX_S)
            else:
                self._problem = None
                back_off_s = _BACK_OFF_MIN_S
                await asyncio.sleep(MIN_GAP_S)

    async def take(self, note: bytes) -> None:
        """Show the head in `note`, which has gained a cosignature, once it meets the policy."""
        policy = releases_policy(self._root())
        try:
            head = Cosigned(note, policy)
        except PolicyError:
            await self.look_again()
            return
        if self._cosigned is None or head.size > self._cosigned.size:
            if head.size >= self._signed_size:
                self._problem = None
            await self._adopt(head)
            await self._call(lambda: self._log.publish(policy))
        elif head.size == self._cosigned.size and note != self._cosigned.note:
            await self._adopt(head)
            # Its file follows with the next round: not a write for every witness of every head.
            self._grown.set()

    async def look_again(self) -> None:
        """Have those who wait for a head judge again whether it can still come."""
        async with self._changed:
            self._changed.notify_all()

    async def _publish(self) -> None:
        await self._until_compared()
        note = await self._call(self._log.sign_checkpoint)
        text = parse_note(note).text
        self._signed_size = parse_checkpoint(text).size
        await self._call(self._log.publish_tiles)
        if self._witnesses is not None:
            self._witnesses.offer(note, self._now_ms(), self._renewal_ms())
        # It may need nobody, or hold what came after the last round was given up.
        await self.take(note)
        await self._until_shown(text)
        policy = releases_policy(self._root())
        await self._call(lambda: self._log.publish(policy))

    async def _until_compared(self) -> None:
        asked = self._witnesses
        async with self._changed:
            while asked is not None and not asked.have_compared(self._root()):
                self._problem = asked.problems(self._root(), b"")
                # A root with other witnesses changes what is waited for, and notifies nobody.
                with suppress(TimeoutError):
                    async with asyncio.timeout(ROUND_S):
                        await self._changed.wait()

    def _renewal_ms(self) -> int:
        return self._root().witness_max_age_ms // 4

    async def _until_shown(self, text: bytes) -> None:
        def is_shown() -> bool:
            return self._cosigned is not None and self._cosigned.size >= self._signed_size

        def is_over() -> bool:
            asked = self._witnesses
            return is_shown() or asked is None or not asked.may_meet(self._root(), text)

        with suppress(TimeoutError):
            async with asyncio.timeout(ROUND_S), self._changed:
                await self._changed.wait_for(is_over)
        if not is_shown():
            asked = self._witnesses
            raise PeerError(
                asked.problems(self._root(), text) if asked else "the root names no witness to ask",
                code="not_cosigned",
            )

    async def _adopt(self, head: Cosigned) -> None:
        if self._cosigned is not None and head.size < self._cosigned.size:
            return
        async with self._changed:
            self._cosigned = head
            self._changed.notify_all()
        self._on_cosigned()

    def _standing(self) -> Cosigned | None:
        # Publishes again what a crash may have left undone.
        policy = releases_policy(self._root())
        if self._log.size == 0 or self._log.head is None:
            return None
        note = self._log.publish(policy)
        if note is None:
            return None
        try:
            return Cosigned(note, policy)
        except PolicyError:
            # A root with other witnesses: the next head will meet it.
            return None
