"""Probes of a placement from outside: whether it answers as it did, and whether to strangers.

Drift: the same short prompts at temperature 0, with the candidate's system prompt, sent to the
upstream itself. A baseline is the list of the digests of the answers, a file named by its own
digest, which the operator's enrolment of the placement names. Probes detect a change, they never
prove identity: a server may know the prompts, which are published here.

Sealing: calls of the same kind without our credential, and with a wrong one, also at the other
doors that common servers have (some ask for a key on some paths only). Whoever answers one of them
has an open door.

Invariants
- An answer that is not a whole, well-formed completion is no answer: `ProbeError`, never a digest.
- `probe_unsealed` calls a placement `declared` only on a clear refusal (401 or 403) of chat, and of
  each other door (or 404, 405: it is not there). Anything else that is no answer says nothing about
  the door: it raises.
- Every call has a deadline, and every body a bound.
- The credential goes to the placement only, and never into an error.

Does not decide how many changes close: the plan says so, and the keeper acts.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from gatelift.encoding import Digest, decode_json, encode_json, parse_digest, sha256_digest
from gatelift.errors import CallerError, PeerError
from gatelift.terms import Sealing
from gatelift.wire.http_client import Upstream, UpstreamError, UpstreamLimits, UpstreamTimeouts

__all__ = [
    "ProbeError",
    "ProbeTarget",
    "ask_probe",
    "encode_baseline",
    "measure_baseline",
    "open_upstream",
    "parse_baseline",
    "probe_prompts",
    "probe_unsealed",
]

CHAT_PATH: Final = "/v1/chat/completions"
PROBE_TIMEOUT_S: Final = 20.0
_MAX_ANSWER_BYTES: Final = 256 * 1024
_MAX_BASELINE_BYTES: Final = 64 * 1024
_REFUSALS: Final = frozenset({401, 403})
_NOT_THERE: Final = frozenset({404, 405})
_WRONG_CREDENTIAL: Final = "gatelift-probe-that-no-server-was-given"
_TEXT: Final = "Say good morning."
_TURN: Final = [{"role": "user", "content": _TEXT}]
# Doors beside chat completions that model servers open; some guard only what lies under /v1.
_OTHER_DOORS: Final[tuple[tuple[str, dict[str, object]], ...]] = (
    ("/v1/completions", {"prompt": _TEXT, "max_tokens": 1}),
    ("/v1/responses", {"input": _TEXT, "max_output_tokens": 16}),
    ("/v1/messages", {"messages": _TURN, "max_tokens": 1}),
    ("/chat/completions", {"messages": _TURN, "max_tokens": 1}),
    ("/completion", {"prompt": _TEXT, "n_predict": 1}),
    ("/invocations", {"messages": _TURN, "max_tokens": 1}),
    ("/generate", {"text": _TEXT, "prompt": _TEXT, "sampling_params": {"max_new_tokens": 1}}),
    ("/api/chat", {"messages": _TURN, "stream": False, "options": {"num_predict": 1}}),
    ("/api/generate", {"prompt": _TEXT, "stream": False, "options": {"num_predict": 1}}),
)

_PROMPTS: Final = (
    "What is the capital of France?",
    "Count from one to five.",
    "What is 7 times 6?",
    "Name the days of the week.",
    "What color is the sky?",
    "Who was Isaac Newton?",
    "Write the word river.",
    "What is a triangle?",
    "What do bees make?",
    "Say good morning.",
    "What is snow?",
    "List three fruits.",
    "What is ice?",
    "Where is Japan?",
    "What is a book?",
    "How many months are in a year?",
)


class ProbeError(PeerError):
    """A placement could not be probed. Codes: `probe_unreachable`, `probe_refused`, `probe_odd`."""

    code = "probe_unreachable"


class BaselineError(CallerError):
    """The bytes are not a baseline."""

    code = "bad_baseline"


class ProbeTarget(msgspec.Struct, frozen=True, kw_only=True):
    """What is probed, and how it is asked: as the gateway would, but at temperature 0.

    `max_tokens` bounds an answer. `system_prompt` null means that none is sent.
    """

    base_url: str
    model: str
    system_prompt: str | None
    max_tokens: int


class _Message(msgspec.Struct, frozen=True):
    content: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    message: _Message


class _Completion(msgspec.Struct, frozen=True):
    choices: tuple[_Choice, ...]


_COMPLETION: Final = msgspec.json.Decoder(_Completion)


def probe_prompts(count: int = len(_PROMPTS)) -> tuple[str, ...]:
    """Return the first `count` prompts, always the same ones; raises `CallerError` beyond them."""
    if not 1 <= count <= len(_PROMPTS):
        raise CallerError(f"expected 1 to {len(_PROMPTS)} probes, got {count}", code="bad_probes")
    return _PROMPTS[:count]


def encode_baseline(answers: Sequence[Digest]) -> bytes:
    """Return a baseline's bytes: a JSON list of the answers' digests, in the prompts' order."""
    return encode_json(list(answers))


def parse_baseline(data: bytes) -> tuple[Digest, ...]:
    """Return the digests of a baseline; raises `BaselineError` or `EncodingError`."""
    if len(data) > _MAX_BASELINE_BYTES:
        raise BaselineError(f"expected at most {_MAX_BASELINE_BYTES} bytes, got {len(data)}")
    digests = decode_json(data, tuple[str, ...])
    if not 1 <= len(digests) <= len(_PROMPTS):
        raise BaselineError(f"expected 1 to {len(_PROMPTS)} digests, got {len(digests)}")
    return tuple(parse_digest(text) for text in digests)


