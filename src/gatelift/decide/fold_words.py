"""What people say of a release, onto the state: announcements, objections, reviews, and what is taken back.

Invariants
- An entry that does not fit changes nothing here.
- A review is withdrawn by its author alone, an objection by the overseer's organisation that made it.
"""

from __future__ import annotations

import msgspec

from gatelift.decide.state import (
    AnnouncementEntry,
    ObjectionEntry,
    ReviewEntry,
    RootAnnouncementEntry,
    State,
)
from gatelift.messages import Body, EntryHeader, Review, Revocation
from gatelift.trust import Announcement, Objection, RootAnnouncement, Signer

__all__ = ["Words", "fold_words", "withdraws"]

Words = Announcement | RootAnnouncement | Objection | Revocation | Review


def fold_words(state: State, index: int, header: EntryHeader, body: Body, value: Words) -> State:
    """Return the state after entry `index`, in which somebody says something."""
    match value:
        case Announcement():
            return _announcement(state, index, header, value)
        case RootAnnouncement():
            return _root_announcement(state, index, header, value)
        case Objection():
            return _objection(state, index, header, body, value)
        case Revocation():
            return _revocation(state, body, value)
        case Review():
            return _review(state, index, header, body, value)


def _announcement(state: State, index: int, header: EntryHeader, value: Announcement) -> State:
    entry = AnnouncementEntry(
        announcement=value, digest=header.body, index=index, at=header.at, by=header.actor
    )
    return msgspec.structs.replace(state, announcements=(*state.announcements, entry))


def _root_announcement(
    state: State, index: int, header: EntryHeader, value: RootAnnouncement
) -> State:
    entry = RootAnnouncementEntry(root=value.root, index=index, at=header.at)
    held = {**state.root_announcements, header.body: entry}
    return msgspec.structs.replace(state, root_announcements=held)


def _objection(
    state: State, index: int, header: EntryHeader, body: Body, value: Objection
) -> State:
    by = next((s for s in body.signers if s.role == "overseer"), None)
    if by is None:
        return state
    entry = ObjectionEntry(
        objection=value,
        digest=header.body,
        organisation=by.organisation,
        index=index,
        at=header.at,
    )
    return msgspec.structs.replace(state, objections=(*state.objections, entry))


def _review(state: State, index: int, header: EntryHeader, body: Body, value: Review) -> State:
    entry = ReviewEntry(
        review=value, digest=header.body, index=index, at=header.at, signers=body.signers
    )
    return msgspec.structs.replace(state, reviews=(*state.reviews, entry))


def _revocation(state: State, body: Body, value: Revocation) -> State:
    people = {signer.person for signer in body.signers}
    for entry in state.reviews:
        authors = {signer.person for signer in entry.signers}
        # A judgement is its author's: who wants the stage shut refuses it, or orders a stop.
        if entry.digest == value.body and not people & authors:
            return state
    objections = tuple(
        msgspec.structs.replace(entry, withdrawn=True)
        if entry.digest == value.body and withdraws(entry, body.signers)
        else entry
        for entry in state.objections
    )
    return msgspec.structs.replace(
        state, revoked=state.revoked | {value.body}, objections=objections
    )


def withdraws(entry: ObjectionEntry, signers: tuple[Signer, ...]) -> bool:
    """Return whether these are of the overseer's organisation that objected: nobody else widens so."""
    return any(s.role == "overseer" and s.organisation == entry.organisation for s in signers)
