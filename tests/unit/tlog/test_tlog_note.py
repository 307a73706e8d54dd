"""Notes, keys and checkpoints: published ones, and every way to bend one."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from gatelift.errors import GateliftError
from gatelift.tlog import (
    Checkpoint,
    CheckpointError,
    CosignatureError,
    CosignatureSigner,
    KeyKind,
    Note,
    NoteError,
    NoteSignature,
    NoteSigner,
    PublicKeyError,
    SignatureError,
    VerifierKey,
    VkeyError,
    add_signatures,
    check_public_key,
    format_checkpoint,
    format_note,
    parse_checkpoint,
    parse_decimal,
    parse_note,
    parse_vkey,
    sign_checkpoint,
    sign_note,
    verify_checkpoint,
    verify_cosignatures,
    verify_note,
)

VECTORS = Path(__file__).parents[2] / "vectors" / "tlog"
PETER_NOTE = (VECTORS / "note_peter_neumann.txt").read_bytes()
PETER_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_SKEY = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
COSIGNED = (VECTORS / "checkpoint_cosigned.txt").read_bytes()
LOG_VKEY = "markovianprotocol.com/log+0302c6c8+ATkpOWo95UuEiW2EhNZAol4f0CS8hMluJfPcTSzrr03v"
WITNESS_VKEY = (
    "witness.navigli.sunlight.geomys.org+a3e00fe2+BNy/co4C1Hn1p+INwJrfUlgz7W55dSZReusH/GhUhJ/G"
)
LOG = NoteSigner("example.com/log", Ed25519PrivateKey.from_private_bytes(b"\x01" * 32))
OTHER = NoteSigner("example.com/other", Ed25519PrivateKey.from_private_bytes(b"\x02" * 32))
WITNESS = CosignatureSigner("example.com/w", Ed25519PrivateKey.from_private_bytes(b"\x03" * 32))
HEAD = Checkpoint(origin="example.com/log", size=7, root=b"\x07" * 32)
DASH = "\N{EM DASH}".encode()


def test_the_published_note_verifies_and_comes_back_byte_for_byte() -> None:
    note = parse_note(PETER_NOTE)
    assert verify_note(note, [parse_vkey(PETER_VKEY)]) == (parse_vkey(PETER_VKEY),)
    assert format_note(note) == PETER_NOTE


def test_the_published_signing_key_makes_the_published_note() -> None:
    seed = base64.b64decode(PETER_SKEY)[1:]
    signer = NoteSigner("PeterNeumann", Ed25519PrivateKey.from_private_bytes(seed))
    assert signer.vkey == PETER_VKEY
    assert sign_note(parse_note(PETER_NOTE).text, [signer]) == PETER_NOTE


@pytest.mark.parametrize(
    "vkey",
    [
        PETER_VKEY,
        LOG_VKEY,
        WITNESS_VKEY,
        "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
        "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2",
    ],
)
def test_published_vkeys_come_back_as_written(vkey: str) -> None:
    assert parse_vkey(vkey).vkey == vkey


def test_a_checkpoint_that_others_signed_and_cosigned_verifies() -> None:
    checkpoint = verify_checkpoint(COSIGNED, parse_vkey(LOG_VKEY))
    assert (checkpoint.origin, checkpoint.size) == ("markovianprotocol.com/log", 9266)
    (cosignature,) = verify_cosignatures(parse_note(COSIGNED), [parse_vkey(WITNESS_VKEY)])
    assert cosignature.time_s == 0x6AC17F92  # the eight bytes after the key id, read by hand
    assert cosignature.at_ms == cosignature.time_s * 1000


def test_every_part_of_a_vkey_and_every_changed_character_is_refused() -> None:
    for i in range(len(PETER_VKEY)):
        for j in range(i + 1, len(PETER_VKEY) + 1):
            if (i, j) != (0, len(PETER_VKEY)):
                with pytest.raises(GateliftError):
                    parse_vkey(PETER_VKEY[i:j])
        changed = PETER_VKEY[:i] + chr(ord(PETER_VKEY[i]) + 1) + PETER_VKEY[i + 1 :]
        with pytest.raises(GateliftError):
            parse_vkey(changed)


@pytest.mark.parametrize(
    "vkey",
    [
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        PETER_VKEY.replace("c74f20a3", "C74F20A3"),
        PETER_VKEY.replace("PeterNeumann", "Peter Neumann"),
        PETER_VKEY + "\n",
        " " + PETER_VKEY,
        "",
    ],
)
def test_vkeys_of_other_types_lengths_and_spellings_are_refused(vkey: str) -> None:
    with pytest.raises(VkeyError):
        parse_vkey(vkey)


SMALL_ORDER = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
]
NOT_CANONICAL = [
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
]


@pytest.mark.parametrize("raw", SMALL_ORDER + NOT_CANONICAL + ["02" + "00" * 31, "00" * 31])
def test_public_keys_that_libraries_treat_differently_are_refused(raw: str) -> None:
    with pytest.raises(PublicKeyError):
        check_public_key(bytes.fromhex(raw))


@settings(max_examples=20, deadline=None)
@given(st.binary(min_size=32, max_size=32))
def test_every_key_that_a_seed_makes_is_accepted(seed: bytes) -> None:
    key = NoteSigner("name", Ed25519PrivateKey.from_private_bytes(seed)).key
    assert parse_vkey(key.vkey) == key


SIGNATURE_LINE = PETER_NOTE.rsplit(b"\n\n", 1)[1]
TEXT = b"a line\n"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        TEXT,
        TEXT + b"\n",
        TEXT + SIGNATURE_LINE,
        TEXT + b"\n" + SIGNATURE_LINE[:-1],
        TEXT + b"\n" + SIGNATURE_LINE + b"trailing",
        TEXT + b"\n" + SIGNATURE_LINE + b"\n",
        TEXT + b"\n" + SIGNATURE_LINE + b"\n\n",
        TEXT + b"\n" + SIGNATURE_LINE.replace(DASH, b"-"),
        TEXT + b"\n" + SIGNATURE_LINE.replace(b" Peter", b"  Peter"),
        TEXT + b"\n" + SIGNATURE_LINE.replace(b"PeterN", b"Peter+N"),
        TEXT + b"\n" + SIGNATURE_LINE.replace(b"PeterN", "Peter\N{NO-BREAK SPACE}N".encode()),
        TEXT + b"\n" + SIGNATURE_LINE.replace(b"AM=", b"AM"),
        TEXT + b"\n" + SIGNATURE_LINE.replace(b"AM=", b"AN="),
        TEXT + b"\n" + SIGNATURE_LINE.replace(b"AM=", b"AM= "),
        TEXT + b"\n" + SIGNATURE_LINE.replace(b"\n", b"\r\n"),
        TEXT + b"\n" + DASH + b" PeterNeumann x08gow==\n",
        b"a\tline\n\n" + SIGNATURE_LINE,
        b"a\x00line\n\n" + SIGNATURE_LINE,
        b"\xff\n\n" + SIGNATURE_LINE,
        TEXT + b"\n" + DASH + b" \xff AAAAAAAA\n",
        b"x" * 300_000 + b"\n\n" + SIGNATURE_LINE,
        TEXT + b"\n" + SIGNATURE_LINE * 101,
    ],
)
def test_malformed_notes_are_refused(data: bytes) -> None:
    with pytest.raises(NoteError):
        parse_note(data)


def test_the_text_ends_at_the_last_empty_line() -> None:
    text = b"one\n\n" + DASH + b" PeterNeumann AAAAAAAAAA==\n\ntwo\n"
    note = parse_note(sign_note(text, [LOG]))
    assert note.text == text
    assert verify_note(note, [LOG.key]) == (LOG.key,)


def test_sixteen_large_signatures_fit() -> None:
    lines = [NoteSignature(name=f"w{i}", key_id=b"abcd", signature=b"s" * 5000) for i in range(15)]
    data = add_signatures(sign_note(TEXT, [LOG]), lines)
    assert len(parse_note(data).signatures) == 16
    assert verify_note(parse_note(data), [LOG.key]) == (LOG.key,)


def test_unknown_keys_are_ignored_even_if_name_or_id_match() -> None:
    good = LOG.sign(TEXT)
    same_name = NoteSignature(name=LOG.name, key_id=b"\x00" * 4, signature=b"x" * 64)
    same_id = NoteSignature(name="someone", key_id=good.key_id, signature=b"x" * 64)
    note = Note(text=TEXT, signatures=(same_name, same_id, good))
    assert verify_note(parse_note(format_note(note)), [LOG.key]) == (LOG.key,)


def test_a_known_key_that_fails_rejects_the_whole_note() -> None:
    bad = NoteSignature(name=OTHER.name, key_id=OTHER.key.key_id, signature=b"x" * 64)
    note = Note(text=TEXT, signatures=(LOG.sign(TEXT), bad))
    assert verify_note(note, [LOG.key]) == (LOG.key,)
    with pytest.raises(SignatureError):
        verify_note(note, [LOG.key, OTHER.key])


def test_a_second_line_of_a_known_key_is_verified_too() -> None:
    bad = NoteSignature(name=LOG.name, key_id=LOG.key.key_id, signature=b"x" * 64)
    with pytest.raises(SignatureError):
        verify_note(Note(text=TEXT, signatures=(LOG.sign(TEXT), bad)), [LOG.key])


def test_a_note_without_a_known_signature_is_refused() -> None:
    with pytest.raises(NoteError) as caught:
        verify_note(parse_note(PETER_NOTE), [LOG.key])
    assert caught.value.code == "unsigned"
    with pytest.raises(NoteError):
        verify_note(parse_note(PETER_NOTE), [])


def test_two_known_keys_of_one_name_and_id_are_refused() -> None:
    class Twin(VerifierKey, frozen=True, kw_only=True):
        @property
        def key_id(self) -> bytes:
            return LOG.key.key_id

    twin = Twin(name=LOG.name, kind=KeyKind.NOTE, public_key=OTHER.key.public_key)
    with pytest.raises(NoteError) as caught:
        verify_note(Note(text=TEXT, signatures=(LOG.sign(TEXT),)), [LOG.key, twin])
    assert caught.value.code == "ambiguous_key"


def test_each_flipped_byte_of_a_checkpoint_note_is_refused() -> None:
    data = sign_checkpoint(HEAD, LOG)
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises(GateliftError):
            verify_checkpoint(changed, LOG.key)


def test_a_checkpoint_has_this_text_and_verifies_under_its_own_log_only() -> None:
    assert format_checkpoint(HEAD) == (
        b"example.com/log\n7\n" + base64.b64encode(b"\x07" * 32) + b"\n"
    )
    data = sign_checkpoint(HEAD, LOG)
    assert verify_checkpoint(data, LOG.key) == HEAD
    with pytest.raises(NoteError):
        verify_checkpoint(data, OTHER.key)
    with pytest.raises(CheckpointError):
        sign_checkpoint(HEAD, OTHER)
    with pytest.raises(CheckpointError) as caught:
        verify_checkpoint(sign_note(format_checkpoint(HEAD), [OTHER]), OTHER.key)
    assert caught.value.code == "wrong_origin"


ROOT64 = base64.b64encode(b"\x07" * 32)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"o\n",
        b"o\n7\n",
        b"o\n7\n" + ROOT64,
        b"\n7\n" + ROOT64 + b"\n",
        b"o\n07\n" + ROOT64 + b"\n",
        b"o\n-7\n" + ROOT64 + b"\n",
        b"o\n+7\n" + ROOT64 + b"\n",
        b"o\n7 \n" + ROOT64 + b"\n",
        b"o\n1_0\n" + ROOT64 + b"\n",
        "o\n\N{ARABIC-INDIC DIGIT SEVEN}\n".encode() + ROOT64 + b"\n",
        b"o\n9223372036854775808\n" + ROOT64 + b"\n",
        b"o\n7\nAAAA\n",
        b"o\n7\n" + ROOT64[:-1] + b"\n",
        b"o\n7\n" + ROOT64 + b"\n\n",
        b"o\n7\n" + ROOT64 + b"\n\nextension\n",
        b"\xff\n7\n" + ROOT64 + b"\n",
    ],
)
def test_malformed_checkpoints_are_refused(text: bytes) -> None:
    with pytest.raises(CheckpointError):
        parse_checkpoint(text)


def test_extension_lines_are_read_and_kept() -> None:
    text = b"o\n7\n" + ROOT64 + b"\none\ntwo words\n"
    assert parse_checkpoint(text).extensions == ("one", "two words")
    assert format_checkpoint(parse_checkpoint(text)) == text


@settings(max_examples=50)
@given(st.integers(0, 2**63 - 1))
def test_a_decimal_has_one_spelling(number: int) -> None:
    assert parse_decimal(str(number)) == number
    with pytest.raises(CheckpointError):
        parse_decimal(f"0{number}")


def test_a_cosignature_is_the_time_and_a_signature_over_these_bytes() -> None:
    text = format_checkpoint(HEAD)
    line = WITNESS.sign(text, 1_679_315_147)
    assert line.signature[:8] == bytes.fromhex("00000000 641850cb")
    message = b"cosignature/v1\ntime 1679315147\n" + text
    Ed25519PrivateKey.from_private_bytes(b"\x03" * 32).public_key().verify(
        line.signature[8:], message
    )
    material = b"example.com/w\n\x04" + WITNESS.key.public_key
    assert line.key_id == hashlib.sha256(material).digest()[:4]


def test_a_cosignature_covers_extension_lines_and_the_time() -> None:
    text = b"o\n7\n" + ROOT64 + b"\nextension\n"
    line = WITNESS.sign(text, 5)
    (found,) = verify_cosignatures(Note(text=text, signatures=(line,)), [WITNESS.key])
    assert found.time_s == 5
    for changed in (
        Note(text=text.replace(b"ext", b"Ext"), signatures=(line,)),
        Note(text=text, signatures=(retimed(line, 6),)),
    ):
        with pytest.raises(SignatureError):
            verify_cosignatures(changed, [WITNESS.key])


def test_a_log_signature_does_not_pass_as_a_cosignature_nor_the_reverse() -> None:
    text = format_checkpoint(HEAD)
    note = Note(text=text, signatures=(LOG.sign(text), WITNESS.sign(text, 5)))
    with pytest.raises(CosignatureError):
        verify_cosignatures(note, [LOG.key])
    with pytest.raises(NoteError):
        verify_note(note, [WITNESS.key])
    as_witness = VerifierKey(name=LOG.name, kind=KeyKind.COSIGNATURE, public_key=LOG.key.public_key)
    forged = NoteSignature(
        name=LOG.name, key_id=as_witness.key_id, signature=LOG.sign(text).signature
    )
    with pytest.raises(CosignatureError, match="72 bytes"):
        verify_cosignatures(Note(text=text, signatures=(forged,)), [as_witness])


def test_a_witness_counts_once_with_its_newest_time() -> None:
    text = format_checkpoint(HEAD)
    lines = tuple(WITNESS.sign(text, time_s) for time_s in (5, 9, 7))
    found = verify_cosignatures(Note(text=text, signatures=lines), [WITNESS.key])
    assert [cosignature.time_s for cosignature in found] == [9]


def test_a_witness_key_signs_nothing_but_checkpoints() -> None:
    with pytest.raises(CheckpointError):
        WITNESS.sign(b"anything\n", 5)


def test_signers_do_not_show_their_key() -> None:
    for signer in (LOG, WITNESS):
        assert "010101" not in repr(signer)
        assert not hasattr(signer, "__dict__")


def retimed(line: NoteSignature, time_s: int) -> NoteSignature:
    signature = time_s.to_bytes(8, "big") + line.signature[8:]
    return NoteSignature(name=line.name, key_id=line.key_id, signature=signature)
