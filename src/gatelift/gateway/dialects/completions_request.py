"""Completions, the request: what is read, what is inspected, what is sent.

Invariants
- As `request`; `EDITS` is the closed list of what differs between what came and what is sent.
- A completion has no roles, and its prompt goes past the chat template: there is no place for a
  system prompt that the caller could not write over. So it does not `carry_system`, and a candidate
  that has a system prompt is not served this way.
- Only text is taken: numbers of tokens can't be inspected.

Follows the OpenAI API reference, "Create completion" (legacy).
"""

from __future__ import annotations

from typing import Any, Final

from gatelift.encoding import encode_json
from gatelift.gateway.dialects.fields import (
    read_choices,
    read_end_user,
    read_stops,
    read_usage_wanted,
)
from gatelift.gateway.dialects.request import (
    DialectError,
    ModelRequest,
    check_fields,
    expect,
    expect_positive,
    parse_body,
    read_bool,
)
from gatelift.plan import Candidate
from gatelift.safeguards import Part, PartKind

__all__ = ["EDITS", "CompletionsRequest", "parse_completions", "upstream_completions"]

EDITS: Final = ("model_set", "sampling_set", "max_tokens_set", "usage_requested")

_FIXED: Final = frozenset({"temperature", "top_p", "seed", "presence_penalty", "frequency_penalty"})
_REFUSED: Final = {
    "suffix": "text behind the gap can't be told from the answer",
    "echo": "an answer is the model's words only",
    "best_of": "answers that nobody sees are not served: ask for n",
    "logprobs": "log probabilities are not served",
    "logit_bias": "what the model may say is the candidate's",
}
_KNOWN: Final = frozenset(
    {
        "model",
        "prompt",
        "max_tokens",
        "n",
        "stop",
        "stream",
        "stream_options",
        "user",
        "safety_identifier",
        *_REFUSED,
    }
)


class CompletionsRequest(ModelRequest, frozen=True, kw_only=True):
    """A request to go on from a prompt."""

    prompt: str
    wants_usage: bool
    stop: tuple[str, ...]


def _prompt(body: dict[str, Any]) -> str:
    value = body.get("prompt")
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str):
        raise DialectError(
            "expected prompt to be one text: several prompts are several requests, and numbers of "
            "tokens can't be inspected",
            param="prompt",
        )
    return value


def parse_completions(data: bytes) -> CompletionsRequest:
    """Return the request in a body; raises `DialectError` that names the field."""
    body = parse_body(data)
    check_fields(body, _KNOWN, _FIXED)
    for name, why in _REFUSED.items():
        if body.get(name) is not None:
            raise DialectError(f"{name} is not accepted: {why}", param=name, code="unknown_field")
    prompt, limit = _prompt(body), body.get("max_tokens")
    return CompletionsRequest(
        model=expect(body.get("model"), str, "model"),
        prompt=prompt,
        parts=(Part(kind=PartKind.USER, text=prompt),),
        messages=1,
        stream=read_bool(body, "stream"),
        wants_usage=read_usage_wanted(body),
        max_tokens=None if limit is None else expect_positive(limit, "max_tokens"),
        choices=read_choices(body),
        stop=read_stops(body),
        end_user=read_end_user(body),
        carries_system=False,
    )


def upstream_completions(
    asked: CompletionsRequest, candidate: Candidate, *, model: str, max_tokens: int
) -> bytes:
    """Return the body that goes upstream, written from the parsed form and the candidate."""
    sampling = candidate.serving_part.sampling
    body: dict[str, Any] = {
        "model": model,
        "prompt": asked.prompt,
        "max_tokens": max_tokens,
        "temperature": float(sampling.temperature),
        "top_p": float(sampling.top_p),
        "n": asked.choices,
        "stream": asked.stream,
    }
    if asked.stream:
        body["stream_options"] = {"include_usage": True}
    if asked.stop:
        body["stop"] = list(asked.stop)
    return encode_json(body)
