"""Promise 6: no record, no response.

Attacked here: the ticket of every kind of answer is checked with independent code, down to the bytes
of the answer, and its receipt is asked for against the clock. Workers are killed with -9 in the
middle of traffic, and every answer that a caller had in full must be in the exported records. The
journal is made unwritable (the kernel refuses every write of the worker to a file), before and in
the middle of an answer. The model server dies inside a stream.

Seen to fail: with the commit thread of `journal.writer` acknowledging 0.3 s before it writes, an
acknowledged answer was missing after a kill (red); with a failed append taken as written the gateway
went on serving (red); with [DONE] sent before the finish in `gateway.answering` a stream whose record
could not be written ended cleanly (red).
"""

from __future__ import annotations

import base64
import hashlib
import json
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.promises.outside import (
    PLANS,
    Deployment,
    Stream,
    check_receipt,
    open_ticket,
    say,
    wait_for,
)
from tests.support.upstream import ScriptedUpstream


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    found = ScriptedUpstream(["word "] * 200, delay_s=0.01, key="upstream-key-of-promise-six")
    yield found
    found.close()


@pytest.fixture(scope="module")
def deployment(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    found = Deployment(
        tmp_path_factory.mktemp("p06") / "d",
        upstream=upstream.url,
        upstream_key=upstream.key,
        plan=PLANS / "harbour.yaml",
        workers=2,
    )
    yield found
    found.stop()


def commits_to(record: dict[str, Any], ticket: str, content: bytes) -> bool:
    salt = base64.b64decode(json.loads(base64.b64decode(ticket))["content_salt"])
    found = hashlib.sha256(b"gatelift/content/v1\n" + salt + content).hexdigest()
    return bool(record["answer"] == "sha256:" + found)


def finish_ticket(text: bytes) -> str:
    """Return the ticket of the finish, which stands before the end of a stream."""
    (line,) = [each for each in text.split(b"\n") if each.startswith(b": gatelift-ticket ")]
    return line.removeprefix(b": gatelift-ticket ").decode()


def receipt_of(deployment: Deployment, entry: bytes) -> tuple[float, str]:
    """Return how long a receipt took, and the receipt."""
    url = f"{deployment.base_url}/receipts/{hashlib.sha256(entry).hexdigest()}"
    header = {"authorization": f"Bearer {deployment.api_key}"}
    began = time.monotonic()

    def there() -> str:
        response = httpx.get(url, headers=header)
        assert response.status_code in {200, 202}, response.text
        return response.text if response.status_code == 200 else ""

    proof = wait_for(there, seconds=5, every=0.02)
    return time.monotonic() - began, proof


def export(deployment: Deployment, out: Path) -> Path:
    deployment.cli("dossier", "export", "--dir", deployment.folder, "--out", out).must()
    return out


def records_of(dossier: Path) -> list[str]:
    """Return the stored text of every record in a dossier."""
    return [
        json.loads(line)["record"]
        for path in sorted((dossier / "records").iterdir())
        for line in path.read_text().splitlines()
    ]


@contextmanager
def unwritable(deployment: Deployment) -> Iterator[None]:
    """Have the kernel refuse every write of the workers to a file, as a full disk would."""
    pids = deployment.processes("worker")
    before = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in pids}
    for pid in pids:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, before[pid][1]))
    try:
        yield
    finally:
        for pid, limits in before.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


def test_every_answer_carries_a_ticket_that_a_stranger_can_check(
    deployment: Deployment, upstream: ScriptedUpstream
) -> None:
    node_key = deployment.node_key()
    answers = [(deployment.chat(f"question {n}", max_tokens=4), 200, "served") for n in range(4)]
    answers.append((deployment.chat("x" * 5000), 400, "stopped"))
    header = {"authorization": f"Bearer {deployment.api_key}"}
    answers.append((httpx.get(f"{deployment.base_url}/models", headers=header), 200, "served"))
    seen = set()
    for answer, status, outcome in answers:
        assert answer.status_code == status, answer.text
        ticket = answer.headers["gatelift-ticket"]
        _, record = open_ticket(ticket, node_key)
        assert (record["kind"], record["outcome"]) == ("finish", outcome), record
        assert record["request_id"] == answer.headers["x-request-id"]
        assert commits_to(record, ticket, answer.content)
        seen.add((record["worker"], record["run"], record["seq"]))
    assert len(seen) == len(answers), "no two answers share a record"


def test_a_stream_has_a_ticket_of_its_start_first_and_of_its_finish_before_its_end(
    deployment: Deployment,
) -> None:
    stream = Stream(deployment, max_tokens=20)
    stream.join(30)
    _, start = open_ticket(stream.headers["gatelift-ticket"], deployment.node_key())
    assert start["kind"] == "start"
    ticket = finish_ticket(stream.text)
    _, finish = open_ticket(ticket, deployment.node_key())
    assert (finish["kind"], finish["outcome"]) == ("finish", "served")
    assert finish["of"]["seq"] == start["seq"]
    assert stream.text.index(b": gatelift-ticket ") < stream.text.index(b"data: [DONE]")
    assert commits_to(finish, ticket, b"word " * 20)
    assert finish["output_tokens"] == 20


