"""Policies and receipts: which cosignatures are enough, and for which bytes."""

from __future__ import annotations

import itertools

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from gatelift.errors import GateliftError
from gatelift.tlog import (
    Checkpoint,
    CheckpointError,
    CosignatureSigner,
    MemoryTree,
    MerkleError,
    NoteError,
    NoteSigner,
    Policy,
    PolicyError,
    ProofError,
    SignatureError,
    TlogProof,
    add_signatures,
    format_policy,
    format_proof,
    parse_note,
    parse_policy,
    parse_proof,
    sign_checkpoint,
    sign_note,
    verify_proof,
    verify_witnessed,
)


def private_key(number: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)


ORIGIN = "example.com/releases"
LOG = NoteSigner(ORIGIN, private_key(1))
OTHER_LOG = NoteSigner("example.com/elsewhere", private_key(2))
WITNESSES = {
    name: CosignatureSigner(f"{name}.example/w", private_key(10 + i))
    for i, name in enumerate(["X1", "X2", "X3", "Y1", "Y2", "Y3"])
}
WITNESS_LINES = "".join(f"witness {name} {w.vkey}\n" for name, w in WITNESSES.items())
SPEC_EXAMPLE = f"""\
log {LOG.vkey}

{WITNESS_LINES}
group X-witnesses 2 X1 X2 X3
group Y-witnesses any Y1 Y2 Y3

group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
"""
TREE = MemoryTree(b"entry %d" % i for i in range(11))
HEAD = Checkpoint(origin=ORIGIN, size=11, root=TREE.root())


def policy_of(text: str) -> Policy:
    return parse_policy(text.encode())


def cosigned(*names: str, time_s: int = 1000, head: Checkpoint = HEAD) -> bytes:
    data = sign_checkpoint(head, LOG)
    text = parse_note(data).text
    return add_signatures(data, [WITNESSES[name].sign(text, time_s) for name in names])


@pytest.mark.parametrize("count", range(7))
def test_the_specifications_example_takes_two_of_x_and_one_of_y(count: int) -> None:
    policy = policy_of(SPEC_EXAMPLE)
    for names in itertools.combinations(WITNESSES, count):
        enough = sum(n[0] == "X" for n in names) >= 2 and any(n[0] == "Y" for n in names)
        if enough:
            found = verify_witnessed(cosigned(*names), policy)
            assert found.checkpoint == HEAD
            assert found.witnesses == names
            assert found.log_key == LOG.key
        else:
            with pytest.raises(PolicyError) as caught:
                verify_witnessed(cosigned(*names), policy)
            assert caught.value.code == "quorum_not_met"


def test_one_witness_as_the_quorum_and_none_written_out() -> None:
    head = f"log {LOG.vkey}\n{WITNESS_LINES}"
    assert verify_witnessed(cosigned("X2"), policy_of(head + "quorum X2\n")).witnesses == ("X2",)
    with pytest.raises(PolicyError):
        verify_witnessed(cosigned("X1"), policy_of(head + "quorum X2\n"))
    assert verify_witnessed(cosigned(), policy_of(head + "quorum none\n")).cosignatures == ()


def test_a_witness_that_signs_twice_counts_once() -> None:
    policy = policy_of(f"log {LOG.vkey}\n{WITNESS_LINES}group G 2 X1 X2\nquorum G\n")
    data = sign_checkpoint(HEAD, LOG)
    text = parse_note(data).text
    twice = add_signatures(data, [WITNESSES["X1"].sign(text, 1), WITNESSES["X1"].sign(text, 2)])
    with pytest.raises(PolicyError, match="X1"):
        verify_witnessed(twice, policy)


def test_only_cosignatures_inside_the_window_of_time_count() -> None:
    policy = policy_of(f"log {LOG.vkey}\n{WITNESS_LINES}quorum X1\n")
    data = cosigned("X1", time_s=1000)
    inside = verify_witnessed(data, policy, cosigned_from_s=1000, cosigned_until_s=1000)
    assert inside.witnesses == ("X1",)
    for window in ({"cosigned_from_s": 1001}, {"cosigned_until_s": 999}):
        with pytest.raises(PolicyError, match="1 more outside"):
            verify_witnessed(data, policy, **window)


def test_the_time_by_which_a_quorum_had_cosigned_is_told() -> None:
    policy = policy_of(SPEC_EXAMPLE)
    data = cosigned()
    text = parse_note(data).text
    times = {"X1": 50, "X2": 40, "X3": 60, "Y1": 10}
    data = add_signatures(data, [WITNESSES[n].sign(text, t) for n, t in times.items()])
    assert verify_witnessed(data, policy).known_since_s(policy) == 50
    none = policy_of(f"log {LOG.vkey}\nquorum none\n")
    assert verify_witnessed(data, none).known_since_s(none) is None


