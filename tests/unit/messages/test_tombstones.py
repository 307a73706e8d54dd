"""Tombstones: what stays of a record, and that nothing else passes for it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatelift.encoding import encode_json, sha256_digest
from gatelift.messages import (
    Beat,
    Charge,
    ErasureError,
    ErasureScope,
    Finish,
    Outcome,
    RecordRef,
    Renaming,
    Start,
    Tombstone,
    decode_tombstone,
    encode_tombstone,
    make_alias,
    redact,
    verify_redaction,
)
from gatelift.terms import Endpoint

PLACE: dict[str, Any] = {"v": 1, "node": "n1", "worker": "w0", "run": "r0", "at": 1_000}
SESSION = "3600000-" + "ab" * 12
CHARGES = (
    Charge(counter="s:principal.requests/min:bo", window=0, amount=1),
    Charge(counter="s:organisation.requests/min:o", window=0, amount=1),
    Charge(counter="s:stage.output_tokens/min:s", window=0, amount=20),
)
START = Start(
    **PLACE, seq=0, request_id="req_1", release="r", stage="s", certificate=None,
    fingerprint=sha256_digest(b"f"), grant="g1", principal="bo", organisation="o", session=SESSION,
    endpoint=Endpoint.CHAT, stream=False, request=sha256_digest(b"q"), request_bytes=7,
    reserved=CHARGES,
)  # fmt: skip
FINISH = Finish(
    **PLACE, seq=1, of=RecordRef(node="n1", worker="w0", run="r0", seq=0), request_id="req_1",
    release="r", stage="s", grant="g1", organisation="o", session=SESSION, outcome=Outcome.SERVED,
    reason="", upstream=True, status=200, answer=sha256_digest(b"a"), answer_bytes=6,
    input_tokens=5, output_tokens=20, spent=CHARGES, overrun_tokens=0, verdicts=(),
    request=sha256_digest(b"q"), openings="0123456789abcdef",
)  # fmt: skip
SECRET = b"s" * 32


def alias(kind: str, name: str) -> str:
    return make_alias(kind, name, SECRET)


@pytest.mark.parametrize("scope", ErasureScope)
@pytest.mark.parametrize("record", [START, FINISH], ids=["start", "finish"])
def test_what_counts_stands_and_who_it_was_is_gone(
    record: Start | Finish, scope: ErasureScope
) -> None:
    left = redact(record, scope, alias)
    assert isinstance(left, Start | Finish)
    text = encode_json(left).decode()
    gone = {"req_1", SESSION, sha256_digest(b"q"), sha256_digest(b"a"), "0123456789abcdef"}
    if scope is not ErasureScope.SESSIONS:
        gone |= {'"g1"', ':bo"', '"bo"'}
    if scope is ErasureScope.ORGANISATION:
        gone |= {'"o"', ':o"'}
    assert not [each for each in gone if each in text]
    for name in ("v", "node", "worker", "run", "seq", "at", "release", "stage"):
        assert getattr(left, name) == getattr(record, name)
    mine, theirs = (r.reserved if isinstance(r, Start) else r.spent for r in (left, record))
    assert [c.amount for c in mine] == [c.amount for c in theirs]
    assert [c.counter.rpartition(":")[0] for c in mine] == [
        c.counter.rpartition(":")[0] for c in theirs
    ]
    verify_redaction(record, encode_json(left), scope, Renaming())


def test_equal_names_stay_equal_and_others_apart() -> None:
    names = [alias("principal", name) for name in ("a", "b", "a")]
    assert names[0] == names[2] != names[1]
    assert alias("grant", "a") != names[0]
    assert make_alias("principal", "a", b"t" * 32) != names[0]


BENT: list[tuple[str, dict[str, Any]]] = [
    ("another amount", {"spent": (*CHARGES[:2], Charge(counter="s:stage.output_tokens/min:s", window=0, amount=1))}),
    ("another outcome", {"outcome": Outcome.REFUSED}),
    ("another time", {"at": 999}),
    ("a request id that stays", {"request_id": "req_1"}),
    ("an answer that stays", {"answer": sha256_digest(b"a")}),
    ("a session that stays", {"session": SESSION}),
    ("a session of another window", {"session": "7200000-" + "cd" * 12}),
    ("a grant that stays", {"grant": "g1"}),
    ("an alias of our own", {"grant": "nobody"}),
]  # fmt: skip


@pytest.mark.parametrize("changes", [row[1] for row in BENT], ids=[row[0] for row in BENT])
def test_nothing_else_passes_for_what_erasing_leaves(changes: dict[str, Any]) -> None:
    left = redact(FINISH, ErasureScope.PRINCIPAL, alias)
    bent = encode_json(msgspec.structs.replace(left, **changes))
    renaming = Renaming()
    verify_redaction(START, encode_json(redact(START, ErasureScope.PRINCIPAL, alias)), ErasureScope.PRINCIPAL, renaming)  # fmt: skip
    with pytest.raises(ErasureError):
        verify_redaction(FINISH, bent, ErasureScope.PRINCIPAL, renaming)


def test_two_names_never_become_one() -> None:
    other = msgspec.structs.replace(
        START, principal="al", reserved=(), session="3600000-" + "ef" * 12
    )
    renaming = Renaming()
    scope = ErasureScope.PRINCIPAL
    verify_redaction(START, encode_json(redact(START, scope, alias)), scope, renaming)

    def same(kind: str, name: str) -> str:
        return alias(kind, "bo" if kind == "principal" else name)

    with pytest.raises(ErasureError, match="one alias"):
        verify_redaction(other, encode_json(redact(other, scope, same)), scope, renaming)


def test_a_beat_is_about_nobody() -> None:
    beat = Beat(**PLACE, seq=2, refused={"no_key": 3})
    assert redact(beat, ErasureScope.ORGANISATION, alias) is beat
    with pytest.raises(ErasureError, match="nobody"):
        verify_redaction(beat, encode_json(beat), ErasureScope.ORGANISATION, Renaming())


@pytest.mark.parametrize("scope", ErasureScope)
@pytest.mark.parametrize("record", [START, FINISH], ids=["start", "finish"])
def test_a_tombstone_fits_where_its_record_stood(
    record: Start | Finish, scope: ErasureScope
) -> None:
    stored = encode_json(record)
    left = encode_json(redact(record, scope, alias))
    found = Tombstone(b"l" * 32, "erasure_" + "0" * 26, left)
    payload = encode_tombstone(found, 32 + len(stored))
    assert len(payload) == 32 + len(stored)
    assert decode_tombstone(payload) == found
    with pytest.raises(ErasureError, match="does not fit"):
        encode_tombstone(found, 100)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_tombstone_are_refused(data: bytes) -> None:
    with pytest.raises(ErasureError):
        decode_tombstone(b"l" * 32 + data)
