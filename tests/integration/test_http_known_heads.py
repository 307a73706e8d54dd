"""What an upstream connection knows of earlier answers may not change how any answer is read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from gatelift.wire.http_connection import ClientConnection
from gatelift.wire.http_known_heads import KnownHeads
from gatelift.wire.http_response import UpstreamError, UpstreamLimits, UpstreamTimeouts

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 5\r\n\r\n"
HELLO = HEAD + b"hello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Transport:
    """Takes what is written, and notes whether it was closed."""

    def __init__(self) -> None:
        self.closed = False

    def get_extra_info(self, _name: str) -> None:
        return None

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes) -> None:
        assert data == b"asked"

    def abort(self) -> None:
        self.closed = True


class Lane:
    """One connection over a transport of ours."""

    def __init__(self, known: KnownHeads) -> None:
        self.freed: list[ClientConnection] = []
        self.transport = Transport()
        self.connection = ClientConnection(
            limits=UpstreamLimits(),
            timeouts=UpstreamTimeouts(),
            known_heads=known,
            on_free=self.freed.append,
            on_lost=lambda _: None,
        )
        self.connection.connection_made(cast("asyncio.Transport", self.transport))

    async def read(self, *parts: bytes) -> tuple[Any, bool]:
        """Return (status, headers, body), or the code of the error, and whether it may be used again."""
        asked = self.connection.send(b"asked")
        for part in parts:
            self.connection.data_received(part)
        kept = self.connection.is_usable
        self.connection.connection_lost(None)
        try:
            response = await asked
            return (response.status, dict(response.headers), await response.read()), kept
        except UpstreamError as error:
            return error.code, kept


CASES: dict[str, tuple[bytes, ...]] = {
    "the same answer": (HELLO,),
    "another body": (HEAD + b"HTTP/",),
    "cut in the head": (HELLO[:30], HELLO[30:]),
    "cut after the head": (HEAD, b"hello"),
    "cut in the body": (HELLO[:-2], HELLO[-2:]),
    "a body too short": (HELLO[:-1],),
    "a byte too many": (HELLO + b"!",),
    "an answer too many": (HELLO + HELLO,),
    "after an interim answer": (b"HTTP/1.1 103 Early\r\n\r\n", HELLO),
    "an interim answer in the same read": (b"HTTP/1.1 103 Early\r\n\r\n" + HELLO,),
    "a close": (HELLO.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),),
    "another coding": (HELLO.replace(b"\r\n\r\n", b"\r\nContent-Encoding: br\r\n\r\n"),),
    "another success": (HELLO.replace(b"200 OK", b"201 Made"),),
    "another status": (HELLO.replace(b"200 OK", b"500 No"),),
    "a bare line feed": (HELLO.replace(b"\r\n\r\n", b"\n\r\n"),),
    "a body that looks like a head": (HEAD.replace(b": 5", b": 61") + HELLO,),
    "an empty body": (HEAD.replace(b": 5", b": 0"),),
    "chunks": (CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",),
    "an empty line before": (b"\r\n" + HELLO,),
}


@pytest.mark.parametrize("parts", CASES.values(), ids=CASES)
def test_every_answer_is_read_as_it_was_before_its_head_was_known(parts: tuple[bytes, ...]) -> None:
    async def play() -> None:
        strict, kept = await Lane(KnownHeads()).read(*parts)
        known = KnownHeads()
        await Lane(known).read(HELLO)
        # This very answer, too, so that whatever may be known of it is.
        await Lane(known).read(b"".join(parts))
        assert await Lane(known).read(*parts) == (strict, kept)

    asyncio.run(play())


def test_heads_without_end_are_not_kept_without_end() -> None:
    async def play() -> None:
        known = KnownHeads()
        for number in range(500):
            head = HEAD.replace(b"a/b", b"a/%d" % number)
            assert (await Lane(known).read(head + b"hello"))[1]
        assert len(known) <= 64
        long = HEAD.replace(b"a/b", b"a" * 3000) + b"hello"
        before = len(known)
        assert (await Lane(known).read(long))[1]
        assert len(known) == before

    asyncio.run(play())


def _whole_answer_came_first(lane: Lane) -> asyncio.Future[Any]:
    asked = lane.connection.send(b"asked")
    lane.connection.data_received(HELLO)
    return asked


def _head_came_first(lane: Lane) -> asyncio.Future[Any]:
    asked = lane.connection.send(b"asked")
    lane.connection.data_received(CHUNKED)
    return asked


def _cancelled_first(lane: Lane) -> asyncio.Future[Any]:
    asked = lane.connection.send(b"asked")
    asked.cancel()
    lane.connection.data_received(CHUNKED)
    return asked


@pytest.mark.parametrize(
    ("begin", "closes"),
    [
        pytest.param(_whole_answer_came_first, False, id="the connection is another's already"),
        pytest.param(_head_came_first, True, id="the rest of the answer is nobody's"),
        pytest.param(_cancelled_first, True, id="the head came to nobody"),
    ],
)
def test_whoever_goes_in_the_turn_of_its_answer_takes_no_other_exchange_along(
    begin: Callable[[Lane], asyncio.Future[Any]], closes: bool
) -> None:
    async def play() -> None:
        lane = Lane(KnownHeads())
        asked = begin(lane)
        following = None if closes else lane.connection.send(b"asked")
        lane.connection.forsake(asked)
        assert lane.transport.closed is closes
        if following is not None:
            lane.connection.data_received(HELLO)
            assert await (await following).read() == b"hello"

    asyncio.run(play())
