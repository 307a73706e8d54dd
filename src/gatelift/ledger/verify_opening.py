r"""What a caller can prove of a text: that it is the very request, or the very answer, of a record.

    ticket (record, salts) ── verified ──> commitment == SHA-256("gatelift/content/v1\\n" ‖ salt ‖ text)?

Invariants
- Only a ticket that was verified is opened: its record is the one that the node signed for.
- A wrong text, a wrong salt and a record that committed to nothing are told apart, each by its code.
- Texts are compared as bytes: of a request the body as it was sent, of an answer the body as it came, of a
  stream the released text alone, in order.

Knows no files. Whether the log holds the batch is `verify_ticket`'s to say.
"""

from __future__ import annotations

from gatelift.encoding import Digest, parse_base64
from gatelift.ledger.verify_ticket import VerifiedTicket
from gatelift.messages import Finish, RecordError, Start, commit_content, commit_openings

__all__ = ["OpeningError", "verify_answer", "verify_request"]


class OpeningError(RecordError):
    """A text is not what the record commits to. Codes: `other_text`, `other_salt`, `nothing_committed`."""

    code = "other_text"


def verify_request(held: VerifiedTicket, text: bytes) -> None:
    """Return if `text` is the request's body as the gateway took it; raises `OpeningError`."""
    record = held.record
    if isinstance(record, Start):
        _check(held, record.request, held.ticket.content_salt, text, record.request_bytes)
    elif isinstance(record, Finish):
        _check(held, record.request, held.ticket.request_salt, text, None)
    else:
        raise OpeningError("a beat commits to no request", code="nothing_committed")


def verify_answer(held: VerifiedTicket, text: bytes) -> None:
    """Return if `text` is what was released of the answer; raises `OpeningError`."""
    record = held.record
    if not isinstance(record, Finish):
        raise OpeningError(
            "this ticket is of the start: the answer stands in the ticket of the finish, which comes "
            "in the last comment of a stream",
            code="nothing_committed",
        )
    _check(held, record.answer, held.ticket.content_salt, text, record.answer_bytes)


def _check(
    held: VerifiedTicket, commitment: Digest | None, salt: str, text: bytes, size: int | None
) -> None:
    if commitment is None:
        raise OpeningError("the record commits to no such text", code="nothing_committed")
    if commit_content(parse_base64(salt), text) == commitment:
        return
    record, ticket = held.record, held.ticket
    if isinstance(record, Finish) and record.openings:
        salts = parse_base64(ticket.request_salt), parse_base64(ticket.content_salt)
        if commit_openings(*salts) != record.openings:
            raise OpeningError(
                "the salts are not those of this record: the text cannot be judged by them, take the "
                "ticket as it came",
                code="other_salt",
            )
    told = "" if size is None else f" (it has {len(text)} bytes, the record says {size})"
    raise OpeningError(f"the record commits to another text{told}", code="other_text")
