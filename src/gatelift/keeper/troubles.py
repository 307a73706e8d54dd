"""What goes on failing and is tried again: said once in the log, and again when its cause changes.

Invariants
- An error that was raised on purpose, or the system's, ends the try and nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from gatelift.errors import GateliftError

__all__ = ["Troubles"]

_LOG = logging.getLogger(__name__)


class Troubles:
    """What was said of each thing that is tried, until it works."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def attempt(self, what: str, work: Callable[[], object]) -> None:
        """Do `work`; where it fails, say that `what` did, once for each cause."""
        try:
            work()
        except (GateliftError, OSError) as error:
            # Some of this is tried ten times a second.
            if self._said.get(what) != str(error):
                self._said[what] = str(error)
                code = error.code if isinstance(error, GateliftError) else "os"
                _LOG.error("%s (%s): %s", what, code, error)
        else:
            self._said.pop(what, None)
