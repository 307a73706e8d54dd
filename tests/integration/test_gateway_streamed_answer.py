"""A stream is passed on where its bytes come in: in order, no faster than the caller reads."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import weakref
from collections.abc import Coroutine
from typing import Any

import pytest

from gatelift.gateway.dialects import DIALECTS, UpstreamAnswerError
from gatelift.gateway.exchange import Event, Exchange
from gatelift.gateway.http_messages import ClientGoneError
from gatelift.gateway.http_responder import Responder, ResponseState
from gatelift.gateway.releasing import Release
from gatelift.gateway.streamed_answer import StreamedAnswer
from gatelift.safeguards import Suite
from gatelift.terms import Category, Posture, SafeguardTerms, Scope
from gatelift.wire.http_client import UpstreamError, UpstreamLimits, UpstreamResponse

CHAT = DIALECTS["/v1/chat/completions"]
DONE = b"data: [DONE]\n\n"


def event(text: str) -> bytes:
    return b'data: {"choices":[{"delta":{"content":%b}}]}\n\n' % json.dumps(text).encode()


class Caller:
    """A caller's connection that counts as full when told so."""

    write_paused = False
    closes_after = False

    def __init__(self) -> None:
        self.got = b""
        self.room = asyncio.Event()

    def write(self, data: bytes) -> None:
        self.got += data

    async def drained(self) -> None:
        await self.room.wait()

    def cut(self, *, flush: bool) -> None:
        del flush

    def texts(self) -> list[str]:
        return [
            json.loads(line[6:])["choices"][0]["delta"]["content"]
            for line in self.got.split(b"\n")
            if line.startswith(b"data: {")
        ]


class Source:
    """An upstream's connection that notes whether it is read from."""

    paused = abandoned = False

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def abandon(self) -> None:
        self.abandoned = True


class Scene:
    """One stream between an upstream and a caller, neither of them there."""

    def __init__(self, *, max_tokens: int = 100) -> None:
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        request = CHAT.parse(json.dumps(body).encode())
        codec = CHAT.open_answer(request, request_id="r", created_s=0)
        suite = Suite(
            terms=SafeguardTerms(postures={Category.LEAK: Posture.CUT}),
            scope=Scope(tools=()),
            canaries=("amber lantern",),
        )
        self.release = Release(suite.open_answer, codec, max_tokens=max_tokens, max_bytes=1_000_000)
        self.steps = Exchange()
        for step in (Event.IDENTIFY, Event.ADMIT, Event.RESERVE, Event.START, Event.FORWARD):
            self.steps.on(step)
        self.caller, self.source = Caller(), Source()
        self.responder = Responder(self.caller, head_only=False, http_1_1=True)
        self.responder.start_stream(200, [])
        self.response = UpstreamResponse(
            status=200,
            headers={},
            source=self.source,
            limits=UpstreamLimits(high_water_bytes=1000),
            loop=asyncio.get_running_loop(),
        )
        streamed = StreamedAnswer(
            codec, self.release, self.responder, self.steps, max_event_bytes=10_000
        )
        self.task = asyncio.create_task(streamed.pass_on(self.response))


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(8):
            await main

    asyncio.run(bounded())


