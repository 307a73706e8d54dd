"""A witness on a real directory, with its clock, its disk and its room for evidence in hand."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatelift.errors import CallerError
from gatelift.tlog import (
    Checkpoint,
    CosignatureSigner,
    MemoryTree,
    NoteSigner,
    add_signatures,
    origin_id,
    parse_note,
    parse_signatures,
    sign_checkpoint,
    sign_note,
    verify_cosignatures,
)
from gatelift.witness import Answer, Shelf, Witness, make_app, parse_log_vkeys

LOG = NoteSigner("example.com/log", Ed25519PrivateKey.from_private_bytes(b"\x01" * 32))
NEW_LOG = NoteSigner("example.com/log", Ed25519PrivateKey.from_private_bytes(b"\x02" * 32))
SIGNER = CosignatureSigner("w.example", Ed25519PrivateKey.from_private_bytes(b"\x09" * 32))
TREE = MemoryTree(b"entry %d" % i for i in range(40))


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    with Shelf(tmp_path / "witness") as opened:
        yield opened


def witness_on(shelf: Shelf, *vkeys: str) -> Witness:
    log_keys = parse_log_vkeys(vkeys or (LOG.vkey,))
    return Witness(signer=SIGNER, log_keys=log_keys, shelf=shelf)


def note_of(size: int, *, tree: MemoryTree = TREE, log: NoteSigner = LOG) -> bytes:
    return sign_checkpoint(Checkpoint(origin=log.name, size=size, root=tree.root(size)), log)


def body_of(old: int, new: int, note: bytes | None = None) -> bytes:
    proof = [base64.b64encode(hash_).decode() for hash_ in TREE.consistency_proof(old, new)]
    return "\n".join([f"old {old}", *proof]).encode() + b"\n\n" + (note or note_of(new))


def time_of(note: bytes, answer: Answer) -> int:
    assert answer.status == 200, answer
    full = parse_note(add_signatures(note, parse_signatures(answer.body)))
    (cosignature,) = verify_cosignatures(full, [SIGNER.key])
    return cosignature.time_s


def test_cosignature_times_never_go_back_and_a_clock_that_does_closes(shelf: Shelf) -> None:
    witness = witness_on(shelf)
    assert time_of(note_of(5), witness.add_checkpoint(body_of(0, 5), now_s=1000)) == 1000
    assert time_of(note_of(6), witness.add_checkpoint(body_of(5, 6), now_s=997)) == 1000
    refused = witness.add_checkpoint(body_of(6, 7), now_s=994)
    assert (refused.status, refused.code) == (503, "clock_behind")
    assert witness_on(shelf).add_checkpoint(body_of(6, 7), now_s=994).status == 503
    assert time_of(note_of(7), witness.add_checkpoint(body_of(6, 7), now_s=1001)) == 1001


def test_what_is_kept_holds_no_signature_of_keys_we_do_not_know(
    shelf: Shelf, tmp_path: Path
) -> None:
    stranger = NoteSigner("stranger", Ed25519PrivateKey.from_private_bytes(b"\x07" * 32))
    note = sign_note(parse_note(note_of(5)).text, [stranger, LOG])
    assert witness_on(shelf).add_checkpoint(body_of(0, 5, note), now_s=1).status == 200
    kept = (tmp_path / "witness" / "checkpoints" / origin_id(LOG.name)).read_bytes()
    assert [line.name for line in parse_note(kept).signatures] == [LOG.name, SIGNER.name]


def test_a_log_may_rotate_its_key(shelf: Shelf) -> None:
    witness_on(shelf).add_checkpoint(body_of(0, 5), now_s=1)
    both = witness_on(shelf, LOG.vkey, NEW_LOG.vkey)
    assert both.add_checkpoint(body_of(5, 6, note_of(6, log=NEW_LOG)), now_s=2).status == 200
    only_new = witness_on(shelf, NEW_LOG.vkey)
    assert only_new.add_checkpoint(body_of(6, 7), now_s=3).status == 403


def test_after_a_failed_write_nothing_is_signed_even_if_the_disk_is_back(
    shelf: Shelf, tmp_path: Path
) -> None:
    witness = witness_on(shelf)
    witness.add_checkpoint(body_of(0, 5), now_s=1)
    heads = tmp_path / "witness" / "checkpoints"
    heads.rename(tmp_path / "moved")
    assert witness.add_checkpoint(body_of(5, 6), now_s=2).status == 503
    (tmp_path / "moved").rename(heads)
    assert witness.broken
    assert witness.add_checkpoint(body_of(5, 6), now_s=3).code == "witness_disk"
    assert witness_on(shelf).add_checkpoint(body_of(5, 6), now_s=4).status == 200


def test_room_for_evidence_is_bounded_for_each_kind(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatelift.witness.shelf.MAX_EVIDENCE_FILES", 3)
    witness = witness_on(shelf)
    witness.add_checkpoint(body_of(0, 5), now_s=1)
    for size in range(6, 16):
        bad = b"old 5\n\n" + note_of(size)
        assert witness.add_checkpoint(bad, now_s=1).status == 422
    forks = tmp_path / "witness" / "forks" / origin_id(LOG.name)
    assert len(list(forks.iterdir())) == 3
    split = body_of(5, 5, note_of(5, tree=MemoryTree(b"%d" % i for i in range(5))))
    assert witness.add_checkpoint(split, now_s=1).code == "split_view"
    assert len(list(forks.iterdir())) == 5


@pytest.mark.parametrize("vkeys", [[], [SIGNER.vkey], [LOG.vkey, LOG.vkey], ["nonsense"]], ids=str)
def test_log_keys_that_cannot_be_followed_are_refused(vkeys: list[str]) -> None:
    with pytest.raises(CallerError):
        parse_log_vkeys(vkeys)


def test_a_log_key_cannot_be_the_witness_key(shelf: Shelf) -> None:
    same = NoteSigner("example.com/log", Ed25519PrivateKey.from_private_bytes(b"\x09" * 32))
    with pytest.raises(CallerError):
        witness_on(shelf, same.vkey)


def test_a_body_that_does_not_arrive_in_time_is_answered_408(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatelift.witness.server.BODY_TIMEOUT_S", 0.05)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    scope: Any = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/add-checkpoint",
        "raw_path": b"/add-checkpoint",
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [(b"host", b"w"), (b"content-length", b"10")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "state": {},
    }
    asyncio.run(make_app(witness_on(shelf))(scope, receive, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 408
