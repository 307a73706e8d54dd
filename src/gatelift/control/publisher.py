"""From a commit to a cosigned head: sign, publish tiles, ask the witness, publish the checkpoint.

Invariants
- A head is shown to others only once it meets the policy of the root (its quorum of witnesses);
  until then the one before it stands. While the witness is away no new certificate can be proved,
  so nothing widens; orders act without it.
- Statuses name `cosigned` before the checkpoint's file shows it, so that no reader of the file ever
  sees a status that is older than it.
- At most one head each `MIN_GAP_S`; after growth the next one begins within that.
- Nothing is signed before the witness was asked, since the start, what it holds of this log: a store
  from a backup must not sign a size twice. It is asked again when it refuses a head.
- A witness that refuses or is away is asked again, later each time up to `_BACK_OFF_MAX_S`. What it
  says about its own last size is believed only to choose the proof that it asks for.

The ledger is used through `call`, in the writer's thread, because it serves one thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from gatelift.control.errors import ControlFailedError
from gatelift.errors import GateliftError, PeerError
from gatelift.ledger import ReleasesLog
from gatelift.messages import releases_policy
from gatelift.tlog import Checkpoint, PolicyError, verify_witnessed
from gatelift.trust import Root

__all__ = ["MIN_GAP_S", "Call", "Cosigned", "Publisher", "Witnessing"]

MIN_GAP_S = 0.1
_BACK_OFF_MIN_S = 0.2
_BACK_OFF_MAX_S = 5.0
_LOG = logging.getLogger(__name__)
T = TypeVar("T")


class Call(Protocol):
    """Runs work in the writer's thread and returns its result."""

    def __call__(self, work: Callable[[], T]) -> Awaitable[T]:
        """Run `work`."""


class Witnessing(Protocol):
    """The witness: what it holds of this log, and its word on a head."""

    async def compare(self) -> None:
        """Return once the log leads to what the witness holds; raises what it does not."""

    async def cosign(self, note: bytes, root: Root) -> bytes:
        """Return a signed head with the cosignatures that the witness gave for it."""


class Cosigned:
    """A head that meets the root's policy: its note and what the note says."""

    __slots__ = ("checkpoint", "note")

    def __init__(self, note: bytes, checkpoint: Checkpoint) -> None:
        self.note = note
        self.checkpoint = checkpoint

    @property
    def size(self) -> int:
        """How many entries it covers."""
        return self.checkpoint.size


class Publisher:
    """Publishes the log as it grows. `witness` is null where there is none to ask."""

    def __init__(
        self,
        *,
        log: ReleasesLog,
        root: Callable[[], Root],
        call: Call,
        witness: Witnessing | None,
        on_cosigned: Callable[[], None],
    ) -> None:
        self._log = log
        self._root = root
        self._call = call
        self._witness = witness
        self._compared = witness is None
        self._on_cosigned = on_cosigned
        self._grown = asyncio.Event()
        self._grown.set()
        self._changed = asyncio.Condition()
        self._cosigned: Cosigned | None = None
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
                f"{self._problem or 'the witness takes long'}; it is logged all the same",
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
            await self._grown.wait()
            self._grown.clear()
            try:
                await self._publish()
            except ControlFailedError:
                raise
            except (GateliftError, OSError, TimeoutError) as error:
                # The witness: it may be down for long, so this says it once for each kind of trouble.
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

    async def _publish(self) -> None:
        root = self._root()
        if self._witness is not None and not self._compared:
            await self._witness.compare()
            self._compared = True
        note = await self._call(self._log.sign_checkpoint)
        await self._call(self._log.publish_tiles)
        if self._witness is not None:
            # Whatever it was that it did not like, it may have seen more than we hold.
            self._compared = False
            note = await self._witness.cosign(note, root)
            self._compared = True
        witnessed = verify_witnessed(note, releases_policy(root))
        # Who sees the new head must not read of what kept it back.
        self._problem = None
        await self._adopt(Cosigned(note, witnessed.checkpoint))
        policy = releases_policy(root)
        await self._call(lambda: self._log.publish(policy))

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
            return Cosigned(note, verify_witnessed(note, policy).checkpoint)
        except PolicyError:
            # A root with other witnesses: the next head will meet it.
            return None
