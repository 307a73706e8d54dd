from __future__ import annotations

import pytest

from gatelift.gateway.http_messages import (
    DuplicateHeaderError,
    HttpRejectionError,
    Request,
    ResponseMisuseError,
    render_chunk,
    render_rejection,
    render_response,
)

AT = 784111777  # Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110 section 5.6.7


def request(*headers: tuple[bytes, bytes]) -> Request:
    return Request(
        method="GET",
        path="/",
        query="",
        headers=headers,
        body=b"",
        peer="unix",
        received_at_monotonic=0.0,
    )


def test_a_response_is_one_piece_with_its_length() -> None:
    assert render_response(200, [(b"x-a", b"b")], b"hello", epoch_s=AT, close=False) == (
        b"HTTP/1.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\ncontent-length: 5\r\n"
        b"x-a: b\r\n\r\nhello"
    )


def test_names_and_values_may_hold_any_sign_of_a_token() -> None:
    data = render_response(200, [(b"x-%b%", b"%b%d%%"), (b"y", b"")], b"", epoch_s=AT, close=False)
    assert b"\r\nx-%b%: %b%d%%\r\ny: \r\n\r\n" in data


def test_a_head_only_response_keeps_the_length_of_the_body() -> None:
    data = render_response(200, [], b"hello", epoch_s=AT, close=True, head_only=True)
    assert data.endswith(b"content-length: 5\r\nconnection: close\r\n\r\n")


def test_a_response_without_content_has_no_length() -> None:
    assert b"content-length" not in render_response(204, [], b"", epoch_s=AT, close=False)


@pytest.mark.parametrize(
    ("status", "header", "body"),
    [
        pytest.param(200, (b"x", b"a\r\nset-cookie: b"), b"", id="line end in value"),
        pytest.param(200, (b"x", b"a\nb"), b"", id="LF in value"),
        pytest.param(200, (b"x", b"a\rb"), b"", id="CR in value"),
        pytest.param(200, (b"x", b"a\0b"), b"", id="NUL in value"),
        pytest.param(200, (b"x: a\r\ny", b"b"), b"", id="line end in name"),
        pytest.param(200, (b"X-Upper", b"b"), b"", id="upper case"),
        pytest.param(200, (b"content-length", b"0"), b"", id="own length"),
        pytest.param(200, (b"transfer-encoding", b"chunked"), b"", id="own coding"),
        pytest.param(199, (b"x", b"a"), b"", id="interim status"),
        pytest.param(999, (b"x", b"a"), b"", id="unknown status"),
        pytest.param(204, (b"x", b"a"), b"a", id="body where none may be"),
    ],
)
def test_what_would_break_the_framing_is_not_sent(
    status: int, header: tuple[bytes, bytes], body: bytes
) -> None:
    with pytest.raises(ResponseMisuseError):
        render_response(status, [header], body, epoch_s=AT, close=False)


def test_chunks_have_hex_sizes() -> None:
    assert render_chunk(b"a" * 26) == b"1a\r\n" + b"a" * 26 + b"\r\n"


def test_a_refusal_is_json_and_closes() -> None:
    data = render_rejection(HttpRejectionError(413, "too_large", "expected less"), epoch_s=AT)
    assert b"connection: close\r\n" in data
    assert data.endswith(
        b'{"type":"error","error":{"message":"expected less","type":"invalid_request_error",'
        b'"code":"too_large"}}'
    )


def test_a_header_sent_twice_is_not_picked_from() -> None:
    twice = request((b"x-api-key", b"a"), (b"x-api-key", b"a"), (b"x", b"1"))
    assert twice.header(b"x") == b"1"
    assert twice.header(b"y") is None
    assert twice.header_values(b"x-api-key") == [b"a", b"a"]
    with pytest.raises(DuplicateHeaderError):
        twice.header(b"x-api-key")
