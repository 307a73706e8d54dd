"""Records, batches and tickets: checked against hashes made by hand."""

from __future__ import annotations

import base64
import hashlib
import json

import msgspec
import pytest

from gatelift.errors import CallerError
from gatelift.messages import (
    BatchEntry,
    Beat,
    Ticket,
    commit_content,
    decode_batch_entry,
    decode_record,
    encode_ticket,
    parse_ticket,
    record_leaf,
    sign_batch,
    stored_leaves,
    verify_batch,
    verify_own_batch,
    verify_ticket,
)
from tests.support.world import key

NODE = key("batch")


def beat(seq: int) -> bytes:
    return msgspec.json.encode(
        Beat(v=1, node="n1", worker="w1", run="run_1", seq=seq, at=5, refused={})
    )


def leaf(salt: bytes, data: bytes) -> bytes:
    return hashlib.sha256(b"\x00gatelift/record/v1\n" + salt + data).digest()


def ticket(*, seq: int = 7, index: int = 1) -> Ticket:
    records = [beat(7), beat(8)]
    salts = [b"a" * 32, b"b" * 32]
    leaves = [leaf(s, r) for s, r in zip(salts, records, strict=True)]
    root = hashlib.sha256(b"\x01" + leaves[0] + leaves[1]).hexdigest()
    entry = BatchEntry(
        v=1, node="n1", worker="w1", run="run_1", seq=seq, n=2, root=f"sha256:{root}", at=5
    )
    data, signature = sign_batch(entry, NODE)
    return Ticket(
        v=1,
        entry=data.decode(),
        signature=base64.b64encode(signature).decode(),
        index=index,
        path=(base64.b64encode(leaves[1 - index]).decode(),),
        salt=base64.b64encode(salts[index]).decode(),
        record=records[index].decode(),
        content_salt=base64.b64encode(b"c" * 32).decode(),
    )


def test_a_leaf_is_the_hash_that_the_reference_says() -> None:
    assert record_leaf(b"s" * 32, b"{}") == leaf(b"s" * 32, b"{}")
    stored = [b"s" * 32 + b"{}", b"t" * 32 + b"[]"]
    assert stored_leaves(stored) == [leaf(b"s" * 32, b"{}"), leaf(b"t" * 32, b"[]")]
    made = hashlib.sha256(b"gatelift/content/v1\n" + b"s" * 32 + b"hi").hexdigest()
    assert commit_content(b"s" * 32, b"hi") == f"sha256:{made}"


def test_a_ticket_opens_to_its_record() -> None:
    batch, record = verify_ticket(parse_ticket(encode_ticket(ticket())), NODE.public)
    assert (batch.n, record.seq) == (2, 8)


TAMPERINGS = {
    "another record": {"record": beat(9).decode()},
    "another salt": {"salt": base64.b64encode(b"x" * 32).decode()},
    "another place": {"index": 0},
    "a path that is too long": {"path": ticket().path * 2},
    "no path": {"path": ()},
    "another batch": {"entry": ticket().entry.replace('"at":5', '"at":6')},
    "a salt that is too short": {"salt": base64.b64encode(b"x").decode()},
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_an_altered_ticket_is_refused(name: str) -> None:
    with pytest.raises(CallerError):
        verify_ticket(msgspec.structs.replace(ticket(), **TAMPERINGS[name]), NODE.public)


def test_a_ticket_of_another_node_is_refused() -> None:
    with pytest.raises(CallerError):
        verify_ticket(ticket(), key("other").public)


def test_a_record_that_is_not_at_its_place_is_refused() -> None:
    with pytest.raises(CallerError) as caught:
        verify_ticket(ticket(seq=3), NODE.public)
    assert caught.value.code == "bad_record"


def test_an_unknown_field_or_kind_is_no_record() -> None:
    fields = json.loads(beat(1))
    for change in ({"more": 1}, {"kind": "stop"}):
        with pytest.raises(CallerError):
            decode_record(json.dumps(fields | change).encode())


def test_a_batch_signature_is_for_batches_only() -> None:
    data, signature = sign_batch(
        BatchEntry(v=1, node="n", worker="w", run="r", seq=0, n=1, root="sha256:" + "0" * 64, at=1),
        NODE,
    )
    assert verify_batch(data, signature, NODE.public).n == 1
    with pytest.raises(CallerError):
        verify_batch(data, NODE.sign(data), NODE.public)


OWN, OWN_SIGNATURE = sign_batch(
    BatchEntry(v=1, node="n", worker="w", run="r", seq=0, n=1, root="sha256:" + "0" * 64, at=1),
    NODE,
)


@pytest.mark.parametrize(
    ("entry", "signature"),
    [
        pytest.param(OWN.replace(b'"n":1', b'"n":2'), OWN_SIGNATURE, id="another entry"),
        pytest.param(OWN, OWN_SIGNATURE[:-1] + b"\0", id="a changed signature"),
        pytest.param(OWN, OWN_SIGNATURE[:32], id="half a signature"),
        pytest.param(OWN, b"", id="none"),
        pytest.param(OWN, NODE.sign(OWN), id="over no batch"),
        pytest.param(
            OWN, key("operator-1").sign(b"gatelift/batch/v1\n" + OWN), id="of another key"
        ),
    ],
)
def test_a_node_takes_a_batch_for_its_own_only_if_it_signed_it(
    entry: bytes, signature: bytes
) -> None:
    verify_own_batch(OWN, OWN_SIGNATURE, NODE)
    with pytest.raises(CallerError):
        verify_own_batch(entry, signature, NODE)


ENTRY = ticket().entry.encode()


def test_an_entry_is_read_however_its_json_is_spaced() -> None:
    spaced = json.dumps(json.loads(ENTRY), indent=1).encode()
    assert decode_batch_entry(spaced) == decode_batch_entry(ENTRY)
    assert decode_batch_entry(ENTRY).seq == 7


@pytest.mark.parametrize(
    "data",
    [
        ENTRY.replace(b'"n":2', b'"n":3,"n":2'),
        ENTRY.replace(b'"at":5', b'"at":9007199254740992'),
        ENTRY.replace(b'"at":5', b'"at":5.0'),
        ENTRY.replace(b'"node":"n1"', b'"node":"\\ud800"'),
        ENTRY.replace(b'"node":"n1"', b'"node":"\xff"'),
        ENTRY[:-1] + b',"more":1}',
        ENTRY[:-1],
    ],
    ids=["twice", "big", "float", "half a pair", "not UTF-8", "unknown", "cut"],
)
def test_an_odd_entry_is_no_entry(data: bytes) -> None:
    with pytest.raises(CallerError):
        decode_batch_entry(data)
