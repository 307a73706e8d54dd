"""When something was announced: proofs of inclusion under the earliest cosigned heads.

Invariants
- A moment is the earliest time by which the root's quorum of witnesses had cosigned a head that holds
  the entry. A later head proves a later moment, so that no choice of head shortens a notice.
- Without a quorum of witnesses nobody can say when, and no notice is ever over (`bad_notice`).
- Every statement is opened from its own bytes: signature, kind, role, place in the log.

Pure: whoever reads the file of proofs has checked its digest.
"""

from __future__ import annotations

import msgspec

from gatelift.encoding import decode_json, sha256_digest
from gatelift.messages.authority import verify_body
from gatelift.messages.entries import EntryKind
from gatelift.messages.logged import releases_policy, verify_logged
from gatelift.trust import (
    Announcement,
    Certificate,
    NoticeError,
    Root,
    check_announced,
)

__all__ = ["LoggedStatement", "NoticeProofs", "notice_ends_at", "verify_notice"]


class LoggedStatement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A statement, its leaf in the releases log, and the proof under a cosigned head; all as text."""

    envelope: str
    leaf: str
    proof: str


class NoticeProofs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file that a certificate's `notice.proofs` names."""

    announcement: LoggedStatement
    objections: tuple[LoggedStatement, ...]


def _moment(kind: EntryKind, held: LoggedStatement, root: Root) -> tuple[msgspec.Struct, int]:
    """Return what was logged, and when a quorum of witnesses confirmed it, in ms UTC."""
    data, policy = held.envelope.encode("utf-8"), releases_policy(root)
    witnessed = verify_logged(
        kind, sha256_digest(data), held.leaf.encode("utf-8"), held.proof.encode("utf-8"), policy
    )
    at_s = witnessed.known_since_s(policy)
    if at_s is None:
        raise NoticeError(
            "the root asks for no witnesses, so nobody outside says when this was announced: "
            "name witnesses in the root, or ask for no notice in the plan",
            code="bad_notice",
        )
    return verify_body(kind, data, root, at_s * 1000).value, at_s * 1000


def notice_ends_at(certificate: Certificate, notice_ms: int, data: bytes, root: Root) -> int:
    """Return when the notice of a certificate is over, in ms UTC, by the file of proofs `data`.

    Raises `NoticeError`, or the error of the statement or proof that does not hold.
    """
    notice = certificate.notice
    if notice is None:
        raise NoticeError(
            f"stage {certificate.stage!r} takes public notice of {notice_ms} ms and the certificate "
            "names no announcement: announce it first"
        )
    if sha256_digest(data) != notice.proofs:
        raise NoticeError("the file of proofs is another than the certificate's", code="bad_notice")
    proofs = decode_json(data, NoticeProofs)
    bodies = [sha256_digest(each.envelope.encode("utf-8")) for each in proofs.objections]
    announced = sha256_digest(proofs.announcement.envelope.encode("utf-8"))
    if announced != notice.announcement or tuple(bodies) != notice.objections:
        raise NoticeError(
            "the proofs are of other statements than the certificate names", code="bad_notice"
        )
    value, at_ms = _moment(EntryKind.ANNOUNCEMENT, proofs.announcement, root)
    if not isinstance(value, Announcement):
        raise NoticeError("expected an announcement", code="bad_notice")
    check_announced(
        value,
        release=certificate.release,
        stage=certificate.stage,
        fingerprint=certificate.fingerprint,
        plan=certificate.plan,
        envelope=certificate.envelope,
        clears=certificate.clears,
    )
    moments = [at_ms]
    # To this announcement or a twin of it: whichever, it only makes the notice longer.
    moments += [_moment(EntryKind.OBJECTION, each, root)[1] for each in proofs.objections]
    return max(moments) + notice_ms


def verify_notice(certificate: Certificate, notice_ms: int, data: bytes, root: Root) -> None:
    """Return if a certificate begins no earlier than its notice is over; raises as above.

    Code `notice_running` where it begins earlier.
    """
    ends_at = notice_ends_at(certificate, notice_ms, data, root)
    if certificate.not_before < ends_at:
        raise NoticeError(
            f"the certificate begins at {certificate.not_before}, its notice is over at {ends_at}: "
            "sign one that begins then",
            code="notice_running",
        )
