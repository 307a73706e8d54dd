"""Whether the weights of a placement are measured now, by the word of its sidecar.

    claimed --a measurement that answers our nonce--> measured
    measured --the same--> measured (for its life, counted from the asking)
    measured --refused, foreign, replayed, of other weights--> claimed
    measured --silence until its life is over--> claimed

Invariants
- Every asking has a nonce of its own, drawn here; what answers another is refused.
- The weights that are measured are those that the candidate names; a candidate that names none is
  never more than claimed.
- A refusal counts at once, silence when the last measurement has lived: a sidecar that is restarted
  gets so long and no longer.
- The measurement that is told is the one with which this stretch of `measured` began.

Fails closed: whatever is not a measurement for us is none. Pure, but for `watch_sidecar`, which asks.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Final

from gatelift.encoding import Digest
from gatelift.errors import CallerError
from gatelift.messages import Sidecar, verify_measurement
from gatelift.terms import Binding
from gatelift.wire.sidecars import SidecarError, ask_sidecar, open_sidecar

__all__ = ["MeasuredState", "watch_sidecar"]

_LOG = logging.getLogger(__name__)
_NONCE_BYTES: Final = 16
_MOST_WAIT_S: Final = 5.0
_RETRY_S: Final = 1.0


class MeasuredState:
    """What one placement's sidecar has shown so far. Times in ms on one clock that never goes back."""

    def __init__(
        self, sidecar: Sidecar, placement: str, fingerprint: Digest, weights: str | None
    ) -> None:
        self._sidecar = sidecar
        self._placement = placement
        self._fingerprint = fingerprint
        self._weights = weights
        self._until_ms = 0
        self.was_asked = False
        self.measurement: str | None = None

    @property
    def binding(self) -> Binding:
        """What may be said of the weights now."""
        return Binding.CLAIMED if self.measurement is None else Binding.MEASURED

    def answered(self, data: bytes, nonce: str, asked_ms: int) -> None:
        """Take what came back on `nonce`; raises `CallerError` if it measures nothing for us."""
        self.was_asked = True
        try:
            found = verify_measurement(
                data,
                self._sidecar,
                placement=self._placement,
                fingerprint=self._fingerprint,
                nonce=nonce,
            )
            if found.weights != self._weights:
                raise CallerError(
                    f"the sidecar measures weights {found.weights[:24]}, the candidate names "
                    f"{self._weights or 'none'}",
                    code="other_weights",
                )
        except CallerError:
            self.measurement = None
            raise
        self._until_ms = asked_ms + found.lives_ms
        if self.measurement is None:
            self.measurement = data.decode("utf-8")

    def refused(self) -> None:
        """Take that the sidecar says that it cannot measure."""
        self.was_asked = True
        self.measurement = None

    def silent(self, now_ms: int) -> None:
        """Take that nothing came back."""
        self.was_asked = True
        if now_ms >= self._until_ms:
            self.measurement = None


async def watch_sidecar(
    url: str, state: MeasuredState, tell: Callable[[], None], *, every_ms: int
) -> None:
    """Ask a sidecar until cancelled, with a fresh nonce each time; `tell` hears of every answer."""
    try:
        sidecar = open_sidecar(url)
    except SidecarError as error:
        _LOG.warning("%s", error)
        state.refused()
        tell()
        return
    async with aclosing(sidecar):
        while True:
            nonce = secrets.token_hex(_NONCE_BYTES)
            good = await _ask(state, nonce, functools.partial(ask_sidecar, sidecar, nonce))
            tell()
            wait_s = min(_MOST_WAIT_S, every_ms / 1000)
            await asyncio.sleep(wait_s if good else min(_RETRY_S, wait_s))


async def _ask(state: MeasuredState, nonce: str, ask: Callable[[], Awaitable[bytes]]) -> bool:
    asked_ms = _boot_ms()
    try:
        state.answered(await ask(), nonce, asked_ms)
    except SidecarError as error:
        _LOG.warning("weights: %s", error)
        if error.code == "sidecar_refuses":
            state.refused()
        else:
            state.silent(_boot_ms())
        return False
    except CallerError as error:
        _LOG.warning("weights: a measurement was refused: %s: %s", error.code, error)
        return False
    return True


def _boot_ms() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
