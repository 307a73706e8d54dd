"""A view becomes HTML: one template each, one style sheet inside it, no script and no network.

Invariants
- Every value is escaped (autoescape is on for every template; nothing is marked safe but our own
  style sheet); an undefined name is an error, not an empty string.
- The policy allows exactly the style sheet that is inlined, by its hash, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from gatelift.web.audit_view import AuditView
from gatelift.web.formats import instant, length, machine_instant, number, short_digest
from gatelift.web.model import Mode, ReleaseView

__all__ = ["HEADERS", "NOT_SAID", "render_audit", "render_release"]

NOT_SAID = (
    "Gatelift does not say that the plan is good, that labels are right, "
    "or that no copy of the weights and no second door exists."
)
_MODES = {
    Mode.OPEN: ("●", "stands"),
    Mode.NARROWED: ("◐", "narrowed"),
    Mode.STOPPED: ("■", "stopped"),
    Mode.WITHHELD: ("◧", "withheld"),
    Mode.LAPSED: ("◇", "lapsed"),
    Mode.SHUT: ("○", "not open"),
}


def _read(name: str) -> str:
    return resources.files("gatelift.web").joinpath(name).read_text("utf-8")


_STYLE = _read("page.css")
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode("utf-8")).digest()).decode("ascii")

HEADERS = {
    "content-security-policy": "default-src 'none'; "
    f"style-src 'sha256-{_STYLE_HASH}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
"""What every answer with the page carries."""


def _environment() -> Environment:
    made = Environment(
        loader=DictLoader({name: _read(name) for name in ("release.html", "audit.html")}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "instant": instant,
        "machine_instant": machine_instant,
        "length": length,
        "number": number,
        "short": short_digest,
    }
    made.globals |= {
        "style": Markup(_STYLE),  # noqa: S704 (our own file: no value of anybody's is in it)
        "not_said": NOT_SAID,
        "modes": _MODES,
    }
    return made


_ENVIRONMENT = _environment()
_TEMPLATE = _ENVIRONMENT.get_template("release.html")
_AUDIT = _ENVIRONMENT.get_template("audit.html")
_AUDIT_POLICY = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'"
"""A file has no headers: the page itself says that it loads and runs nothing."""
_HERO = {0: "open", 1: "stopped", 2: "stopped", 3: "narrowed"}
_SHAPE = {0: "●", 1: "■", 2: "■", 3: "◐"}


def render_release(view: ReleaseView) -> str:
    """Return the page of a view as HTML."""
    return _TEMPLATE.render(v=view)


def render_audit(view: AuditView) -> str:
    """Return the report of an audit as one HTML file that needs nothing else."""
    return _AUDIT.render(v=view, policy=_AUDIT_POLICY, hero=_HERO, shape=_SHAPE)
