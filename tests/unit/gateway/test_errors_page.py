"""The page of errors is made from the list that the gateway answers with."""

from __future__ import annotations

from pathlib import Path

from gatelift.gateway.replies import CODES, error_reply, render_codes

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "errors.md"


def test_the_page_says_every_code() -> None:
    assert PAGE.read_text() == render_codes(), (
        "write docs/reference/errors.md with gatelift.gateway.replies.render_codes()"
    )


def test_an_unknown_code_is_an_internal_error_and_says_nothing_of_it() -> None:
    reply = error_reply("whatever", "m")
    assert reply.status == 500
    assert b"whatever" not in reply.body


def test_what_cannot_change_says_not_to_retry() -> None:
    for code, known in CODES.items():
        headers = dict(error_reply(code, "m").headers)
        assert (headers.get(b"x-should-retry") == b"false") is not known.retry
        assert (b"retry-after" in headers) is known.retry
