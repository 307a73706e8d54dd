"""All witnesses of the root, asked at the same time.

Invariants
- No witness waits for another: each has a task and a back-off of its own.
- Cosignatures are stored one after the other, in the writer's thread, before anybody is shown them.
- Before anything is logged all of them are asked what they hold of the log, for `FIRST_LOOK_S` at most;
  before anything is signed, those who were compared are enough for the root's policy.
- Whether they are enough is the root's policy's to say (`trust.witnesses`), not counted here.

A root with other witnesses is served after a restart; until then `problems` says which are missing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from typing import Any

from gatelift.control.errors import ControlError
from gatelift.control.publisher import Call, Publisher
from gatelift.control.witness_client import WitnessClient, WitnessReport
from gatelift.ledger import ReleasesLog
from gatelift.messages import releases_policy
from gatelift.tlog import Checkpoint, VerifierKey, parse_vkey
from gatelift.trust import Root

__all__ = ["FIRST_LOOK_S", "WitnessPanel", "witness_urls"]

FIRST_LOOK_S = 1.0
_LOG = logging.getLogger(__name__)


def witness_urls(root: Root, first: str | None, named: Mapping[str, str]) -> dict[str, str]:
    """Return where each witness of `root` is asked, by name.

    `named` goes before what the root says; `first` is for the root's first witness, where nothing
    else is said of it. Raises `ControlError` (`unknown_witness`; `no_witness` where the known ones
    cannot make up the root's quorum).
    """
    unknown = named.keys() - {witness.name for witness in root.witnesses}
    if unknown:
        raise ControlError(
            f"expected URLs of witnesses of root {root.version}, it names no {min(unknown)!r}",
            code="unknown_witness",
        )
    found = {}
    for place, witness in enumerate(root.witnesses):
        url = named.get(witness.name) or witness.url or (first if place == 0 else None)
        if url:
            found[witness.name] = url
    keys = [parse_vkey(witness.vkey) for witness in root.witnesses if witness.name in found]
    if not releases_policy(root).is_met_by(keys):
        raise ControlError(
            f"root {root.version} asks for witnesses of {root.witness_quorum} organisation(s), and "
            f"the URLs of {sorted(found) or 'none'} are known: give those of more",
            code="no_witness",
        )
    return found


class _CalledLog:
    """The releases log as the witnesses' clients use it: in the writer's thread."""

    def __init__(self, log: ReleasesLog, call: Call) -> None:
        self._log = log
        self._call = call

    @property
    def key(self) -> VerifierKey:
        return self._log.key

    async def consistency(self, old_size: int, new_size: int) -> tuple[bytes, ...]:
        return await self._call(lambda: self._log.consistency(old_size, new_size))

    async def check_seen(self, seen: Checkpoint) -> None:
        await self._call(lambda: self._log.check_seen(seen))


class WitnessPanel:
    """Asks the witnesses of `root` at `urls`, by name."""

    def __init__(
        self, *, root: Root, urls: Mapping[str, str], log: ReleasesLog, call: Call
    ) -> None:
        self._log = log
        self._call = call
        self._storing = asyncio.Lock()
        called = _CalledLog(log, call)
        self._clients = {
            witness.name: WitnessClient(witness, urls.get(witness.name, ""), called)
            for witness in root.witnesses
        }

    def works(self, publisher: Publisher) -> list[Coroutine[Any, Any, None]]:
        """Return what has to run beside `publisher`, which is told of all that comes."""

        async def took(note: bytes, key: VerifierKey) -> None:
            async with self._storing:
                merged = await self._call(lambda: self._log.add_cosignatures(note, [key]))
                await publisher.take(merged)

        return [client.run(took, publisher.look_again) for client in self._clients.values()]

    async def compare_first(self) -> None:
        """Return once each witness was compared, or did not answer; while `works` run.

        Who takes longer than `FIRST_LOOK_S` is compared before it is asked to cosign.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_LOOK_S):
                for client in self._clients.values():
                    await client.looked()
        missing = [name for name, client in self._clients.items() if not client.is_compared]
        if missing:
            _LOG.info("started without having asked what they hold: %s", ", ".join(missing))

    def have_compared(self, root: Root) -> bool:
        """Say whether those whose heads the log leads to can make up the root's quorum."""
        keys: list[VerifierKey] = [c.key for c in self._clients.values() if c.is_compared]
        return releases_policy(root).is_met_by(keys)

    def reports(self) -> tuple[WitnessReport, ...]:
        """Return how each witness stands, as the root lists them."""
        return tuple(client.report() for client in self._clients.values())

    def offer(self, note: bytes, now_ms: int, renewal_ms: int) -> None:
        """Have every witness cosign the head in `note`, and again after `renewal_ms`."""
        for client in self._clients.values():
            client.offer(note, now_ms, renewal_ms)

    def may_meet(self, root: Root, text: bytes) -> bool:
        """Say whether those that are well, or have cosigned `text`, can make up the root's quorum."""
        keys: list[VerifierKey] = [
            client.key
            for client in self._clients.values()
            if client.problem is None or client.has_given(text)
        ]
        return releases_policy(root).is_met_by(keys)

    def problems(self, root: Root, text: bytes) -> str:
        """Return why cosignatures on `text` are missing: who is in trouble, or else who is slow."""
        missing = {n: c.problem for n, c in self._clients.items() if not c.has_given(text)}
        said = [f"{name}: {problem}" for name, problem in missing.items() if problem]
        said += [
            f"{each.name}: new in the root, restart control"
            for each in root.witnesses
            if each.name not in self._clients
        ]
        said = said or [f"{name}: has not answered yet" for name in missing]
        return "; ".join(said) or "all have cosigned, and the root's policy is not met"
