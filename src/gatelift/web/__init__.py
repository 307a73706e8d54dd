"""The web: one page for everybody about one release, made on the server.

Public and read-only; no script, no network, no secret. `view` makes values of the folded state,
`render` makes HTML of the values, `routes` serves it; `withheld` says what stays out. `audit_view` is the
page that an auditor makes of a dossier: a file of its own, served by nobody.
"""

from gatelift.web.audit_view import AuditView, build_audit_view
from gatelift.web.glance import Glance, LoggedDecision, LogReader
from gatelift.web.model import ReleaseView
from gatelift.web.render import HEADERS, NOT_SAID, render_audit, render_release
from gatelift.web.routes import PageSource, page_routes
from gatelift.web.view import build_view

__all__ = [
    "HEADERS",
    "NOT_SAID",
    "AuditView",
    "Glance",
    "LogReader",
    "LoggedDecision",
    "PageSource",
    "ReleaseView",
    "build_audit_view",
    "build_view",
    "page_routes",
    "render_audit",
    "render_release",
]
