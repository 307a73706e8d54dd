"""The demo's hands: the `gatelift` command and the admin API, as a person would use them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

__all__ = ["Admin", "Command", "Said", "StoryError"]


class StoryError(Exception):
    """The story did not go as it says."""


@dataclass(frozen=True)
class Said:
    """What a command answered: its exit code, its JSON, its words on standard error."""

    code: int
    value: dict[str, Any]
    words: str

    def must(self, what: str) -> dict[str, Any]:
        """Return the value of a command that succeeded; raises `StoryError`."""
        if self.code != 0:
            raise StoryError(f"{what}: expected exit 0, got {self.code}: {self.words.strip()}")
        return self.value


class Command:
    """Runs `gatelift`. `desk` are the options that every command to the admin API takes."""

    def __init__(self, *desk: str) -> None:
        self._desk = desk

    def run(self, *words: str | Path, desk: bool = False) -> Said:
        """Run one command with `--json`."""
        options = self._desk if desk else ()
        done = subprocess.run(
            [sys.executable, "-m", "gatelift", *map(str, words), *options, "--json"],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        value = json.loads(lines[-1]) if lines else {}
        return Said(code=done.returncode, value=value, words=done.stderr)

    def desk(self, *words: str | Path) -> Said:
        """Run one command that talks to the admin API."""
        return self.run(*words, desk=True)


class Admin:
    """Reads the admin API with a reader's token."""

    def __init__(self, base_url: str, token: str) -> None:
        self._client = httpx.Client(
            base_url=base_url, headers={"authorization": f"Bearer {token}"}, timeout=20
        )

    def get(self, path: str, **query: object) -> Any:
        """Return the JSON of a GET."""
        answer = self._client.get(f"/admin/v1/{path}", params=query)
        answer.raise_for_status()
        return answer.json()

    def order(self, envelope: str) -> None:
        """Hand over a signed order: no token, the signature alone acts."""
        answer = httpx.post(
            f"{self._client.base_url}/admin/v1/orders", json={"envelope": envelope}, timeout=10
        )
        answer.raise_for_status()
