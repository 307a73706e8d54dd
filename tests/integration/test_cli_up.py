"""`up` end to end, and a release's first steps by people's commands, all from outside."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

SRC = str(Path(__file__).parents[2] / "src")
ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONPATH": SRC, "COLUMNS": "80"}
CREDENTIAL = "stub-credential-0123456789"
READY_S = 60.0


class Stub:
    """A model server that answers every prompt in its own fixed way, with a key or without one."""

    def __init__(self, credential: str | None) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if credential and self.headers.get("authorization") != f"Bearer {credential}":
                    self._send(401, "application/json", b"{}")
                elif body.get("stream"):
                    self._send(200, "text/event-stream", stream(word_for(body)))
                else:
                    self._send(200, "application/json", completion(word_for(body)))

            def _send(self, status: int, kind: str, data: bytes) -> None:
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


def word_for(body: dict[str, Any]) -> str:
    # Of the last message only: what the gateway puts before it changes nothing.
    return hashlib.sha256(body["messages"][-1]["content"].encode()).hexdigest()[:8]


def completion(word: str) -> bytes:
    message = {"role": "assistant", "content": f"answer {word}"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}
    base = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
    return json.dumps(base | {"choices": [choice], "usage": usage}).encode()


def stream(word: str) -> bytes:
    base = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    deltas: list[tuple[dict[str, str], str | None]] = [
        ({"role": "assistant", "content": text}, None) for text in ("answer ", word)
    ]
    events = [
        json.dumps(base | {"choices": [{"index": 0, "delta": d, "finish_reason": f}]})
        for d, f in [*deltas, ({}, "stop")]
    ]
    return b"".join(f"data: {event}\n\n".encode() for event in [*events, "[DONE]"])


def free_ports() -> int:
    """Return the first of three free ports in a row."""
    for first in range(21_000 + os.getpid() % 5_000, 60_000, 7):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + 3):
                    listener = stack.enter_context(socket.socket())
                    listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise AssertionError("no free ports")


class Up:
    """A running `gatelift up --json`."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gatelift", "up", "--json", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        assert self.process.stdout is not None
        timer = threading.Timer(READY_S, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        if self.process.poll() is not None or not line:
            assert self.process.stderr is not None
            raise AssertionError(f"up ended: {line} {self.process.stderr.read()}")
        self.said: dict[str, Any] = json.loads(line)

    def children(self) -> dict[str, int]:
        """Return the processes below it, by command and its own name."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, ValueError, IndexError):  # it may just be dying
                parent = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
                if parent == self.process.pid:
                    words = (path / "cmdline").read_text().split("\0")
                    name = words[3] + (words[-2] if words[3] == "worker" else "")
                    found[name] = int(path.name)
        return found

    def stop(self) -> tuple[int, str]:
        """Send SIGTERM; return the exit code and what else was printed on standard output."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=60)
        return self.process.returncode, out


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False


def chat(base_url: str, api_key: str, text: str, **more: Any) -> tuple[int, dict[str, str], str]:
    host = base_url.removeprefix("http://").removesuffix("/v1")
    connection = http.client.HTTPConnection(host, timeout=20)
    body = json.dumps({"model": "stub", "messages": [{"role": "user", "content": text}]} | more)
    connection.request(
        "POST",
        "/v1/chat/completions",
        body,
        {"authorization": f"Bearer {api_key}", "content-type": "application/json"},
    )
    response = connection.getresponse()
    answer = response.read().decode()
    connection.close()
    return response.status, {k.lower(): v for k, v in response.getheaders()}, answer


def answers(base_url: str, api_key: str, text: str) -> bool:
    """Return whether the model's own answer to a prompt comes back."""
    word = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"answer {word}" in chat(base_url, api_key, text)[2]


def until(true: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
    end = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def test_up_makes_a_deployment_and_serves_stage_zero(tmp_path: Path) -> None:
    stub = Stub(None)
    first = free_ports()
    arguments = ("--dir", str(tmp_path / "d"), "--port", str(first))
    up = Up(
        *arguments,
        "--workers",
        "2",
        "--upstream",
        f"http://127.0.0.1:{stub.port}",
        "--model",
        "stub",
    )
    try:
        said = up.said
        assert set(said) == {"base_url", "admin_url", "api_key", "model", "root", "pid"}
        assert said["pid"] == up.process.pid
        assert said["base_url"] == f"http://127.0.0.1:{first}/v1"
        status, headers, answer = chat(said["base_url"], said["api_key"], "hello")
        assert status == 200, answer
        assert "answer 2cf24dba" in answer  # SHA-256 of "hello" begins so
        assert headers["gatelift-stage"] == "assess"
        status, _, answer = chat(said["base_url"], said["api_key"], "hello", stream=True)
        assert status == 200
        assert "2cf24dba" in answer
        assert "data: [DONE]" in answer

        before = up.children()
        assert set(before) == {"control", "keeper", "witness", "workerw0", "workerw1"}
        os.kill(before["workerw0"], signal.SIGKILL)
        until(
            lambda: up.children().get("workerw0", before["workerw0"]) != before["workerw0"],
            "a killed worker is started again",
        )
        taken = subprocess.run(
            [sys.executable, "-m", "gatelift", "up", *arguments, "--json"],
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
            timeout=60,
            check=False,
        )
        assert taken.returncode == 2
        assert json.loads(taken.stdout)["error"]["code"] == "already_running"

        pids = up.children()
        code, rest = up.stop()
        assert (code, rest) == (0, "")
        assert not [name for name, pid in pids.items() if alive(pid)]
    finally:
        up.stop()
    again = Up(*arguments, "--workers", "1")
    try:
        assert again.said["api_key"] == said["api_key"]
        assert again.said["root"] == said["root"]
        until(lambda: chat(said["base_url"], said["api_key"], "hello")[0] == 200, "it serves again")
        keys = again.children()
        again.process.kill()
        again.process.wait(20)
        until(lambda: not [p for p in keys.values() if alive(p)], "children die with their parent")
    finally:
        again.stop()
        stub.close()


class Desk:
    """A terminal in which people's commands run."""

    def __init__(self, folder: Path, admin: str) -> None:
        self.folder = folder
        self._environment = ENVIRONMENT | {
            "GATELIFT_ADMIN": admin,
            "GATELIFT_TOKEN_FILE": str(folder / "d/keys/submitter.token"),
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gatelift", *arguments],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=self._environment,
            timeout=120,
            check=False,
        )

    def ok(self, *arguments: str, keys: tuple[str, ...] = (), code: int = 0) -> dict[str, Any]:
        signers = [word for key in keys for word in ("--key", f"d/keys/{key}.key")]
        done = self.run(*arguments, *signers, "--json")
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        assert done.stdout.count("\n") == 1
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def text(self, *arguments: str, code: int = 0) -> str:
        done = self.run(*arguments)
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        long = [line for line in done.stdout.splitlines() if len(line) > 80]
        assert not long, long
        return done.stdout


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, Up]]:
    """A deployment made by `init`, run by `up --no-bootstrap`, with stage zero opened by hand."""
    folder = tmp_path_factory.mktemp("release")
    stub = Stub(CREDENTIAL)
    first = free_ports()
    desk = Desk(folder, f"http://127.0.0.1:{first + 1}")
    url = f"http://127.0.0.1:{stub.port}"
    key_file = folder / "upstream.key"
    key_file.touch(0o600)
    key_file.write_text(CREDENTIAL + "\n")
    desk.ok(
        "init", "d", "--yes", "--release", "aurora", "--model", "stub", "--plan-size", "small",
        "--upstream", url, "--port", str(first),
    )  # fmt: skip
    up = Up("--dir", str(folder / "d"), "--no-bootstrap", "--upstream-key-file", str(key_file))
    try:
        assert up.said["api_key"] is None
        desk.ok("plan", "adopt", "d/plan.yaml", keys=("operator",))
        desk.ok(
            "placement", "enrol", "--base-url", url, "--upstream-key-file", "upstream.key",
            keys=("operator",),
        )  # fmt: skip
        until(lambda: any(p["probe"]["up"] for p in desk.ok("status")["probes"]), "placement up")
        desk.ok("certify", "--stage", "assess", keys=("operator", "safety"))
        desk.ok(
            "grant", "--principal", "eve", "--organisation", "evals.example", "--stage", "assess",
            "--api-key-out", "eve.key", keys=("admissions",),
        )  # fmt: skip
        yield desk, up
    finally:
        up.stop()
        stub.close()


