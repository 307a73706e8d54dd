"""The one-file verifier takes and refuses what the package takes and refuses, piece by piece."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatelift.encoding import encode_base64, parse_base64, parse_digest, parse_json
from gatelift.tlog import (
    Checkpoint,
    MemoryTree,
    add_signatures,
    check_public_key,
    parse_checkpoint,
    parse_note,
    parse_policy,
    parse_vkey,
    sign_checkpoint,
    verify_log_signature,
    verify_witnessed,
)
from gatelift.tlog.ed25519 import _SMALL_ORDER_YS
from tests.support.alike import REFUSED, by_file, by_package
from tests.support.verifiers import load_file
from tests.support.world import NOW, World, key

VECTORS = Path(__file__).parents[2] / "vectors/tlog"
WORLD = World()


def edited(text: str, pieces: tuple[str, ...], chance: random.Random, times: int) -> str:
    for _ in range(times):
        at = chance.randrange(len(text) + 1)
        text = text[:at] + chance.choice(pieces) + text[at + chance.choice((0, 0, 1, 3)) :]
    return text


EDITS = st.tuples(st.integers(0, 2**32), st.integers(0, 3))


# -- JSON, base64, digests, keys ------------------------------------------------------------------

JSON_PIECES = (
    *'{}[],:"\\ \n\t0123456789.-+eE', "NaN", "Infinity", "-0", "1e999", "9007199254740993", "null", "true",
    "\\u0061", "\\ud800", "\\udc00", "\x00", "\x7f", "é", "\ufeff", "\u2028", '"a":', '"a":1,"a":2', "[" * 70,
)  # fmt: skip
JSON_TEXT = (
    '{"v":1,"at":1790000000000,"kind":"order","actor":["stop:sam"],"more":{"a":[1.5,null,true]}}'
)


@settings(max_examples=1500, deadline=None)
@given(edits=EDITS)
def test_json_is_taken_and_refused_alike(edits: tuple[int, int]) -> None:
    text = edited(JSON_TEXT, JSON_PIECES, random.Random(edits[0]), edits[1])
    data = text.encode()
    ours, theirs = by_package(parse_json, data), by_file(load_file().read_json, data)
    assert (ours is REFUSED) == (theirs is REFUSED), text
    assert ours == theirs


@pytest.mark.parametrize(
    "data",
    [
        b"\xff{}",
        b'{"a":"\\ud83d"}',
        b'{"a":"\\ud83d\\ude00"}',
        b"[" * 64 + b"]" * 64,
        b"[" * 65 + b"]" * 65,
        b"[" * 100_000,
        b"9007199254740991",
        b"9007199254740992",
        b"-9007199254740992",
        b"1e309",
        b"",
        b"{} {}",
    ],
)
def test_json_at_its_limits_is_taken_and_refused_alike(data: bytes) -> None:
    ours, theirs = by_package(parse_json, data), by_file(load_file().read_json, data)
    assert (ours is REFUSED) == (theirs is REFUSED)


@given(
    text=st.one_of(st.text(alphabet="ABab01+/=-_ \n", max_size=12), st.binary().map(encode_base64))
)
def test_base64_and_digests_are_taken_and_refused_alike(text: str) -> None:
    file = load_file()
    assert by_package(parse_base64, text) == by_file(file.read_base64, text)
    digest = f"sha256:{text}"
    assert by_package(parse_digest, digest) == by_file(file.check_digest, digest)


@pytest.mark.parametrize("text", ["sha256:" + "a" * 64, "sha256:" + "A" * 64, "sha256:" + "a" * 63])
def test_a_digest_has_one_spelling(text: str) -> None:
    assert by_package(parse_digest, text) == by_file(load_file().check_digest, text)


def odd_keys() -> list[bytes]:
    found = [y.to_bytes(32, "little") for y in sorted(_SMALL_ORDER_YS)]
    found += [raw[:31] + bytes([raw[31] | 0x80]) for raw in found]
    prime = 2**255 - 19
    found += [(prime + n).to_bytes(32, "little") for n in (0, 1, 3, 18)]
    found += [bytes([n]) + bytes(31) for n in range(2, 40)]  # about half are on the curve
    return [*found, bytes(31), bytes(33), key("any").public]


def test_public_keys_are_taken_and_refused_alike() -> None:
    said = [by_package(check_public_key, raw) for raw in odd_keys()]
    assert said == [by_file(load_file().check_public_key, raw) for raw in odd_keys()]
    assert 10 < sum(each is not REFUSED for each in said) < len(said)


# -- notes, vkeys, policies -----------------------------------------------------------------------


def test_published_notes_are_read_alike() -> None:
    file = load_file()
    for path in VECTORS.glob("*.txt"):
        data = path.read_bytes()
        ours, theirs = by_package(parse_note, data), by_file(file.read_note, data)
        assert (ours is REFUSED) == (theirs is REFUSED), path.name
        if ours is not REFUSED:
            assert ours.text == theirs.text
            assert [(s.name, s.key_id, s.signature) for s in ours.signatures] == theirs.lines


def told_note() -> bytes:
    tree = MemoryTree([b"a", b"b"])
    note = sign_checkpoint(Checkpoint(origin=WORLD.log.name, size=2, root=tree.root()), WORLD.log)
    return add_signatures(note, [WORLD.witness.sign(parse_note(note).text, NOW // 1000)])


NOTE_PIECES = (
    *"\n ABab0129+/=—",
    "\n\n",
    "— ",
    "00",
    "\x00",
    "\t",
    "é",
    "— test.example/releases AAAAAAA=\n",
)


@settings(max_examples=1200, deadline=None)
@given(edits=EDITS)
def test_checkpoints_are_verified_and_refused_alike(edits: tuple[int, int]) -> None:
    file = load_file()
    data = edited(told_note().decode(), NOTE_PIECES, random.Random(edits[0]), edits[1]).encode()
    ours = by_package(lambda d: parse_checkpoint(parse_note(d).text), data)
    theirs = by_file(lambda d: file.read_checkpoint(file.read_note(d)), data)
    assert (ours is REFUSED) == (theirs is REFUSED), data
    if ours is not REFUSED:
        assert (ours.origin, ours.size, ours.root) == (theirs.origin, theirs.size, theirs.root)
    vkey = file.read_vkey(WORLD.log.vkey, 1)
    signed = by_package(lambda d: verify_log_signature(parse_note(d), [WORLD.log.key]), data)
    there = by_file(lambda d: file.verify_log_key(file.read_note(d), [vkey]), data)
    assert (signed is REFUSED) == (there is REFUSED), data
    policy = f"log {WORLD.log.vkey}\nwitness w {WORLD.witness.vkey}\nquorum w\n".encode()
    met = by_package(lambda d: verify_witnessed(d, parse_policy(policy)), data)
    there = by_file(lambda d: file.read_policy(policy).verify(file.read_note(d), 2**62), data)
    assert (met is REFUSED) == (there is REFUSED), data


VKEYS = [WORLD.log.vkey, WORLD.witness.vkey]


@settings(max_examples=600, deadline=None)
@given(edits=EDITS, index=st.integers(0, 1))
def test_vkeys_are_taken_and_refused_alike(edits: tuple[int, int], index: int) -> None:
    text = edited(VKEYS[index], (*"+ABab01=/ .", "\n"), random.Random(edits[0]), edits[1])
    kind = 1 if index == 0 else 4
    ours = by_package(parse_vkey, text)
    theirs = by_file(lambda t: load_file().read_vkey(t, kind), text)
    taken = ours is not REFUSED and ours.kind == kind
    assert taken == (theirs is not REFUSED), text


POLICY = f"""\
# comment
log {WORLD.log.vkey} https://log.example/
witness w1 {WORLD.witness.vkey}
group g 1 w1
quorum g
"""
POLICY_PIECES = (
    "\n", " ", "\t", "#", "quorum none\n", "quorum w1\n", "group h any g\n", "group h all w1\n", "group g 2 w1\n",
    "witness w1 x\n", f"witness w2 {WORLD.witness.vkey}\n", f"log {WORLD.log.vkey}\n", "none", "w1", "g", "0", "\r",
    "\x00", "\udcff", "any", "all", "2", "group n 1 none\n", "group e any\n", "group d 1 w1 w1\n",
)  # fmt: skip


@settings(max_examples=1200, deadline=None)
@given(edits=EDITS)
def test_policies_are_taken_and_refused_alike(edits: tuple[int, int]) -> None:
    text = edited(POLICY, POLICY_PIECES, random.Random(edits[0]), edits[1])
    data = text.encode("utf-8", "surrogateescape")
    ours, theirs = by_package(parse_policy, data), by_file(load_file().read_policy, data)
    assert (ours is REFUSED) == (theirs is REFUSED), text
    if ours is not REFUSED:
        assert ours.quorum == theirs.quorum
        assert [log.key.vkey for log in ours.logs] == [log.text for log in theirs.logs]
        assert {g.name: (g.threshold, list(g.members)) for g in ours.groups} == theirs.groups
