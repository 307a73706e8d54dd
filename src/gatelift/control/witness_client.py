"""One witness as control sees it: the newest head that it should cosign, and how it stands.

Invariants
- It is asked for the newest head only; what it cosigns is taken, however late that comes.
- One request at a time, each within `ASK_S`. A witness that fails is asked again by itself, later each
  time up to `_BACK_OFF_MAX_S`; nobody else waits for that.
- What it says about its own last size is believed only to choose the proof that it asks for.
- What it gave is handed on, to be stored before it counts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import httpx
import msgspec

from gatelift.control.errors import ControlFailedError
from gatelift.errors import GateliftError
from gatelift.ledger import Consistency, ask_witness
from gatelift.tlog import VerifierKey, parse_checkpoint, parse_note, parse_vkey, verify_cosignatures
from gatelift.trust import Witness

__all__ = ["ASK_S", "WitnessClient", "WitnessReport"]

ASK_S = 5.0
_BACK_OFF_MIN_S = 0.2
_BACK_OFF_MAX_S = 5.0
_LOG = logging.getLogger(__name__)


class WitnessReport(msgspec.Struct, frozen=True, kw_only=True):
    """How a witness stands: the size and time (ms UTC) of its last cosignature, and what is wrong."""

    name: str
    organisation: str
    independent: bool
    size: int | None
    cosigned_at: int | None
    problem: str | None


class WitnessClient:
    """Asks `witness` at `url`, which is empty where nobody said where it is."""

    def __init__(self, witness: Witness, url: str, consistency: Consistency) -> None:
        self.key = parse_vkey(witness.vkey)
        self._witness = witness
        self._url = url
        self._consistency = consistency
        self._due = asyncio.Event()
        self._wanted = b""
        self._offered_at = 0
        self._given_text = b""
        self._size: int | None = None
        self._cosigned_at: int | None = None
        self._problem: str | None = None
        if not url:
            self._problem = "nobody said where it is: name its URL in the root or to control"

    @property
    def problem(self) -> str | None:
        """Why its last cosignature is missing, if something is wrong."""
        return self._problem

    def report(self) -> WitnessReport:
        """Return how it stands."""
        return WitnessReport(
            name=self._witness.name,
            organisation=self._witness.organisation,
            independent=self._witness.independent,
            size=self._size,
            cosigned_at=self._cosigned_at,
            problem=self._problem,
        )

    def has_given(self, text: bytes) -> bool:
        """Say whether its last cosignature was on the head whose note text is `text`."""
        return self._given_text == text

    def offer(self, note: bytes, now_ms: int, renewal_ms: int) -> None:
        """Have it cosign the head in `note`, in place of any that it has not been asked for yet.

        One that it has cosigned is asked for again after `renewal_ms`, by our clock and not by its own.
        """
        is_due = now_ms - self._offered_at >= renewal_ms
        if is_due or not self.has_given(parse_note(note).text):
            self._offered_at = now_ms
            self._wanted = note
            self._due.set()

    async def run(
        self,
        took: Callable[[bytes, VerifierKey], Awaitable[None]],
        failed: Callable[[], Awaitable[None]],
    ) -> None:
        """Ask until cancelled: each cosigned head goes to `took`, and each failure is told.

        Raises `ControlFailedError` when what came cannot be stored.
        """
        back_off_s = _BACK_OFF_MIN_S
        # A quorum may be one machine away: no proxy, and no redirect to another witness.
        async with httpx.AsyncClient(
            timeout=ASK_S, trust_env=False, follow_redirects=False
        ) as client:
            while self._url:
                await self._due.wait()
                self._due.clear()
                try:
                    await took(await self._ask(client, self._wanted), self.key)
                except ControlFailedError:
                    raise
                except (GateliftError, OSError) as error:
                    self._note_problem(str(error))
                    await failed()
                    self._due.set()
                    await asyncio.sleep(back_off_s)
                    back_off_s = min(2 * back_off_s, _BACK_OFF_MAX_S)
                else:
                    back_off_s = _BACK_OFF_MIN_S

    async def _ask(self, client: httpx.AsyncClient, note: bytes) -> bytes:
        cosigned = await ask_witness(
            client,
            self._url,
            self.key,
            note,
            old_size=self._size or 0,
            consistency=self._consistency,
            timeout_s=ASK_S,
        )
        parsed = parse_note(cosigned)
        (cosignature,) = verify_cosignatures(parsed, [self.key])
        self._size = parse_checkpoint(parsed.text).size
        self._cosigned_at = cosignature.at_ms
        self._given_text = parsed.text
        self._problem = None
        return cosigned

    def _note_problem(self, problem: str) -> None:
        if self._problem != problem:
            # It may be down for long, so this is said once for each kind of trouble.
            _LOG.warning("witness %s: %s", self._witness.name, problem)
        self._problem = problem
