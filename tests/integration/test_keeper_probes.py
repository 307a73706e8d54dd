"""Probes against scripted placements: what counts as an open door, and what as no answer."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable

import pytest

from gatelift.encoding import sha256_digest
from gatelift.terms import Sealing
from gatelift.wire.probes import (
    ProbeError,
    ProbeTarget,
    measure_baseline,
    parse_baseline,
    probe_prompts,
)
from gatelift.wire.sealing_probes import probe_unsealed
from tests.support.upstream import ScriptedUpstream


def completion(text: str) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


async def with_server(
    answer: Callable[[], tuple[int, bytes]], use: Callable[[ProbeTarget], Awaitable[object]]
) -> object:
    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            lines = head.decode().split("\r\n")
            length = next(int(x.split(":")[1]) for x in lines if x.startswith("content-length"))
            await reader.readexactly(length)
            status, body = answer()
            writer.write(
                b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)
            )

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(take(reader, writer))
        task.add_done_callback(lambda t: (t.cancelled() or t.exception(), writer.close()))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        return await use(ProbeTarget(base_url=url, model="m", system_prompt=None, max_tokens=8))
    finally:
        server.close()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("status", "sealing"),
    [(200, Sealing.OPEN), (401, Sealing.DECLARED), (403, Sealing.DECLARED)],
)
def test_a_placement_that_answers_strangers_is_open(status: int, sealing: Sealing) -> None:
    found = asyncio.run(with_server(lambda: (status, completion("hello")), probe_unsealed))
    assert found is sealing


@pytest.mark.parametrize("status", [404, 429, 500])
def test_an_answer_that_is_neither_says_nothing_about_the_door(status: int) -> None:
    with pytest.raises(ProbeError):
        asyncio.run(with_server(lambda: (status, b""), probe_unsealed))


@pytest.mark.parametrize(
    "path", ["/v1/completions", "/v1/messages", "/invocations", "/completion", "/api/chat"]
)
def test_a_server_that_guards_chat_and_leaves_another_door_is_open(path: str) -> None:
    upstream = ScriptedUpstream(key="up")
    target = ProbeTarget(base_url=upstream.url, model="m", system_prompt=None, max_tokens=8)
    try:
        assert asyncio.run(probe_unsealed(target)) is Sealing.DECLARED
        upstream.unguarded = frozenset({path})
        assert asyncio.run(probe_unsealed(target)) is Sealing.OPEN
    finally:
        upstream.close()


def test_a_server_that_takes_any_key_is_open() -> None:
    answers = iter([(401, b""), (200, completion("hello"))])
    found = asyncio.run(with_server(lambda: next(answers), probe_unsealed))
    assert found is Sealing.OPEN


def test_a_door_that_is_not_there_is_shut_and_one_that_fails_is_unknown() -> None:
    for status, shut in ((404, True), (405, True), (500, False), (400, False)):
        answers = itertools.chain([401, 401], itertools.repeat(status))
        work = with_server(lambda answers=answers: (next(answers), b""), probe_unsealed)
        if shut:
            assert asyncio.run(work) is Sealing.DECLARED
        else:
            with pytest.raises(ProbeError):
                asyncio.run(work)


def test_nobody_at_home_is_not_a_refusal() -> None:
    target = ProbeTarget(base_url="http://127.0.0.1:9", model="m", system_prompt=None, max_tokens=8)
    with pytest.raises(ProbeError) as caught:
        asyncio.run(probe_unsealed(target))
    assert caught.value.code == "probe_unreachable"


def test_a_baseline_is_the_digests_of_the_answers() -> None:
    data = asyncio.run(
        with_server(lambda: (200, completion("hello")), lambda t: measure_baseline(t, 16, "key"))
    )
    assert isinstance(data, bytes)
    assert parse_baseline(data) == (sha256_digest(b"hello"),) * 16


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ((401, b""), "probe_refused"),
        ((200, b"hello"), "probe_odd"),
        ((200, b'{"choices": []}'), "probe_odd"),
    ],
)
def test_what_is_no_completion_is_no_answer(answer: tuple[int, bytes], code: str) -> None:
    with pytest.raises(ProbeError) as caught:
        asyncio.run(with_server(lambda: answer, lambda t: measure_baseline(t, 4, "s3cret")))
    assert caught.value.code == code
    assert "s3cret" not in str(caught.value)


def test_a_placement_that_answers_at_random_gets_no_baseline() -> None:
    numbers = itertools.count()
    with pytest.raises(ProbeError) as caught:
        asyncio.run(
            with_server(
                lambda: (200, completion(str(next(numbers)))),
                lambda t: measure_baseline(t, 4, None),
            )
        )
    assert caught.value.code == "probe_unstable"


def test_there_are_sixteen_different_short_prompts() -> None:
    prompts = probe_prompts()
    assert len(set(prompts)) == 16
    assert max(len(prompt) for prompt in prompts) < 80
