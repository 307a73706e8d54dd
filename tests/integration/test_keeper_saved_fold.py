"""A keeper that begins anew folds on from what it kept, and believes it only as far as the logs bear it out.

Whatever becomes of the kept file, exactly the cap is served. Seen to fail: with charges taken up without
those of settled runs; with the places of their journals left out; with the root of a log not compared.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.integration.keeper_house import House, end_all

LIMIT = 50


@pytest.fixture(autouse=True)
def _nothing_left_running() -> Iterator[None]:
    yield
    end_all()


async def spend(house: House, name: str, requests: int, unit: str) -> int:
    """Return how many of a worker's requests are served; it leaves then."""
    worker = house.spawn_worker(name, requests=requests, limit=LIMIT, unit=unit)
    await asyncio.to_thread(worker.ready)
    await asyncio.sleep(0.6)
    worker.go()
    served, _ = await asyncio.to_thread(worker.until_done)
    await asyncio.to_thread(worker.leave)
    await asyncio.sleep(0.6)
    return served


def kept(house: House) -> Path:
    return house.directory / "run" / "folded"


def leave(path: Path, older: bytes) -> None:
    """Leave it as it is."""


def flip(path: Path, older: bytes) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def sign_by_another(path: Path, older: bytes) -> None:
    data = path.read_bytes()[64:].replace(b'"spent":{', b'"spent":{ ')
    signature = Ed25519PrivateKey.generate().sign(b"gatelift/folded/v1\n" + data)
    path.write_bytes(signature + data)


def put_back_older(path: Path, older: bytes) -> None:
    path.write_bytes(older)


def cut(path: Path, older: bytes) -> None:
    path.write_bytes(path.read_bytes()[:40])


@pytest.mark.parametrize(
    ("trouble", "believed", "unit"),
    [
        (leave, True, "requests"),
        (leave, True, "coverage"),
        (put_back_older, True, "coverage"),
        (flip, False, "coverage"),
        (sign_by_another, False, "requests"),
        (cut, False, "requests"),
    ],
)
def test_exactly_the_cap_is_served_whatever_becomes_of_what_was_kept(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    trouble: Callable[[Path, bytes], None],
    believed: bool,
    unit: str,
) -> None:
    async def main() -> None:
        house = House(tmp_path / "d")
        await house.start(control=False)
        assert await spend(house, "w0", 20, unit) == 20
        house.stop_keeper()
        older = kept(house).read_bytes()
        assert kept(house).stat().st_mode & 0o777 == 0o600
        house.start_keeper()
        assert await spend(house, "w1", 20, unit) == 20
        house.stop_keeper()
        trouble(kept(house), older)
        capfd.readouterr()
        house.start_keeper()
        # Killed after it has kept something: what came after that is in the journals alone.
        assert await spend(house, "w0", 5, unit) == 5
        house.kill_keeper()
        house.start_keeper()
        assert await spend(house, "w2", 20, unit) == LIMIT - 45
        await house.close()
        found = re.findall(r"(\d+) of (\d+) logged batches were folded before", said(capfd))
        assert bool(found) == believed
        assert Counter(house.logged()) == Counter(house.batches())

    asyncio.run(main())


def said(capfd: pytest.CaptureFixture[str]) -> str:
    return capfd.readouterr().err


def test_what_another_history_was_kept_of_is_not_believed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        # Two nodes of one name and key: what one has folded says nothing of the other's logs.
        other, house = House(tmp_path / "o"), House(tmp_path / "d")
        for each in (other, house):
            await each.start(control=False)
        assert await spend(other, "w0", 1, "coverage") == 1
        assert await spend(house, "w0", LIMIT - 10, "coverage") == LIMIT - 10
        for each in (other, house):
            each.stop_keeper()
        shutil.copy(kept(other), kept(house))
        capfd.readouterr()
        house.start_keeper()
        assert await spend(house, "w1", 20, "coverage") == 10
        await house.close()
        await other.close()
        assert "folded before" not in said(capfd)

    asyncio.run(main())


def test_what_was_folded_before_is_not_read_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        house = House(tmp_path / "d")
        await house.start(control=False)
        assert await spend(house, "w0", 20, "coverage") == 20
        house.stop_keeper()
        # A journal that does not lead to its batches' roots closes a node that reads it.
        (segment,) = (path for path in (house.directory / "journal" / "w0").iterdir() if path.stat().st_size > 500)  # fmt: skip
        data = bytearray(segment.read_bytes())
        data[200] ^= 1
        segment.write_bytes(data)
        house.start_keeper()
        assert await spend(house, "w1", LIMIT, "coverage") == LIMIT - 20
        house.stop_keeper()
        assert "node closed" not in said(capfd)
        kept(house).unlink()
        house.start_keeper()
        async with asyncio.timeout(10):
            while "node closed" not in said(capfd):  # noqa: ASYNC110 - another process says it
                await asyncio.sleep(0.1)
        house.kill_keeper()
        await house.close()

    asyncio.run(main())
