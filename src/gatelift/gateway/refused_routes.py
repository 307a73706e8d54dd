"""Endpoints that other servers offer and this gateway refuses, each with what to use instead.

Whoever comes from a vendor's API finds out from the 404 itself, and from a page made of this table.

Invariants
- An entry changes a message and nothing else: the status is 404, the code `not_found`, the model
  is not asked, and no key is looked at.
- An entry stands for its path and everything below it. A route of the gateway always comes first.
- Messages are fixed sentences; nothing of the request is in them.

Why they are refused: what they do would leave the exchange that is admitted, capped, inspected and
recorded. They keep content on a server, run later, or carry what no safeguard here can read.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

__all__ = ["REFUSED", "RefusedRoute", "refused_route", "render_endpoints"]


class RefusedRoute(msgspec.Struct, frozen=True, kw_only=True):
    """A path that is refused with all below it: what it is elsewhere, why not here, what instead."""

    path: str
    what: str
    why: str
    instead: str

    @property
    def message(self) -> str:
        """What a caller reads."""
        return f"{self.what} is not offered here: {self.why}. Instead: {self.instead}"


_STORED: Final = "nothing of prompts or answers is kept"
_LATER: Final = "work that runs later is outside the caps and the stop of its caller"
_MEDIA: Final = "no safeguard here reads this kind of content"
_OPERATORS: Final = "it is the operator's and not a caller's"
_CHAT: Final = "POST /v1/chat/completions"

REFUSED: Final[tuple[RefusedRoute, ...]] = (
    RefusedRoute(
        path="/v1/batches",
        what="the batch API (OpenAI)",
        why=_LATER,
        instead=f"send each request to {_CHAT}; /v1/access names the caps and their windows",
    ),
    RefusedRoute(
        path="/v1/messages/batches",
        what="the message batches API (Anthropic)",
        why=_LATER,
        instead="send each request by itself; /v1/access names the caps and their windows",
    ),
    RefusedRoute(
        path="/v1/files",
        what="the files API (OpenAI, Anthropic)",
        why=_STORED,
        instead="put the text into the request's messages",
    ),
    RefusedRoute(
        path="/v1/uploads",
        what="the uploads API (OpenAI)",
        why=_STORED,
        instead="put the text into the request's messages",
    ),
    RefusedRoute(
        path="/v1/containers",
        what="the containers API (OpenAI)",
        why="code does not run here",
        instead="offer a tool and run it on your side, where the stage's scope allows tools",
    ),
    RefusedRoute(
        path="/v1/skills",
        what="the skills API (OpenAI, Anthropic)",
        why=_STORED,
        instead="put the instructions into the request's messages",
    ),
    RefusedRoute(
        path="/v1/realtime",
        what="the realtime API (OpenAI)",
        why="a two-way session can't be inspected and recorded exchange by exchange",
        instead=f"{_CHAT} with stream: true",
    ),
    RefusedRoute(
        path="/v1/assistants",
        what="the assistants API (OpenAI)",
        why=_STORED,
        instead=f"{_CHAT} with the whole conversation in messages",
    ),
    RefusedRoute(
        path="/v1/threads",
        what="the threads API (OpenAI)",
        why=_STORED,
        instead=f"{_CHAT} with the whole conversation in messages",
    ),
    RefusedRoute(
        path="/v1/conversations",
        what="the conversations API (OpenAI)",
        why=_STORED,
        instead="send the whole conversation with each request",
    ),
    RefusedRoute(
        path="/v1/chatkit",
        what="the ChatKit API (OpenAI)",
        why=_STORED,
        instead=f"{_CHAT} with the whole conversation in messages",
    ),
    RefusedRoute(
        path="/v1/chat/completions",
        what="reading or changing stored chat completions (OpenAI)",
        why=_STORED,
        instead="keep the answer and its ticket; GET /v1/receipts/{batch} proves that it is logged",
    ),
    RefusedRoute(
        path="/v1/responses",
        what="reading, cancelling or continuing stored responses (OpenAI)",
        why=_STORED,
        instead="send the whole conversation with each request",
    ),
    RefusedRoute(
        path="/v1/vector_stores",
        what="the vector stores API (OpenAI)",
        why=_STORED,
        instead="search on your side and put what you found into the request's messages",
    ),
    RefusedRoute(
        path="/v1/fine_tuning",
        what="the fine-tuning API (OpenAI)",
        why="a tuned model is another candidate, with its own certificate",
        instead="ask the operator for a release of it",
    ),
    RefusedRoute(
        path="/v1/fine-tunes",
        what="the older fine-tunes API (OpenAI)",
        why="a tuned model is another candidate, with its own certificate",
        instead="ask the operator for a release of it",
    ),
    RefusedRoute(
        path="/v1/evals",
        what="the evals API (OpenAI)",
        why=_STORED,
        instead="run the evaluation on your side through this gateway",
    ),
    RefusedRoute(
        path="/v1/images",
        what="making and changing images (OpenAI)",
        why=_MEDIA,
        instead="nothing here makes images",
    ),
    RefusedRoute(
        path="/v1/videos",
        what="making videos (OpenAI)",
        why=_MEDIA,
        instead="nothing here makes videos",
    ),
    RefusedRoute(
        path="/v1/audio",
        what="speech and transcription (OpenAI)",
        why=_MEDIA,
        instead="turn speech into text on your side and send the text",
    ),
    RefusedRoute(
        path="/v1/moderations",
        what="the moderations API (OpenAI)",
        why="safeguards act on each exchange and are not an oracle to probe them by",
        instead="read the refusal: its body names category, band and rule",
    ),
    RefusedRoute(
        path="/v1/edits",
        what="the older edits API (OpenAI)",
        why="it was withdrawn by its maker",
        instead=_CHAT,
    ),
    RefusedRoute(
        path="/v1/engines",
        what="the older engines API (OpenAI)",
        why="it was withdrawn by its maker",
        instead="GET /v1/models",
    ),
    RefusedRoute(
        path="/v1/complete",
        what="the older text completions API (Anthropic)",
        why="it was withdrawn by its maker",
        instead="the endpoints that GET /v1/access lists",
    ),
    RefusedRoute(
        path="/v1/models",
        what="changing models, or anything of one but its name",
        why="a grant reaches one candidate of one release",
        instead="GET /v1/models, which lists it",
    ),
    RefusedRoute(
        path="/v1/organizations",
        what="the administration API (OpenAI, Anthropic)",
        why=_OPERATORS,
        instead="GET /v1/access for your own terms",
    ),
    RefusedRoute(
        path="/v1/organization",
        what="the administration API (OpenAI)",
        why=_OPERATORS,
        instead="GET /v1/access for your own terms",
    ),
    RefusedRoute(
        path="/v1/usage",
        what="reading usage",
        why=_OPERATORS,
        instead="GET /v1/access, which says what is used and left of each cap",
    ),
    RefusedRoute(
        path="/v1/load_lora_adapter",
        what="loading adapters (vLLM)",
        why="an adapter makes another candidate",
        instead="ask the operator for a release of it",
    ),
    RefusedRoute(
        path="/v1/unload_lora_adapter",
        what="unloading adapters (vLLM)",
        why="an adapter makes another candidate",
        instead="ask the operator",
    ),
    RefusedRoute(
        path="/v1/rerank",
        what="reranking (vLLM, Cohere)",
        why=_MEDIA,
        instead="nothing here reranks",
    ),
    *(
        RefusedRoute(
            path=path,
            what=f"the model server's own {path}",
            why="it passes by caps, safeguards and records",
            instead=instead,
        )
        for path, instead in (
            ("/api", f"{_CHAT} (Ollama's API is not spoken here)"),
            ("/generate", _CHAT),
            ("/completion", _CHAT),
            ("/infill", _CHAT),
            ("/tokenize", "count on your side; caps count a token a byte"),
            ("/detokenize", "count on your side"),
            ("/apply-template", _CHAT),
            ("/props", "GET /v1/access, which names the candidate's fingerprint"),
            ("/slots", "GET /v1/access"),
            ("/metrics", "ask the operator; they are not for callers"),
            ("/server_info", "GET /v1/access, which names the candidate's fingerprint"),
            ("/invocations", _CHAT),
        )
    ),
)

_BY_PATH: Final = {route.path: route for route in REFUSED}


def refused_route(path: str) -> RefusedRoute | None:
    """Return the refused endpoint that `path` is or lies below, null for a path nobody offers."""
    while path:
        found = _BY_PATH.get(path)
        if found is not None:
            return found
        path = path.rpartition("/")[0]
    return None


def render_endpoints(routes: Iterable[tuple[str, str]]) -> str:
    """Return docs/reference/endpoints.md for the (method, path) of each route served."""
    served = [f"| `{method} {path}` |" for method, path in routes]
    refused = [
        f"| `{route.path}` | {route.what} | {route.why} | {route.instead} |" for route in REFUSED
    ]
    return "\n".join(
        (
            "# Endpoints, served and refused",
            "",
            "Made from `gatelift.gateway.routes.ROUTES` and `gatelift.gateway.refused_routes.REFUSED`.",
            "",
            "## Served",
            "",
            "Which of them a grant opens is said by `GET /v1/access`.",
            "",
            "| route |",
            "|---|",
            *served,
            "",
            "## Refused, and what to use instead",
            "",
            "Each of these paths, and everything below it that is not served, is answered with 404,",
            "code `not_found`, and the sentence of its row. The model is not asked and nothing is spent.",
            "Every other path is a plain 404.",
            "",
            "| path | elsewhere | why not here | instead |",
            "|---|---|---|---|",
            *refused,
            "",
        )
    )
