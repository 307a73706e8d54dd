"""Asking a witness to cosign a head, and which head it holds.

Invariants
- What a witness answers is hostile until each line verifies under its own key, over the very note
  that was sent; lines of other keys are dropped.
- A witness that names another size than ours (409) is asked once more, with a proof from there. One
  that knows a *larger* tree than the head that was sent is not argued with: `witness_refused`, as
  this log may have been rolled back.

- What it holds is believed as far as this log signed it: its own word proves nothing.

It does not retry later, and does not decide how many witnesses are enough (`tlog.policy`).

Follows C2SP tlog-witness, "add-checkpoint" and its read side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
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
    parse_checkpoint,
    parse_decimal,
    parse_note,
    parse_signatures,
    verify_checkpoint,
    verify_cosignatures,
)

__all__ = ["ask_witness", "format_add_checkpoint", "parse_cosignatures", "read_witness_head"]

_SIZE_TYPE: Final = "text/x.tlog.size"
_REFUSALS: Final = frozenset({400, 403, 404, 409, 422})
_TIMEOUT_S: Final = 5.0


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


def ask_witness(
    client: httpx.Client,
    url: str,
    witness: VerifierKey,
    note: bytes,
    *,
    old_size: int,
    consistency: Callable[[int, int], Sequence[bytes]],
    timeout_s: float = _TIMEOUT_S,
) -> bytes:
    """Return `note` with the cosignature of the witness at the submission prefix `url`.

    `old_size` is where we think that it stands; `consistency(old, new)` proves growth. Raises
    `LedgerError`: `witness_failed` may be tried again later, `witness_refused` needs a person.
    """
    checkpoint = parse_checkpoint(parse_note(note).text)
    answer = _submit(client, url, note, checkpoint, old_size, consistency, timeout_s)
    if (
        answer.status_code == httpx.codes.CONFLICT
        and answer.headers.get("content-type") == _SIZE_TYPE
    ):
        old_size = _their_size(answer.content, checkpoint, witness)
        answer = _submit(client, url, note, checkpoint, old_size, consistency, timeout_s)
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


def read_witness_head(
    client: httpx.Client, url: str, log: VerifierKey, *, timeout_s: float = _TIMEOUT_S
) -> Checkpoint | None:
    """Return the head of `log` that the witness at `url` holds; none if it tells of none.

    A witness need not offer its read side where it takes submissions: any refusal is none. Raises
    `LedgerError` (`witness_failed`) when it does not answer, or not with a head that the log signed.
    """
    target = f"{url.rstrip('/')}/{hashlib.sha256(log.name.encode()).hexdigest()}/checkpoint"
    answer = _send(client, "GET", target, None, url, timeout_s)
    if answer.is_server_error:
        raise LedgerError(
            f"the witness at {url} answered {answer.status_code} when it was asked for its head of "
            f"{log.name!r}: it will be asked again",
            code="witness_failed",
        )
    if answer.status_code != httpx.codes.OK:
        return None
    try:
        return verify_checkpoint(answer.content, log)
    except CallerError as error:
        raise LedgerError(
            f"the witness at {url} holds a head that {log.name!r} did not sign: {error}",
            code="witness_failed",
        ) from error


def _submit(
    client: httpx.Client,
    url: str,
    note: bytes,
    checkpoint: Checkpoint,
    old_size: int,
    consistency: Callable[[int, int], Sequence[bytes]],
    timeout_s: float,
) -> httpx.Response:
    body = format_add_checkpoint(old_size, consistency(old_size, checkpoint.size), note)
    return _send(client, "POST", f"{url.rstrip('/')}/add-checkpoint", body, url, timeout_s)


def _send(
    client: httpx.Client, method: str, target: str, body: bytes | None, url: str, timeout_s: float
) -> httpx.Response:
    try:
        with client.stream(method, target, content=body, timeout=timeout_s) as answer:
            content = b""
            for chunk in answer.iter_bytes():
                content += chunk
                if len(content) > MAX_NOTE_BYTES:
                    raise LedgerError(
                        f"the witness at {url} answered more than {MAX_NOTE_BYTES} bytes",
                        code="witness_failed",
                    )
            return httpx.Response(
                answer.status_code, headers=_plain(answer.headers), content=content
            )
    except httpx.HTTPError as error:
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
