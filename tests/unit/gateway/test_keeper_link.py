"""What a worker tells its keeper of its own accord."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from gatelift.gateway.keeper_link import KeeperLink
from gatelift.messages.frames import Committed


class Link(KeeperLink):
    """Notes what it would send."""

    def __init__(self) -> None:
        super().__init__(Path("nowhere"), lambda: None, lambda _: None)
        self.sent: list[Any] = []

    def send(self, frame: Any) -> bool:
        self.sent.append(frame)
        return True


def test_many_batches_are_few_news_and_the_last_of_them_is_told() -> None:
    async def play() -> tuple[int, int, int]:
        link = Link()
        link.committed("w0", "r")
        first = len(link.sent)
        for _ in range(50):
            link.committed("w0", "r")
        burst = len(link.sent)
        await asyncio.sleep(0.2)
        return first, burst, len(link.sent)

    assert asyncio.run(play()) == (1, 1, 2)


def test_a_batch_after_quiet_is_told_at_once() -> None:
    async def play() -> list[Any]:
        link = Link()
        link.committed("w0", "r")
        await asyncio.sleep(0.1)
        link.committed("w0", "r")
        return link.sent

    assert asyncio.run(play()) == [Committed(worker="w0", run="r")] * 2
