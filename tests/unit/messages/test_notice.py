"""The notice of a certificate, judged from bytes as every gateway judges it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from gatelift.encoding import Digest, encode_json, sha256_digest
from gatelift.errors import CallerError
from gatelift.messages import (
    EntryKind,
    LoggedStatement,
    NoticeProofs,
    notice_ends_at,
    verify_bundle,
    verify_notice,
)
from gatelift.terms import Cap, CapUnit, Envelope, Subject, Window
from gatelift.trust import Announcement, Certificate, Notice, Objection, parse_root
from tests.support.bundles import Shelf
from tests.support.world import NOW, PLAN_FILE, World

NOTICE_MS = 10_000
ANNOUNCED_MS = NOW - 60_000
AT = NOW // 1000 * 1000


@functools.cache
def world() -> World:
    text = PLAN_FILE.read_text().replace("notice: 0s", f"notice: {NOTICE_MS // 1000}s")
    return World(plan_bytes=text.encode())


class Story:
    """A log on which things are said at certain seconds, each confirmed by the witness at once."""

    def __init__(self) -> None:
        self.shelf = Shelf(world())

    def say(self, kind: EntryKind, value: msgspec.Struct, by: str, at_ms: int) -> LoggedStatement:
        body = world().sign(kind.value, value, by)
        self.shelf.log(kind, body)
        return self.prove(len(self.shelf.leaves) - 1, at_ms)

    def prove(self, index: int, at_ms: int) -> LoggedStatement:
        moved = Shelf.__new__(Shelf)
        moved.__dict__.update(self.shelf.__dict__)
        moved.world = _At(at_ms)
        logged = moved.logged(index)
        return LoggedStatement(
            envelope=self.shelf.files[logged.envelope].decode(),
            leaf=logged.leaf,
            proof=logged.proof,
        )


class _At:
    """The world, as its witness sees it at another time."""

    def __init__(self, at_ms: int) -> None:
        self.now = at_ms
        self.log = world().log
        self.witness = world().witness


def announcement(**changes: Any) -> Announcement:
    certificate = world().certificate()
    made = Announcement(
        id="announcement_1",
        release=certificate.release,
        stage=certificate.stage,
        fingerprint=certificate.fingerprint,
        plan=certificate.plan,
        envelope=certificate.envelope,
        clears=(),
        reason="",
    )
    return msgspec.structs.replace(made, **changes)


def digest_of(held: LoggedStatement) -> Digest:
    return sha256_digest(held.envelope.encode())


def told(
    held: LoggedStatement, *objections: LoggedStatement, **changes: Any
) -> tuple[Certificate, bytes]:
    data = encode_json(NoticeProofs(announcement=held, objections=objections))
    notice = Notice(
        announcement=digest_of(held),
        objections=tuple(map(digest_of, objections)),
        proofs=sha256_digest(data),
    )
    return world().certificate(notice=notice, **changes), data


def outcome(call: Callable[[], object]) -> str | None:
    try:
        call()
    except CallerError as error:
        return error.code
    return None


def judged(certificate: Certificate, data: bytes) -> str | None:
    return outcome(lambda: verify_notice(certificate, NOTICE_MS, data, world().root))


def announced(at_ms: int = ANNOUNCED_MS, **changes: Any) -> tuple[Story, LoggedStatement]:
    story = Story()
    value = announcement(**changes)
    return story, story.say(EntryKind.ANNOUNCEMENT, value, "operator:olga", at_ms)


def test_a_notice_is_over_so_long_after_the_cosignature() -> None:
    _, held = announced(AT - NOTICE_MS)
    certificate, data = told(held, not_before=AT)
    assert notice_ends_at(certificate, NOTICE_MS, data, world().root) == AT
    assert judged(certificate, data) is None
    early, _ = told(held, not_before=AT - 1)
    assert judged(early, data) == "notice_running"


def test_a_later_head_proves_a_later_moment() -> None:
    story, _ = announced(AT - NOTICE_MS)
    again = story.prove(0, AT)
    assert judged(*told(again, not_before=AT + NOTICE_MS - 1)) == "notice_running"


def test_an_objection_makes_it_count_anew() -> None:
    story, held = announced()
    value = Objection(
        id="objection_1", release="r", announcement=digest_of(held), grounds="not yet"
    )
    against = story.say(EntryKind.OBJECTION, value, "overseer:vera", AT)
    assert judged(*told(held, not_before=AT)) is None
    assert judged(*told(held, against, not_before=AT)) == "notice_running"
    assert judged(*told(held, against, not_before=AT + NOTICE_MS)) is None


def test_only_an_overseer_objects_and_to_a_twin_as_well() -> None:
    story, held = announced()
    value = Objection(id="o1", release="r", announcement=digest_of(held), grounds="x")
    by_another = story.say(EntryKind.OBJECTION, value, "safety:sam", ANNOUNCED_MS)
    assert judged(*told(held, by_another)) == "role_not_allowed"
    twin = story.say(EntryKind.ANNOUNCEMENT, announcement(id="twin"), "operator:olga", ANNOUNCED_MS)
    to_twin = msgspec.structs.replace(value, announcement=digest_of(twin))
    against = story.say(EntryKind.OBJECTION, to_twin, "overseer:vera", AT)
    assert judged(*told(held, against, not_before=AT)) == "notice_running"


OTHERWISE: dict[str, dict[str, Any]] = {
    "another stage": {"stage": "partners"},
    "another release": {"release": "other"},
    "another candidate": {"fingerprint": "sha256:" + "1" * 64},
    "another plan": {"plan": "sha256:" + "1" * 64},
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_what_was_announced_is_what_is_certified(name: str) -> None:
    _, held = announced(**OTHERWISE[name])
    assert judged(*told(held)) == "announced_otherwise"


def test_a_certificate_allows_no_more_than_was_announced() -> None:
    cap = Cap(subject=Subject.STAGE, unit=CapUnit.REQUESTS, window=Window.DAY, limit=1)
    full = world().certificate().envelope
    less = msgspec.structs.replace(full, caps=(cap,))
    _, held = announced(envelope=less)
    assert judged(*told(held)) == "announced_otherwise"
    _, held = announced(envelope=Envelope())
    assert judged(*told(held)) is None


def test_orders_that_are_lifted_are_announced() -> None:
    _, held = announced()
    assert judged(*told(held, clears=("order_1",))) == "announced_otherwise"
    _, held = announced(clears=("order_1", "order_2"))
    assert judged(*told(held, clears=("order_1",))) is None


def test_proofs_are_those_that_the_certificate_names() -> None:
    _, held = announced()
    certificate, data = told(held)
    _, other = announced(id="announcement_2")
    assert judged(certificate, told(other)[1]) == "bad_notice"
    assert judged(certificate, b"") == "bad_notice"
    assert judged(world().certificate(), data) == "not_announced"
    # The digest fits, the statements inside do not.
    forged = encode_json(NoticeProofs(announcement=other, objections=()))
    assert certificate.notice is not None
    moved = msgspec.structs.replace(certificate.notice, proofs=sha256_digest(forged))
    assert judged(msgspec.structs.replace(certificate, notice=moved), forged) == "bad_notice"


def test_a_proof_is_of_this_statement_and_cosigned() -> None:
    story, held = announced()
    second = story.say(EntryKind.ANNOUNCEMENT, announcement(id="a2"), "operator:olga", ANNOUNCED_MS)
    swapped = msgspec.structs.replace(held, leaf=second.leaf, proof=second.proof)
    assert judged(*told(swapped)) == "not_logged"
    unsigned = msgspec.structs.replace(held, proof=held.proof.rsplit("\n— ", 1)[0] + "\n")
    assert judged(*told(unsigned)) == "quorum_not_met"


def test_without_witnesses_no_notice_is_ever_over() -> None:
    _, held = announced()
    certificate, data = told(held)
    alone = parse_root(world().root_payload(witness_quorum=0))
    code = outcome(lambda: verify_notice(certificate, NOTICE_MS, data, alone))
    assert code == "bad_notice"


def test_a_gateway_leaves_out_what_was_not_announced() -> None:
    shelf = Shelf(world())
    shelf.log(
        EntryKind.CERTIFICATE,
        world().sign("certificate", world().certificate(), "operator:olga", "safety:sam"),
    )
    found = verify_bundle(shelf.bundle(), shelf.read, world().root_digest, NOW)
    assert not found.certificates
    assert [each.code for each in found.rejected] == ["not_announced"]
