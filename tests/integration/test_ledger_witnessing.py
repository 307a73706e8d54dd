"""Asking a real witness, and some that are not."""

import asyncio
import hashlib
import time

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatelift.ledger import LedgerError, ask_witness, format_add_checkpoint, read_witness_head
from gatelift.tlog import (
    Checkpoint,
    CosignatureSigner,
    MemoryTree,
    NoteSigner,
    format_signatures,
    parse_note,
    sign_checkpoint,
    verify_cosignatures,
)
from gatelift.witness import Shelf, Witness

LOG = NoteSigner("x/releases", Ed25519PrivateKey.from_private_bytes(b"l" * 32))
SIGNER = CosignatureSigner("w.example", Ed25519PrivateKey.from_private_bytes(b"w" * 32))
OTHER = CosignatureSigner("v.example", Ed25519PrivateKey.from_private_bytes(b"v" * 32))
TREE = MemoryTree(b"entry %d" % i for i in range(20))
NOW_S = 1_790_000_000


def head(size, tree=TREE):
    return sign_checkpoint(Checkpoint(origin=LOG.name, size=size, root=tree.root(size)), LOG)


def ask(handler, size, *, old_size=0, tree=TREE, witness=SIGNER.key, timeout_s=5.0):
    async def consistency(old, new):
        return tree.consistency_proof(old, new)

    async def work():
        async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as client:
            return await ask_witness(
                client,
                "http://w.example/prefix/",
                witness,
                head(size, tree),
                old_size=old_size,
                consistency=consistency,
                timeout_s=timeout_s,
            )

    return asyncio.run(work())


@pytest.fixture
def witness(tmp_path):
    with Shelf(tmp_path) as shelf:
        witness = Witness(signer=SIGNER, log_keys={LOG.name: (LOG.key,)}, shelf=shelf)
        asked = []

        def handle(request):
            assert request.url == "http://w.example/prefix/add-checkpoint"
            asked.append(request.content)
            answer = witness.add_checkpoint(request.content, now_s=NOW_S)
            return httpx.Response(
                answer.status, content=answer.body, headers={"content-type": answer.content_type}
            )

        handle.asked = asked
        yield handle


def cosigned_at(note):
    return [c.time_s for c in verify_cosignatures(parse_note(note), [SIGNER.key])]


def test_a_request_has_the_bytes_of_the_specification():
    note = head(3)
    proof = TREE.consistency_proof(2, 3)
    lines = format_add_checkpoint(2, proof, note).split(b"\n")
    assert lines[0] == b"old 2"
    assert len(lines[1]) == 44
    assert lines[2] == b""
    assert b"\n".join(lines[3:]) == note


def test_heads_are_cosigned_as_the_log_grows(witness):
    old_size = 0
    for size in (1, 1, 5, 20):
        note = ask(witness, size, old_size=old_size)
        assert cosigned_at(note) == [NOW_S]
        assert parse_note(note).text == parse_note(head(size)).text
        old_size = size
    assert len(witness.asked) == 4


def test_a_witness_that_stands_elsewhere_is_asked_once_more(witness):
    ask(witness, 7)
    note = ask(witness, 20, old_size=3)
    assert cosigned_at(note) == [NOW_S]
    assert len(witness.asked) == 3


def test_a_log_that_went_back_is_refused(witness):
    ask(witness, 7)
    with pytest.raises(LedgerError) as caught:
        ask(witness, 5)
    assert caught.value.code == "witness_refused"


def test_another_history_is_refused(witness):
    ask(witness, 7)
    other = MemoryTree(b"other %d" % i for i in range(20))
    for size in (7, 9):
        with pytest.raises(LedgerError) as caught:
            ask(witness, size, old_size=7, tree=other)
        assert caught.value.code == "witness_refused"


def text_of(request):
    return parse_note(request.content.split(b"\n\n", 1)[1]).text


