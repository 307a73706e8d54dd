"""`--witness-url`: where witnesses are, told on the command line."""

from __future__ import annotations

from collections.abc import Sequence

from gatelift.cli.errors import InputError

__all__ = ["parse_witness_urls"]


def parse_witness_urls(texts: Sequence[str]) -> dict[str, str]:
    """Return the URL of each witness of `NAME=URL`; a URL alone stands under the empty name."""
    found: dict[str, str] = {}
    for text in texts:
        name, _, url = ("", "", text) if _is_url(text) else text.partition("=")
        if not _is_url(url) or name in found:
            raise InputError(
                f"expected NAME=URL once for each witness, with an http(s) URL, got {text[:120]!r}"
            )
        found[name] = url
    return found


def _is_url(text: str) -> bool:
    return text.startswith(("https://", "http://"))
