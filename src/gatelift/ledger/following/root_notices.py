"""Roots that take effect without the overseer: announced on this log, with all objections named.

The signatures and the 30 days are judged by `trust.verify_root`, from the proofs that the root brings. What
those cannot show is an objection that the root leaves out; who follows the log can.

Invariant: an announcement counts under the root that it was logged under, and no longer.

Knows no files and no clock; what it is told was verified before.
"""

from __future__ import annotations

from gatelift.encoding import Digest
from gatelift.messages import Body, Revocation
from gatelift.trust import (
    NoticedRoot,
    Objection,
    Root,
    RootAnnouncement,
    check_named_root,
    open_root,
)

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
                self.forget_announced()
            case _:
                pass

    def forget_announced(self) -> None:
        """Note that another root is in force, which voids what was announced under its last."""
        self._announced.clear()

    def check(self, data: bytes) -> NoticedRoot | None:
        """Return the notice that a root rides on, null for none; raises `RootError`."""
        notice = open_root(data)[1]
        if notice is not None:
            standing = [(digest, against) for digest, (against, _) in self._objections.items()]
            check_named_root(notice, self._announced, standing)
        return notice
