"""The page over HTTP: `GET /` on the admin port, public and read-only.

Invariants
- At most one page is made each `KEEP_S` and one at a time, in a thread: readers, however many,
  cannot keep control from signing. What is shown is at most that old, and says its time.
- No token is asked for or looked at; a request changes nothing.

The rate of a client is bound by the admin API that these routes are mounted on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from litestar import HttpMethod, MediaType, Response, route
from litestar.types import ControllerRouterHandler

from gatelift.decide import State
from gatelift.encoding import encode_base64
from gatelift.errors import GateliftError
from gatelift.messages import EntryHeader
from gatelift.plan import Candidate, parse_candidate
from gatelift.tlog import Checkpoint
from gatelift.web.glance import Glance, LogReader
from gatelift.web.render import HEADERS, render_release
from gatelift.web.view import build_view, certificate_entries
from gatelift.wire.files import FileStore

__all__ = ["KEEP_S", "PageSource", "page_routes"]

KEEP_S = 1.0


class Head(Protocol):
    """A head of the log that meets the root's policy."""

    @property
    def checkpoint(self) -> Checkpoint:
        """What it says."""


class Node(Protocol):
    """The node that control serves."""

    @property
    def is_connected(self) -> bool:
        """Whether it is connected now."""


class PageSource(Protocol):
    """What the page reads of control; `gatelift.control.Control` is one."""

    @property
    def state(self) -> State:
        """The state after the last commit."""

    @property
    def files(self) -> FileStore:
        """Files by digest."""

    @property
    def cosigned(self) -> Head | None:
        """The newest head that meets the root's policy."""

    @property
    def witness_problem(self) -> str | None:
        """Why the newest head is not cosigned yet."""

    @property
    def node(self) -> Node:
        """The node that is served."""

    @property
    def is_healthy(self) -> bool:
        """Whether control writes and signs."""

    def now_ms(self) -> int:
        """Return the time, in ms UTC."""

    async def entries(self, first: int, stop: int) -> list[tuple[EntryHeader, bytes]]:
        """Return headers and bodies of entries."""


class _Page:
    """Makes the page, seldom enough."""

    def __init__(self, control: PageSource, clock: Callable[[], float]) -> None:
        self._control = control
        self._clock = clock
        self._log = LogReader(control.entries)
        self._making = asyncio.Lock()
        self._made: tuple[float, bytes] | None = None

    async def read(self) -> bytes:
        """Return the page, at most `KEEP_S` old."""
        async with self._making:
            if self._made is None or self._clock() - self._made[0] >= KEEP_S:
                page = await self._make()
                self._made = (self._clock(), page)
            return self._made[1]

    async def _make(self) -> bytes:
        control = self._control
        state, head, now_ms = control.state, control.cosigned, control.now_ms()
        decisions = await self._log.decisions(state.size)
        signers = await self._log.signers(certificate_entries(state))

        def work() -> bytes:
            glance = Glance(
                candidate=_candidate(state, control.files),
                cosigned=None
                if head is None
                else (
                    head.checkpoint.size,
                    encode_base64(head.checkpoint.root),
                    head.checkpoint.origin,
                ),
                delayed=control.witness_problem is not None,
                healthy=control.is_healthy,
                connected=control.node.is_connected,
                signers=signers,
                decisions=decisions,
            )
            return render_release(build_view(state, now_ms, glance)).encode("utf-8")

        return await asyncio.to_thread(work)


def _candidate(state: State, files: FileStore) -> Candidate | None:
    if state.fingerprint is None:
        return None
    try:
        return parse_candidate(files.get(state.fingerprint))
    except GateliftError:
        # The page says that it cannot be read; why is the operator's to find in control's log.
        return None


def page_routes(
    control: PageSource, clock: Callable[[], float] = time.monotonic
) -> Sequence[ControllerRouterHandler]:
    """Return the routes of the page over a running control; `clock` counts seconds."""
    page = _Page(control, clock)

    @route("/", http_method=[HttpMethod.GET, HttpMethod.HEAD], include_in_schema=False)
    async def read_page() -> Response[bytes]:
        """Show the release."""
        body = await page.read()
        return Response(content=body, media_type=MediaType.HTML, headers=HEADERS)

    return [read_page]
