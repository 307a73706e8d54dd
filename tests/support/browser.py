"""Chromium with a virtual authenticator, driven through a pipe by the DevTools protocol.

Imports nothing from the package.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WHY_NOT = "needs Chromium on the path: apt-get install chromium"
_AUTHENTICATOR = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


class Browser:
    """One page of a headless Chromium."""

    def __init__(self, folder: Path) -> None:
        there, self._out = os.pipe()
        self._in, back = os.pipe()
        # Chromium reads its orders from 3 and answers on 4, each message ended by a zero byte.
        command = (
            f'exec "{CHROMIUM}" --headless --no-sandbox --disable-gpu --remote-debugging-pipe '
            f'"--user-data-dir={folder}" about:blank 3<&{there} 4>&{back}'
        )
        self._process = subprocess.Popen(
            ["bash", "-c", command], pass_fds=(there, back), stderr=subprocess.DEVNULL
        )
        os.close(there)
        os.close(back)
        self._numbers = itertools.count(1)
        self._held = b""
        self._session: str | None = None
        target = self.do("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.do("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.do("WebAuthn.enable")
        self.authenticator = self.do("WebAuthn.addVirtualAuthenticator", options=_AUTHENTICATOR)[
            "authenticatorId"
        ]

    def do(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        order = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            order["sessionId"] = self._session
        os.write(self._out, json.dumps(order).encode() + b"\0")
        until = time.monotonic() + 30
        while time.monotonic() < until:
            while b"\0" in self._held:
                one, _, self._held = self._held.partition(b"\0")
                found = json.loads(one)
                if found.get("id") == number:
                    assert "error" not in found, found
                    result: dict[str, Any] = found["result"]
                    return result
            if select.select([self._in], [], [], 1)[0]:
                self._held += os.read(self._in, 65536)
        raise TimeoutError(method)

    def run(self, script: str) -> Any:
        """Return what a script on the page says, as a person's own act would run it."""
        done = self.do(
            "Runtime.evaluate",
            expression=script,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        return done["result"].get("value")

    def visit(self, url: str) -> None:
        self.do("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def until(self, script: str, seconds: float = 15) -> None:
        until = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < until, self.run("document.body.innerText")
            time.sleep(0.05)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._out)
        os.close(self._in)
