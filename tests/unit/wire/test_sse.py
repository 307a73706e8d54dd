from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatelift.wire.sse import SseError, SseEvent, SseFieldError, SseParser, sse_event


def events(data: bytes) -> list[tuple[bytes, bytes]]:
    return [(event.name, event.data) for event in SseParser().feed(data)]


# The first four streams and their readings are the examples of the HTML standard, section 9.2.6.
CASES = [
    (b"data: YHOO\ndata: +2\ndata: 10\n\n", [(b"", b"YHOO\n+2\n10")]),
    (
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n",
        [(b"", b"first event"), (b"", b"second event")],
    ),
    (b"data\n\ndata\ndata\n\ndata:", [(b"", b""), (b"", b"\n")]),
    (b"data:test\n\ndata: test\n\n", [(b"", b"test"), (b"", b"test")]),
    (b"event: delta\r\ndata: {}\r\n\r\n", [(b"delta", b"{}")]),
    (b"data: a\r\rdata: b\n\r\n", [(b"", b"a"), (b"", b"b")]),
    (b"event: lost\n\ndata: a\n\n", [(b"", b"a")]),
    (b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", [(b"", b"a")]),
    (b"retry: 5\nnobody: x\ndata : x\ndata: a:b\n\n", [(b"", b"a:b")]),
    (b"data: [DONE]\n\n", [(b"", b"[DONE]")]),
    (b"\n\n\r\r\n: c\n\n", []),
]


@pytest.mark.parametrize(("data", "expected"), CASES)
def test_a_stream_reads_as_the_standard_says(
    data: bytes, expected: list[tuple[bytes, bytes]]
) -> None:
    assert events(data) == expected


@pytest.mark.parametrize(("data", "expected"), CASES)
def test_the_events_are_the_same_however_the_bytes_are_cut(
    data: bytes, expected: list[tuple[bytes, bytes]]
) -> None:
    for cut in range(len(data) + 1):
        parser = SseParser()
        found = parser.feed(data[:cut]) + parser.feed(data[cut:])
        assert [(event.name, event.data) for event in found] == expected
    parser = SseParser()
    found = [event for i in range(len(data)) for event in parser.feed(data[i : i + 1])]
    assert [(event.name, event.data) for event in found] == expected


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=4))
def test_any_bytes_read_the_same_in_any_pieces(data: bytes, cuts: list[int]) -> None:
    data = data.replace(b"\x00", b"\n").replace(b"\x01", b"\r").replace(b"\x02", b"data:")
    parser = SseParser()
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    found: list[SseEvent] = []
    for start, end in itertools.pairwise(bounds):
        found += parser.feed(data[start:end])
    assert found == SseParser().feed(data)


def test_an_event_without_its_blank_line_is_never_given() -> None:
    parser = SseParser()
    assert parser.feed(b"data: half") == []
    assert parser.unfinished
    assert parser.feed(b"\n") == []
    assert parser.unfinished
    assert parser.feed(b"\n") == [SseEvent(b"half")]
    assert not parser.unfinished


@pytest.mark.parametrize(
    "piece",
    [b"x", b"data: x\n", b"data\n", b": comment\n", b"\xff" * 50],
    ids=["endless line", "endless lines", "empty data", "comments", "nonsense"],
)
def test_an_event_without_end_is_refused_at_the_bound(piece: bytes) -> None:
    parser = SseParser(max_event_bytes=1000)
    fed = 0
    with pytest.raises(SseError):  # noqa: PT012 - which piece it is depends on the case
        while fed < 5000:
            parser.feed(piece)
            fed += len(piece)
    assert fed <= 1000


def test_an_event_of_exactly_the_bound_is_given_however_it_is_cut() -> None:
    # 17 bytes of field and value, one for the line end.
    data = b"data: 0123456789a\n\n"
    for cut in range(len(data)):
        parser = SseParser(max_event_bytes=18)
        assert parser.feed(data[:cut]) + parser.feed(data[cut:]) == [SseEvent(b"0123456789a")]
        parser = SseParser(max_event_bytes=17)
        with pytest.raises(SseError):
            parser.feed(data[:cut]) + parser.feed(data[cut:])


def test_many_small_events_never_reach_the_bound() -> None:
    parser = SseParser(max_event_bytes=100)
    assert sum(len(parser.feed(b"data: 0123456789\n\n")) for _ in range(200)) == 200
    assert len(parser.feed(b"data: 0123456789\n\n" * 200)) == 200


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=40).filter(lambda d: b"\r" not in d),
    st.sampled_from([b"", b"message_start"]),
)
def test_what_is_encoded_reads_back(data: bytes, name: bytes) -> None:
    assert SseParser().feed(sse_event(data, name=name)) == [SseEvent(data, name)]


@pytest.mark.parametrize(("data", "name"), [(b"a\rb", b""), (b"a", b"b\nc"), (b"a", b"b\rc")])
def test_what_would_read_back_differently_is_not_encoded(data: bytes, name: bytes) -> None:
    with pytest.raises(SseFieldError):
        sse_event(data, name=name)
