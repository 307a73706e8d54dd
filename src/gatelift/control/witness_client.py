"""The witness as control sees it: hand it a head, keep what it cosigns.

Invariants
- The network is waited for in a thread of its own, the ledger is used in the writer's.
- What came back is stored with the head before anybody is shown it.

The first witness of the root is asked, at one URL; a quorum of several needs a client for each,
which this version does not have.
"""

from __future__ import annotations

import asyncio

import httpx

from gatelift.control.errors import ControlError
from gatelift.control.publisher import Call
from gatelift.ledger import ReleasesLog, ask_witness
from gatelift.tlog import parse_checkpoint, parse_note, parse_vkey
from gatelift.trust import Root

__all__ = ["WitnessClient"]

_TIMEOUT_S = 5.0


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

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
