"""Statements of erasure and of holds: what may go, on what ground, and what must stay for now.

    hold (one person) ── stands ──> hold_lift (two people)
    erasure (two people) ── logged, then carried out by the keeper; refused while a hold stands

Invariants
- An erasure names a basis of a closed list and exactly what it covers: for each requests log a range of
  batches, how many records, and the digest of the lines that take their place (`tombstones`). So a
  logged erasure can cover no other record, and no figure of one can be changed later.
- It names nobody: no pseudonym of whoever asked stands in it, and no free text.
- Erasing and lifting a hold destroy or loosen, so each takes two people of two sides. A hold only
  keeps, so one person is enough.

Says who may sign and what overlaps; whether one may be logged now is `decide`'s to say.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final

import msgspec

from gatelift.encoding import Digest
from gatelift.errors import CallerError
from gatelift.trust import Signer

__all__ = [
    "ERASERS",
    "HOLDERS",
    "MAX_ERASED",
    "ErasedRange",
    "Erasure",
    "ErasureBasis",
    "ErasureError",
    "ErasureScope",
    "Hold",
    "HoldLift",
    "HoldReason",
    "HoldScope",
    "check_two_sides",
    "holds_back",
    "supersedes",
]

_ASKING: Final = frozenset({"operator", "admissions"})
_CONSENTING: Final = frozenset({"safety", "overseer"})
ERASERS: Final = _ASKING | _CONSENTING
"""Roles that may sign an erasure or lift a hold: one of each side is needed."""
HOLDERS: Final = frozenset({"operator", "safety", "security", "overseer", "admissions"})
MAX_ERASED: Final = 200_000
"""Records that one erasure covers at most in one log: a keeper holds their lines in memory."""


class ErasureError(CallerError):
    """An erasure or hold does not hold. Codes: `quorum_unmet`, `bad_erasure`, `bad_hold`."""

    code = "bad_erasure"


class ErasureBasis(enum.StrEnum):
    """Why records are erased. Closed list."""

    DATA_SUBJECT_REQUEST = "data_subject_request"
    CONTRACT_END = "contract_end"
    LEGAL_DUTY = "legal_duty"
    SECRET_CAUGHT = "secret_caught"  # noqa: S105  a word of the list, no secret


class ErasureScope(enum.StrEnum):
    """Whose records: one end user's sessions, or all of a principal or an organisation."""

    SESSIONS = "sessions"
    PRINCIPAL = "principal"
    ORGANISATION = "organisation"


class HoldReason(enum.StrEnum):
    """Why records must stay. Closed list."""

    INCIDENT = "incident"
    LEGAL = "legal"


class ErasedRange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`records` records in batches `first` to `last` of one requests log.

    `tombstones` is the digest of their lines (`messages.tombstones`), in order.
    """

    origin: str
    first: int
    last: int
    records: int
    tombstones: Digest


class Erasure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The covered records are erased once this is on the log. `at` in ms UTC.

    `supersedes` are earlier erasures all of whose records this one covers again.
    """

    id: str
    release: str
    basis: ErasureBasis
    scope: ErasureScope
    covers: tuple[ErasedRange, ...]
    supersedes: tuple[str, ...]
    at: int


class HoldScope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Batches `first` to `last` of one requests log; `last` null means all that will ever come."""

    origin: str
    first: int
    last: int | None


class Hold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nothing that it covers may be erased until it is lifted; no `covers` means every record.

    `incident` is the id of the incident that it serves, null for a legal hold.
    """

    id: str
    release: str
    reason: HoldReason
    incident: str | None
    covers: tuple[HoldScope, ...]
    at: int


class HoldLift(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The hold of this id stands no more."""

    id: str
    release: str
    at: int


def check_two_sides(signers: Iterable[Signer], what: str) -> None:
    """Return if two people signed, one of each side; raises `ErasureError` (`quorum_unmet`)."""
    held = tuple(signers)
    asking = {signer.person for signer in held if signer.role in _ASKING}
    consenting = {signer.person for signer in held if signer.role in _CONSENTING}
    if not asking or not consenting or len(asking | consenting) < 2:
        raise ErasureError(
            f"{what} takes two people: one of {sorted(_ASKING)} and one of {sorted(_CONSENTING)}, "
            f"got {sorted({f'{s.role}:{s.person}' for s in held})}",
            code="quorum_unmet",
        )


def holds_back(hold: Hold, erasure: Erasure) -> bool:
    """Return whether a hold covers any batch that an erasure names."""
    if not hold.covers:
        return True
    return any(
        kept.origin == gone.origin
        and kept.first <= gone.last
        and (kept.last is None or gone.first <= kept.last)
        for kept in hold.covers
        for gone in erasure.covers
    )


def supersedes(newer: Erasure, older: Erasure) -> bool:
    """Return whether `newer` can cover all that `older` does: same logs, wider ranges, no fewer."""
    mine = {each.origin: each for each in newer.covers}
    return all(
        (own := mine.get(each.origin)) is not None
        and own.first <= each.first
        and own.last >= each.last
        and own.records >= each.records
        for each in older.covers
    )
