"""The witness as control sees it: hand it a head, keep what it cosigns.

Invariants
- The network is waited for in a thread of its own, the ledger is used in the writer's.
- What came back is stored with the head before anybody is shown it.
- A head of ours that the witness holds and the log does not lead to ends control: the store is not
  the newest (`compare`).

The first witness of the root is asked, at one URL; a quorum of several needs a client for each,
which this version does not have.
"""

from __future__ import annotations

import asyncio
import logging

import httpx

from gatelift.control.errors import ControlError, ControlFailedError
from gatelift.control.publisher import Call
from gatelift.errors import PeerError
from gatelift.ledger import ReleasesLog, ask_witness, read_witness_head
from gatelift.tlog import parse_checkpoint, parse_note, parse_vkey
from gatelift.trust import Root

__all__ = ["WitnessClient"]

_TIMEOUT_S = 5.0
_FIRST_LOOK_S = 1.0
_LOG = logging.getLogger(__name__)


class WitnessClient:
    """Asks the witness at `url`."""

    def __init__(self, url: str, log: ReleasesLog, call: Call) -> None:
        self._url = url
        self._log = log
        self._call = call
        self._client = httpx.Client(timeout=_TIMEOUT_S, trust_env=False, follow_redirects=False)
        self._their_size = 0

    async def cosign(self, note: bytes, root: Root) -> bytes:
        """Return the head with its cosignature, stored; raises `LedgerError`."""
        if not root.witnesses:
            raise ControlError("the root names no witness to ask", code="no_witness")
        key = parse_vkey(root.witnesses[0].vkey)
        cosigned = await asyncio.to_thread(
            ask_witness,
            self._client,
            self._url,
            key,
            note,
            old_size=self._their_size,
            consistency=self._log.consistency,
        )
        merged = await self._call(lambda: self._log.add_cosignatures(cosigned, [key]))
        self._their_size = parse_checkpoint(parse_note(note).text).size
        return merged

    async def compare(self, timeout_s: float = _TIMEOUT_S) -> None:
        """Return once the log leads to what the witness holds of it.

        Raises `LedgerError` (`witness_failed`) when that cannot be known yet, `ControlFailedError`
        when it does not.
        """
        seen = await asyncio.to_thread(
            read_witness_head, self._client, self._url, self._log.key, timeout_s=timeout_s
        )
        if seen is not None:
            await self._call(lambda: self._log.check_seen(seen))

    async def compare_first(self) -> None:
        """Compare before anything is logged, if the witness answers at once; else `compare` will."""
        try:
            await self.compare(_FIRST_LOOK_S)
        except ControlFailedError:
            raise
        except PeerError as error:
            _LOG.info("started without having asked the witness what it holds: %s", error)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
