"""What a safeguard refused or withheld, said as a completion instead of an error.

Invariants
- Nothing of the prompt or of a withheld answer is in it: only the verdict's category, band, rule
  and references, all of them words of ours.
- It can't be taken for an answer of the model: no content, and the dialect's own mark of a filter.
- The same words, whole or streamed.

Does not decide which form a stage has: that is the plan's `refusal`. Caps, stops and bad requests
are never said this way.
"""

from __future__ import annotations

from typing import Any, Final

from gatelift.gateway.dialects import AnswerEnd, Dialect, ModelRequest
from gatelift.gateway.replies import Reply
from gatelift.safeguards import Verdict
from gatelift.terms import Side

__all__ = ["SSE_HEADERS", "refusal_completion", "refusal_detail"]

SSE_HEADERS: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)
_JSON_HEADERS: Final = ((b"content-type", b"application/json"),)


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
    dialect: Dialect,
    request: ModelRequest,
    *,
    request_id: str,
    created_s: int,
    headers: tuple[tuple[bytes, bytes], ...],
    input_tokens: int = 0,
    output_tokens: int = 0,
) -> Reply | None:
    """Return the reply that says a verdict as a completion, null where the dialect has none.

    The tokens are what the exchange is charged: none where the model was never asked.
    """
    # A codec of its own: the exchange's may already hold text of the answer that is withheld.
    codec = dialect.open_answer(request, request_id=request_id, created_s=created_s)
    end = AnswerEnd(
        finishes={},
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        note={"gatelift": refusal_detail(verdict)},
    )
    body = codec.refusal(_sentence(verdict), end)
    if body is None:
        return None
    form = SSE_HEADERS if request.stream else _JSON_HEADERS
    return Reply(status=200, headers=(*form, *headers), body=body)
