"""Refused endpoints: a table that shadows no route, and the page made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatelift.gateway.refused_routes import REFUSED, refused_route, render_endpoints
from gatelift.gateway.routes import ROUTES

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "endpoints.md"


def test_the_page_is_made_of_routes_and_table() -> None:
    page = render_endpoints((method, path) for path, method in ROUTES.items())
    assert PAGE.read_text() == page, "run `make docs`"


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/v1/batches", "/v1/batches"),
        ("/v1/batches/b_1/cancel", "/v1/batches"),
        ("/v1/files/f_1/content", "/v1/files"),
        ("/v1/messages/batches/x/results", "/v1/messages/batches"),
        ("/v1/threads/t/runs/r", "/v1/threads"),
        ("/v1/realtime", "/v1/realtime"),
        ("/v1/fine_tuning/jobs", "/v1/fine_tuning"),
        ("/v1/chat/completions/chatcmpl-1", "/v1/chat/completions"),
        ("/v1/images/generations", "/v1/images"),
        ("/v1/batchesx", None),
        ("/v1/none", None),
        ("/v1", None),
        ("/", None),
        ("", None),
    ],
)
def test_a_path_is_refused_with_all_below_it(path: str, found: str | None) -> None:
    route = refused_route(path)
    assert (route.path if route else None) == found


def test_each_row_says_what_to_do_and_stands_once() -> None:
    assert len({route.path for route in REFUSED}) == len(REFUSED)
    for route in REFUSED:
        assert route.path.startswith("/")
        assert not route.path.endswith("/")
        assert all((route.what, route.why, route.instead))
        assert "|" not in route.message