def test_a_receipt_comes_within_a_second(deployment: Deployment) -> None:
    took = []
    for number in range(8):
        answer = deployment.chat(f"receipt {number}", max_tokens=2)
        entry, _ = open_ticket(answer.headers["gatelift-ticket"], deployment.node_key())
        seconds, proof = receipt_of(deployment, entry)
        check_receipt(proof, entry, deployment.requests_key())
        took.append(seconds)
    say(f"receipts after {sorted(took)[len(took) // 2]:.3f} s, at most {max(took):.3f} s")
    assert max(took) < 1.0


def test_no_acknowledged_answer_is_lost_to_a_kill(
    deployment: Deployment, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    over = threading.Event()
    tickets: list[str] = []
    streamed: list[Stream] = []

    def ask(number: int) -> None:
        while not over.is_set():
            try:
                answer = deployment.chat(f"caller {number}", max_tokens=2)
            except httpx.TransportError:
                continue
            if answer.status_code == 200:
                tickets.append(answer.headers["gatelift-ticket"])
            time.sleep(0.01)

    def follow() -> None:
        while not over.is_set():
            stream = Stream(deployment, max_tokens=10)
            stream.join(30)
            streamed.append(stream)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(6)]
    threads += [threading.Thread(target=follow) for _ in range(2)]
    for thread in threads:
        thread.start()
    # By what was acknowledged, not by the clock: a slow machine has as much to lose as a fast one.
    for kills in (1, 2, 3):
        wait_for(lambda: len(tickets) > 18 * kills, seconds=60)  # noqa: B023
        deployment.kill("worker")
    wait_for(lambda: len(tickets) > 70, seconds=60)
    over.set()
    for thread in threads:
        thread.join(60)
    complete = [s for s in streamed if b"[DONE]" in s.text]
    tickets += [finish_ticket(s.text) for s in complete]
    wait_for(lambda: len(deployment.processes("worker")) == 2, seconds=20)
    deployment.wait_serving()
    time.sleep(1.0)
    records = records_of(export(deployment, tmp_path / "dossier"))
    held = set(records)
    for ticket in tickets:
        _, record = open_ticket(ticket, deployment.node_key())
        text = json.loads(base64.b64decode(ticket))["record"]
        assert text in held, f"an acknowledged answer is not in the records: {record}"
    finished = {json.dumps(r["of"]) for r in map(json.loads, records) if r["kind"] == "finish"}
    starts = [r for r in map(json.loads, records) if r["kind"] == "start"]
    places = [
        json.dumps({name: r[name] for name in ("node", "worker", "run", "seq")}) for r in starts
    ]
    open_ones = [place for place in places if place not in finished]
    say(f"3 kills: {len(tickets)} acknowledged answers, all in {len(records)} records")
    assert len(tickets) > 50
    assert complete
    assert not open_ones, "what a kill left open is closed by the keeper"
    aborted = [r for r in map(json.loads, records) if r.get("outcome") == "aborted"]
    assert all(r["worker"] == "keeper" for r in aborted)


def test_a_journal_that_cannot_be_written_stops_service_and_recovers(
    deployment: Deployment, upstream: ScriptedUpstream
) -> None:
    deployment.wait_serving()
    with unwritable(deployment):
        for number in range(10):
            answer = deployment.chat(f"off the record {number}", max_tokens=2)
            assert answer.status_code == 503, answer.text
            error = answer.json()["error"]
            assert error["code"] == "journal_failed", error
            assert "gatelift-ticket" not in answer.headers
            assert "word" not in answer.text
            time.sleep(0.15)
    wait_for(lambda: deployment.chat("on it again", max_tokens=2).status_code == 200, every=0.2)
    # Both workers are back, each with tickets that hold.
    for _ in range(10):
        answer = deployment.chat("on the record", max_tokens=2)
        if answer.status_code == 503:
            time.sleep(0.3)
            continue
        open_ticket(answer.headers["gatelift-ticket"], deployment.node_key())
    wait_for(
        lambda: all(deployment.chat("x", max_tokens=2).status_code == 200 for _ in range(8)),
        every=0.2,
    )


def test_a_stream_whose_finish_cannot_be_written_does_not_end_well(deployment: Deployment) -> None:
    stream = Stream(deployment, max_tokens=100)
    wait_for(lambda: stream.text.count(b"data:") > 5)
    with unwritable(deployment):
        stream.join(30)
    assert stream.broken
    assert b"[DONE]" not in stream.text
    assert b": gatelift-ticket" not in stream.text
    wait_for(
        lambda: all(deployment.chat("x", max_tokens=2).status_code == 200 for _ in range(8)),
        every=0.2,
    )


def test_a_model_server_that_dies_inside_a_stream_is_never_a_clean_end(
    deployment: Deployment, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    upstream.die_after = 6
    try:
        streams = [Stream(deployment, max_tokens=50) for _ in range(4)]
        for stream in streams:
            stream.join(30)
    finally:
        upstream.die_after = None
    assert all(s.status == 200 and s.broken for s in streams)
    assert not any(b"[DONE]" in s.text or b'"finish_reason":"stop"' in s.text for s in streams)
    ids = {s.headers["x-request-id"] for s in streams}

    def recorded() -> bool:
        out = tmp_path / f"dossier-{time.monotonic_ns()}"
        finishes = [json.loads(r) for r in records_of(export(deployment, out))]
        found = {
            r["request_id"]: r["outcome"]
            for r in finishes
            if r.get("request_id") in ids and r["kind"] == "finish"
        }
        return found == dict.fromkeys(ids, "upstream_failed")

    wait_for(recorded)
