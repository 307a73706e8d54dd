from __future__ import annotations

import pytest

from gatelift.gateway.http_head import CHUNKED, parse_request_head
from gatelift.gateway.http_messages import HttpRejectionError, ServerLimits

LIMITS = ServerLimits()
GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"


def test_a_whole_head_is_read() -> None:
    head = parse_request_head(
        b"POST /v1/chat?a=%20b&c HTTP/1.1\r\nHost: api.test:8080\r\nX-Two:  one \t\r\n"
        b"x-two: two\r\nContent-Length: 12\r\n\r\n",
        LIMITS,
    )
    assert (head.method, head.path, head.query) == ("POST", "/v1/chat", "a=%20b&c")
    assert head.headers == (
        (b"host", b"api.test:8080"),
        (b"x-two", b"one"),
        (b"x-two", b"two"),
        (b"content-length", b"12"),
    )
    assert head.by_name == {b"host": b"api.test:8080", b"x-two": None, b"content-length": b"12"}
    assert head.body_length == 12
    assert head.keep_alive
    assert not head.expects_continue


@pytest.mark.parametrize(
    ("lines", "keep_alive"),
    [
        (b"", True),
        (b"Connection: keep-alive\r\n", True),
        (b"Connection: close\r\n", False),
        (b"Connection: TE, Close\r\n", False),
        (b"Connection: TE\r\nConnection: close\r\n", False),
        (b"Connection: closed\r\n", True),
    ],
)
def test_keep_alive_follows_the_connection_header(lines: bytes, keep_alive: bool) -> None:
    assert parse_request_head(GET + lines + b"\r\n", LIMITS).keep_alive is keep_alive


@pytest.mark.parametrize("spelling", [b"chunked", b"Chunked", b"\tchunked"])
def test_chunked_alone_is_taken(spelling: bytes) -> None:
    head = parse_request_head(POST + b"Transfer-Encoding:" + spelling + b"\r\n\r\n", LIMITS)
    assert head.body_length == CHUNKED


@pytest.mark.parametrize(
    "upgrade",
    [b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"],
)
def test_an_upgrade_is_ignored_and_the_length_still_counts(upgrade: bytes) -> None:
    head = parse_request_head(POST + upgrade + b"Content-Length: 5\r\n\r\n", LIMITS)
    assert head.body_length == 5


# What two readers could read differently, after the smuggling collections of PortSwigger and the
# test names of RFC 9112 sections 2.2, 5, 6 and 7; each is a refusal here, with its status.
REFUSED = {
    "length and coding": (400, POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "coding and length": (400, POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"),
    "chunked, identity": (400, POST + b"Transfer-Encoding: chunked, identity\r\n\r\n"),
    "identity": (400, POST + b"Transfer-Encoding: identity\r\n\r\n"),
    "gzip, chunked": (400, POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n"),
    "chunked twice": (400, POST + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n"),
    "chunked, chunked": (400, POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n"),
    "xchunked": (400, POST + b"Transfer-Encoding: xchunked\r\n\r\n"),
    "chunked with vt": (400, POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n"),
    "quoted chunked": (400, POST + b'Transfer-Encoding: "chunked"\r\n\r\n'),
    "empty coding": (400, POST + b"Transfer-Encoding:\r\n\r\n"),
    "blank before colon": (400, POST + b"Transfer-Encoding : chunked\r\n\r\n"),
    "length twice": (400, POST + b"Content-Length: 1\r\n" * 2 + b"\r\n"),
    "two lengths": (400, POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n"),
    "length list": (400, POST + b"Content-Length: 1, 1\r\n\r\n"),
    "signed length": (400, POST + b"Content-Length: +1\r\n\r\n"),
    "negative length": (400, POST + b"Content-Length: -1\r\n\r\n"),
    "hex length": (400, POST + b"Content-Length: 0x1\r\n\r\n"),
    "underscored length": (400, POST + b"Content-Length: 1_0\r\n\r\n"),
    "empty length": (400, POST + b"Content-Length:\r\n\r\n"),
    "huge length": (400, POST + b"Content-Length: 99999999999999999999999\r\n\r\n"),
    "long length": (413, POST + b"Content-Length: 1048577\r\n\r\n"),
    "folded line": (400, GET + b"X: a\r\n b\r\n\r\n"),
    "folded coding": (400, POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n"),
    "folded first line": (400, b"GET / HTTP/1.1\r\n X: a\r\nHost: a\r\n\r\n"),
    "bare LF": (400, GET + b"X: a\nY: b\r\n\r\n"),
    "bare LF in first line": (400, b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
    "bare CR": (400, GET + b"X: a\rY: b\r\n\r\n"),
    "NUL in value": (400, GET + b"X: a\x00b\r\n\r\n"),
    "control in value": (400, GET + b"X: a\x01b\r\n\r\n"),
    "NUL in name": (400, GET + b"X\x00: a\r\n\r\n"),
    "empty name": (400, GET + b": a\r\n\r\n"),
    "bad name": (400, GET + b"X(: a\r\n\r\n"),
    "high name": (400, GET + b"X\xff: a\r\n\r\n"),
    "no colon": (400, GET + b"X\r\n\r\n"),
    "no host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two hosts": (400, GET + b"Host: b\r\n\r\n"),
    "empty host": (400, b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    "host with path": (400, b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    "host with user": (400, b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
    "host list": (400, b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
    "two keys": (400, GET + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n"),
    "two types": (400, POST + b"Content-Type: a/b\r\nContent-Type: c/d\r\n\r\n"),
    "chunked in 1.0": (
        400,
        b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    "body in 1.0": (505, b"POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 1\r\n\r\n"),
    "version 0.9": (400, b"GET /\r\n\r\n"),
    "version 1.2": (505, b"GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
    "version 2.0": (505, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    "h2 preface": (505, b"PRI * HTTP/2.0\r\n\r\n"),
    "other protocol": (505, b"SETUP / RTSP/1.0\r\nHost: a\r\n\r\n"),
    "lower-case version": (505, b"GET / http/1.1\r\nHost: a\r\n\r\n"),
    "absolute form": (400, b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "asterisk form": (400, b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
    "authority form": (501, b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "authority form of GET": (400, b"GET a:1 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "fragment": (400, b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"),
    "high target": (400, b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n"),
    "tab in target": (400, b"GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n"),
    "NUL in target": (400, b"GET /a\x00b HTTP/1.1\r\nHost: a\r\n\r\n"),
    "long target": (414, b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
    "two blanks": (400, b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "blank at the end": (400, b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
    "tab as blank": (400, b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "unknown method": (501, b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "lower-case method": (501, b"get / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "other known method": (501, b"SOURCE / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "too many headers": (431, GET + b"X: a\r\n" * 64 + b"\r\n"),
    "other expectation": (417, POST + b"Expect: 200-ok\r\n\r\n"),
    "only empty lines": (400, b"\r\n\r\n"),
}


@pytest.mark.parametrize(("status", "head"), REFUSED.values(), ids=REFUSED)
def test_what_two_readers_could_read_differently_is_refused(status: int, head: bytes) -> None:
    with pytest.raises(HttpRejectionError) as caught:
        parse_request_head(head, LIMITS)
    assert caught.value.status == status


def test_exactly_as_many_headers_as_allowed_are_taken() -> None:
    assert len(parse_request_head(GET + b"X: a\r\n" * 63 + b"\r\n", LIMITS).headers) == 64


def test_http_1_0_is_taken_without_a_body_and_not_kept_alive() -> None:
    head = parse_request_head(
        b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", LIMITS
    )
    assert not head.keep_alive
    assert not head.http_1_1
