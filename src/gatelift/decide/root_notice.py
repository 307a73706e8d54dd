"""Whether a root may take effect here: its announcement is on this log, with all objections named.

Invariants
- Another root voids every announcement before it (`fold` forgets them).
- A root that the overseer signed needs no announcement.
- The log keeps its key (ADR 0018): a root with another one is not logged.

Signatures and the 30 days were judged before (`trust.verify_root`).
"""

from __future__ import annotations

from gatelift.decide.admit_error import refuse
from gatelift.decide.state import State
from gatelift.encoding import Digest
from gatelift.trust import Root, RootAnnouncement, RootError, check_named_root, open_root

__all__ = ["check_root_announcement", "check_root_change", "root_objections"]


def _standing(state: State) -> list[tuple[Digest, Digest]]:
    return [
        (each.digest, each.objection.announcement)
        for each in state.objections
        if not each.withdrawn
    ]


def root_objections(state: State, root: Digest) -> tuple[Digest, ...]:
    """Return the objections that stand against any announcement of a root, in order of logging."""
    announced = {digest for digest, held in state.root_announcements.items() if held.root == root}
    return tuple(digest for digest, against in _standing(state) if against in announced)


def check_root_change(state: State, value: Root, data: bytes) -> None:
    """Return if the root `value`, of the bytes `data`, may be logged; raises `AdmitError`."""
    if state.root is not None and value.releases_vkey != state.root.releases_vkey:
        refuse("log_key_changed", "expected the key of this log: it keeps its key while it lives")
    notice = open_root(data)[1]
    if notice is None:
        return
    announced = {digest: held.root for digest, held in state.root_announcements.items()}
    try:
        check_named_root(notice, announced, _standing(state))
    except RootError as error:
        refuse(error.code, str(error))


def check_root_announcement(value: RootAnnouncement) -> None:
    """Return if an announcement may be logged; raises `AdmitError`."""
    if not value.reason.strip():
        refuse("no_grounds", "expected a reason: it is published with the root")