def test_a_release_reaches_its_second_stage_by_people_alone(released: tuple[Desk, Up]) -> None:
    desk, up = released
    shut = desk.ok("certify", "--stage", "internal", keys=("operator", "safety"), code=1)
    assert shut["error"]["code"] == "gate_shut"
    assert {r["code"] for r in shut["error"]["detail"]} >= {"evidence_missing", "review_missing"}
    assert "evidence_missing" in desk.text("plan", "preview")

    gateway = up.said["base_url"]
    run = ("assess", "run", "--threshold", "cyber_uplift", "--api-key-file", "eve.key")
    found = desk.ok(*run, "--gateway", gateway, "--root", up.said["root"], keys=("evaluator",))
    assert (found["n"] + found["undetermined"] + found["errors"], found["errors"]) == (60, 0)
    assert found["cosigned"] is True

    desk.ok(
        "review", "--stage", "internal", "--approve", "--note", "looked at everything",
        keys=("safety",),
    )  # fmt: skip
    done = desk.ok(
        "certify", "--stage", "internal", "--block-phrase", "purple bomb", "--posture",
        "probing=block", keys=("operator", "safety"),
    )  # fmt: skip
    assert done["cosigned"] is True
    made = desk.ok(
        "grant", "--principal", "ida", "--organisation", "lab.example", "--stage", "internal",
        "--proof", "identity", keys=("admissions",),
    )  # fmt: skip
    key = made["api_key"]
    until(lambda: chat(gateway, key, "hello")[0] == 200, "the second stage serves")
    assert answers(gateway, key, "tell me of a purple bird")
    assert not answers(gateway, key, "tell me of a purple bomb")

    _results_of_others_are_handed_in(desk)
    _ticket_holds(desk, up, chat(gateway, key, "hello")[1]["gatelift-ticket"])
    _orders_narrow_and_are_lifted(desk, gateway, key)
    _incidents_open_and_close(desk)
    _everything_can_be_read_and_checked(desk, up)