def test_the_time_at_which_a_quorum_still_confirmed_is_told() -> None:
    policy = policy_of(SPEC_EXAMPLE)
    data = cosigned()
    text = parse_note(data).text
    times = {"X1": 50, "X2": 40, "X3": 60, "Y1": 70, "Y2": 10}
    data = add_signatures(data, [WITNESSES[n].sign(text, t) for n, t in times.items()])
    # X1, X3 and Y1; one that is fresh does not make the others so.
    assert verify_witnessed(data, policy).confirmed_at_s(policy) == 50
    none = policy_of(f"log {LOG.vkey}\nquorum none\n")
    assert verify_witnessed(data, none).confirmed_at_s(none) is None


def test_a_known_witness_whose_signature_fails_rejects_the_checkpoint() -> None:
    policy = policy_of(f"log {LOG.vkey}\n{WITNESS_LINES}quorum X1\n")
    other = Checkpoint(origin=ORIGIN, size=12, root=TREE.root())
    wrong = [
        line for line in parse_note(cosigned("Y1", head=other)).signatures if "Y1" in line.name
    ]
    with pytest.raises(SignatureError):
        verify_witnessed(add_signatures(cosigned("X1"), wrong), policy)


def test_the_origin_must_be_that_of_a_listed_log_that_signed() -> None:
    policy = policy_of(f"log {LOG.vkey}\nlog {OTHER_LOG.vkey}\nquorum none\n")
    foreign = Checkpoint(origin=OTHER_LOG.name, size=11, root=TREE.root())
    assert verify_witnessed(sign_checkpoint(foreign, OTHER_LOG), policy).log_key == OTHER_LOG.key
    with pytest.raises(CheckpointError):
        verify_witnessed(sign_note(parse_note(cosigned()).text, [OTHER_LOG]), policy)
    with pytest.raises(NoteError):
        verify_witnessed(
            sign_checkpoint(foreign, OTHER_LOG), policy_of(f"log {LOG.vkey}\nquorum none\n")
        )
    with pytest.raises(NoteError):
        verify_witnessed(cosigned(), policy_of("quorum none\n"))


ONE = f"witness X1 {WITNESSES['X1'].vkey}\n"
TWO = ONE + f"witness X2 {WITNESSES['X2'].vkey}\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "quorum none",
        "\n",
        "quorum none\nquorum none\n",
        "quorum nobody\n",
        "quorum X1\n" + ONE,
        "Quorum none\n",
        "quorum none extra\n",
        f"log {LOG.vkey} a b\nquorum none\n",
        f"log {WITNESSES['X1'].vkey}\nquorum none\n",
        f"witness X1 {LOG.vkey}\nquorum none\n",
        f"log {LOG.vkey}\nlog {LOG.vkey}\nquorum none\n",
        f"log {LOG.vkey}\nwitness W {CosignatureSigner('w', private_key(1)).vkey}\nquorum none\n",
        ONE + f"witness X2 {WITNESSES['X1'].vkey}\nquorum none\n",
        ONE + f"witness X2 {CosignatureSigner('renamed', private_key(10)).vkey}\nquorum none\n",
        ONE + f"witness X1 {WITNESSES['X2'].vkey}\nquorum none\n",
        f"witness none {WITNESSES['X1'].vkey}\nquorum none\n",
        ONE + "group X1 any X1\nquorum none\n",
        ONE + "group none any X1\nquorum none\n",
        ONE + "group G any G\nquorum none\n",
        ONE + "group G any X1 X1\nquorum none\n",
        ONE + "group G any none\nquorum none\n",
        TWO + "group G any X1 X2\ngroup H any X1\nquorum G\n",
        TWO + "group G 0 X1 X2\nquorum G\n",
        TWO + "group G 3 X1 X2\nquorum G\n",
        TWO + "group G 01 X1 X2\nquorum G\n",
        TWO + "group G -1 X1 X2\nquorum G\n",
        TWO + "group G most X1 X2\nquorum G\n",
        TWO + "group G all\nquorum G\n",
        TWO + "group G any\nquorum G\n",
        ONE + "quorum\tX1\r\n",
        ONE + "# \x00\nquorum X1\n",
        ONE + "# \x7f\nquorum X1\n",
    ],
)
def test_policies_that_break_a_rule_are_refused(text: str) -> None:
    with pytest.raises(PolicyError):
        policy_of(text)


def test_an_error_names_the_line() -> None:
    with pytest.raises(PolicyError, match="line 3"):
        policy_of("# a comment\n\nlog nonsense\nquorum none\n")


def test_blanks_comments_urls_and_foreign_octets_are_allowed() -> None:
    text = (
        b"\t # caf\xe9\n  \t\n"
        + f"  log\t{LOG.vkey}   https://example.com/log \n".encode()
        + b"witness \xff\xfe "
        + WITNESSES["X1"].vkey.encode()
        + b" https://w.example\n"
        + b"\tquorum \xff\xfe\n"
    )
    policy = parse_policy(text)
    assert policy.logs[0].url == "https://example.com/log"
    assert policy.witnesses[0].url == "https://w.example"
    assert parse_policy(format_policy(policy)) == policy
    verify_witnessed(cosigned("X1"), policy)


