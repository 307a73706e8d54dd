"""Runs the commands of a how-to page as they stand, with addresses of this machine put in."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_UP = "gatelift up "


class HowTo:
    """A page in a folder of its own. `put` maps text of the page to what stands for it here."""

    def __init__(self, page: str, folder: Path, put: Mapping[str, str]) -> None:
        text = (ROOT / "docs/how-to" / page).read_text()
        self.blocks: list[tuple[str, str]] = _BLOCK.findall(text)
        self.folder = folder
        self.put = put
        self._up: subprocess.Popen[bytes] | None = None
        programs = folder / "bin"
        programs.mkdir()
        shim = programs / "gatelift"
        shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gatelift "$@"\n')
        shim.chmod(0o755)
        self.environment = {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT / "src"),
            "COLUMNS": "80",
        }

    def here(self, text: str) -> str:
        for there, value in self.put.items():
            text = text.replace(there, value)
        return text

    def kinds(self) -> set[str]:
        return {kind for kind, _ in self.blocks}

    def shell(self) -> list[str]:
        return [text for kind, text in self.blocks if kind == "sh"]

    def run(self, block: str, **environment: str) -> str:
        """Run one block; a `gatelift up` goes on until `stop`. Returns its standard output."""
        self.environment |= environment
        if block.startswith(_UP):
            self.up(block.removeprefix(_UP))
            return ""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.here(block)],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=self.environment,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        for name, value in re.findall(r"^export (\w+)='([^']*)'$", self.here(block), re.MULTILINE):
            self.environment[name] = value
        return done.stdout

    def up(self, words: str) -> None:
        port = self.put["8080"]
        command = self.here(f"exec gatelift up {words.strip()} --port {port} --json")
        with (self.folder / "up.log").open("wb") as log:
            self._up = subprocess.Popen(
                ["bash", "-c", command],
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self.folder,
                env=self.environment,
            )
        assert self._up.stdout is not None
        line = self._up.stdout.readline()
        assert b"base_url" in line, line + (self.folder / "up.log").read_bytes()
        self._wait(port)

    def _wait(self, port: str) -> None:
        key = (self.folder / "d/keys/developer-api.key").read_text().strip()
        end = time.monotonic() + 20
        while time.monotonic() < end:
            found = httpx.get(
                f"http://127.0.0.1:{port}/v1/access", headers={"authorization": f"Bearer {key}"}
            )
            if found.status_code == 200 and found.json()["may"]:
                return
            time.sleep(0.05)
        raise AssertionError("the gateway does not serve")

    def stop(self) -> None:
        if self._up is not None:
            self._up.send_signal(signal.SIGTERM)
            self._up.communicate(timeout=60)