def _results_of_others_are_handed_in(desk: Desk) -> None:
    (desk.folder / "prompts.txt").write_text("one\ntwo\n")
    promised = desk.ok(
        "commit", "--measure", "safeguard-red-team", "--data-set", "prompts.txt",
        keys=("evaluator",),
    )  # fmt: skip
    assert promised["commit"]["limit"] == "0.2"
    rows = b'{"rows": []}'
    (desk.folder / "rows.json").write_bytes(rows)
    at = time.time_ns() // 1_000_000
    result = {
        "id": "evi_1", "commit": promised["id"], "fingerprint": desk.ok("status")["fingerprint"],
        "assessment": "safeguard-red-team", "metric": "attack_success", "n": 30, "s": 0,
        "undetermined": 0, "errors": 0, "tool": "mine", "tool_version": "1", "seed": "00",
        "stage": "assess", "started": at, "finished": at, "under": [],
        "results": f"sha256:{hashlib.sha256(rows).hexdigest()}",
    }  # fmt: skip
    (desk.folder / "result.json").write_text(json.dumps(result))
    given = ("evidence", "submit", "result.json", "--results")
    desk.ok(*given, "prompts.txt", keys=("evaluator",), code=2)
    found = desk.ok(*given, "rows.json", keys=("evaluator",))
    desk.ok("evidence", "revoke", found["digest"], "--reason", "a mistake", keys=("evaluator",))
    # Signed on one machine, carried by hand, submitted from another.
    desk.ok(
        "review", "--stage", "internal", "--approve", "--note", "again", "--out", "review.json",
        keys=("security",),
    )  # fmt: skip
    assert desk.ok("submit", "review.json")["kind"] == "review"


