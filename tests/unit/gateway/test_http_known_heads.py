"""What a server knows of earlier heads may not change how any request is read."""

from __future__ import annotations

import pytest

from gatelift.gateway.http_head import RequestHead
from gatelift.gateway.http_known_heads import KnownHeads
from gatelift.gateway.http_messages import HttpRejectionError, ServerLimits
from gatelift.gateway.http_reader import ReadingPhase, RequestReader

HEAD = b"POST /a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer k\r\nContent-Length: 5\r\n\r\n"
HELLO = HEAD + b"hello"


def read(known: KnownHeads, *parts: bytes) -> list[tuple[RequestHead, bytes] | str | None]:
    """Return what each part brings: a request, the code of a refusal, or nothing yet."""
    reader = RequestReader(ServerLimits(max_body_bytes=100), known)
    found: list[tuple[RequestHead, bytes] | str | None] = []
    for part in parts:
        begun = reader.phase is not ReadingPhase.NOTHING
        whole = None if begun else reader.take_whole(part)
        if whole is None:
            reader.feed(part)
            try:
                whole = reader.take()
            except HttpRejectionError as error:
                found.append(error.code)
                return found
        found.append(whole)
        while whole is not None and reader.buffered:
            try:
                whole = reader.take()
            except HttpRejectionError as error:
                found.append(error.code)
                return found
            found.append(whole)
    return found


CASES: dict[str, tuple[bytes, ...]] = {
    "the same request": (HELLO,),
    "another body": (HEAD + b"POST ",),
    "another key": (HELLO.replace(b"Bearer k", b"Bearer l"),),
    "cut after the head": (HEAD, b"hello"),
    "pipelined": (HELLO + HELLO,),
    "a byte of the next": (HELLO + b"P", HELLO[1:]),
    "a body too short": (HELLO[:-1],),
    "two hosts": (HELLO.replace(b"Host: h\r\n", b"Host: h\r\nHost: h\r\n"),),
    "a coding beside the length": (
        HELLO.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ),
    "a bare line feed": (HELLO.replace(b"\r\n\r\n", b"\n\r\n"),),
    "an empty line before": (b"\r\n" + HELLO, b"\r\n" + HELLO),
    "an empty line, then a known head, then one": (b"\r\n", HELLO, b"\r\n" + HELLO),
    "a body over the bound": (HEAD.replace(b": 5", b": 101") + b"x" * 101,),
    "no body": (b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n",),
    "chunks": (
        HEAD.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"1\r\nx\r\n0\r\n\r\n",
    ),
    "chunks that are to come": (
        HEAD.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        b"1\r\nx\r\n0\r\n\r\n",
    ),
    "closing after this": (HELLO.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),),
}


@pytest.mark.parametrize("parts", CASES.values(), ids=CASES)
def test_every_request_is_read_as_it_was_before_its_head_was_known(
    parts: tuple[bytes, ...],
) -> None:
    known = KnownHeads()
    read(known, HELLO)
    read(known, *parts)
    assert read(known, *parts) == read(KnownHeads(), *parts)


def test_heads_without_end_are_not_kept_without_end() -> None:
    known = KnownHeads()
    for number in range(1000):
        read(known, HELLO.replace(b"/a", b"/%d" % number))
    assert len(known) <= 256


def test_a_long_head_is_read_anew_each_time() -> None:
    known = KnownHeads()
    read(known, HELLO.replace(b"Bearer k", b"Bearer " + b"k" * 4000))
    assert len(known) == 0


def test_a_head_that_was_refused_is_not_known() -> None:
    known = KnownHeads()
    read(known, HELLO.replace(b"Host: h\r\n", b""))
    assert len(known) == 0
