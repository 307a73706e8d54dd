"""A root that the overseer did not sign, judged from bytes: by the package and by the one-file verifier."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatelift.encoding import encode_json, sha256_digest
from gatelift.errors import CallerError
from gatelift.messages import EntryKind, verify_body
from gatelift.tlog import CosignatureSigner
from gatelift.trust import (
    ROOT_TYPE,
    Key,
    NoticedRoot,
    Role,
    Root,
    RootAnnouncement,
    Scheme,
    Witness,
    check_named_root,
    parse_root,
    sign_envelope,
    unverified_root,
    verify_root,
)
from tests.support.bundles import Shelf
from tests.support.world import NOW, World, key, seed

DAY_MS = 86_400_000
AT = NOW // 1000 * 1000
THIRTY = 30 * DAY_MS
SIGNERS = ("root:olga", "root:sam")  # in the world vera, the overseer, has a root key too


@functools.cache
def world() -> World:
    return World()


def before(**changes: Any) -> Root:
    """The root in force, issued long before anything is announced."""
    held, sam = world().root, key("root:sam")
    keys = {kid: each for kid, each in held.keys.items() if kid != key("root:vera").id}
    keys[sam.id] = Key(scheme=Scheme.ED25519, public=sam.public_text, person="sam")
    role = Role(keys=(key("root:olga").id, sam.id), threshold=2)
    times = {"issued_at": AT - 300 * DAY_MS, "expires_at": AT + 300 * DAY_MS}
    made = {"keys": keys, "roles": held.roles | {"root": role}, **times, **changes}
    return msgspec.structs.replace(held, **made)


def without_overseer(**changes: Any) -> Root:
    held = before()
    gone = set(held.roles["overseer"].keys)
    made = msgspec.structs.replace(
        held,
        version=held.version + 1,
        keys={kid: each for kid, each in held.keys.items() if kid not in gone},
        roles={
            name: role for name, role in held.roles.items() if name not in {"overseer", "beacon"}
        },
    )
    changes = {"own_calls_per_day": 0} | changes
    return parse_root(encode_json(msgspec.structs.replace(made, **changes)))


def signed(root: Root, *names: str) -> bytes:
    return sign_envelope(encode_json(root), ROOT_TYPE, [key(name) for name in names or SIGNERS])


class At:
    """The world, as its witness sees it at another time."""

    def __init__(self, at_ms: int, witness: CosignatureSigner | None = None) -> None:
        self.now = at_ms
        self.log = world().log
        self.witness = witness or world().witness


def announced(envelope: bytes, **changes: Any) -> bytes:
    value = RootAnnouncement(
        root=sha256_digest(envelope), envelope=envelope.decode(), reason="it no longer answers"
    )
    value = msgspec.structs.replace(value, **changes)
    return world().sign("root_announcement", value, "operator:olga")


def noticed(
    envelope: bytes,
    *,
    since: int = AT - THIRTY,
    until: int = AT,
    kind: EntryKind = EntryKind.ROOT_ANNOUNCEMENT,
    witness: CosignatureSigner | None = None,
    **changes: Any,
) -> bytes:
    shelf, body = Shelf(world()), announced(envelope)
    shelf.log(kind, body)
    proofs = []
    for at in (since, until):
        moved = Shelf.__new__(Shelf)
        moved.__dict__.update(shelf.__dict__)
        moved.world = At(at, witness)  # type: ignore[assignment]
        logged = moved.logged(0)
        proofs.append(logged.proof)
    held = NoticedRoot(
        announcement=body.decode(),
        leaf=logged.leaf,
        announced=proofs[0],
        standing=proofs[1],
        objections=(),
    )
    return encode_json(msgspec.structs.replace(held, **changes))


def outcome(call: Callable[[], object]) -> str | None:
    try:
        call()
    except CallerError as error:
        return error.code
    return None


def judged(data: bytes, previous: Root | None = None) -> str | None:
    return outcome(lambda: verify_root(data, AT, previous or before()))


def puppets() -> Root:
    """A root that leaves the overseer be and puts another witness in."""
    witness = Witness(
        name="w.other", vkey=other_witness().vkey, organisation="other.example", independent=True
    )
    return msgspec.structs.replace(before(), version=before().version + 1, witnesses=(witness,))


def other_witness() -> CosignatureSigner:
    return CosignatureSigner("w.other", Ed25519PrivateKey.from_private_bytes(seed("w.other")))


GONE = signed(without_overseer())
ROWS: dict[str, tuple[Callable[[], str | None], str | None]] = {
    "not signed by the overseer, not announced": (lambda: judged(GONE), "overseer_missing"),
    "30 days": (lambda: judged(noticed(GONE)), None),
    "30 days less a second": (
        lambda: judged(noticed(GONE, since=AT - THIRTY + 1000)), "notice_running"),
    "the same head twice": (lambda: judged(noticed(GONE, since=AT)), "notice_running"),
    "heads in the wrong order": (
        lambda: judged(noticed(GONE, since=AT, until=AT - THIRTY)), "notice_running"),
    "announced before the root in force was issued": (
        lambda: judged(noticed(GONE), msgspec.structs.replace(before(), issued_at=AT - THIRTY + 1000)),
        "notice_voided"),
    "proved as an entry of another kind": (
        lambda: judged(noticed(GONE, kind=EntryKind.ANNOUNCEMENT)), "bad_notice"),
    "of another announcement": (
        lambda: judged(
            noticed(GONE, announcement=announced(signed(without_overseer(issued_at=AT))).decode())),
        "bad_notice"),
    "of other bytes than it names": (
        lambda: judged(noticed(GONE, announcement=announced(GONE, root=sha256_digest(b"")).decode())),
        "bad_notice"),
    "by a witness that the root in force does not name": (
        lambda: judged(noticed(GONE, witness=other_witness())), "quorum_not_met"),
    "by a witness that only the announced root names": (
        lambda: judged(noticed(signed(without_overseer(witnesses=puppets().witnesses)),
                               witness=other_witness())), "quorum_not_met"),
    "by the witness of the root in force, to another witness": (
        lambda: judged(noticed(signed(without_overseer(witnesses=puppets().witnesses)))), None),
    "no witnesses at all": (
        lambda: judged(noticed(GONE), before(witnesses=(), witness_quorum=0)), "bad_notice"),
    "half the threshold": (lambda: judged(noticed(signed(without_overseer(), "root:olga"))), "quorum_unmet"),
    "another root took effect in between": (
        lambda: judged(noticed(GONE), before(version=2)), "not_successor"),
    "witnesses replaced without the overseer": (lambda: judged(signed(puppets())), "overseer_missing"),
    "witnesses replaced after 30 days": (lambda: judged(noticed(signed(puppets()))), None),
    "a lower quorum without the overseer": (
        lambda: judged(signed(msgspec.structs.replace(before(), version=2, witness_quorum=0))),
        "overseer_missing"),
    "witnesses replaced, with the overseer": (
        lambda: judged(signed(puppets(), *SIGNERS, "overseer:vera")), None),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_the_overseer_or_thirty_witnessed_days(name: str) -> None:
    done, code = ROWS[name]
    assert done() == code


def test_a_pinned_root_with_its_notice_is_the_root_inside() -> None:
    data = noticed(GONE)
    assert unverified_root(data) == unverified_root(GONE)
    assert "overseer" not in verify_root(data, AT).roles


def test_only_what_would_follow_may_be_announced() -> None:
    def logged(envelope: bytes, previous: Root) -> str | None:
        body = announced(envelope)
        return outcome(lambda: verify_body(EntryKind.ROOT_ANNOUNCEMENT, body, previous, AT))

    assert logged(GONE, before()) is None
    assert logged(GONE, before(version=2)) == "not_successor"
    assert logged(signed(without_overseer(), "root:olga"), before()) == "quorum_unmet"
    assert logged(GONE, before(witnesses=(), witness_quorum=0)) == "bad_notice"


def test_objections_to_a_root_or_its_twin_are_named() -> None:
    held = msgspec.json.decode(noticed(GONE), type=NoticedRoot)
    mine = sha256_digest(held.announcement.encode())
    root, twin, other, objection = (sha256_digest(t) for t in (GONE, b"twin", b"other", b"no"))
    announced_here = {mine: root, twin: root, other: sha256_digest(b"another root")}
    named = msgspec.structs.replace(held, objections=(objection,))

    def check(given: NoticedRoot, against: str, known: Any = announced_here) -> str | None:
        return outcome(lambda: check_named_root(given, known, [(objection, against)]))  # type: ignore[list-item]

    assert check(held, mine) == check(held, twin) == "objection_hidden"
    assert check(named, mine) is check(named, twin) is check(held, other) is None
    assert check(named, mine, {}) == "not_announced"
