"""How a process that runs on says what it does."""

from __future__ import annotations

import logging

__all__ = ["log_to_stderr"]


def log_to_stderr() -> None:
    """Log to standard error, from `INFO` on."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # One line a request at INFO would fill the disk with other people's paths.
    logging.getLogger("httpx").setLevel(logging.WARNING)
