"""docs/reference/openai.md names every route of the dialect, every edit and every bound."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gatelift.gateway.dialects import DIALECTS, ErrorShape
from gatelift.gateway.dialects import chat_request as chat
from gatelift.gateway.dialects import completions_request as completions
from gatelift.gateway.dialects import embeddings_request as embeddings
from gatelift.gateway.dialects import responses_request as responses
from gatelift.gateway.dialects.embeddings_request import MAX_DIMENSIONS, MAX_INPUTS, MAX_NUMBERS
from gatelift.gateway.dialects.images import IMAGE_TOKENS_BOUND, MAX_IMAGE_BYTES, MAX_IMAGES

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "openai.md").read_text()


def test_every_route_of_the_dialect_is_described() -> None:
    for path, dialect in DIALECTS.items():
        if dialect.errors is ErrorShape.OPENAI:
            assert f"| `POST {path}` | `{dialect.endpoint.value}` |" in PAGE
    assert "`GET /v1/models/{model}`" in PAGE


@pytest.mark.parametrize("module", [chat, responses, completions, embeddings])
def test_every_edit_is_named(module: object) -> None:
    name = module.__name__.rpartition(".")[2].removesuffix("_request")
    (row,) = re.findall(rf"^\| {name} \| (.*) \|$", PAGE, re.MULTILINE)
    assert tuple(re.findall(r"`(\w+)`", row)) == module.EDITS


def test_the_bounds_are_those_of_the_code() -> None:
    images = (MAX_IMAGES, MAX_IMAGE_BYTES, IMAGE_TOKENS_BOUND)
    for bound in (*images, MAX_INPUTS, MAX_DIMENSIONS, MAX_NUMBERS):
        assert f"{bound:,}" in PAGE
