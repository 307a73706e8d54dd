"""What a safeguard refused or withheld, said as a completion instead of an error.

Invariants
- Nothing of the prompt or of a withheld answer is in it: only the verdict's category, band, rule
  and references, all of them words of ours.
- `content` is null and `finish_reason` is `content_filter`, so that it can't be taken for an answer
  of the model.
- The same words, whole or streamed.

Does not decide which form a stage has: that is the plan's `refusal`. Caps, stops and bad requests
are never said this way.

Follows the OpenAI API reference, "Chat completion object" (`message.refusal`).
"""

from __future__ import annotations

from typing import Any

from gatelift.gateway.answers import SSE_DONE, SSE_HEADERS, AnswerWriter
from gatelift.gateway.dialect import ChatRequest
from gatelift.gateway.replies import Reply
from gatelift.safeguards import Verdict
from gatelift.terms import Side

__all__ = ["refusal_completion", "refusal_detail"]


def refusal_detail(verdict: Verdict) -> dict[str, Any]:
    """Return what a caller may know of a verdict that stopped its exchange."""
    return {
        "category": verdict.category.value,
        "band": verdict.band.value,
        "rule": verdict.rule,
        "references": list(verdict.ids),
    }


def _sentence(verdict: Verdict) -> str:
    what = (
        "refused this request, so the model was not asked"
        if verdict.side is Side.PROMPT
        else "withheld the model's answer"
    )
    return (
        f"A safeguard {what}: category {verdict.category.value}, band {verdict.band.value}, "
        f"rule {verdict.rule}."
    )


def refusal_completion(
    verdict: Verdict,
    chat: ChatRequest,
    *,
    request_id: str,
    created_s: int,
    headers: tuple[tuple[bytes, bytes], ...],
    input_tokens: int = 0,
    output_tokens: int = 0,
) -> Reply:
    """Return the reply that says a verdict as a completion, in the form that `chat` asked for.

    The tokens are what the exchange is charged: none where the model was never asked.
    """
    # A writer of its own: the exchange's may already hold text of the answer that is withheld.
    writer = AnswerWriter(request_id=request_id, model=chat.model, created_s=created_s)
    text, extra = _sentence(verdict), {"gatelift": refusal_detail(verdict)}
    if not chat.stream:
        body = writer.refusal(
            text, input_tokens=input_tokens, output_tokens=output_tokens, extra=extra
        )
        return Reply(
            status=200, headers=((b"content-type", b"application/json"), *headers), body=body
        )
    body = writer.chunk({"content": None, "refusal": text})
    body += writer.chunk({}, finish_reason="content_filter", extra=extra)
    if chat.wants_usage:
        body += writer.usage_chunk(input_tokens, output_tokens)
    return Reply(status=200, headers=(*SSE_HEADERS, *headers), body=body + SSE_DONE)
