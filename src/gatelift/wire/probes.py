"""Probes of a placement from outside: whether it answers as it did.

Drift: the same short prompts at temperature 0, with the candidate's system prompt, sent to the
upstream itself. A baseline is the list of the digests of the answers, a file named by its own
digest, which the operator's enrolment of the placement names. Probes detect a change, they never
prove identity: a server may know the prompts, which are published here.

Invariants
- An answer that is not a whole, well-formed completion is no answer: `ProbeError`, never a digest.
- Every call has a deadline, and every body a bound.
- The credential goes to the placement only, and never into an error.

Does not decide how many changes close: the plan says so, and the keeper acts. Whether the placement
answers strangers is `sealing_probes`.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from gatelift.encoding import Digest, decode_json, encode_json, parse_digest, sha256_digest
from gatelift.errors import CallerError, PeerError
from gatelift.wire.http_client import Upstream, UpstreamError, UpstreamLimits, UpstreamTimeouts
from gatelift.wire.sealing import PinnedServer, ProbeIdentities, client_context

__all__ = [
    "ProbeError",
    "ProbeTarget",
    "ask_probe",
    "call_placement",
    "encode_baseline",
    "make_client",
    "measure_baseline",
    "open_upstream",
    "parse_baseline",
    "probe_prompts",
]

CHAT_PATH: Final = "/v1/chat/completions"
PROBE_TIMEOUT_S: Final = 20.0
_MAX_ANSWER_BYTES: Final = 256 * 1024
_MAX_BASELINE_BYTES: Final = 64 * 1024
REFUSALS: Final = frozenset({401, 403})

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

    `max_tokens` bounds an answer. `system_prompt` null means that none is sent. `pinned` is whom we
    take for the placement, where it is sealed.
    """

    base_url: str
    model: str
    system_prompt: str | None
    max_tokens: int
    pinned: PinnedServer | None = None


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
            status, body = await call_placement(upstream, target, prompt, credential)
    except (UpstreamError, TimeoutError) as error:
        raise ProbeError(f"{target.base_url} did not answer a probe: {error}") from error
    if status in REFUSALS:
        raise ProbeError(
            f"{target.base_url} refuses our credential ({status}): check the upstream's key",
            code="probe_refused",
        )
    if not 200 <= status < 300:
        raise ProbeError(f"{target.base_url} answered a probe with {status}", code="probe_odd")
    try:
        completion = _COMPLETION.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
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


async def measure_baseline(
    target: ProbeTarget,
    probes: int,
    credential: str | None,
    identities: ProbeIdentities | None = None,
) -> bytes:
    """Return the bytes of a placement's baseline, for its enrolment.

    Every fourth prompt is asked twice. Raises `ProbeError` (`probe_unstable`) when two answers to a prompt differ: such a placement
    would close by itself.
    """
    answers: list[Digest] = []
    async with open_upstream(target, identities) as upstream:
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


@asynccontextmanager
async def open_upstream(
    target: ProbeTarget, identities: ProbeIdentities | None = None
) -> AsyncIterator[Upstream]:
    """Open a client for probes of one placement, and close it.

    To a pinned server each connection shows a fresh certificate of `identities`, if there are any.
    """
    pinned = target.pinned
    if pinned is None:
        upstream = make_client(target.base_url, None, None)
    else:
        make = functools.partial(_fresh_context, pinned, identities)
        upstream = make_client(target.base_url, make, pinned.server_name)
    try:
        yield upstream
    finally:
        await upstream.aclose()


def _fresh_context(pinned: PinnedServer, identities: ProbeIdentities | None) -> ssl.SSLContext:
    return client_context(pinned, None if identities is None else identities.fresh())


def make_client(
    base_url: str, tls: ssl.SSLContext | Callable[[], ssl.SSLContext] | None, name: str | None
) -> Upstream:
    """Return a client for probes of one placement; `aclose` it."""
    return Upstream(
        base_url,
        tls=tls,
        server_name=name,
        limits=UpstreamLimits(max_body_bytes=_MAX_ANSWER_BYTES, max_connections=4),
        timeouts=UpstreamTimeouts(
            connect_s=2.0,
            first_byte_s=PROBE_TIMEOUT_S,
            idle_s=PROBE_TIMEOUT_S,
            total_s=PROBE_TIMEOUT_S,
        ),
    )


async def call_placement(
    upstream: Upstream, target: ProbeTarget, prompt: str, credential: str | None
) -> tuple[int, bytes]:
    """Return status and body of what a placement answers; raises `UpstreamError`."""
    return await post_probe(upstream, CHAT_PATH, probe_body(target, prompt), credential)


async def post_probe(
    upstream: Upstream, path: str, body: bytes, credential: str | None
) -> tuple[int, bytes]:
    """Return status and body of what a server answers to a body; raises `UpstreamError`."""
    headers = [(b"content-type", b"application/json"), (b"accept", b"*/*")]
    if credential is not None:
        headers.append((b"authorization", f"Bearer {credential}".encode("ascii")))
    response = await upstream.request("POST", path, headers, body, idempotent=True)
    try:
        return response.status, await response.read()
    finally:
        response.close()


@functools.lru_cache(maxsize=64)
def probe_body(target: ProbeTarget, prompt: str) -> bytes:
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
