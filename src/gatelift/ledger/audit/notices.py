"""Whether each certificate was announced in time on this very log, and named what stood against it.

Invariants
- Times are the cosignatures' under the heads that the certificate's file of proofs names; each of these
  heads is one of this log.
- The announcement stands before the certificate, and so do the objections that it had to name.
"""

from __future__ import annotations

from collections.abc import Iterator

from gatelift.encoding import Digest, decode_json
from gatelift.ledger.audit.folder import Folder
from gatelift.ledger.audit.releases import Releases, ReleasesEntry
from gatelift.ledger.following.objections import Objections
from gatelift.messages import LoggedStatement, NoticeProofs, Revocation, verify_notice
from gatelift.plan import Plan
from gatelift.tlog import parse_checkpoint, parse_note, parse_proof
from gatelift.trust import Announcement, Certificate, NoticeError, Objection

__all__ = ["Notices"]


class Notices:
    """Announcements and objections in the order of the log."""

    def __init__(self) -> None:
        self._announced: set[Digest] = set()
        self._objections = Objections()

    def take(self, entry: ReleasesEntry) -> None:
        """Note an announcement, an objection or its withdrawal; other entries say nothing."""
        match entry.body.value:
            case Announcement() as value:
                self._announced.add(entry.header.body)
                self._objections.take_announcement(entry.header.body, value)
            case Objection() as value:
                signers = entry.body.signers
                self._objections.take_objection(entry.header.body, value, signers)
            case Revocation() as value:
                self._objections.take_revocation(value, entry.body.signers)
            case _:
                pass

    def check(
        self,
        folder: Folder,
        releases: Releases,
        entry: ReleasesEntry,
        value: Certificate,
        plan: Plan,
    ) -> None:
        """Return if the certificate of an entry kept its notice; raises `NoticeError`, `LedgerError`."""
        notice, notice_ms = value.notice, plan.stage(value.stage).notice_ms
        if not notice_ms:
            return
        data = b"" if notice is None else folder.read_digest(notice.proofs)
        verify_notice(value, notice_ms, data, releases.root_at(entry.index))
        if notice is None or notice.announcement not in self._announced:
            raise NoticeError("its announcement is not on this log before it")
        for held in _statements(data):
            note = parse_note(parse_proof(held.proof.encode("utf-8")).checkpoint_note)
            head, log = parse_checkpoint(note.text), releases.log
            if head.size > log.checkpoint.size or head.root != log.root_at(head.size):
                raise NoticeError("its notice is proved by another log", code="bad_notice")
        self._objections.take_certificate(entry.header.body, value)
        self._objections.check_certificates([entry.header.body])


def _statements(data: bytes) -> Iterator[LoggedStatement]:
    proofs = decode_json(data, NoticeProofs)
    yield proofs.announcement
    yield from proofs.objections
