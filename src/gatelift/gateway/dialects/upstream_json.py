"""The upstream's JSON, read into named fields whatever it holds.

Invariants
- What is not JSON, not of the form asked for, not UTF-8 or nested without end is an
  `UpstreamAnswerError`, never another exception.
- A count is between 0 and `MAX_COUNT`: it goes on to callers and records.
- An answer that says it was broken off is not one: the caller must not read it as an end.

Does not refuse keys written twice or fields that nobody named: they are dropped.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final, TypeVar

import msgspec

from gatelift.gateway.dialects.dialect import UpstreamAnswerError

__all__ = ["BROKEN_OFF", "MAX_COUNT", "TokenCount", "read_upstream", "refuse_broken_off"]

MAX_COUNT: Final = 2**31
"""What is beyond it is no count of a model's."""
BROKEN_OFF: Final = frozenset({"abort", "aborted", "cancelled", "error"})
"""How common servers say in good form that they broke off."""
TokenCount = Annotated[int, msgspec.Meta(ge=0, le=2**31)]

T = TypeVar("T")


def read_upstream(decoder: msgspec.json.Decoder[T], data: bytes | msgspec.Raw, what: str) -> T:
    """Return what the upstream says; raises `UpstreamAnswerError` that names `what` it is not."""
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamAnswerError(f"not {what}: {error}") from error


def refuse_broken_off(reasons: Iterable[str | None]) -> None:
    """Return if none of the reasons to end says that it is no end; raises `UpstreamAnswerError`."""
    for reason in reasons:
        if reason in BROKEN_OFF:
            raise UpstreamAnswerError(f"the answer was broken off: {reason}", code="upstream_died")
