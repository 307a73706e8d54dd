"""Whether the 30 days of a root that took effect without the overseer are those of this very log.

Signatures, bytes and times are judged by `trust.verify_root`, announcement and objections by `following`.
"""

from __future__ import annotations

from gatelift.ledger.audit.log import AuditedLog
from gatelift.tlog import parse_checkpoint, parse_note, parse_proof
from gatelift.trust import NoticedRoot, RootError

__all__ = ["check_days_of"]


def check_days_of(log: AuditedLog, notice: NoticedRoot) -> None:
    """Return if both heads that prove a root's days are of `log`; raises `RootError`."""
    for text in (notice.announced, notice.standing):
        note = parse_note(parse_proof(text.encode("utf-8")).checkpoint_note)
        head = parse_checkpoint(note.text)
        if head.size > log.checkpoint.size or head.root != log.root_at(head.size):
            raise RootError("its 30 days are proved by another log", code="bad_notice")
