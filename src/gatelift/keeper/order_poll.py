"""Orders by the overseer's own endpoint: a list at a URL that the root names, asked for by the node.

The list is text, one signed order a line, as `gatelift halt --list FILE` writes it; any web server
can offer it. Control does not stand in between: it can neither hold an order back nor see it first.

Invariants
- Asked for each `EVERY_S`, so that an order acts within a second of its publication. One call at a
  time, each with a deadline and a bound; a redirect or any other status is no list.
- A line counts by its signature alone, and does not take the others with it. What was taken or
  refused is not judged again; at most `MAX_NEW_LINES` are judged a round, the rest in the next.
- An endpoint that is silent, wrong or gone stops nobody and opens nothing: orders only subtract,
  and those that were taken stay.

Fails open for the silence of an endpoint: that is told in the log, and is not a stop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from gatelift.encoding import Digest, sha256_digest
from gatelift.errors import CallerError, GateliftError, PeerError
from gatelift.wire.http_client import Upstream, UpstreamLimits, UpstreamTimeouts

__all__ = ["OrderPoll"]

EVERY_S: Final = 0.4
DEADLINE_S: Final = 2.0
MAX_LIST_BYTES: Final = 1024 * 1024
MAX_NEW_LINES: Final = 64
_MAX_REMEMBERED: Final = 8192
_LOG = logging.getLogger(__name__)


class OrderListError(PeerError):
    """An overseer's endpoint answered with what is no list of orders."""

    code = "bad_order_list"


class OrderPoll:
    """Asks one URL. `adopt` keeps an order and passes it on, or raises."""

    def __init__(self, url: str, adopt: Callable[[bytes], object]) -> None:
        parts = urlsplit(url)
        self._host = parts.netloc
        self._base = f"{parts.scheme}://{parts.netloc}"
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._adopt = adopt
        self._judged: set[Digest] = set()
        self._said = ""

    async def run(self) -> None:
        """Ask until cancelled."""
        upstream = Upstream(
            self._base,
            limits=UpstreamLimits(max_body_bytes=MAX_LIST_BYTES, max_stream_bytes=MAX_LIST_BYTES),
            timeouts=UpstreamTimeouts(
                connect_s=DEADLINE_S,
                first_byte_s=DEADLINE_S,
                idle_s=DEADLINE_S,
                total_s=DEADLINE_S,
            ),
        )
        try:
            while True:
                try:
                    async with asyncio.timeout(DEADLINE_S):
                        self.take(await self._ask(upstream))
                    self._say("")
                except (GateliftError, TimeoutError) as error:
                    self._say(f"{type(error).__name__}: {error}")
                await asyncio.sleep(EVERY_S)
        finally:
            await upstream.aclose()

    def take(self, text: bytes) -> int:
        """Judge the lines of a list that are new; return how many orders were taken."""
        taken = judged = 0
        for line in text.split(b"\n"):
            envelope = line.strip()
            digest = sha256_digest(envelope)
            if not envelope or digest in self._judged:
                continue
            if judged == MAX_NEW_LINES:
                break
            judged += 1
            try:
                self._adopt(envelope)
                taken += 1
            except CallerError as error:
                _LOG.error("%s lists what is no order: %s: %s", self._host, error.code, error)
            except (PeerError, OSError) as error:
                # Ours or the disk's fault, not the order's: it is tried again.
                _LOG.error("an order of %s could not be taken yet: %s", self._host, error)
                continue
            if len(self._judged) >= _MAX_REMEMBERED:
                self._judged.clear()
            self._judged.add(digest)
        return taken

    async def _ask(self, upstream: Upstream) -> bytes:
        response = await upstream.request(
            "GET", self._target, [(b"accept", b"*/*")], b"", idempotent=True
        )
        try:
            if response.status != 200:
                raise OrderListError(f"expected a list of orders, got status {response.status}")
            return await response.read()
        finally:
            response.close()

    def _say(self, problem: str) -> None:
        # What goes on failing is said once.
        if problem != self._said:
            self._said = problem
            if problem:
                _LOG.error("no list of orders from %s: %s", self._host, problem)
            else:
                _LOG.info("the list of orders of %s is read again", self._host)
