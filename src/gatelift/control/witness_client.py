"""One witness as control sees it: the newest head that it should cosign, and how it stands.

Invariants
- It is asked first what it holds of the log, and again after it refused a head: only then is it asked to
  cosign. A head of ours that the log does not lead to ends control: the store is not the newest.
- It is asked for the newest head only; what it cosigns is taken, however late that comes.
- One request at a time, each within `ASK_S`. A witness that fails is asked again by itself, later each
  time up to `_BACK_OFF_MAX_S`; nobody else waits for that.
- What it says about its own last size is believed only to choose the proof that it asks for.
- What it gave is handed on, to be stored before it counts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import httpx
import msgspec

from gatelift.control.errors import ControlFailedError
from gatelift.errors import GateliftError
from gatelift.ledger import ask_witness, read_witness_head
from gatelift.tlog import (
    Checkpoint,
    VerifierKey,
    parse_checkpoint,
    parse_note,
    parse_vkey,
    verify_cosignatures,
)
from gatelift.trust import Witness

__all__ = ["ASK_S", "OwnLog", "WitnessClient", "WitnessReport"]

ASK_S = 5.0
_BACK_OFF_MIN_S = 0.2
_BACK_OFF_MAX_S = 5.0
_LOG = logging.getLogger(__name__)


class OwnLog(Protocol):
    """The log as witnesses are asked about it."""

    @property
    def key(self) -> VerifierKey:
        """The key that it signs with."""

    async def consistency(self, old_size: int, new_size: int) -> Sequence[bytes]:
        """Return the proof that it at the second size only adds to the first."""

    async def check_seen(self, seen: Checkpoint) -> None:
        """Return if it leads to `seen`, which it signed; raises `ControlFailedError`."""


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

    def __init__(self, witness: Witness, url: str, log: OwnLog) -> None:
        self.key = parse_vkey(witness.vkey)
        self._witness = witness
        self._url = url
        self._log = log
        self._due = asyncio.Event()
        self._due.set()
        self._looked = asyncio.Event()
        self._compared = False
        self._wanted = b""
        self._offered_at = 0
        self._given_text: bytes | None = None
        self._size: int | None = None
        self._cosigned_at: int | None = None
        self._problem: str | None = None
        if not url:
            self._problem = "nobody said where it is: name its URL in the root or to control"
            self._looked.set()

    @property
    def problem(self) -> str | None:
        """Why its last cosignature is missing, if something is wrong."""
        return self._problem

    @property
    def is_compared(self) -> bool:
        """Whether the log leads to what it holds, as far as it told since it last refused a head."""
        return self._compared

    async def looked(self) -> None:
        """Return once it was compared for the first time, or has failed to answer."""
        await self._looked.wait()

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
        changed: Callable[[], Awaitable[None]],
    ) -> None:
        """Ask until cancelled: a cosigned head goes to `took`; failing, or being compared, is told.

        Raises `ControlFailedError` when what came cannot be stored, or is not what the log leads to.
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
                    if not self._compared:
                        await self._compare(client)
                        await changed()
                    # What was offered meanwhile is asked for now.
                    self._due.clear()
                    if self._wanted:
                        await took(await self._ask(client, self._wanted), self.key)
                except ControlFailedError:
                    raise
                except (GateliftError, OSError) as error:
                    self._note_failure(error)
                    await changed()
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
            consistency=self._log.consistency,
            timeout_s=ASK_S,
        )
        parsed = parse_note(cosigned)
        (cosignature,) = verify_cosignatures(parsed, [self.key])
        self._size = parse_checkpoint(parsed.text).size
        self._cosigned_at = cosignature.at_ms
        self._given_text = parsed.text
        self._problem = None
        return cosigned

    async def _compare(self, client: httpx.AsyncClient) -> None:
        seen = await read_witness_head(client, self._url, self._log.key, timeout_s=ASK_S)
        if seen is not None:
            await self._log.check_seen(seen)
        self._compared = True
        self._looked.set()

    def _note_failure(self, error: GateliftError | OSError) -> None:
        self._looked.set()
        if isinstance(error, GateliftError) and error.code == "witness_refused":
            # Whatever it was that it did not like, it may have seen more than we hold.
            self._compared = False
        problem = str(error)
        if self._problem != problem:
            # It may be down for long, so this is said once for each kind of trouble.
            _LOG.warning("witness %s: %s", self._witness.name, problem)
        self._problem = problem
