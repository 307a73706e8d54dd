"""What the demo starts: the model server, and a deployment behind `gatelift up`."""

from __future__ import annotations

import json
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from examples.demo.commands import StoryError

__all__ = ["Deployment", "ModelServer", "free_ports", "write_secret"]

_READY_S = 120.0


def write_secret(path: Path, text: str) -> Path:
    """Write a one-line secret that only its owner may read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text + "\n")
    return path


def free_ports(count: int) -> int:
    """Return a port such that it and the next ones are free now."""
    for _ in range(100):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            first: int = probe.getsockname()[1]
        held = []
        try:
            for number in range(first, first + count):
                sock = socket.socket()
                held.append(sock)
                sock.bind(("127.0.0.1", number))
        except OSError:
            continue
        finally:
            for sock in held:
                sock.close()
        return first
    raise StoryError(f"no {count} free ports in a row on this machine")


def _stop(process: subprocess.Popen[str], seconds: float) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class ModelServer:
    """The small model behind its own key. `swap` puts another behind the same address."""

    def __init__(self, folder: Path) -> None:
        self.port = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self.key_file = write_secret(folder / "upstream.key", secrets.token_hex(16))
        self._log = (folder / "model.log").open("ab")
        self.said: dict[str, Any] = {}
        self._process = self._start()

    def _start(self, *more: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "examples.model_server",
                "--port",
                str(self.port),
                "--api-key-file",
                str(self.key_file),
                *more,
            ],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise StoryError("the model server did not start: see model.log")
        self.said = json.loads(line)
        return process

    def swap(self) -> None:
        """Put a server that behaves otherwise behind the same address, name and key."""
        self.stop()
        self._process = self._start("--behaves-otherwise")

    def stop(self) -> None:
        """Stop the server."""
        _stop(self._process, 10)
        if self._process.stdout:
            self._process.stdout.close()


class Deployment:
    """`gatelift up` over a folder that `gatelift init` made."""

    def __init__(self, folder: Path, port: int, workers: int) -> None:
        self.folder = folder
        self.port = port
        self.gateway_url = f"http://127.0.0.1:{port}"
        self.admin_url = f"http://127.0.0.1:{port + 1}"
        self._log = (folder.parent / f"{folder.name}-up.log").open("ab")
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "gatelift",
                "up",
                "--dir",
                str(folder),
                "--no-bootstrap",
                "--port",
                str(port),
                "--workers",
                str(workers),
                "--json",
            ],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def key(self, name: str) -> Path:
        """Return a person's signing key."""
        return self.folder / "keys" / f"{name}.key"

    def token(self, role: str) -> Path:
        """Return an admin token file."""
        return self.folder / "keys" / f"{role}.token"

    def wait_for_control(self) -> None:
        """Wait until the admin API answers and the witness has cosigned."""
        self._wait(f"{self.admin_url}/healthz", "control")

    def wait_for_gateway(self) -> None:
        """Wait until the gateway holds a live status."""
        self._wait(f"{self.gateway_url}/healthz", "the gateway")

    def _wait(self, url: str, what: str) -> None:
        until = time.monotonic() + _READY_S
        while time.monotonic() < until:
            if self._process.poll() is not None:
                raise StoryError(f"gatelift up ended while waiting for {what}: see its log")
            try:
                if httpx.get(url, timeout=2).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise StoryError(f"{what} was not ready within {_READY_S:.0f} s: see the log")

    def stop(self) -> None:
        """Stop everything that `gatelift up` started."""
        _stop(self._process, 30)
        if self._process.stdout:
            self._process.stdout.close()
        self._log.close()
