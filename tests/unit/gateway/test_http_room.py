from __future__ import annotations

import resource

import pytest

from gatelift.gateway import http_room
from gatelift.gateway.http_body import MAX_CHUNKS, ChunkedBody
from gatelift.gateway.http_room import Room, connections_that_fit


class Caller:
    def __init__(self, room: Room[Caller], *, busy: bool = False) -> None:
        self.room = room
        self.may_be_closed = not busy
        self.asked = 0

    def give_way(self) -> None:
        self.asked += 1
        self.may_be_closed = False
        self.room.hold(self, 0)


def test_who_holds_longest_gives_way_and_no_more_of_them_than_needed() -> None:
    room: Room[Caller] = Room(max_guests=10, max_held_bytes=100)
    first, second, third = (Caller(room) for _ in range(3))
    room.hold(first, 40)
    room.hold(second, 40)
    room.hold(first, 50)
    assert (room.held_bytes, first.asked) == (90, 0)
    room.hold(third, 30)
    assert [caller.asked for caller in (first, second, third)] == [1, 0, 0]
    assert room.held_bytes == 70


def test_one_that_holds_more_than_all_may_gives_way_itself() -> None:
    room: Room[Caller] = Room(max_guests=10, max_held_bytes=100)
    first, second = Caller(room), Caller(room)
    room.hold(first, 10)
    room.hold(second, 101)
    assert (first.asked, second.asked, room.held_bytes) == (1, 1, 0)


def test_who_leaves_takes_along_what_it_held() -> None:
    room: Room[Caller] = Room(max_guests=10, max_held_bytes=100)
    caller = Caller(room)
    assert room.enter(caller)
    room.hold(caller, 60)
    room.leave(caller)
    assert (len(room), room.held_bytes) == (0, 0)


def test_a_full_room_asks_the_longest_waiting_and_never_one_that_is_busy() -> None:
    room: Room[Caller] = Room(max_guests=3, max_held_bytes=100)
    busy, idle, later = Caller(room, busy=True), Caller(room), Caller(room)
    assert all(room.enter(caller) for caller in (busy, idle, later))
    assert room.enter(Caller(room))
    assert [caller.asked for caller in (busy, idle, later)] == [0, 1, 0]


def test_a_room_full_of_the_busy_refuses() -> None:
    room: Room[Caller] = Room(max_guests=2, max_held_bytes=100)
    for _ in range(2):
        assert room.enter(Caller(room, busy=True))
    assert not room.enter(Caller(room))


@pytest.mark.parametrize(
    ("soft", "hard", "fit"),
    [
        (1024, 1024, 384),
        (1024, 65_536, 20_000),
        (300, 300, 64),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 20_000),
    ],
)
def test_no_more_callers_are_taken_than_files_can_be_opened(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, fit: int
) -> None:
    limits = [(soft, hard)]
    monkeypatch.setattr(http_room.resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(http_room.resource, "setrlimit", lambda _, new: limits.append(new))
    assert connections_that_fit(20_000) == fit
    assert limits[-1][0] == hard


def test_a_system_that_does_not_let_us_open_more_files_gets_fewer_callers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: int, __: tuple[int, int]) -> None:
        raise ValueError("not permitted")

    monkeypatch.setattr(http_room.resource, "getrlimit", lambda _: (1024, 65_536))
    monkeypatch.setattr(http_room.resource, "setrlimit", refuse)
    assert connections_that_fit(20_000) == 384


def test_a_body_of_crumbs_holds_little_more_than_its_bytes() -> None:
    body = ChunkedBody(max_body_bytes=1 << 20)
    assert body.take(bytearray(b"1\r\nx\r\n" * MAX_CHUNKS)) is None
    assert body.held == MAX_CHUNKS
    assert body.take(bytearray(b"0\r\n\r\n")) == b"x" * MAX_CHUNKS
