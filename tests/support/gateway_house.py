"""One worker process with a fake keeper: any plan, any endpoints, one key."""

from __future__ import annotations

import re
import time
from typing import Any

import httpx

from tests.support.worker_house import API_KEY, MODEL, WorkerHouse
from tests.support.world import PLAN_FILE

__all__ = ["API_KEY", "MODEL", "GatewayHouse", "open_plan"]


def open_plan(scope: str, *, prompt: bool = True, refusal: str = "error") -> bytes:
    """Return a plan whose stage `internal` has this scope, withholds leaks, and says so in a form."""
    text = PLAN_FILE.read_text()
    text = re.sub(
        r"(name: internal\n(?:.*\n)*?    scope: )\{.*\}(\n(?:.*\n)*?    safeguards: \{leak: )cut(.*\n)",
        rf"\1{{{scope}}}\2block\3    refusal: {refusal}\n",
        text,
        count=1,
    )
    if not prompt:
        text = re.sub(r"  system_prompt: .*\n", "  system_prompt: null\n", text)
    return text.encode()


class GatewayHouse(WorkerHouse):
    """Asked on any of its routes."""

    def post(self, path: str, body: Any, **more: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {API_KEY}", "content-type": "application/json"}
        data = {"content": body} if isinstance(body, bytes) else {"json": body}
        return httpx.post(self.url + path, headers=headers, timeout=20, **data, **more)

    def stop(self) -> None:
        """Order the release to stop, and wait until it does."""
        self.keeper.order(self.stop_order())
        time.sleep(0.3)
