"""What `gatelift up` says once it serves: where, with which key, and what it proves.

Invariants
- One JSON line on standard output, or the same facts for a person. The API key is shown here once.
"""

from __future__ import annotations

import os
import sys

from gatelift.cli.layout import Deployment, Settings
from gatelift.cli.output import at_text, facts, say, show

__all__ = ["announce"]


def announce(
    deployment: Deployment, settings: Settings, api_key: str | None, until: int | None
) -> None:
    """Say that the deployment runs; `until` is when stage zero's certificate ends, in ms UTC."""
    root = deployment.read_root_digest()
    value = {
        "base_url": settings.base_url,
        "admin_url": settings.admin_url,
        "api_key": api_key,
        "model": settings.model,
        "root": root,
        "pid": os.getpid(),
    }

    def render() -> None:
        rows: list[tuple[str, object]] = [
            ("base URL", settings.base_url),
            ("admin URL", settings.admin_url),
            ("model", settings.model),
            ("root", root),
        ]
        if api_key is not None:
            rows.insert(2, ("API key", api_key))
        facts(rows)
        if until is not None:
            say(
                f"Stage zero is certified until {at_text(until)}, by the development keys. Every "
                "other stage waits for evidence, reviews and signatures: `gatelift plan preview`."
            )
        say("Stop with Ctrl-C.")

    show(value, render)
    sys.stdout.flush()
