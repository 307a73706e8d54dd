"""Asking a witness to cosign a head, and which head it holds.

Invariants
- What a witness answers is hostile until each line verifies under its own key, over the very note
  that was sent; lines of other keys are dropped.
- A witness that names another size than ours (409) is asked once more, with a proof from there. One
  that knows a *larger* tree than the head that was sent is not argued with: `witness_refused`, as
  this log may have been rolled back.
- What it holds is believed as far as this log signed it: its own word proves nothing.
- All of it ends within one deadline, also with a witness that sends a byte now and then.

It does not retry later, and does not decide how many witnesses are enough (`tlog.policy`).

Follows C2SP tlog-witness, "add-checkpoint" and its read side.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import httpx

from gatelift.encoding import encode_base64
from gatelift.errors import CallerError
from gatelift.ledger.errors import LedgerError
from gatelift.tlog import (
    MAX_NOTE_BYTES,
    Checkpoint,
    CheckpointError,
    Note,
    NoteSignature,
    VerifierKey,
    add_signatures,
    origin_id,
    parse_checkpoint,
    parse_decimal,
    parse_note,
    parse_signatures,
    verify_checkpoint,
    verify_cosignatures,
)

__all__ = [
    "Consistency",
    "ask_witness",
    "fetch_witness_head",
    "format_add_checkpoint",
    "parse_cosignatures",
    "read_witness_head",
]

_SIZE_TYPE: Final = "text/x.tlog.size"
_REFUSALS: Final = frozenset({400, 403, 404, 409, 422})

Consistency = Callable[[int, int], Awaitable[Sequence[bytes]]]
"""Returns the proof that the log at the second size only adds to the log at the first."""


def format_add_checkpoint(old_size: int, proof: Sequence[bytes], note: bytes) -> bytes:
    """Return the body of an add-checkpoint request."""
    lines = [f"old {old_size}", *(encode_base64(hash_) for hash_ in proof)]
    return "\n".join(lines).encode() + b"\n\n" + note


def parse_cosignatures(body: bytes, note: bytes, witness: VerifierKey) -> tuple[NoteSignature, ...]:
    """Return the lines of an answer that are `witness`'s valid cosignatures on `note`.

    Raises `LedgerError` (`witness_failed`) if there is none, and the error of one that fails.
    """
    text = parse_note(note).text
    lines = tuple(line for line in parse_signatures(body) if line.is_by(witness))
    if not lines or not verify_cosignatures(Note(text=text, signatures=lines), [witness]):
        raise LedgerError(
            f"expected a cosignature by {witness.name!r}, got none of its own",
            code="witness_failed",
        )
    return lines


async def ask_witness(
    client: httpx.AsyncClient,
    url: str,
    witness: VerifierKey,
    note: bytes,
    *,
    old_size: int,
    consistency: Consistency,
    timeout_s: float,
) -> bytes:
    """Return `note` with the cosignature of the witness at the submission prefix `url`.

    `old_size` is where we think that it stands. Raises `LedgerError`: `witness_failed` may be tried
    again later, `witness_refused` needs a person.
    """
    checkpoint = parse_checkpoint(parse_note(note).text)
    async with _deadline(url, timeout_s):
        answer = await _submit(client, url, note, checkpoint, old_size, consistency)
        if (
            answer.status_code == httpx.codes.CONFLICT
            and answer.headers.get("content-type") == _SIZE_TYPE
        ):
            old_size = _their_size(answer.content, checkpoint, witness)
            answer = await _submit(client, url, note, checkpoint, old_size, consistency)
    if answer.status_code != httpx.codes.OK:
        raise LedgerError(
            f"witness {witness.name!r} answered {answer.status_code} to {checkpoint.origin!r} at "
            f"size {checkpoint.size}: {answer.text[:200]!r}",
            code="witness_refused" if answer.status_code in _REFUSALS else "witness_failed",
        )
    try:
        lines = parse_cosignatures(answer.content, note, witness)
    except CallerError as error:
        raise LedgerError(
            f"witness {witness.name!r} sent no cosignature that holds: {error}",
            code="witness_failed",
        ) from error
    return add_signatures(note, lines)


async def fetch_witness_head(
    client: httpx.AsyncClient, url: str, origin: str, *, timeout_s: float
) -> bytes | None:
    """Return the last note of `origin` that the witness at `url` cosigned, unverified.

    None if it tells of none: a witness need not offer its read side where it takes submissions, so
    any refusal is none. Raises `LedgerError` (`witness_failed`) when it does not answer.
    """
    async with _deadline(url, timeout_s):
        target = f"{url.rstrip('/')}/{origin_id(origin)}/checkpoint"
        answer = await _send(client, "GET", target, None, url)
    if answer.is_server_error:
        raise LedgerError(
            f"the witness at {url} answered {answer.status_code} when it was asked for its head of "
            f"{origin!r}: ask again later",
            code="witness_failed",
        )
    return answer.content if answer.status_code == httpx.codes.OK else None


async def read_witness_head(
    client: httpx.AsyncClient, url: str, log: VerifierKey, *, timeout_s: float
) -> Checkpoint | None:
    """Return the head of `log` that the witness at `url` holds; none if it tells of none.

    Raises `LedgerError` (`witness_failed`) when it does not answer, or not with a head that the log
    signed.
    """
    note = await fetch_witness_head(client, url, log.name, timeout_s=timeout_s)
    try:
        return None if note is None else verify_checkpoint(note, log)
    except CallerError as error:
        raise LedgerError(
            f"the witness at {url} holds a head that {log.name!r} did not sign: {error}",
            code="witness_failed",
        ) from error


@asynccontextmanager
async def _deadline(url: str, timeout_s: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as error:
        raise LedgerError(
            f"the witness at {url} did not answer within {timeout_s:g} s. Its cosignature is "
            "missing until it does",
            code="witness_failed",
        ) from error


async def _submit(
    client: httpx.AsyncClient,
    url: str,
    note: bytes,
    checkpoint: Checkpoint,
    old_size: int,
    consistency: Consistency,
) -> httpx.Response:
    proof = await consistency(old_size, checkpoint.size)
    body = format_add_checkpoint(old_size, proof, note)
    return await _send(client, "POST", f"{url.rstrip('/')}/add-checkpoint", body, url)


async def _send(
    client: httpx.AsyncClient, method: str, target: str, body: bytes | None, url: str
) -> httpx.Response:
    try:
        async with client.stream(method, target, content=body) as answer:
            content = b""
            async for chunk in answer.aiter_bytes():
                content += chunk
                if len(content) > MAX_NOTE_BYTES:
                    raise LedgerError(
                        f"the witness at {url} answered more than {MAX_NOTE_BYTES} bytes",
                        code="witness_failed",
                    )
            return httpx.Response(
                answer.status_code, headers=_plain(answer.headers), content=content
            )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise LedgerError(
            f"the witness at {url} did not answer: {type(error).__name__}. Its cosignature is "
            "missing until it does",
            code="witness_failed",
        ) from error


def _plain(headers: httpx.Headers) -> dict[str, str]:
    # The content was decoded already; only its type still matters.
    return {"content-type": headers.get("content-type", "").split(";")[0].strip()}


def _their_size(body: bytes, checkpoint: Checkpoint, witness: VerifierKey) -> int:
    try:
        size = parse_decimal(body.decode("ascii").removesuffix("\n"))
    except (UnicodeDecodeError, CheckpointError) as error:
        raise LedgerError(
            f"witness {witness.name!r} answered 409 without a size: {body[:40]!r}",
            code="witness_failed",
        ) from error
    if size > checkpoint.size:
        raise LedgerError(
            f"witness {witness.name!r} has seen {checkpoint.origin!r} at size {size}, we ask for "
            f"{checkpoint.size}: a newer head is on its way, or this log was rolled back",
            code="witness_refused",
        )
    return size
