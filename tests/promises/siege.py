"""Many callers at the same instant, on sockets of their own. Nothing here imports the package."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from tests.promises.outside import PLANS, Deployment


class Asked(NamedTuple):
    """What came back: status 0 when the connection ended before a whole answer did."""

    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def error(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self.body)["error"]
        except (ValueError, KeyError):
            return {}
        return found


def write_plan(
    folder: Path,
    caps: dict[str, dict[str, str]],
    *,
    durability: str = "node",
    prices: str = "",
    sealing: str = "open",
) -> Path:
    """Write the plan of the narrows with other caps, prices and sealing at its first stage."""
    text = (PLANS / "narrows.yaml").read_text()
    old = "caps: {principal: {requests: 40/d}, stage: {output_tokens: 10M/d}}"
    assert old in text
    folder.mkdir()
    (folder / "prompt.txt").write_text((PLANS / "prompt.txt").read_text())
    path = folder / "plan.yaml"
    text = text.replace(old, "caps: " + json.dumps(caps).replace('"', ""))
    if prices:
        text = text.replace("trust: {", f"prices: {prices}\ntrust: {{", 1)
    text = text.replace("sealing: open", f"sealing: {sealing}", 1)
    path.write_text(text.replace("durability: node", f"durability: {durability}"))
    return path


def grants(deployment: Deployment, organisations: dict[str, str]) -> list[str]:
    """Admit several principals at the same time; return their keys in order."""

    def admit(name: str) -> str:
        words = ["grant", "--principal", name, "--organisation", organisations[name]]
        words += ["--stage", "assess", "--proof", "identity"]
        found: str = deployment.cli(*words, who=("admissions",)).must()["api_key"]
        return found

    with ThreadPoolExecutor(4) as pool:
        keys = list(pool.map(admit, organisations))
    for key in keys:
        wait_known(deployment, key)
    return keys


def wait_known(deployment: Deployment, key: str) -> None:
    """Wait until every worker takes the key: connections are spread over them by chance."""
    seen = 0
    until = time.monotonic() + 20
    while seen < 4 * deployment.workers:
        assert time.monotonic() < until, "a grant is not known everywhere"
        seen = seen + 1 if get(deployment, "/v1/access", key).status == 200 else 0


def get(deployment: Deployment, path: str, key: str) -> Asked:
    """Ask for something that is not the model's."""
    with dial(deployment) as sock:
        sock.sendall(
            b"GET %b HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer %b\r\n\r\n"
            % (path.encode(), key.encode())
        )
        return read_answer(sock)


NOTHING = Asked(0, b"", {})


def request(deployment: Deployment, api_key: str, text: str, **fields: Any) -> bytes:
    """Return the bytes of one chat request that ends its connection."""
    message = {"role": "user", "content": text}
    body = json.dumps({"model": deployment.model, "messages": [message], **fields}).encode()
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"connection: close\r\nauthorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b"
        % (api_key.encode(), len(body), body)
    )


def dial(deployment: Deployment, timeout: float = 30) -> socket.socket:
    return socket.create_connection(("127.0.0.1", deployment.port), timeout)


def read_answer(sock: socket.socket) -> Asked:
    """Return the answer on a connection that ends with it."""
    data = b""
    try:
        while piece := sock.recv(65536):
            data += piece
    except OSError:
        return NOTHING
    head, gap, rest = data.partition(b"\r\n\r\n")
    if not gap:
        return NOTHING
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    if headers.get("transfer-encoding") == "chunked":
        whole, rest = unchunk(rest)
        if not whole:
            return NOTHING
    elif len(rest) != int(headers.get("content-length", len(rest))):
        return NOTHING
    # The header is base64: its case counts.
    for line in lines:
        if line.lower().startswith("gatelift-ticket: "):
            headers["gatelift-ticket"] = line.split(": ", 1)[1]
    return Asked(int(first.split(" ")[1]), rest, headers)


def unchunk(data: bytes) -> tuple[bool, bytes]:
    """Return whether a chunked body ended as it should, and its content."""
    content = b""
    while data:
        size, gap, data = data.partition(b"\r\n")
        length = int(size, 16) if gap and size else 0
        if length == 0:
            return bool(gap and size), content
        content, data = content + data[:length], data[length + 2 :]
    return False, content


def ask(deployment: Deployment, api_key: str, text: str, **fields: Any) -> Asked:
    """Ask once."""
    try:
        with dial(deployment) as sock:
            sock.sendall(request(deployment, api_key, text, **fields))
            return read_answer(sock)
    except OSError:
        return NOTHING


def barrier(deployment: Deployment, requests: Sequence[bytes]) -> list[Asked]:
    """Send all requests in the same instant, each on a connection that stands already."""
    gate = threading.Barrier(len(requests))
    found = [NOTHING] * len(requests)

    def one(number: int) -> None:
        try:
            sock = dial(deployment)
        except OSError:
            gate.wait()
            return
        with sock:
            gate.wait()
            try:
                sock.sendall(requests[number])
            except OSError:
                return
            found[number] = read_answer(sock)

    run_all([lambda n=n: one(n) for n in range(len(requests))])  # type: ignore[misc]
    return found


def run_all(calls: Sequence[Callable[[], None]], timeout: float = 90) -> None:
    """Run each call in a thread of its own and wait for all."""
    threads = [threading.Thread(target=call, daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    until = time.monotonic() + timeout
    for thread in threads:
        thread.join(max(0, until - time.monotonic()))
    assert not any(thread.is_alive() for thread in threads), "a caller waits for ever"


def statuses(found: Sequence[Asked]) -> Counter[int]:
    return Counter(each.status for each in found)
