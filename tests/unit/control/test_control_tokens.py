from __future__ import annotations

from pathlib import Path

import pytest

from gatelift.control.errors import ControlError
from gatelift.control.rate import RateBound
from gatelift.control.tokens import (
    READER,
    SUBMITTER,
    AdminTokens,
    TokenError,
    load_admin_tokens,
)
from gatelift.encoding import sha256_digest

READ = "glat_reader_0123456789"
SUBMIT = "glat_submitter_with_underscores_9"
TOKENS = AdminTokens(
    {READER: sha256_digest(READ.encode()), SUBMITTER: sha256_digest(SUBMIT.encode())}
)


@pytest.mark.parametrize(("token", "need"), [(READ, READER), (SUBMIT, READER), (SUBMIT, SUBMITTER)])
def test_a_token_admits_to_its_role_and_a_submitters_to_reading(token: str, need: str) -> None:
    assert TOKENS.verify(f"Bearer {token}", need) == token.split("_")[1]


@pytest.mark.parametrize(
    "header",
    [
        f"Bearer {READ}",
        f"Basic {SUBMIT}",
        f"Bearer {SUBMIT}x",
        "Bearer glat_submitter_",
        "Bearer ",
        "",
        "Bearer glat_root_x",
        "Bearer " + "glat_submitter_" + "x" * 500,
        f"Bearer  {SUBMIT}",
    ],
)
def test_anything_else_is_refused_without_being_quoted(header: str) -> None:
    with pytest.raises(TokenError) as caught:
        TOKENS.verify(header, SUBMITTER)
    assert caught.value.code == "token_refused"
    assert header.removeprefix("Bearer ").strip() not in str(caught.value) or len(header) < 9


def test_a_role_without_a_token_admits_nobody() -> None:
    only_reader = AdminTokens({READER: sha256_digest(READ.encode())})
    for token in ("glat_submitter_", "", "glat_submitter_x"):
        with pytest.raises(TokenError):
            only_reader.verify(f"Bearer {token}", SUBMITTER)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"reader": "secret"}', '{"admin": "sha256:' + "0" * 64 + '"}']
)
def test_a_file_that_is_not_one_of_tokens_stops_the_start(tmp_path: Path, text: str) -> None:
    path = tmp_path / "admin-tokens.json"
    path.write_text(text)
    with pytest.raises(ControlError) as caught:
        load_admin_tokens(path)
    assert caught.value.code == "bad_tokens_file"
    assert "secret" not in str(caught.value)


def test_a_bucket_lets_a_burst_through_and_then_fills_at_its_rate() -> None:
    bound = RateBound(per_s=2.0, burst=3)
    assert [bound.take("a", 10.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert bound.take("b", 10.0) == 0.0
    assert bound.take("a", 10.4) == pytest.approx(0.1)
    assert bound.take("a", 10.5) == 0.0
    assert bound.take("a", 10.5) == 0.5
    # A clock that goes back gives nothing.
    assert bound.take("a", 9.0) > 0
