from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import msgspec

from gatelift.control.actor import Actor
from gatelift.control.errors import ControlError
from gatelift.control.signing import Draft, sign_draft
from gatelift.decide import State
from gatelift.encoding import sha256_digest
from gatelift.messages import Decision, EntryKind, Narrowing
from gatelift.messages.frames import OrderFrame
from gatelift.terms import DecisionKind
from gatelift.trust import SigningKey, Subject, Target, TargetKind

KEY = SigningKey(b"\x05" * 32)
SUBJECT = Subject(name="candidate", digest=sha256_digest(b"candidate"))
NARROW = Narrowing(
    target=Target(kind=TargetKind.STAGE, name="internal"), ceiling=None, reason="guardrail_breach:m"
)
DECISION = Decision(
    release="aurora",
    kind=DecisionKind.ROLL_BACK,
    stage="internal",
    target=None,
    reasons=(),
    figures=(),
    narrow=(NARROW,),
)


class Bench:
    """An actor whose log can be made to refuse, and to take its time."""

    def __init__(self) -> None:
        self.pushed: list[OrderFrame] = []
        self.logged: list[Draft] = []
        self.go = asyncio.Event()
        self.refuse = False
        self.tasks: list[asyncio.Task[None]] = []
        self.actor = Actor(
            sign=self.sign,
            submit=self.submit,
            push=self.pushed.append,
            spawn=self.spawn,
            now_ms=lambda: 1_790_000_000_000,
        )

    def sign(self, kind: EntryKind, predicate: msgspec.Struct) -> Draft:
        return sign_draft(kind, predicate, SUBJECT, KEY)

    async def submit(
        self, drafts: list[Draft], expected_size: int | None = None
    ) -> tuple[int, ...]:
        await self.go.wait()
        if self.refuse:
            raise ControlError("no")
        self.logged += drafts
        return (0,)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.append(task)
        return task


def test_an_order_is_pushed_before_it_is_logged_and_once_while_it_is_on_its_way() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.actor.act(State(), DECISION)
        bench.actor.act(State(), DECISION)
        assert len(bench.pushed) == 1
        assert bench.logged == []
        bench.go.set()
        await asyncio.gather(*bench.tasks)
        assert [draft.body for draft in bench.logged] == [bench.pushed[0].envelope]

    asyncio.run(scenario())


def test_an_order_that_could_not_be_logged_is_given_again_by_the_next_decision() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.refuse = True
        bench.go.set()
        bench.actor.act(State(), DECISION)
        await asyncio.gather(*bench.tasks)
        bench.refuse = False
        bench.actor.act(State(), DECISION)
        await asyncio.gather(*bench.tasks)
        assert len(bench.pushed) == 2
        assert len(bench.logged) == 1

    asyncio.run(scenario())
