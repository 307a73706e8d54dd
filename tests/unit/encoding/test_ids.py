"""Ids: their time sorts, their entropy stands in their last sixteen letters."""

from __future__ import annotations

import pytest

from gatelift.encoding import EncodingError, make_id, make_id_of_letters

LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
TIMES = [0, 1, 31, 32, 1_790_000_000_123, 2**48 - 1]


def id_by_hand(now_ms: int, entropy: int) -> str:
    number = (now_ms << 80) | entropy
    return "req_" + "".join(LETTERS[(number >> (5 * (25 - i))) & 31] for i in range(26))


@pytest.mark.parametrize("now_ms", TIMES)
def test_an_id_of_letters_is_the_id_of_the_bits_that_they_hold(now_ms: int) -> None:
    for raw in (bytes(16), bytes(range(16)), bytes(range(16, 32)), bytes(range(240, 256))):
        entropy = int("".join(f"{byte & 31:05b}" for byte in raw), 2)
        by_hand = id_by_hand(now_ms, entropy)
        assert make_id_of_letters("req", now_ms, raw) == by_hand
        assert make_id("req", now_ms, entropy.to_bytes(10, "big")) == by_hand


@pytest.mark.parametrize(("now_ms", "count"), [(-1, 16), (2**48, 16), (0, 15), (0, 17)], ids=str)
def test_an_id_of_an_impossible_time_or_of_too_little_entropy_is_refused(
    now_ms: int, count: int
) -> None:
    with pytest.raises(EncodingError):
        make_id_of_letters("req", now_ms, bytes(count))