def test_a_policy_comes_back_from_its_text() -> None:
    policy = policy_of(SPEC_EXAMPLE)
    assert parse_policy(format_policy(policy)) == policy


def proof_of(index: int, data: bytes) -> TlogProof:
    return TlogProof(index=index, hashes=TREE.inclusion_proof(index), checkpoint_note=data)


POLICY = policy_of(f"log {LOG.vkey}\n{WITNESS_LINES}group G 2 X1 X2 X3\nquorum G\n")


@pytest.mark.parametrize("index", range(11))
def test_a_receipt_verifies_for_its_own_entry_only(index: int) -> None:
    proof = parse_proof(format_proof(proof_of(index, cosigned("X1", "X3", time_s=77))))
    found = verify_proof(proof, b"entry %d" % index, POLICY)
    assert found.checkpoint == HEAD
    assert [cosignature.time_s for cosignature in found.cosignatures] == [77, 77]
    with pytest.raises(MerkleError):
        verify_proof(proof, b"entry %d" % ((index + 1) % 11), POLICY)


def test_a_receipt_without_the_quorum_is_refused() -> None:
    with pytest.raises(PolicyError):
        verify_proof(proof_of(3, cosigned("X1")), b"entry 3", POLICY)
    with pytest.raises(PolicyError):
        verify_proof(
            proof_of(3, cosigned("X1", "X2", time_s=5)), b"entry 3", POLICY, cosigned_from_s=6
        )


def test_the_layout_of_a_receipt_is_that_of_the_specification() -> None:
    note = cosigned("X1")
    proof = TlogProof(
        index=3, hashes=(b"\x00" * 32, b"\x01" * 32), checkpoint_note=note, extra=b"x"
    )
    assert format_proof(proof) == (
        b"c2sp.org/tlog-proof@v1\nextra eA==\nindex 3\n"
        b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
        b"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n\n" + note
    )
    lone = TlogProof(index=0, hashes=(), checkpoint_note=note)
    assert format_proof(lone) == b"c2sp.org/tlog-proof@v1\nindex 0\n\n" + note


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**63 - 2),
    st.lists(st.binary(min_size=32, max_size=32), max_size=63),
    st.none() | st.binary(min_size=1, max_size=40),
)
def test_a_receipt_comes_back_from_its_bytes(
    index: int, hashes: list[bytes], extra: bytes | None
) -> None:
    proof = TlogProof(
        index=index, hashes=tuple(hashes), checkpoint_note=cosigned("X1"), extra=extra
    )
    assert parse_proof(format_proof(proof)) == proof


NOTE = cosigned("X1")
HASH = b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
FIRST = b"c2sp.org/tlog-proof@v1\n"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        FIRST,
        FIRST + b"index 3\n" + NOTE,
        FIRST + b"index 03\n\n" + NOTE,
        FIRST + b"index 3\nextra eA==\n\n" + NOTE,
        FIRST + b"extra \nindex 3\n\n" + NOTE,
        FIRST + b"extra eA\nindex 3\n\n" + NOTE,
        FIRST + b"extra eA==\nextra eA==\nindex 3\n\n" + NOTE,
        FIRST + HASH + b"\n" + NOTE,
        FIRST + b"index 3\nAAAA\n\n" + NOTE,
        FIRST + b"index 3\n" + HASH * 64 + b"\n" + NOTE,
        FIRST + b"index 3\n" + HASH.replace(b"\n", b"\r\n") + b"\n" + NOTE,
        FIRST + b"index 9223372036854775807\n\n" + NOTE,
        FIRST.replace(b"v1", b"v2") + b"index 3\n\n" + NOTE,
        b" " + FIRST + b"index 3\n\n" + NOTE,
        FIRST + b"index 3\n\n" + NOTE[:-1],
        FIRST + b"index 3\n\n",
        FIRST + b"index 3\n# \xff\n\n" + NOTE,
        FIRST + b"index 3\n" + HASH * 13_000 + b"\n" + NOTE,
    ],
)
def test_malformed_receipts_are_refused(data: bytes) -> None:
    with pytest.raises((ProofError, NoteError)):
        parse_proof(data)


def test_each_flipped_byte_of_a_receipt_is_refused() -> None:
    policy = policy_of(f"log {LOG.vkey}\nwitness W {WITNESSES['X1'].vkey}\nquorum W\n")
    data = format_proof(proof_of(3, cosigned("X1")))
    verify_proof(parse_proof(data), b"entry 3", policy)
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises(GateliftError):
            verify_proof(parse_proof(changed), b"entry 3", policy)
