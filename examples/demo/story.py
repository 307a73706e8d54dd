"""`story.json`: every figure of the story with its source, so that a verifier can compute it again.

What only a client saw stands under `observed`; everything else names the entry or the records that
it was read from.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["Story"]


class Story:
    """Collects figures while the story is lived."""

    def __init__(self, release: str) -> None:
        self._release = release
        self.figures: list[dict[str, Any]] = []
        self.seen: list[dict[str, Any]] = []

    def entry(self, name: str, index: int, kind: str, path: str, value: Any) -> None:
        """Note a figure that stands in the body of a log entry of this kind."""
        source = {"entry": index, "path": f"{kind}.{path}"}
        self.figures.append({"name": name, "value": value, "source": source})

    def records(self, name: str, value: int, origin: str, last: int, **count: Any) -> None:
        """Note how many records of a requests log, from its first to `last`, are like this."""
        source = {"records": {"origin": origin, "first": 0, "last": last}, "count": count}
        self.figures.append({"name": name, "value": value, "source": source})

    def log(self, name: str, value: int, log: str) -> None:
        """Note the size of a log."""
        self.figures.append(
            {"name": name, "value": value, "source": {"log": log, "figure": "size"}}
        )

    def observed(self, name: str, value: Any) -> None:
        """Note what only the clients of this story saw."""
        self.seen.append({"name": name, "value": value, "by": "demo client"})

    def write(self, path: Path) -> None:
        """Write the story."""
        value = {
            "v": 1,
            "release": self._release,
            "figures": self.figures,
            "observed": self.seen,
        }
        path.write_text(json.dumps(value, indent=1) + "\n")
