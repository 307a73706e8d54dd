"""One door to the log: every entry of this deployment goes through `Writer.submit`.

Callers of the loop hand in submissions; one task groups those that wait (at most `GROUP_WAIT_S`,
`GROUP_MAX` drafts) and one thread stores each group as one durable transaction.

Invariants
- One transaction at a time; nothing else appends. A caller hears of success only after the commit.
- The state that `state` shows is that of the last commit; nothing uncommitted is ever seen.
- The first failure of disk, store or code ends the writer: all waiting and later callers get
  `ControlFailedError`, and `failure` says so to whoever signs statuses. What is on disk is unknown
  then; only a restart, which refolds, goes on.
- The queue is bounded; who comes when it is full is turned away, nothing waits without end.

A deadline of `decide` (`wake_at`) becomes a `tick`, submitted like everything else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from gatelift.control.assembling import Assembled, Prepared, Submission, assemble
from gatelift.control.errors import ControlError, ControlFailedError
from gatelift.control.signing import Draft
from gatelift.decide import State
from gatelift.encoding import Digest
from gatelift.errors import CallerError, PeerError
from gatelift.messages import Decision, Visibility
from gatelift.wire.files import FileStore

__all__ = ["GROUP_MAX", "GROUP_WAIT_S", "Writer"]

LEAD_CHECK_S = 2.0
GROUP_WAIT_S = 0.01
GROUP_MAX = 256
_QUEUE_MAX = 1024
_MIN_TICK_GAP_MS = 50
_LOG = logging.getLogger(__name__)
T = TypeVar("T")


class _Waiting(NamedTuple):
    submission: Submission
    done: asyncio.Future[tuple[int, ...]]


class Writer:
    """Owns the thread that writes.

    `append(entries)` stores bodies and entries in one transaction, durably; `sign_decision` and `tick`
    make control's own drafts; `on_commit(entries, state, decision)` is called in the loop after
    each commit. `logged` maps the digests of all logged bodies to their first index, `hidden`
    are those of bodies that only the overseer reads; both grow here.
    """

    def __init__(
        self,
        *,
        state: State,
        logged: dict[Digest, int],
        hidden: set[Digest],
        files: FileStore,
        append: Callable[[tuple[Prepared, ...]], None],
        sign_decision: Callable[[Decision, State], Draft],
        tick: Callable[[], Draft],
        wake_at: int | None,
        now_ms: Callable[[], int],
        on_commit: Callable[[tuple[Prepared, ...], Decision | None], None],
    ) -> None:
        self._state = state
        self._logged = logged
        self._hidden = hidden
        self._files = files
        self._append = append
        self._sign_decision = sign_decision
        self._tick = tick
        self._wake_at = wake_at
        self._now_ms = now_ms
        self._on_commit = on_commit
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(_QUEUE_MAX)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="control-writer")
        self._failure: Exception | None = None
        self._failed = asyncio.Event()

    @property
    def state(self) -> State:
        """The state after the last commit."""
        return self._state

    @property
    def is_healthy(self) -> bool:
        """Whether everything so far was committed as it should."""
        return self._failure is None

    def is_hidden(self, digest: Digest) -> bool:
        """Whether a digest is that of a body which only the overseer reads."""
        return digest in self._hidden

    async def failed(self) -> ControlFailedError:
        """Return why control cannot go on, once the writer has failed."""
        await self._failed.wait()
        return _stopped_by(self._failure)

    async def submit(
        self, drafts: list[Draft], expected_size: int | None = None
    ) -> tuple[int, ...]:
        """Log drafts together; return their indices once they are durable.

        Raises the `CallerError` that refused them, `SizeMovedError` if the log is not at
        `expected_size`, `ControlError` (`busy`), or `ControlFailedError`.
        """
        self._check()
        if not 1 <= len(drafts) <= GROUP_MAX:
            raise ControlError(f"expected 1 to {GROUP_MAX} drafts, got {len(drafts)}")
        done: asyncio.Future[tuple[int, ...]] = asyncio.get_running_loop().create_future()
        submission = Submission(drafts=tuple(drafts), expected_size=expected_size)
        try:
            self._queue.put_nowait(_Waiting(submission, done))
        except asyncio.QueueFull:
            raise ControlError(
                f"{_QUEUE_MAX} submissions wait already: try again in a moment", code="busy"
            ) from None
        return await done

    async def call(self, work: Callable[[], T]) -> T:
        """Run other work that writes to the store, in the writer's thread, between transactions."""
        self._check()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except Exception as error:
            self._fail(error)
            raise _stopped_by(error) from error

    async def watch_lead(self, check: Callable[[], None]) -> None:
        """Ask the store each `LEAD_CHECK_S` whether it still is ours, until cancelled or failed.

        Nothing may need writing for a minute: a store that is locked or another's is found anyway.
        """
        while True:
            await asyncio.sleep(LEAD_CHECK_S)
            await self.call(check)

    async def run(self) -> None:
        """Group and store submissions until cancelled or failed."""
        try:
            while self._failure is None:
                group = await self._next_group()
                if group:
                    await self._store(group)
        finally:
            self._fail(ControlFailedError("control is stopping"))
            self._thread.shutdown(wait=True)

    async def _next_group(self) -> list[_Waiting]:
        try:
            async with asyncio.timeout(self._until_wake_s()):
                group = [await self._queue.get()]
        except TimeoutError:
            # At most one tick for each deadline: the next transaction sets a new one.
            self._wake_at = None
            done: asyncio.Future[tuple[int, ...]] = asyncio.get_running_loop().create_future()
            done.add_done_callback(_log_refused_tick)
            return [_Waiting(Submission(drafts=(self._tick(),)), done)]
        size = len(group[0].submission.drafts)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GROUP_WAIT_S):
                while size < GROUP_MAX:
                    group.append(await self._queue.get())
                    size += len(group[-1].submission.drafts)
        return group

    def _until_wake_s(self) -> float | None:
        if self._wake_at is None:
            return None
        return max(_MIN_TICK_GAP_MS, self._wake_at - self._now_ms()) / 1000

    async def _store(self, group: list[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        work: Awaitable[Assembled] = loop.run_in_executor(self._thread, self._write, group)
        try:
            # Shielded: a stop in the middle must not leave a commit that nobody was told of.
            assembled = await asyncio.shield(work)
        except asyncio.CancelledError:
            self._settle(group, await work)
            raise
        except Exception as error:  # noqa: BLE001 - whatever it was, what is on disk is unknown now
            _LOG.critical("control stops writing: %s", error, exc_info=error)
            self._fail(error, group)
            return
        self._settle(group, assembled)

    def _write(self, group: list[_Waiting]) -> Assembled:
        assembled = assemble(
            self._state,
            [waiting.submission for waiting in group],
            now_ms=self._now_ms(),
            logged=self._logged,
            read=self._files.get,
            has=self._files.has,
            sign_decision=self._sign_decision,
        )
        if assembled.entries:
            self._append(assembled.entries)
        return assembled

    def _settle(self, group: list[_Waiting], assembled: Assembled) -> None:
        if assembled.entries:
            self._state = assembled.state
            self._wake_at = assembled.wake_at
            for entry in assembled.entries:
                self._logged.setdefault(entry.header.body, entry.index)
                if entry.header.visibility is Visibility.OVERSEER:
                    self._hidden.add(entry.header.body)
        for waiting, result in zip(group, assembled.results, strict=True):
            if waiting.done.done():
                continue
            if isinstance(result, CallerError):
                waiting.done.set_exception(result)
            else:
                waiting.done.set_result(result)
        if assembled.entries:
            self._on_commit(assembled.entries, assembled.decision)

    def _check(self) -> None:
        if self._failure is not None:
            raise ControlFailedError(f"control writes no more: {self._failure}")

    def _fail(self, error: Exception, group: list[_Waiting] | None = None) -> None:
        if self._failure is None:
            self._failure = error
        self._failed.set()
        waiting = list(group or ())
        while not self._queue.empty():
            waiting.append(self._queue.get_nowait())
        for each in waiting:
            if not each.done.done():
                each.done.set_exception(ControlFailedError(f"control writes no more: {error}"))


def _stopped_by(error: Exception | None) -> ControlFailedError:
    # Whoever of those that end with it is heard first, the code is the cause's.
    code = error.code if isinstance(error, PeerError) else None
    return ControlFailedError(f"control's store failed: {error}", code=code)


def _log_refused_tick(done: asyncio.Future[tuple[int, ...]]) -> None:
    if not done.cancelled() and done.exception() is not None:
        _LOG.error("a tick was not logged: %s", done.exception())