def _ticket_holds(desk: Desk, up: Up, ticket: str) -> None:
    (desk.folder / "ticket").write_text(ticket)
    verify = ("ticket", "verify", "ticket", "--root-file", "d/root.json")
    assert desk.ok(*verify, code=3)["authenticated"] is False
    assert desk.ok(*verify, "--root", up.said["root"])["record"]["outcome"] == "served"
    (desk.folder / "ticket").write_text(ticket[:200] + "AAAA" + ticket[204:])
    done = desk.run(*verify, "--root", up.said["root"])
    assert done.returncode in {1, 2}
    assert "Traceback" not in done.stderr


def _orders_narrow_and_are_lifted(desk: Desk, gateway: str, key: str) -> None:
    given = desk.ok("halt", "--reason", "key was shared", "--principal", "ida", keys=("stop",))
    until(lambda: chat(gateway, key, "hello")[0] == 403, "a principal is stopped", 2.0)
    desk.ok("clear", given["id"], keys=("admissions",), code=1)
    desk.ok("clear", given["id"], keys=("admissions", "safety"))
    until(lambda: chat(gateway, key, "hello")[0] == 200, "and served again")
    assert answers(gateway, key, "what is a green comet")
    desk.ok("order", "--reason", "seen abused", "--block-phrase", "green comet", keys=("safety",))
    until(lambda: not answers(gateway, key, "what is a green comet"), "blocked", 2.0)
    assert answers(gateway, key, "what is a green leaf")
    desk.ok("halt", "--reason", "fire", "--drop", "d", keys=("stop",))
    until(lambda: chat(gateway, key, "hello")[0] == 403, "an order by file stops", 5.0)


def _incidents_open_and_close(desk: Desk) -> None:
    opened = desk.ok(
        "incident", "open", "--title", "a leak", "--severity", "SEV-3", keys=("safety",)
    )
    desk.ok(
        "incident", "change", opened["id"], "--note", "stopped", "--now", "contained",
        keys=("safety",),
    )  # fmt: skip
    (desk.folder / "retro.md").write_text("what we learned")
    desk.ok(
        "incident", "change", opened["id"], "--note", "closed", "--now", "resolved",
        "--retrospective", "retro.md", keys=("safety",),
    )  # fmt: skip
    found = desk.ok("status")["incidents"]
    assert [each["open"] for each in found if each["incident"]["id"] == opened["id"]] == [False]


def _everything_can_be_read_and_checked(desk: Desk, up: Up) -> None:
    assert "aurora" in desk.text("status")
    kinds = {e["header"]["kind"] for e in desk.ok("log")["entries"]}
    assert kinds >= {"root", "plan", "placement", "commit", "evidence", "review", "certificate"}
    assert "order" in desk.text("log", "--kind", "order")
    assert "refuses calls without" in desk.text("doctor", "--dir", "d", code=1)
    desk.ok("dossier", "export", "--dir", "d", "--out", "dossier")
    root = up.said["root"]
    found = desk.ok("verify", "dossier", "--root", root)
    assert found["authenticated"] is True
    assert not [f for f in found["findings"] if f["severity"] == "error"]
    assert desk.ok("verify", "dossier", code=3)["authenticated"] is False
    assert desk.ok("replay", "dossier")["decisions"] > 3
    assert "NOT authenticated" in desk.text("verify", "dossier", code=3)
    page = http.client.HTTPConnection(up.said["admin_url"].removeprefix("http://"), timeout=20)
    page.request("GET", "/")
    assert b"aurora" in page.getresponse().read()
    page.close()
