"""The status beat: control's short-lived word, once a second and whenever somebody waits.

Invariants
- One status answers every nonce asked since the last one, up to `MAX_NONCES`; the rest wait for the
  next. At most `1 / MIN_GAP_S` statuses a second, at least one each `BEAT_S`.
- `number` rises with each status of an epoch; the epoch rises with each start, so that a word of an
  older process never replaces a newer one.
- Where the root has a beacon, a status is pushed once its signatures are there (`endorse`), and not at
  all without them; its nonces wait for the next.
- If `compose` has nothing that stands (no bundle, no cosigned checkpoint, a writer that failed)
  nothing is signed. Silence closes every gateway when its status lapses.
- Nonces that cannot be answered are dropped after `_KEPT_NONCES`, oldest first: memory is bounded.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from gatelift.control.bundles import Outgoing
from gatelift.control.publisher import Cosigned
from gatelift.decide import State
from gatelift.errors import GateliftError
from gatelift.messages.frames import StatusFrame
from gatelift.trust import SigningKey, Status, sign_status

__all__ = ["BEAT_S", "MIN_GAP_S", "StatusBeat", "compose_status"]

BEAT_S = 1.0
MIN_GAP_S = 0.2
MAX_NONCES = 1024
_MAX_NONCE_CHARS = 128
_KEPT_NONCES = 4 * MAX_NONCES
_LOG = logging.getLogger(__name__)


def compose_status(
    state: State,
    out: Outgoing,
    head: Cosigned | None,
    *,
    nonces: tuple[str, ...],
    number: int,
    epoch: int,
    now_ms: int,
) -> Status | None:
    """Return the status that follows from what stands, null while something of it is missing."""
    if state.plan is None or head is None or out.bundle is None or out.roster is None:
        return None
    return Status(
        release=state.plan.name,
        certificates=out.certificates,
        # Also those past their `until`: a reader that has them ignores them by itself.
        orders=tuple(
            entry.standing.digest for entry in state.orders.values() if entry.cleared_index is None
        ),
        bundle=out.bundle.digest,
        roster_number=out.roster.number,
        roster=out.roster.digest,
        checkpoint=head.note.decode("utf-8"),
        number=number,
        nonces=nonces,
        epoch=epoch,
        signed_at=now_ms,
        ttl_ms=state.plan.trust.status_ttl_ms,
        incidents=tuple(sorted(each.severity for each in state.incidents.values() if each.is_open)),
    )


class StatusBeat:
    """Collects nonces and signs. `compose(nonces, number)` returns the status, null for silence.

    `endorse(envelope)` returns the signed status with all that its root asks for, null for silence.
    """

    def __init__(
        self,
        *,
        compose: Callable[[tuple[str, ...], int], Status | None],
        endorse: Callable[[bytes], Awaitable[bytes | None]],
        push: Callable[[StatusFrame], None],
        key: SigningKey,
    ) -> None:
        self._compose = compose
        self._endorse = endorse
        self._push = push
        self._key = key
        self._nonces: OrderedDict[str, None] = OrderedDict()
        self._waiting = asyncio.Event()
        self._number = 0
        self._last: Status | None = None

    @property
    def last(self) -> Status | None:
        """The last status signed."""
        return self._last

    def ask(self, nonces: Iterable[str]) -> None:
        """Have the next status answer these nonces."""
        for nonce in nonces:
            if 0 < len(nonce) <= _MAX_NONCE_CHARS:
                self._nonces[nonce] = None
        while len(self._nonces) > _KEPT_NONCES:
            self._nonces.popitem(last=False)
        if self._nonces:
            self._waiting.set()

    def hurry(self) -> None:
        """Sign as soon as the rate allows: something changed that gateways should hear."""
        self._waiting.set()

    async def run(self) -> None:
        """Sign and push until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT_S):
                    await self._waiting.wait()
            self._waiting.clear()
            await self.beat()
            await asyncio.sleep(MIN_GAP_S)

    async def beat(self) -> Status | None:
        """Sign and push one status now; null when nothing may be signed, or not by enough."""
        batch = tuple(self._nonces)[:MAX_NONCES]
        try:
            status = self._compose(batch, self._number + 1)
        except GateliftError as error:
            # Fails closed: no status. The next beat tries again.
            _LOG.error("no status: %s", error)
            status = None
        if status is None:
            return None
        # Used up, whoever signs: a beacon signs one status of a number.
        self._number = status.number
        envelope = await self._endorse(sign_status(status, self._key))
        if envelope is None:
            return None
        self._last = status
        self._push(StatusFrame(envelope=envelope))
        for nonce in batch:
            self._nonces.pop(nonce, None)
        if self._nonces:
            self._waiting.set()
        return status
