"""Numbers, times and lengths of time as people read them.

Invariants
- Times are UTC and say so. A length of time is given in its two largest units.
- A share is never rounded to a nicer one: what is not 0 is never shown as 0, and 1 only as 100 %.
- A time that cannot be a date is shown as the number it is, not refused: the page has to stand.

Does not escape: that is the template's, for every value.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal

__all__ = [
    "counted",
    "instant",
    "length",
    "machine_instant",
    "number",
    "plain",
    "share",
    "short_digest",
]

_MAX_MS = 253_402_300_799_999
"""The last millisecond of the year 9999."""
_EXACT = Context(prec=28, rounding=ROUND_HALF_EVEN)
_INSTANT = re.compile(r"(?<![\w.:-])(1\d{12})(?![\w.:-])")
_MILLISECONDS = re.compile(r"(?<![\w.])(\d+) of (\d+) ms(?!\w)")
_DIGEST = re.compile(r"sha256:([0-9a-f]{12})[0-9a-f]{52}")


def instant(at_ms: int) -> str:
    """Return a time, to the minute, in UTC."""
    if not 0 <= at_ms <= _MAX_MS:
        return f"{at_ms} ms"
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def machine_instant(at_ms: int) -> str:
    """Return a time for the `datetime` attribute, to the second."""
    if not 0 <= at_ms <= _MAX_MS:
        return ""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def length(ms: int) -> str:
    """Return a length of time in its two largest units; parts of a second are left out."""
    seconds = abs(ms) // 1000
    for unit, size, lesser, lesser_size in (
        ("d", 86_400, "h", 3_600),
        ("h", 3_600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if seconds >= size:
            rest = seconds % size // lesser_size
            return f"{seconds // size} {unit}" + (f" {rest} {lesser}" if rest else "")
    return f"{seconds} s"


def number(value: int) -> str:
    """Return a whole number with its thousands apart."""
    return f"{value:,}"


def counted(value: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun, in the plural where it is not one."""
    return f"{number(value)} {noun if value == 1 else plural or noun + 's'}"


def share(value: Decimal) -> str:
    """Return a share of 1 as per cent, to three significant figures."""
    percent = _EXACT.multiply(value, Decimal(100))
    if percent in {0, 100}:
        return f"{int(percent)} %"
    digits = max(0, 2 - percent.adjusted())
    rounded = percent.quantize(Decimal(1).scaleb(-digits), context=_EXACT)
    if rounded == 100:
        return "just below 100 %" if percent < 100 else "just above 100 %"
    text = format(rounded, "f")
    return (text.rstrip("0").rstrip(".") if "." in text else text) + " %"


def short_digest(digest: str) -> str:
    """Return the first twelve digits of a digest, enough to compare by eye."""
    return digest.removeprefix("sha256:")[:12]


def plain(text: str) -> str:
    """Return a machine's sentence with its milliseconds and digests as people read them."""
    text = _MILLISECONDS.sub(lambda m: f"{length(int(m[1]))} of {length(int(m[2]))}", text)
    text = _INSTANT.sub(lambda m: instant(int(m[1])), text)
    return _DIGEST.sub(r"\1…", text)
