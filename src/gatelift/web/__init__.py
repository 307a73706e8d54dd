"""The web: one page for everybody about one release, made on the server.

Public and read-only; no script, no network, no secret. `view` makes values of the folded state,
`render` makes HTML of the values, `routes` serves it; `withheld` says what stays out.
"""

from gatelift.web.glance import Glance, LoggedDecision, LogReader
from gatelift.web.model import ReleaseView
from gatelift.web.render import HEADERS, NOT_SAID, render_release
from gatelift.web.routes import PageSource, page_routes
from gatelift.web.view import build_view

__all__ = [
    "HEADERS",
    "NOT_SAID",
    "Glance",
    "LogReader",
    "LoggedDecision",
    "PageSource",
    "ReleaseView",
    "build_view",
    "page_routes",
    "render_release",
]
