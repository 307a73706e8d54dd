from __future__ import annotations

import pytest

from gatelift.gateway.http_body import MAX_CHUNKS
from gatelift.gateway.http_messages import HttpRejectionError, ServerLimits
from gatelift.gateway.http_reader import ReadingPhase, RequestReader

GET = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED_HEAD = b"POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED = CHUNKED_HEAD + b"3\r\nabc\r\n00A\r\n0123456789\r\n0\r\n\r\n"
STREAM = GET + POST + CHUNKED + b"\r\n" + GET
EXPECTED = [("/1", b""), ("/2", b"hello"), ("/3", b"abc0123456789"), ("/1", b"")]


def read_all(reader: RequestReader) -> list[tuple[str, bytes]]:
    found = []
    while (taken := reader.take()) is not None:
        found.append((taken[0].path, taken[1]))
    return found


def test_requests_come_out_the_same_however_the_bytes_are_cut() -> None:
    for cut in range(len(STREAM) + 1):
        reader = RequestReader(ServerLimits())
        found = []
        for piece in (STREAM[:cut], STREAM[cut:]):
            reader.feed(piece)
            found += read_all(reader)
        assert found == EXPECTED
        assert reader.buffered == 0
        assert reader.phase is ReadingPhase.NOTHING


def test_requests_come_out_the_same_byte_by_byte() -> None:
    reader = RequestReader(ServerLimits())
    found = []
    for index in range(len(STREAM)):
        reader.feed(STREAM[index : index + 1])
        found += read_all(reader)
    assert found == EXPECTED


@pytest.mark.parametrize("step", [1500, 65536])
def test_large_requests_in_many_pieces_come_out_whole(step: int) -> None:
    bodies = [bytes([65 + n]) * (n * 20_000) for n in range(5)]
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
    data = b"".join(head % len(body) + body for body in bodies)
    reader = RequestReader(ServerLimits())
    found = []
    for start in range(0, len(data), step):
        reader.feed(data[start : start + step])
        found += [body for _, body in read_all(reader)]
    assert found == bodies


def test_the_next_request_is_not_judged_before_it_is_asked_for() -> None:
    reader = RequestReader(ServerLimits())
    reader.feed(POST + b"nonsense\r\n\r\n")
    taken = reader.take()
    assert taken is not None
    assert taken[1] == b"hello"
    with pytest.raises(HttpRejectionError):
        reader.take()


def test_the_phase_says_what_is_missing() -> None:
    reader = RequestReader(ServerLimits())
    phases = []
    for piece in (b"", POST[:10], POST[10:-2], POST[-2:]):
        reader.feed(piece)
        reader.take()
        phases.append(reader.phase)
    assert phases == [
        ReadingPhase.NOTHING,
        ReadingPhase.HEAD,
        ReadingPhase.BODY,
        ReadingPhase.NOTHING,
    ]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(b"GET / HTTP/1.1\nHost: a\n\n", 400, id="lines end with LF alone"),
        pytest.param(b"GET /" + b"a" * 200, 431, id="head without end"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 90 + b"\r\n\r\n", 431, id="long"),
        pytest.param(b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="two empty lines"),
    ],
)
def test_a_head_is_refused_as_early_as_it_can_be(data: bytes, status: int) -> None:
    for pieces in ([data], [data[i : i + 1] for i in range(len(data))]):
        reader = RequestReader(ServerLimits(max_header_bytes=100))
        with pytest.raises(HttpRejectionError) as caught:  # noqa: PT012 - any piece may be the one
            for piece in pieces:
                reader.feed(piece)
                reader.take()
        assert caught.value.status == status


def test_carriage_return_and_line_feed_in_two_pieces_are_one_line_end() -> None:
    reader = RequestReader(ServerLimits())
    reader.feed(GET[:16])
    assert reader.take() is None
    assert GET[:16].endswith(b"\r")
    reader.feed(GET[16:])
    assert read_all(reader) == [("/1", b"")]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"3;a=b\r\nabc\r\n0\r\n\r\n", id="extension"),
        pytest.param(b"3;a\nabc\r\n0\r\n\r\n", id="extension ended by LF"),
        pytest.param(b"3\nabc\r\n0\r\n\r\n", id="size ended by LF"),
        pytest.param(b"3\r\nabc\n0\r\n\r\n", id="data ended by LF"),
        pytest.param(b"3\r\nabc0\r\n\r\n", id="data not ended"),
        pytest.param(b"3\r\nabcd\r\n0\r\n\r\n", id="data longer than its size"),
        pytest.param(b"0x3\r\nabc\r\n0\r\n\r\n", id="0x"),
        pytest.param(b"+3\r\nabc\r\n0\r\n\r\n", id="signed"),
        pytest.param(b"3 \r\nabc\r\n0\r\n\r\n", id="blank after the size"),
        pytest.param(b" 3\r\nabc\r\n0\r\n\r\n", id="blank before the size"),
        pytest.param(b"1_0\r\nabc\r\n0\r\n\r\n", id="underscore"),
        pytest.param(b"\r\nabc\r\n0\r\n\r\n", id="no size"),
        pytest.param(b"00000000000000003\r\nabc\r\n0\r\n\r\n", id="17 digits"),
        pytest.param(b"fffffffffffffffff\r\nabc", id="overflow"),
        pytest.param(b"0\r\nX: y\r\n\r\n", id="trailer"),
        pytest.param(b"0\r\n\n\n", id="last line ended by LF"),
        pytest.param(b"aaaaaaaaaaaaaaaaaaaaaaaa", id="size without end"),
    ],
)
def test_a_chunk_that_two_readers_could_read_differently_is_refused(body: bytes) -> None:
    reader = RequestReader(ServerLimits())
    reader.feed(CHUNKED_HEAD + body)
    with pytest.raises(HttpRejectionError) as caught:
        reader.take()
    assert caught.value.status == 400


def test_chunks_beyond_the_bound_are_refused_before_they_come() -> None:
    reader = RequestReader(ServerLimits(max_body_bytes=10))
    reader.feed(CHUNKED_HEAD + b"6\r\nabcdef\r\n5\r\n")
    with pytest.raises(HttpRejectionError) as caught:
        reader.take()
    assert caught.value.status == 413


def test_a_body_in_too_many_chunks_is_refused() -> None:
    reader = RequestReader(ServerLimits())
    reader.feed(CHUNKED_HEAD + b"1\r\na\r\n" * MAX_CHUNKS)
    assert reader.take() is None
    reader.feed(b"1\r\na\r\n")
    with pytest.raises(HttpRejectionError) as caught:
        reader.take()
    assert caught.value.code == "too_many_chunks"
