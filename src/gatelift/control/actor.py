"""Acting on decisions: orders for what must be narrowed, incidents for what was seen.

Invariants
- A narrowing is pushed to the keepers the moment its order is signed; logging comes after and is no
  condition. It is logged all the same, so that it stays when control is gone.
- What is already ordered or open is not done twice: `decide` leaves it out once it is on the log,
  and here it is held back while it is on its way. After a crash the next run of `decide` says it
  again, so nothing is lost either.
- Nothing here widens: it signs orders and incident openings only.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from gatelift.control.node_reports import Submit
from gatelift.control.signing import Draft
from gatelift.decide import IncidentDraft, State, incidents_due
from gatelift.encoding import ID_ENTROPY_BYTES, make_id
from gatelift.errors import GateliftError
from gatelift.messages import Decision, EntryKind, IncidentOpening, Narrowing
from gatelift.messages.frames import OrderFrame
from gatelift.trust import Order

__all__ = ["Actor"]

_LOG = logging.getLogger(__name__)


class Actor:
    """Turns decisions into orders and incidents. `spawn` runs work beside and keeps hold of it."""

    def __init__(
        self,
        *,
        sign: Callable[[EntryKind, msgspec.Struct], Draft],
        submit: Submit,
        push: Callable[[OrderFrame], None],
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        now_ms: Callable[[], int],
    ) -> None:
        self._sign = sign
        self._submit = submit
        self._push = push
        self._spawn = spawn
        self._now_ms = now_ms
        self._under_way: set[bytes] = set()

    def act(self, state: State, decision: Decision) -> None:
        """Order what `decision` narrows and open the incidents that are due."""
        for narrowing in decision.narrow:
            mark = b"order" + msgspec.json.encode((narrowing.target, narrowing.ceiling))
            if mark not in self._under_way:
                draft = self._order(decision.release, narrowing)
                self._push(OrderFrame(envelope=draft.body))
                self._start(mark, draft)
        for due in incidents_due(state):
            mark = b"incident" + due.source.encode("utf-8")
            if mark not in self._under_way:
                self._start(mark, self._incident(decision.release, due))

    def _order(self, release: str, narrowing: Narrowing) -> Draft:
        now_ms = self._now_ms()
        order = Order(
            id=make_id("order", now_ms, secrets.token_bytes(ID_ENTROPY_BYTES)),
            release=release,
            target=narrowing.target,
            ceiling=narrowing.ceiling,
            reasons=(narrowing.reason,),
            at=now_ms,
        )
        _LOG.warning(
            "ordering %s %s down: %s",
            narrowing.target.kind.value,
            narrowing.target.name,
            narrowing.reason,
        )
        return self._sign(EntryKind.ORDER, order)

    def _incident(self, release: str, due: IncidentDraft) -> Draft:
        now_ms = self._now_ms()
        opening = IncidentOpening(
            id=make_id("incident", now_ms, secrets.token_bytes(ID_ENTROPY_BYTES)),
            release=release,
            severity=due.severity,
            title=due.title,
            source=due.source,
            occurred_at=None,
            detected_at=now_ms,
            aware_at=None,
            discovered_at=None,
            reasonable_belief_at=None,
            determined_at=None,
        )
        return self._sign(EntryKind.INCIDENT, opening)

    def _start(self, mark: bytes, draft: Draft) -> None:
        self._under_way.add(mark)
        _ = self._spawn(self._log(mark, draft))

    async def _log(self, mark: bytes, draft: Draft) -> None:
        try:
            await self._submit([draft])
        except GateliftError as error:
            # The order acts all the same; the next decision asks for it again.
            _LOG.error("a %s by control was not logged: %s", draft.kind.value, error)
        finally:
            self._under_way.discard(mark)