@pytest.mark.parametrize(
    "answer",
    [
        lambda request: httpx.Response(200, content=b""),
        lambda request: httpx.Response(200, content=b"thanks\n"),
        lambda request: httpx.Response(
            200, content=format_signatures([OTHER.sign(text_of(request), NOW_S)])
        ),
        lambda request: httpx.Response(
            200, content=format_signatures([SIGNER.sign(parse_note(head(2)).text, NOW_S)])
        ),
        lambda request: httpx.Response(500, content=b"sorry"),
        lambda request: httpx.Response(302, headers={"location": "http://elsewhere/"}),
        lambda request: httpx.Response(
            409, content=b"many\n", headers={"content-type": "text/x.tlog.size"}
        ),
        lambda request: httpx.Response(200, content=b"x" * 300_000),
    ],
    ids=["empty", "words", "another key", "another head", "500", "302", "no size", "endless"],
)
def test_an_answer_that_is_no_cosignature_adds_nothing(answer):
    with pytest.raises(LedgerError) as caught:
        ask(answer, 3)
    assert caught.value.code == "witness_failed"


def test_lines_of_other_keys_are_dropped():
    def answer(request):
        lines = [signer.sign(text_of(request), NOW_S) for signer in (OTHER, SIGNER)]
        return httpx.Response(200, content=format_signatures(lines))

    note = parse_note(ask(answer, 3))
    assert [line.name for line in note.signatures] == [LOG.name, SIGNER.name]


def test_a_witness_that_cannot_be_reached_is_said():
    def answer(request):
        raise httpx.ConnectTimeout("slow")

    with pytest.raises(LedgerError) as caught:
        ask(answer, 3)
    assert caught.value.code == "witness_failed"


def read_head(answer, timeout_s=5.0):
    async def work():
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
            url = "http://w.example/prefix/"
            return await read_witness_head(client, url, LOG.key, timeout_s=timeout_s)

    return asyncio.run(work())


def test_what_a_witness_holds_is_read_where_the_specification_says():
    origin = hashlib.sha256(b"x/releases").hexdigest()

    def answer(request):
        assert request.method == "GET"
        assert request.url == f"http://w.example/prefix/{origin}/checkpoint"
        return httpx.Response(200, content=head(7))

    found = read_head(answer)
    assert (found.size, found.root) == (7, TREE.root(7))


@pytest.mark.parametrize("status", [403, 404, 405])
def test_a_witness_without_a_read_side_tells_of_no_head(status):
    assert read_head(lambda _: httpx.Response(status)) is None


FORGED = sign_checkpoint(
    Checkpoint(origin=LOG.name, size=9, root=b"x" * 32),
    NoteSigner(LOG.name, Ed25519PrivateKey.from_private_bytes(b"f" * 32)),
)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(500),
        httpx.Response(200, content=b""),
        httpx.Response(200, content=FORGED),
        httpx.Response(200, content=head(7).replace(b"\n7\n", b"\n8\n")),
        httpx.Response(200, content=b"x" * 10_000_000),
    ],
    ids=["error", "nothing", "forged", "altered", "endless"],
)
def test_what_the_log_did_not_sign_proves_nothing_and_is_asked_again(answer):
    with pytest.raises(LedgerError) as caught:
        read_head(lambda _: answer)
    assert caught.value.code == "witness_failed"


class Dripping(httpx.AsyncByteStream):
    async def __aiter__(self):
        while True:
            await asyncio.sleep(0.02)
            yield b"x"


@pytest.mark.parametrize(
    "question",
    [
        lambda answer: ask(answer, 3, timeout_s=0.2),
        lambda answer: read_head(answer, timeout_s=0.2),
    ],
    ids=["cosign", "its head"],
)
def test_a_witness_that_sends_a_byte_now_and_then_is_left_at_the_deadline(question):
    begin = time.monotonic()
    with pytest.raises(LedgerError, match="within") as caught:
        question(lambda request: httpx.Response(200, stream=Dripping()))
    assert caught.value.code == "witness_failed"
    assert time.monotonic() - begin < 3
