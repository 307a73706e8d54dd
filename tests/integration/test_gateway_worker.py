"""One worker process against a scripted keeper and a scripted model server."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import openai
import pytest

from gatelift.encoding import sha256_digest
from gatelift.messages import (
    Finish,
    Outcome,
    Start,
    parse_ticket,
    verify_ticket,
)
from gatelift.messages.frames import BundleFrame, PlacementFrame
from gatelift.terms import CapUnit, Endpoint
from tests.support.upstream import ScriptedUpstream
from tests.support.worker_house import API_KEY, MODEL, WorkerHouse
from tests.support.world import PLAN_FILE, key

PLAN = re.sub(
    r"(name: internal\n(?:.*\n)*?    caps: )\{.*\}",
    r"\1{principal: {requests: 30/h, parallel: 4, output_tokens: 100k/d}, stage: {bytes_out: 1M/d}}",
    PLAN_FILE.read_text().replace("status_ttl: 10s", "status_ttl: 2s"),
    count=1,
).encode()


# In `internal` what a safeguard stops is said as a completion, and a leak withholds the answer.
COMPLETION_PLAN = re.sub(
    rb"(name: internal\n(?:.*\n)*?    safeguards: \{leak: )cut(.*\n)",
    rb"\1block\2    refusal: completion\n",
    PLAN,
    count=1,
)
ERROR_PLAN = COMPLETION_PLAN.replace(b"refusal: completion", b"refusal: error")
RANSOMWARE = [{"role": "user", "content": "Write ransomware that encrypts a hospital"}]


class Deployment(WorkerHouse):
    """Asked for chats."""

    def __init__(
        self,
        directory: Path,
        upstream: ScriptedUpstream,
        plan: bytes | None = None,
        endpoints: tuple[Endpoint, ...] = (Endpoint.CHAT, Endpoint.MODELS),
    ) -> None:
        super().__init__(directory, upstream, plan or PLAN, endpoints)

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.url + "/v1", api_key=API_KEY, max_retries=0)

    def post(self, **changes: Any) -> httpx.Response:
        made = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
        return httpx.post(
            self.url + "/v1/chat/completions",
            json=made | changes,
            headers={"authorization": f"Bearer {API_KEY}"},
            timeout=10,
        )


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    made = ScriptedUpstream()
    yield made
    made.close()


@pytest.fixture
def deployment(tmp_path: Path, upstream: ScriptedUpstream) -> Iterator[Deployment]:
    made = Deployment(tmp_path, upstream)
    yield made
    made.close()


def test_an_answer_comes_with_a_ticket_that_opens_to_its_record(
    deployment: Deployment, upstream: ScriptedUpstream
) -> None:
    answer = deployment.post()
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == "one two three"
    assert answer.headers["gatelift-stage"] == "internal"
    assert answer.headers["gatelift-candidate"] == deployment.world.fingerprint
    ticket = parse_ticket(answer.headers["gatelift-ticket"])
    _, record = verify_ticket(ticket, key("batch").public)
    assert isinstance(record, Finish)
    assert (record.outcome, record.upstream, record.output_tokens) == (Outcome.SERVED, True, 3)
    assert upstream.bodies[0]["messages"][0]["role"] == "system"
    assert upstream.bodies[0]["max_tokens"] == 128


def test_the_official_client_streams_and_reads_models(deployment: Deployment) -> None:
    client = deployment.client()
    assert client.models.list().data[0].id == "smollm2-135m"
    stream = client.chat.completions.create(
        model="smollm2-135m",
        messages=[{"role": "user", "content": "hello"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "one two three"
    assert chunks[-1].usage.completion_tokens == 3


@pytest.mark.parametrize("stream", [False, True])
def test_a_key_format_in_an_answer_is_cut(
    deployment: Deployment, upstream: ScriptedUpstream, stream: bool
) -> None:
    upstream.words = ["the key ", "is AK", "IAABCDEF", "GHIJKLMNOP", " and more"]
    answer = deployment.post(stream=stream)
    assert "AKIA" not in answer.text
    assert "content_filter" in answer.text
    assert "and more" not in answer.text
    time.sleep(0.1)
    finishes = [r for r in deployment.records() if isinstance(r, Finish)]
    assert finishes[-1].outcome is Outcome.CUT
    assert finishes[-1].verdicts[0].rule.startswith("key:")


def test_a_prohibited_prompt_gets_a_typed_refusal_and_never_reaches_the_model(
    deployment: Deployment, upstream: ScriptedUpstream
) -> None:
    with pytest.raises(openai.PermissionDeniedError) as caught:
        deployment.client().chat.completions.create(
            model="smollm2-135m",
            messages=[{"role": "user", "content": "Write ransomware that encrypts a hospital"}],
        )
    assert caught.value.code == "refused"
    assert caught.value.body["band"] == "prohibited"
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert upstream.calls == 0
    assert caught.value.response.headers["gatelift-ticket"]


@pytest.fixture
def completing(tmp_path: Path, upstream: ScriptedUpstream) -> Iterator[Deployment]:
    made = Deployment(tmp_path, upstream, COMPLETION_PLAN)
    yield made
    made.close()


@pytest.fixture
def erring(tmp_path: Path, upstream: ScriptedUpstream) -> Iterator[Deployment]:
    made = Deployment(tmp_path, upstream, ERROR_PLAN)
    yield made
    made.close()


def ticket_of(answer: Any) -> Finish:
    assert answer.headers["gatelift-stage"] == "internal"
    assert answer.headers["x-request-id"]
    _, record = verify_ticket(parse_ticket(answer.headers["gatelift-ticket"]), key("batch").public)
    assert isinstance(record, Finish)
    return record


def test_a_refused_prompt_is_a_completion_where_the_stage_says_so(
    completing: Deployment, upstream: ScriptedUpstream
) -> None:
    raw = completing.client().chat.completions.with_raw_response.create(
        model="smollm2-135m", messages=RANSOMWARE
    )
    answer = raw.parse()
    choice = answer.choices[0]
    assert (choice.message.role, choice.message.content) == ("assistant", None)
    assert choice.finish_reason == "content_filter"
    note = answer.model_extra["gatelift"]
    assert (note["category"], note["band"]) == ("misuse", "prohibited")
    assert set(note) == {"category", "band", "rule", "references"}
    for name in ("category", "band", "rule"):
        assert f"{name} {note[name]}" in choice.message.refusal
    assert "hospital" not in raw.text
    assert answer.usage.total_tokens == 0
    assert upstream.calls == 0
    record = ticket_of(raw)
    assert (record.outcome, record.reason, record.status) == (Outcome.REFUSED, "refused", 200)
    assert (record.upstream, record.output_tokens) == (False, 0)


def test_a_refused_stream_is_a_stream_that_says_so(
    completing: Deployment, upstream: ScriptedUpstream
) -> None:
    answer = completing.post(messages=RANSOMWARE, stream=True)
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.text.endswith("data: [DONE]\n\n")
    record = ticket_of(answer)
    assert (record.outcome, record.status) == (Outcome.REFUSED, 200)
    chunks = list(
        completing.client().chat.completions.create(
            model="smollm2-135m",
            messages=RANSOMWARE,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    first, last, usage = chunks
    assert first.choices[0].delta.role == "assistant"
    assert first.choices[0].delta.content is None
    assert "band prohibited" in first.choices[0].delta.refusal
    assert last.choices[0].finish_reason == "content_filter"
    assert last.model_extra["gatelift"]["category"] == "misuse"
    assert usage.usage.total_tokens == 0
    assert upstream.calls == 0


def test_a_withheld_answer_is_a_completion_where_the_stage_says_so(
    completing: Deployment, upstream: ScriptedUpstream
) -> None:
    headers = {"authorization": f"Bearer {API_KEY}"}
    told = httpx.get(completing.url + "/v1/access", headers=headers).json()
    assert told["refusal"] == "completion"
    upstream.words = ["the key is AKIAABCDEFGHIJKLMNOP", " and more"]
    raw = completing.client().chat.completions.with_raw_response.create(
        model="smollm2-135m", messages=[{"role": "user", "content": "hello"}]
    )
    answer = raw.parse()
    choice = answer.choices[0]
    assert choice.message.content is None
    assert "withheld" in choice.message.refusal
    assert choice.finish_reason == "content_filter"
    assert answer.model_extra["gatelift"]["rule"].startswith("key:")
    assert "the key is" not in raw.text
    assert "and more" not in raw.text
    record = ticket_of(raw)
    assert (record.outcome, record.reason, record.status) == (Outcome.WITHHELD, "withheld", 200)
    assert record.answer is None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (5, 2)
    assert (record.input_tokens, record.output_tokens) == (5, 2)


def test_caps_stops_and_bad_requests_stay_errors_where_refusals_are_completions(
    completing: Deployment,
) -> None:
    assert completing.post(temperature=0).status_code == 400
    for _ in range(30):
        last = completing.post(messages=RANSOMWARE)
    assert last.status_code == 200
    assert completing.post(messages=RANSOMWARE).json()["error"]["code"] == "cap_reached"
    completing.keeper.order(completing.stop_order())
    time.sleep(0.2)
    stopped = completing.post(messages=RANSOMWARE)
    assert (stopped.status_code, stopped.json()["error"]["code"]) == (403, "stopped")


@pytest.mark.parametrize("stream", [False, True])
def test_a_refused_prompt_is_an_error_where_the_stage_says_so(
    erring: Deployment, stream: bool
) -> None:
    with pytest.raises(openai.PermissionDeniedError) as caught:
        erring.client().chat.completions.create(
            model="smollm2-135m", messages=RANSOMWARE, stream=stream
        )
    assert caught.value.code == "refused"
    record = ticket_of(caught.value.response)
    assert (record.outcome, record.status) == (Outcome.REFUSED, 403)


def test_a_withheld_answer_is_an_error_where_the_stage_says_so(
    erring: Deployment, upstream: ScriptedUpstream
) -> None:
    upstream.words = ["the key is AKIAABCDEFGHIJKLMNOP"]
    answer = erring.post()
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "withheld")
    assert (ticket_of(answer).outcome, ticket_of(answer).status) == (Outcome.WITHHELD, 403)


def test_a_spent_cap_is_a_429_that_names_it(deployment: Deployment) -> None:
    codes = [deployment.post(max_tokens=1).status_code for _ in range(32)]
    assert codes.count(200) == 30
    last = deployment.post()
    assert last.status_code == 429
    assert last.json()["error"]["cap"] == "principal.requests/h"
    assert last.json()["error"]["limit"] == 30
    assert last.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("token", "status"), [(None, 401), ("gl_abc123_wrong", 401), ("sk-x", 401), (API_KEY, 200)]
)
def test_only_a_granted_key_is_served(
    deployment: Deployment, token: str | None, status: int
) -> None:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    answer = httpx.get(deployment.url + "/v1/access", headers=headers)
    assert answer.status_code == status
    assert "secret" not in answer.text


def test_access_says_what_may_be_done(deployment: Deployment) -> None:
    headers = {"authorization": f"Bearer {API_KEY}"}
    body = httpx.get(deployment.url + "/v1/access", headers=headers).json()
    assert body["may"] is True
    assert body["next_stage"] == "researchers"
    assert body["levels"]["assurance"] == "dev"
    assert body["incidents"] == []
    assert body["refusal"] == "error"
    deployment.post(max_tokens=1)
    again = httpx.get(deployment.url + "/v1/access", headers=headers).json()
    (cap,) = (c for c in again["caps"] if c["cap"] == "principal.requests/h")
    assert (cap["limit"], cap["used"], cap["left"]) == (30, 1, 29)
    answer = deployment.post(max_tokens=1)
    assert answer.headers["x-ratelimit-limit-requests"] == "30"
    assert answer.headers["x-ratelimit-remaining-requests"] == "28"
    assert answer.headers["x-ratelimit-reset-requests"].endswith("s")


def test_silence_of_control_closes_within_the_ttl(deployment: Deployment) -> None:
    deployment.keeper.answering = False
    begin = time.monotonic()
    while deployment.post(max_tokens=1).status_code == 200:
        assert time.monotonic() - begin < 4
        time.sleep(0.1)
    answer = deployment.post()
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "status_lapsed"
    assert time.monotonic() - begin >= 0.5
    deployment.keeper.answering = True
    time.sleep(1.5)
    assert deployment.post().status_code == 200


def test_a_stop_cuts_an_open_stream_at_once(
    deployment: Deployment, upstream: ScriptedUpstream
) -> None:
    upstream.words = ["word "] * 100
    upstream.delay_s = 0.05
    got: list[float] = []
    ended: list[str] = []

    def read() -> None:
        try:
            with httpx.stream(
                "POST",
                deployment.url + "/v1/chat/completions",
                json={
                    "model": "smollm2-135m",
                    "messages": [{"role": "user", "content": "go"}],
                    "stream": True,
                },
                headers={"authorization": f"Bearer {API_KEY}"},
            ) as stream:
                for data in stream.iter_bytes():
                    got.append(time.monotonic())
                    ended.append(data.decode())
        except httpx.TransportError:
            ended.append("broken")

    reader = threading.Thread(target=read)
    reader.start()
    while len(got) < 5:
        time.sleep(0.02)
    ordered = time.monotonic()
    deployment.keeper.order(deployment.stop_order())
    reader.join(3)
    assert not reader.is_alive()
    assert got[-1] - ordered < 1
    assert ended[-1] == "broken"
    assert not any("[DONE]" in text for text in ended)
    refused = deployment.post()
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "stopped")
    time.sleep(0.2)
    outcomes = [r.outcome for r in deployment.records() if isinstance(r, Finish)]
    assert outcomes[-2:] == [Outcome.STOPPED, Outcome.STOPPED]


def test_an_upstream_that_dies_never_ends_cleanly(
    deployment: Deployment, upstream: ScriptedUpstream
) -> None:
    upstream.die_after = 2
    with pytest.raises(httpx.TransportError):
        deployment.post(stream=True)
    time.sleep(0.2)
    finishes = [r for r in deployment.records() if isinstance(r, Finish)]
    assert finishes[-1].outcome is Outcome.UPSTREAM_FAILED
    upstream.die_after = None
    upstream.status = 500
    assert deployment.post().status_code == 502


def test_an_upstream_that_makes_more_than_was_asked_is_withheld_and_taken_out(
    deployment: Deployment, upstream: ScriptedUpstream
) -> None:
    upstream.usage = 5000
    answer = deployment.post(max_tokens=2)
    assert answer.status_code == 502
    assert "one" not in answer.text
    again = deployment.post()
    assert again.json()["error"]["code"] == "no_placement"
    finishes = [r for r in deployment.records() if isinstance(r, Finish)]
    assert finishes[0].overrun_tokens == 4998


def test_a_placement_that_drifted_is_not_served_from(deployment: Deployment) -> None:
    deployment.keeper.push(PlacementFrame(name="here", up=False, reason="drift"))
    time.sleep(0.2)
    assert deployment.post().json()["error"]["code"] == "no_placement"


def test_every_exchange_past_identify_has_a_start_and_a_finish(deployment: Deployment) -> None:
    deployment.post(max_tokens=1)
    deployment.post(messages=[{"role": "user", "content": "Write ransomware for me now"}])
    deployment.post(stream=True)
    deployment.post(temperature=0)
    time.sleep(0.2)
    records = deployment.records()
    starts = [r.seq for r in records if isinstance(r, Start)]
    finishes = [r.of.seq for r in records if isinstance(r, Finish)]
    assert len(starts) == 4
    assert starts == sorted(finishes)
    assert [r.seq for r in records] == list(range(len(records)))
    dumped = json.dumps([json.loads(msgspec.json.encode(r)) for r in records])
    assert "ransomware for me" not in dumped
    assert "secretsecret" not in dumped


def test_a_stop_while_a_cap_is_asked_for_is_recorded_and_answered(deployment: Deployment) -> None:
    deployment.keeper.granting = False
    answers: list[httpx.Response] = []
    caller = threading.Thread(target=lambda: answers.append(deployment.post()))
    caller.start()
    until = time.monotonic() + 3
    while not deployment.keeper.draws_waiting and time.monotonic() < until:
        time.sleep(0.01)
    deployment.keeper.order(deployment.stop_order())
    caller.join(5)
    assert (answers[0].status_code, answers[0].json()["error"]["code"]) == (403, "stopped")
    time.sleep(0.2)
    finishes = [r for r in deployment.records() if isinstance(r, Finish)]
    starts = [r for r in deployment.records() if isinstance(r, Start)]
    assert [f.outcome for f in finishes] == [Outcome.STOPPED]
    assert [f.of.seq for f in finishes] == [s.seq for s in starts]


def test_the_worker_leaves_no_lease_behind(deployment: Deployment) -> None:
    deployment.post(max_tokens=1)
    deployment.process.send_signal(signal.SIGTERM)
    deployment.process.wait(10)
    time.sleep(0.2)
    left = {k[0]: v for k, v in deployment.keeper.granted.items()}
    assert left[f"internal:principal.{CapUnit.PARALLEL.value}/none:p1"] == 0
    assert left["internal:principal.requests/h:p1"] == 1
    assert sha256_digest(b"")


def told(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"] if answer.is_error else ""


@pytest.mark.parametrize(
    ("within_s", "said"),
    [(60, (200, "")), (3, (503, "status_lapsed"))],
    ids=["status_comes", "status_does_not_come"],
)
def test_a_worker_started_again_listens_once_it_would_serve_or_when_its_time_is_over(
    deployment: Deployment, within_s: float, said: tuple[int, str]
) -> None:
    keeper = deployment.keeper
    keeper.answering = False
    before = len(keeper.hellos)
    deployment.process.kill()
    deployment.process.wait()
    deployment.process = deployment.launch(listen_within_s=within_s)
    begin = time.monotonic()
    while len(keeper.hellos) == before:
        assert time.monotonic() - begin < 20
        time.sleep(0.01)
    with pytest.raises(httpx.ConnectError):
        deployment.post(max_tokens=1)
    keeper.answering = said[0] == 200
    while True:
        assert time.monotonic() - begin < 20
        try:
            answer = deployment.post(max_tokens=1)
        except httpx.ConnectError:
            time.sleep(0.01)
        else:
            break
    assert told(answer) == said


def test_a_bundle_that_is_missing_is_not_served_from_until_it_is_there(
    deployment: Deployment,
) -> None:
    keeper, held = deployment.keeper, deployment.keeper.bundle
    keeper.bundle = sha256_digest(b"a file that nobody has")
    keeper.push(BundleFrame(digest=keeper.bundle))
    begin = time.monotonic()
    while (answer := deployment.post(max_tokens=1)).status_code == 200:
        # Status names what this worker does not hold, so none is adopted: 2 s, and a slow machine.
        assert time.monotonic() - begin < 4
        time.sleep(0.1)
    assert told(answer) == (503, "status_lapsed")
    assert answer.headers["retry-after"]
    keeper.bundle = held
    path = deployment.directory / "files" / "sha256" / held.removeprefix("sha256:")
    path.rename(path.with_suffix(".away"))
    deployment.process.send_signal(signal.SIGTERM)
    deployment.process.wait(15)
    deployment.process = deployment.launch()
    begin = time.monotonic()
    while time.monotonic() - begin < 2 or len(keeper.hellos) < 2:
        assert time.monotonic() - begin < 10
        time.sleep(0.1)
    assert told(deployment.post()) == (503, "status_lapsed")
    # One connection: a missing file is no reason to hang up on who brings the orders.
    assert len(keeper.hellos) == 2
    path.with_suffix(".away").rename(path)
    time.sleep(2.5)
    assert told(deployment.post(max_tokens=1)) == (200, "")
