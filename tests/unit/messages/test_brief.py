"""Records read to be counted: the same as read in full, and no less strictly."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gatelift.messages import BriefStart, RecordError, decode_briefly, decode_record

DIGEST = "sha256:" + "a" * 64
PLACE = {"v": 1, "node": "n1", "worker": "w0", "run": "run_1", "at": 9}
CHARGES = [{"counter": "internal:stage.requests/h:internal", "window": 0, "amount": 3}]
START = {
    "kind": "start",
    **PLACE,
    "seq": 4,
    "request_id": "q",
    "release": "aurora",
    "stage": "internal",
    "certificate": None,
    "fingerprint": DIGEST,
    "grant": "g",
    "principal": "p",
    "organisation": "o",
    "session": "0-" + "a" * 24,
    "endpoint": "chat",
    "stream": False,
    "request": DIGEST,
    "request_bytes": 1,
    "reserved": CHARGES,
    "images": 2,
}
BEAT = {"kind": "beat", **PLACE, "seq": 5, "refused": {"no_key": 1}}


def stored(*records: Any) -> list[bytes]:
    return [json.dumps(record).encode() for record in records]


def test_a_record_in_brief_says_what_the_whole_record_says() -> None:
    start, beat = decode_briefly(stored(START, BEAT))
    whole = decode_record(stored(START)[0])
    assert isinstance(start, BriefStart)
    for name in [*(set(START) - {"kind"})]:
        assert getattr(start, name) == getattr(whole, name), name
    assert start.reserved[0].amount == 3
    assert beat == decode_record(stored(BEAT)[0])


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in START.items() if key != name}


@pytest.mark.parametrize(
    "record",
    [
        *(pytest.param(without(name), id=f"without {name}") for name in START if name != "images"),
        pytest.param(START | {"seq": "4"}, id="a number as text"),
        pytest.param(START | {"endpoint": "fax"}, id="an endpoint that is none"),
        pytest.param(START | {"extra": 1}, id="a field too many"),
        pytest.param(START | {"kind": "stop"}, id="an unknown kind"),
        pytest.param([START], id="a list"),
    ],
)
def test_what_is_no_record_is_none_in_brief(record: object) -> None:
    with pytest.raises(RecordError):
        decode_briefly(stored(BEAT, record))


@pytest.mark.parametrize(
    "reserved",
    [
        pytest.param(None, id="null"),
        pytest.param({}, id="no list"),
        pytest.param([CHARGES[0] | {"amount": "3"}], id="an amount as text"),
        pytest.param([CHARGES[0] | {"extra": 1}], id="a field too many"),
        pytest.param([{"counter": "c", "window": 0}], id="no amount"),
    ],
)
def test_what_was_reserved_is_never_taken_for_nothing(reserved: object) -> None:
    (start,) = decode_briefly(stored(START | {"reserved": reserved}))
    assert isinstance(start, BriefStart)
    with pytest.raises(RecordError, match="start 4"):
        _ = start.reserved


def test_a_record_that_is_cut_off_is_none_in_brief() -> None:
    whole = stored(START)[0]
    for end in range(len(whole)):
        with pytest.raises(RecordError):
            decode_briefly([whole[:end]])
