"""What tighter terms would have refused: counted by hand beside the fold."""

from __future__ import annotations

from typing import Any

import pytest

from gatelift.encoding import sha256_digest
from gatelift.messages import Finish, Outcome, RecordedVerdict, RecordRef, Start
from gatelift.plan import Observed
from gatelift.terms import (
    Band,
    Cap,
    CapUnit,
    Category,
    Endpoint,
    Posture,
    Side,
    Subject,
    Window,
)
from gatelift.watch import Exchange, would_have_refused

MINUTE = 60_000
T0 = 1_790_000_040_000 - 1_790_000_040_000 % MINUTE
D = sha256_digest(b"x")


def exchange(
    seq: int,
    at: int,
    *,
    principal: str = "p",
    organisation: str = "o",
    tokens: int = 10,
    lasts: int = 5,
    verdicts: tuple[RecordedVerdict, ...] = (),
    outcome: Outcome = Outcome.SERVED,
) -> Exchange:
    common: dict[str, Any] = {
        "v": 1, "node": "n", "worker": "w", "run": "r", "request_id": f"req_{seq}",
        "release": "rel", "stage": "internal", "grant": "g", "organisation": organisation,
        "session": "s",
    }  # fmt: skip
    start = Start(
        seq=seq, at=at, certificate=D, fingerprint=D, principal=principal, endpoint=Endpoint.CHAT,
        stream=False, request=D, request_bytes=1, reserved=(), **common,
    )  # fmt: skip
    finish = Finish(
        seq=seq + 1, at=at + lasts, of=RecordRef(node="n", worker="w", run="r", seq=seq),
        outcome=outcome, reason="", upstream=True, status=200, answer=D, answer_bytes=4 * tokens,
        input_tokens=1, output_tokens=tokens, spent=(), overrun_tokens=0, verdicts=verdicts,
        **common,
    )  # fmt: skip
    return Exchange(start, finish)


def cap(unit: CapUnit, limit: int, window: Window = Window.MINUTE, **more: Any) -> Cap:
    return Cap(
        **{"subject": Subject.PRINCIPAL, "unit": unit, "window": window, "limit": limit} | more
    )


def verdict(
    side: Side, category: Category = Category.MISUSE, band: Band = Band.PROHIBITED, **more: Any
) -> RecordedVerdict:
    given = {"action": Posture.OBSERVE} | more
    return RecordedVerdict(category=category, band=band, rule="r1", side=side, **given)


def judge(
    exchanges: list[Exchange],
    *caps: Cap,
    unlocked: tuple[Band, ...] = (),
    **postures: Posture,
) -> Any:
    terms = Observed(caps=caps, safeguards={Category(k): v for k, v in postures.items()})
    return would_have_refused(exchanges, terms, unlocked)


def test_requests_of_a_window_beyond_the_cap() -> None:
    served = [exchange(2 * i, T0 + i) for i in range(5)] + [exchange(20, T0 + MINUTE)]
    found = judge(served, cap(CapUnit.REQUESTS, 3))
    assert (found.served, found.refused, found.cut) == (6, 2, 0)
    assert found.reasons == (("cap principal.requests/min", 2),)
    assert found.principals == (("p", 2),)
    assert (found.first_at, found.last_at) == (T0, T0 + MINUTE)


def test_a_cap_counts_each_subject_apart() -> None:
    served = [exchange(2 * i, T0 + i, principal=f"p{i % 2}") for i in range(4)]
    assert judge(served, cap(CapUnit.REQUESTS, 2)).refused == 0
    assert judge(served, cap(CapUnit.REQUESTS, 2, subject=Subject.ORGANISATION)).refused == 2
    assert judge(served, cap(CapUnit.REQUESTS, 3, subject=Subject.STAGE)).refused == 1


def test_what_would_have_been_refused_spends_nothing() -> None:
    # 60 + 60 is over 100 and spends nothing, so the 40 fits.
    served = [exchange(2 * i, T0 + i, tokens=t) for i, t in enumerate((60, 60, 40))]
    assert judge(served, cap(CapUnit.OUTPUT_TOKENS, 100)).refused == 1


def test_parallel_counts_what_was_open() -> None:
    served = [exchange(0, T0, lasts=10), exchange(2, T0 + 5, lasts=10), exchange(4, T0 + 10)]
    found = judge(served, cap(CapUnit.PARALLEL, 1, Window.NONE))
    assert found.reasons == (("cap principal.parallel/none", 1),)


@pytest.mark.parametrize(
    ("side", "posture", "refused", "cut"),
    [
        (Side.PROMPT, Posture.BLOCK, 1, 0),
        (Side.PROMPT, Posture.CUT, 1, 0),
        (Side.ANSWER, Posture.BLOCK, 1, 0),
        (Side.ANSWER, Posture.CUT, 0, 1),
        (Side.ANSWER, Posture.OBSERVE, 0, 0),
    ],
)
def test_a_verdict_under_a_tighter_posture(
    side: Side, posture: Posture, refused: int, cut: int
) -> None:
    found = judge([exchange(0, T0, verdicts=(verdict(side),))], misuse=posture)
    assert (found.refused, found.cut) == (refused, cut)


def test_an_unlocked_band_another_category_and_an_action_taken_say_nothing() -> None:
    spared = verdict(Side.PROMPT, band=Band.DUAL_USE)
    other = verdict(Side.PROMPT, category=Category.PROBING)
    taken = verdict(Side.ANSWER, action=Posture.CUT)
    served = [exchange(0, T0, verdicts=(spared, other, taken))]
    assert judge(served, unlocked=(Band.DUAL_USE,), misuse=Posture.BLOCK).refused == 0
    assert judge(served, misuse=Posture.BLOCK).refused == 1


def test_a_refused_prompt_would_have_spent_one_request_and_no_tokens() -> None:
    served = [
        exchange(0, T0, tokens=90, verdicts=(verdict(Side.PROMPT),)),
        exchange(2, T0 + 1, tokens=90),
        exchange(4, T0 + 2, tokens=1),
    ]
    caps = (cap(CapUnit.OUTPUT_TOKENS, 100), cap(CapUnit.REQUESTS, 2))
    found = judge(served, *caps, misuse=Posture.BLOCK)
    assert found.reasons == (("cap principal.requests/min", 1), ("misuse on the prompt: r1", 1))


def test_what_was_refused_in_truth_is_left_out_and_order_does_not_matter() -> None:
    served = [exchange(2 * i, T0 + i) for i in range(3)]
    denied = exchange(10, T0, outcome=Outcome.CAPPED)
    found = judge([denied, *served], cap(CapUnit.REQUESTS, 2))
    assert (found.served, found.refused) == (3, 1)
    assert judge([*reversed(served), denied], cap(CapUnit.REQUESTS, 2)) == found


def test_nothing_served_is_nothing_said() -> None:
    found = judge([], cap(CapUnit.REQUESTS, 1))
    assert (found.served, found.refused, found.first_at, found.reasons) == (0, 0, None, ())
