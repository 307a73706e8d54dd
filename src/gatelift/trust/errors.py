"""The root's error, which the modules that check parts of a root share."""

from __future__ import annotations

from gatelift.errors import CallerError

__all__ = ["RootError"]


class RootError(CallerError):
    """A root contradicts itself, is stale, or is not signed as it must be."""

    code = "bad_root"
