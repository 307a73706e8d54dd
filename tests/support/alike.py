"""One question to the package and to the one-file verifier; both must give one answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gatelift.errors import GateliftError
from tests.support.verifiers import load_file

__all__ = ["REFUSED", "by_file", "by_package", "code_of"]

REFUSED = object()


def by_package(parse: Callable[[Any], Any], value: Any) -> Any:
    """Return what the package makes of a value, or `REFUSED`."""
    try:
        return parse(value)
    except GateliftError:
        return REFUSED


def by_file(parse: Callable[[Any], Any], value: Any) -> Any:
    """Return what the one file makes of a value, or `REFUSED`."""
    try:
        return parse(value)
    except load_file().BrokenError:
        return REFUSED


def code_of(parse: Callable[[Any], Any], value: Any) -> str | None:
    """Return the code by which either refuses a value; none if it is taken."""
    try:
        parse(value)
    except (GateliftError, load_file().BrokenError) as error:
        return str(error.code)
    return None
