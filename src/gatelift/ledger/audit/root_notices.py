"""Roots that take effect without the overseer: on this very log, with all objections named.

The signatures and the 30 days were judged before (`trust.verify_root`), by the proofs that the root
brings. Here: each head that they are under is one of this log, the announcement stands before the
root and under the root before it, and no objection is left out.
"""

from __future__ import annotations

from gatelift.encoding import Digest
from gatelift.ledger.audit.log import AuditedLog
from gatelift.messages import Body, Revocation
from gatelift.tlog import parse_checkpoint, parse_note, parse_proof
from gatelift.trust import Objection, Root, RootAnnouncement, RootError, check_named_root, open_root

__all__ = ["RootNotices"]


class RootNotices:
    """Announcements of roots, and objections, in the order of the log."""

    def __init__(self) -> None:
        self._announced: dict[Digest, Digest] = {}
        self._objections: dict[Digest, tuple[Digest, frozenset[str]]] = {}

    def take(self, digest: Digest, body: Body) -> None:
        """Note an entry by its body's digest; what says nothing of roots is passed over."""
        overseers = frozenset(s.organisation for s in body.signers if s.role == "overseer")
        match body.value:
            case RootAnnouncement() as value:
                self._announced[digest] = value.root
            case Objection() as value:
                self._objections.setdefault(digest, (value.announcement, overseers))
            case Revocation() as value:
                held = self._objections.get(value.body)
                if held is not None and held[1] & overseers:
                    del self._objections[value.body]
            case Root():
                self._announced.clear()
            case _:
                pass

    def check(self, data: bytes, log: AuditedLog) -> None:
        """Return if the root in the bytes `data` may follow here; raises `RootError`."""
        notice = open_root(data)[1]
        if notice is None:
            return
        check_named_root(
            notice, self._announced, [(o, a) for o, (a, _) in self._objections.items()]
        )
        for text in (notice.announced, notice.standing):
            note = parse_note(parse_proof(text.encode("utf-8")).checkpoint_note)
            head = parse_checkpoint(note.text)
            if head.size > log.checkpoint.size or head.root != log.root_at(head.size):
                raise RootError("its 30 days are proved by another log", code="bad_notice")
