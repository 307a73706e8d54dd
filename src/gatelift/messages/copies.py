"""Copies of the weights: what is signed before one is made, and when it is given back.

Invariants
- An export names one copy: which weights and manifest, where to, what for, in whose custody, until
  when. Its destination is one of the plan's `exposures`, word for word.
- A closing names the export that it ends. Both are signed by operator and security, two people
  (`decide.copies`).
"""

from __future__ import annotations

import enum

import msgspec

from gatelift.encoding import Digest

__all__ = ["CopyClosing", "CopyEnd", "Export"]


class CopyEnd(enum.StrEnum):
    """What became of a copy, by its custodian's word."""

    RETURNED = "returned"
    DESTROYED = "destroyed"


class Export(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One copy of the weights may be made. It is due back at `expires_at`, ms UTC.

    All of it is public: a `custodian` is an office or a pseudonym, not a person's name.
    """

    id: str
    release: str
    weights: Digest
    manifest: Digest
    destination: str
    purpose: str
    custodian: str
    expires_at: int


class CopyClosing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The copy of an export is no more. `note` says how that is known."""

    export: str
    release: str
    end: CopyEnd
    note: str
