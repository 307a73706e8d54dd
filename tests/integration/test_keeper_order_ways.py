"""Orders by the host's socket and by the overseer's list, through a real keeper process."""

from __future__ import annotations

import asyncio
import stat
import struct
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from gatelift.encoding import sha256_digest
from gatelift.errors import CallerError
from gatelift.keeper.order_poll import OrderPoll
from gatelift.messages.frames import OrderFrame, OrderReport
from gatelift.trust import RootError, parse_root
from gatelift.wire.order_client import OrderRefusedError, OrderSocketError, submit_order
from gatelift.wire.sockets import socket_path
from tests.integration.keeper_house import House, end_all
from tests.promises.outside import OrderList
from tests.support.world import World


@pytest.fixture(autouse=True)
def _nothing_left_running() -> Iterator[None]:
    yield
    end_all()


def with_house(
    directory: Path, work: Callable[[House], Awaitable[None]], *order_urls: str, control: bool
) -> None:
    async def main() -> None:
        house = House(directory, order_urls=order_urls)
        await house.start(control=control)
        await work(house)
        await house.close()

    asyncio.run(main())


async def hand(house: House, envelope: bytes) -> str:
    path = socket_path(house.directory, "orders.sock")
    return await asyncio.to_thread(submit_order, path, envelope)


def test_an_order_at_the_socket_is_answered_once_kept_and_reaches_workers_without_control(
    tmp_path: Path,
) -> None:
    async def work(house: House) -> None:
        worker = await house.worker()
        path = socket_path(house.directory, "orders.sock")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        order = house.order()
        began = time.monotonic()
        assert await hand(house, order) == sha256_digest(order)
        kept = house.directory / "orders" / sha256_digest(order).removeprefix("sha256:")
        assert kept.exists(), "accepted before it was kept"
        assert (await worker.wait(OrderFrame)).envelope == order
        assert time.monotonic() - began < 1
        assert await hand(house, order) == sha256_digest(order)
        assert len(worker.all(OrderFrame)) == 1, "the same order again changes nothing"
        with pytest.raises(OrderRefusedError) as refused:
            await hand(house, house.order(by="evaluator:eve"))
        assert refused.value.code == "role_not_allowed"
        house.kill_keeper()
        with pytest.raises(OrderSocketError):
            await hand(house, order)
        house.start_keeper()
        again = await house.worker("w8")
        assert (await again.wait(OrderFrame)).envelope == order

    with_house(tmp_path / "d", work, control=False)


def test_an_order_at_the_socket_is_reported_to_control_at_once(tmp_path: Path) -> None:
    async def work(house: House) -> None:
        await house.worker()
        order = house.order()
        await hand(house, order)
        assert (await house.control.wait(OrderReport, timeout_s=1)).envelope == order

    with_house(tmp_path / "d", work, control=True)


def test_the_order_socket_is_bounded_in_size_time_and_number(tmp_path: Path) -> None:
    async def work(house: House) -> None:
        await house.worker()
        path = str(socket_path(house.directory, "orders.sock"))

        async def ends(data: bytes) -> bytes:
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(data)
            async with asyncio.timeout(5):
                try:
                    return await reader.read()
                except ConnectionError:
                    return b""
                finally:
                    writer.close()

        assert await ends(struct.pack(">I", 512 * 1024)) == b"", "judged before it is waited for"
        assert await ends(b"\x00\x00\x00\x01\xc0") == b""
        frame = msgspec.msgpack.encode({"type": "order", "envelope": house.order()})
        whole = struct.pack(">I", len(frame)) + frame
        answers = await ends(whole + whole)
        assert struct.unpack(">I", answers[:4])[0] == len(answers) - 4, "one order a connection"
        idle = [await asyncio.open_unix_connection(path) for _ in range(32)]
        assert await ends(whole) == b"", "one too many"
        began = time.monotonic()
        async with asyncio.timeout(5):
            for reader, _ in idle:
                await reader.read()
        assert time.monotonic() - began < 4, "who says nothing is closed"
        for _, writer in idle:
            writer.close()
        assert len(await ends(whole)) > 4

    with_house(tmp_path / "d", work, control=False)


def test_orders_on_the_overseers_list_act_within_a_second_without_control(tmp_path: Path) -> None:
    orders = OrderList()

    async def work(house: House) -> None:
        worker = await house.worker()
        orders.publish(house.order("order_0", by="evaluator:eve"))
        orders.publish(b"{}")
        orders.text += b"\n"
        await asyncio.sleep(0.5)
        for number in range(1, 4):
            order = house.order(f"order_{number}", by="overseer:vera")
            began = time.monotonic()
            orders.publish(order)
            await worker.wait(OrderFrame, lambda f, order=order: f.envelope == order, timeout_s=3)
            assert time.monotonic() - began < 1
        orders.text = b""  # taken back from the list: it stands all the same
        late = await house.worker("w8")
        await late.wait(OrderFrame)
        await asyncio.sleep(0.1)
        assert len(late.all(OrderFrame)) == 3

    try:
        with_house(tmp_path / "d", work, orders.url, "http://127.0.0.1:9/none", control=False)
    finally:
        orders.close()


def test_one_bad_line_takes_no_other_with_it_and_a_round_is_bounded() -> None:
    taken: list[bytes] = []

    def adopt(envelope: bytes) -> None:
        if envelope.startswith(b"bad"):
            raise CallerError("no order", code="bad_order")
        if envelope == b"later" and len(taken) < 3:
            raise OSError("disk")
        taken.append(envelope)

    poll = OrderPoll("https://o.example/orders?x=1", adopt)
    assert poll.take(b"one\nbad\n\r\nlater\ntwo") == 2
    assert poll.take(b"one\nbad\nlater\ntwo\nthree") == 1
    assert poll.take(b"one\nbad\nlater\ntwo\nthree") == 1
    assert taken == [b"one", b"two", b"three", b"later"]
    flood = b"\n".join(b"bad %d" % number for number in range(100)) + b"\nlast"
    assert poll.take(flood) == 0
    assert poll.take(flood) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://o.example/orders",
        "ftp://127.0.0.1/x",
        "https://u:p@o.example/x",
        "https://o.example/x#y",
        "https://o.example/a b",
        "https://[::1/x",
        "orders",
    ],
)
def test_a_root_names_order_lists_by_https_or_on_loopback_only(url: str) -> None:
    world = World()
    with pytest.raises(RootError):
        parse_root(world.root_payload(order_urls=(url,)))
    parse_root(world.root_payload(order_urls=("https://o.example:8443/x?y=1",)))
