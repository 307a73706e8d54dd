"""Records as a node counts them: all that `records` says of them, but for what a start reserved.

What a start reserved matters only while it runs, and nearly every start has its finish before anybody
asks. So it is read when it is asked for: that is half of what a start costs to decode.

Invariants
- Every other field is checked as `decode_record` checks it. What was reserved must be JSON, and is
  checked as charges by who asks for it: it raises then, and is never taken for nothing.

Not for who verifies records that others wrote: that is `decode_record`.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gatelift.errors import CallerError
from gatelift.messages.records import Beat, Charge, Finish, RecordError, StartTerms

__all__ = ["BriefRecord", "BriefStart", "briefly", "decode_briefly"]


class BriefStart(
    StartTerms,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="start",
    tag_field="kind",
    gc=False,
):
    """A start whose `reserved` is read when it is asked for."""

    unread_reserved: msgspec.Raw = msgspec.field(name="reserved")
    images: int = 0

    @property
    def reserved(self) -> tuple[Charge, ...]:
        """What it reserved; raises `RecordError` when that is none."""
        try:
            return _CHARGES.decode(self.unread_reserved)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RecordError(f"start {self.seq} reserved no charges: {error}") from error


BriefRecord = BriefStart | Finish | Beat

_CHARGES: msgspec.json.Decoder[tuple[Charge, ...]] = msgspec.json.Decoder(tuple[Charge, ...])
_BRIEF: msgspec.json.Decoder[BriefRecord] = msgspec.json.Decoder(BriefRecord)


def briefly(start: StartTerms) -> BriefStart:
    """Return a start as it is counted."""
    if isinstance(start, BriefStart):
        return start
    return msgspec.json.decode(msgspec.json.encode(start), type=BriefStart)


def decode_briefly(stored: Iterable[bytes]) -> list[BriefRecord]:
    """Return the records in these stored bytes, to be counted; raises `RecordError`."""
    decode = _BRIEF.decode
    try:
        return [decode(data) for data in stored]
    except (msgspec.DecodeError, UnicodeDecodeError, CallerError) as error:
        raise RecordError(f"not a record: {error}") from error