async def turns() -> None:
    """Let every task that can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_an_event_reaches_the_caller_in_the_turn_in_which_it_comes() -> None:
    async def main() -> None:
        scene = Scene()
        scene.response.push(event("before anybody waits "))
        await turns()
        assert scene.caller.texts() == ["before anybody waits "]
        half = event("two ")
        scene.response.push(event("one ") + half[:20])
        assert scene.caller.texts()[1:] == ["one "]
        scene.response.push(half[20:])
        assert scene.caller.texts()[1:] == ["one ", "two "]
        scene.response.push(DONE + event("after the end"))
        await scene.task
        assert len(scene.caller.texts()) == 3
        assert scene.release.released == b"before anybody waits one two "

    run(main())


def test_a_caller_who_does_not_read_stops_the_stream_and_then_gets_all_of_it_in_order() -> None:
    async def main() -> None:
        scene = Scene()
        await turns()
        scene.caller.write_paused = True
        scene.response.push(event("one ") + event("two ") + event("three "))
        assert scene.caller.texts() == ["one "]
        for number in range(40):
            scene.response.push(event(f"{number} "))
        await turns()
        assert scene.caller.texts() == ["one "]
        assert scene.source.paused
        scene.caller.write_paused = False
        scene.caller.room.set()
        await turns()
        assert scene.caller.texts() == ["one ", "two ", "three ", *(f"{n} " for n in range(40))]
        assert not scene.source.paused
        scene.response.push(DONE)
        await scene.task

    run(main())


def test_a_caller_who_leaves_while_behind_ends_the_stream() -> None:
    async def main() -> None:
        scene = Scene()
        await turns()
        scene.caller.write_paused = True
        scene.response.push(event("one ") + event("two "))
        # As the connection does when it is lost: before the stream's task has its turn.
        scene.responder.state = ResponseState.CUT
        with pytest.raises(ClientGoneError):
            await scene.task

    run(main())


def test_nothing_leaves_between_a_stop_and_the_task_that_it_ends() -> None:
    async def main() -> None:
        scene = Scene()
        await turns()
        scene.response.push(event("one "))
        scene.task.cancel()
        scene.response.push(event("two "))
        assert scene.caller.texts() == ["one "]
        with pytest.raises(asyncio.CancelledError):
            await scene.task
        assert scene.caller.texts() == ["one "]

    run(main())


@pytest.mark.parametrize("behind", [True, False])
@pytest.mark.parametrize(
    ("texts", "left"),
    [(["an amber lantern"], ["an "]), (["one ", "two ", "three "], ["one ", "two "])],
    ids=["cut", "reserve spent"],
)
def test_after_the_last_that_may_leave_nothing_more_is_read(
    texts: list[str], left: list[str], behind: bool
) -> None:
    async def main() -> None:
        scene = Scene(max_tokens=2)
        await turns()
        scene.caller.write_paused = behind
        unreadable = b"data: no JSON\n\n"
        scene.response.push(b"".join(map(event, texts)) + unreadable)
        scene.response.push(unreadable)
        await turns()
        assert scene.task.done() is not behind
        scene.caller.write_paused = False
        scene.caller.room.set()
        await scene.task
        assert scene.caller.texts() == left
        assert scene.release.stopped

    run(main())


@pytest.mark.parametrize("waits", [True, False])
def test_what_no_dialect_reads_ends_the_stream_after_what_came_before_it(waits: bool) -> None:
    async def main() -> None:
        scene = Scene()
        if waits:
            await turns()
        scene.response.push(event("one ") + b"data: no JSON\n\n" + event("two "))
        scene.response.push(event("three "))
        with pytest.raises(UpstreamAnswerError):
            await scene.task
        assert scene.caller.texts() == ["one "]

    run(main())


def test_a_stream_that_just_stops_or_dies_is_no_end_and_what_came_before_leaves() -> None:
    async def main() -> None:
        for dies in (True, False):
            scene = Scene()
            await turns()
            scene.response.push(event("one "))
            if dies:
                scene.response.fail(UpstreamError("gone", code="died", sent=True))
            else:
                scene.response.end()
            with pytest.raises(UpstreamError if dies else UpstreamAnswerError):
                await scene.task
            assert scene.caller.texts() == ["one "]

    run(main())


@pytest.mark.parametrize("last", [DONE, event("amber lantern"), b"data: no JSON\n\n"])
def test_a_stream_that_ended_is_no_work_for_the_garbage_collector(last: bytes) -> None:
    async def main() -> None:
        scene = Scene()
        await turns()
        scene.response.push(event("one ") + last)
        with contextlib.suppress(UpstreamAnswerError):
            await scene.task
        caller = weakref.ref(scene.caller)
        del scene
        await turns()
        assert caller() is None

    gc.disable()
    try:
        run(main())
    finally:
        gc.enable()
