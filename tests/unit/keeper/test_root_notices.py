"""Announcements of roots and objections to them, as keepers and auditors remember them from the log."""

from __future__ import annotations

import msgspec
import pytest

from gatelift.encoding import Digest, encode_json, sha256_digest
from gatelift.ledger.following.root_notices import RootNotices
from gatelift.messages import Body, EntryKind, Revocation
from gatelift.trust import NoticedRoot, Objection, RootAnnouncement, RootError, Signer
from tests.support.world import World

ROOT = World().root_envelope
VERA = Signer(key=sha256_digest(b"k"), person="vera", organisation="o.example", role="overseer")
OTHER = Signer(key=sha256_digest(b"l"), person="max", organisation="p.example", role="overseer")


def announcement() -> bytes:
    value = RootAnnouncement(root=sha256_digest(ROOT), envelope=ROOT.decode(), reason="gone")
    return World().sign("root_announcement", value, "operator:olga")


MINE = announcement()
ANNOUNCED = sha256_digest(MINE)
OBJECTION = sha256_digest(b"objection")


def told(*entries: tuple[Digest, EntryKind, msgspec.Struct, Signer]) -> RootNotices:
    value = RootAnnouncement(root=sha256_digest(ROOT), envelope=ROOT.decode(), reason="gone")
    made = RootNotices()
    made.take(ANNOUNCED, Body(kind=EntryKind.ROOT_ANNOUNCEMENT, value=value, signers=()))
    for digest, kind, body, signer in entries:
        made.take(digest, Body(kind=kind, value=body, signers=(signer,)))
    return made


def objects() -> tuple[Digest, EntryKind, msgspec.Struct, Signer]:
    value = Objection(id="o1", release="r", announcement=ANNOUNCED, grounds="no")
    return OBJECTION, EntryKind.OBJECTION, value, VERA


def withdraws(signer: Signer) -> tuple[Digest, EntryKind, msgspec.Struct, Signer]:
    value = Revocation(body=OBJECTION, reason="mended")
    return sha256_digest(b"w"), EntryKind.REVOCATION, value, signer


def root(*objections: Digest) -> bytes:
    held = NoticedRoot(
        announcement=MINE.decode(), leaf="", announced="", standing="", objections=objections
    )
    return encode_json(held)


def code(notices: RootNotices, data: bytes) -> str | None:
    try:
        notices.check(data)
    except RootError as error:
        return error.code
    return None


@pytest.mark.parametrize(
    ("notices", "data", "expected"),
    [
        (told(), root(), None),
        (told(objects()), root(), "objection_hidden"),
        (told(objects()), root(OBJECTION), None),
        (told(objects(), withdraws(VERA)), root(), None),
        (told(objects(), withdraws(OTHER)), root(), "objection_hidden"),
        (RootNotices(), root(), "not_announced"),
        (RootNotices(), ROOT, None),
    ],
    ids=["none", "hidden", "named", "withdrawn", "by another", "not announced", "no notice"],
)
def test_a_root_names_what_stands_against_it(
    notices: RootNotices, data: bytes, expected: str | None
) -> None:
    assert code(notices, data) == expected


def test_another_root_voids_what_was_announced_before_it() -> None:
    notices = told()
    notices.forget_announced()
    assert code(notices, root()) == "not_announced"