async def ask_probe(
    upstream: Upstream, target: ProbeTarget, prompt: str, credential: str | None
) -> Digest:
    """Return the digest of the placement's answer to a prompt; raises `ProbeError`."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            status, body = await _call(upstream, target, prompt, credential)
    except (UpstreamError, TimeoutError) as error:
        raise ProbeError(f"{target.base_url} did not answer a probe: {error}") from error
    if status in _REFUSALS:
        raise ProbeError(
            f"{target.base_url} refuses our credential ({status}): check the upstream's key",
            code="probe_refused",
        )
    if not 200 <= status < 300:
        raise ProbeError(f"{target.base_url} answered a probe with {status}", code="probe_odd")
    try:
        completion = _COMPLETION.decode(body)
    except msgspec.DecodeError as error:
        raise ProbeError(
            f"{target.base_url} answered a probe with what is no completion: {error}",
            code="probe_odd",
        ) from error
    if len(completion.choices) != 1 or completion.choices[0].message.content is None:
        raise ProbeError(
            f"{target.base_url}: expected one choice with a text, got {len(completion.choices)}",
            code="probe_odd",
        )
    return sha256_digest(completion.choices[0].message.content.encode("utf-8", "surrogatepass"))


async def measure_baseline(target: ProbeTarget, probes: int, credential: str | None) -> bytes:
    """Return the bytes of a placement's baseline, for its enrolment.

    Every fourth prompt is asked twice. Raises `ProbeError` (`probe_unstable`) when two answers to a prompt differ: such a placement
    would close by itself.
    """
    answers: list[Digest] = []
    async with open_upstream(target.base_url) as upstream:
        for number, prompt in enumerate(probe_prompts(probes)):
            first = await ask_probe(upstream, target, prompt, credential)
            again = number % 4 == 0
            if again and first != await ask_probe(upstream, target, prompt, credential):
                raise ProbeError(
                    f"{target.base_url} answers probe {number} differently at temperature 0: "
                    "drift can't be told from noise; serve it with a fixed batch size or seed",
                    code="probe_unstable",
                )
            answers.append(first)
    return encode_baseline(answers)


async def probe_unsealed(target: ProbeTarget) -> Sealing:
    """Return `open` when the placement answers without our credential, `declared` when it refuses.

    Raises `ProbeError` when it says neither: then nothing is known about the door.
    """
    chat = _body(target, _PROMPTS[0])
    async with open_upstream(target.base_url) as upstream:
        for credential in (None, _WRONG_CREDENTIAL):
            if await _answers(upstream, target, CHAT_PATH, chat, credential, _REFUSALS):
                return Sealing.OPEN
        for path, fields in _OTHER_DOORS:
            body = encode_json({"model": target.model, **fields})
            if await _answers(upstream, target, path, body, None, _REFUSALS | _NOT_THERE):
                return Sealing.OPEN
    return Sealing.DECLARED


async def _answers(
    upstream: Upstream,
    target: ProbeTarget,
    path: str,
    body: bytes,
    credential: str | None,
    shut: frozenset[int],
) -> bool:
    """Return whether a stranger is answered at a door; raises when it is neither open nor shut."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            status, _ = await _post(upstream, path, body, credential)
    except (UpstreamError, TimeoutError) as error:
        raise ProbeError(f"{target.base_url} did not answer a stranger: {error}") from error
    if not 200 <= status < 300 and status not in shut:
        raise ProbeError(
            f"{target.base_url}{path} answered a stranger with {status}: expected one of "
            f"{sorted(shut)}",
            code="probe_odd",
        )
    return status not in shut


@asynccontextmanager
async def open_upstream(base_url: str) -> AsyncIterator[Upstream]:
    """Open a client for probes of one placement, and close it."""
    upstream = Upstream(
        base_url,
        limits=UpstreamLimits(max_body_bytes=_MAX_ANSWER_BYTES, max_connections=4),
        timeouts=UpstreamTimeouts(
            connect_s=2.0,
            first_byte_s=PROBE_TIMEOUT_S,
            idle_s=PROBE_TIMEOUT_S,
            total_s=PROBE_TIMEOUT_S,
        ),
    )
    try:
        yield upstream
    finally:
        await upstream.aclose()


async def _call(
    upstream: Upstream, target: ProbeTarget, prompt: str, credential: str | None
) -> tuple[int, bytes]:
    return await _post(upstream, CHAT_PATH, _body(target, prompt), credential)


async def _post(
    upstream: Upstream, path: str, body: bytes, credential: str | None
) -> tuple[int, bytes]:
    headers = [(b"content-type", b"application/json"), (b"accept", b"*/*")]
    if credential is not None:
        headers.append((b"authorization", f"Bearer {credential}".encode("ascii")))
    response = await upstream.request("POST", path, headers, body, idempotent=True)
    try:
        return response.status, await response.read()
    finally:
        response.close()


@functools.lru_cache(maxsize=64)
def _body(target: ProbeTarget, prompt: str) -> bytes:
    messages = [{"role": "user", "content": prompt}]
    if target.system_prompt is not None:
        messages.insert(0, {"role": "system", "content": target.system_prompt})
    return encode_json(
        {
            "model": target.model,
            "messages": messages,
            "temperature": 0,
            "max_tokens": target.max_tokens,
            "stream": False,
        }
    )
