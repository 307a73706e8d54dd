"""Public notice: what is asked for is said on the log first, and an overseer may object.

    announcement --cosigned--> notice runs --over--> certificate may begin
                      ^ objection --cosigned--> runs anew from here

Invariants
- An announcement names all that would be widened: stage, candidate, plan, envelope, and the orders that
  would be lifted. A certificate rides on it only if it is for the same and lies within.
- Time is that of cosignatures (`messages.notice`), never what an announcement or the log says of itself.
- An objection holds for as long as the notice, from its own cosignature on, against every announcement
  of that stage, candidate and plan. One of each overseer organisation counts for an announcement: it
  delays, it is no veto. Its own organisation withdraws it.
"""

from __future__ import annotations

import msgspec

from gatelift.encoding import Digest
from gatelift.errors import CallerError
from gatelift.terms import Envelope, is_within

__all__ = ["Announcement", "Notice", "NoticeError", "Objection", "check_announced"]


class NoticeError(CallerError):
    """A certificate was not announced as the plan asks, or is objected to.

    Codes: `not_announced`, `announced_otherwise`, `notice_running`, `bad_notice`.
    """

    code = "not_announced"


class Announcement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a quorum will be asked to permit. `clears` are ids of orders that would be lifted."""

    id: str
    release: str
    stage: str
    fingerprint: Digest
    plan: Digest
    envelope: Envelope
    clears: tuple[str, ...]
    reason: str

    @property
    def terms(self) -> tuple[str, Digest, Digest]:
        """Stage, candidate and plan: announcements that share them are twins to an objection."""
        return self.stage, self.fingerprint, self.plan


class Objection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An overseer's word against an announcement, named by the digest of its body."""

    id: str
    release: str
    announcement: Digest
    grounds: str


class Notice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """On a certificate: its announcement, the objections that its signers saw, and the proofs of when.

    `proofs` is the digest of a file (`messages.notice.NoticeProofs`).
    """

    announcement: Digest
    objections: tuple[Digest, ...]
    proofs: Digest


def check_announced(
    announcement: Announcement,
    *,
    release: str,
    stage: str,
    fingerprint: Digest,
    plan: Digest,
    envelope: Envelope,
    clears: tuple[str, ...],
) -> None:
    """Return if an announcement covers a certificate of these terms; raises `NoticeError`."""
    for name, said, asked in (
        ("release", announcement.release, release),
        ("stage", announcement.stage, stage),
        ("candidate", announcement.fingerprint, fingerprint),
        ("plan", announcement.plan, plan),
    ):
        if said != asked:
            raise NoticeError(
                f"the announcement is of {name} {said[:24]!r}, the certificate of {asked[:24]!r}: "
                "announce what is to be certified",
                code="announced_otherwise",
            )
    if not is_within(envelope, announcement.envelope):
        raise NoticeError(
            "the certificate allows more than was announced: announce it, or certify less",
            code="announced_otherwise",
        )
    unsaid = sorted(set(clears) - set(announcement.clears))
    if unsaid:
        raise NoticeError(
            f"the certificate lifts orders {unsaid} that the announcement does not name",
            code="announced_otherwise",
        )
