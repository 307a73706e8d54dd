from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop

from gatelift.wire.frames import FrameCodec, FrameConnection, FrameError, dial_frames


class Note(msgspec.Struct, frozen=True, kw_only=True, tag="note"):
    text: str


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(5):
            await main

    uvloop.run(bounded())


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for sets no event
        await asyncio.sleep(0.005)


class End:
    """One end of a connection, with what happened to it."""

    def __init__(self, *, max_queued_bytes: int = 4_000_000) -> None:
        self.got: list[str] = []
        self.lost: list[Exception | None] = []
        self.closed = asyncio.Event()
        self.connection: FrameConnection[Note] = FrameConnection(
            FrameCodec(Note),
            on_frame=self._frame,
            on_lost=self._lost,
            max_queued_bytes=max_queued_bytes,
        )

    def _frame(self, _: FrameConnection[Note], frame: Note) -> None:
        if frame.text == "raise":
            raise ZeroDivisionError
        self.got.append(frame.text)

    def _lost(self, _: FrameConnection[Note], error: Exception | None) -> None:
        self.lost.append(error)
        self.closed.set()


async def joined(one: End) -> socket.socket:
    """Connect `one`; return the other end as a plain socket."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.create_unix_connection(lambda: one.connection, sock=ours)
    return theirs


def test_frames_go_both_ways_in_order() -> None:
    async def main() -> None:
        one, two = End(), End()
        loop = asyncio.get_running_loop()
        theirs = await joined(one)
        await loop.create_unix_connection(lambda: two.connection, sock=theirs)
        for number in range(100):
            one.connection.send(Note(text=f"{number}"))
            two.connection.send(Note(text=f"{-number}"))
        await until(lambda: len(one.got) + len(two.got) == 200)
        one.connection.close()
        await two.closed.wait()
        await one.closed.wait()
        assert two.got == [f"{number}" for number in range(100)]
        assert one.got == [f"{-number}" for number in range(100)]
        assert (one.lost, two.lost) == ([None], [None])
        assert not one.connection.is_open
        with pytest.raises(FrameError):
            one.connection.send(Note(text="late"))

    run(main())


def test_good_frames_before_a_bad_one_arrive_and_then_the_connection_ends() -> None:
    async def main() -> None:
        one = End()
        theirs = await joined(one)
        theirs.send(FrameCodec[Note](Note).encode(Note(text="stop")) + b"\xff\xff\xff\xff")
        await one.closed.wait()
        assert one.got == ["stop"]
        assert [getattr(error, "code", None) for error in one.lost] == ["frame_too_large"]
        theirs.close()

    run(main())


def test_a_stream_that_ends_inside_a_frame_is_an_error() -> None:
    async def main() -> None:
        one = End()
        theirs = await joined(one)
        theirs.send(b"\x00\x00")
        theirs.close()
        await one.closed.wait()
        assert isinstance(one.lost[0], FrameError)

    run(main())


def test_a_peer_that_does_not_read_is_cut_off_and_told_to_the_owner() -> None:
    async def main() -> None:
        one = End(max_queued_bytes=300_000)
        theirs = await joined(one)
        with pytest.raises(FrameError) as caught:  # noqa: PT012 - which send it is depends on the kernel
            while True:
                one.connection.send(Note(text="x" * 100_000))
        assert caught.value.code == "frame_queue_full"
        await one.closed.wait()
        assert one.lost == [caught.value]
        theirs.close()

    run(main())


def test_a_handler_that_fails_ends_the_connection() -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        one = End()
        theirs = await joined(one)
        codec = FrameCodec[Note](Note)
        theirs.send(codec.encode(Note(text="raise")) + codec.encode(Note(text="after")))
        await one.closed.wait()
        assert one.got == []
        assert isinstance(one.lost[0], ZeroDivisionError)
        theirs.close()

    run(main())


def test_a_connection_given_up_as_it_was_made_is_lost_and_cannot_be_sent_on(
    tmp_path: Path,
) -> None:
    """As when a dial that is late by a moment is cancelled: the loop itself tells nobody."""

    async def main() -> None:
        path = str(tmp_path / "s")
        server = await asyncio.get_running_loop().create_unix_server(asyncio.Protocol, path)
        lost: list[Exception | None] = []
        made: list[FrameConnection[Note]] = []

        def on_made(connection: FrameConnection[Note]) -> None:
            made.append(connection)
            dialling.cancel()

        def make() -> FrameConnection[Note]:
            return FrameConnection(
                FrameCodec(Note),
                on_frame=lambda _, __: None,
                on_lost=lambda _, error: lost.append(error),
                on_made=on_made,
            )

        dialling = asyncio.ensure_future(dial_frames(make, path, 2))
        with pytest.raises(asyncio.CancelledError):
            await dialling
        assert lost == [None]
        with pytest.raises(FrameError):
            made[0].send(Note(text="into the void"))
        await asyncio.sleep(0.05)
        assert lost == [None], "told once"
        server.close()

    run(main())
