"""What must not leave in an answer: planted canaries and keys of well-known forms.

Invariants
- A canary is matched as its words in order, whatever their case, with at most three characters
  between them that are neither letter nor digit; a part of its words never matches.
- A key is matched by its public structure: fixed prefix, alphabet, length. It is certain at its
  shortest valid length; what follows is not looked at.
- Canary rules are named by number, and no error quotes a canary.

Sees nothing that is encoded, translated, spelled out or interleaved, and no key that looks like
any other random word: a match proves a leak, no match proves nothing.

Key forms after their issuers' public documentation; the patterns are our own.
"""

from __future__ import annotations

import re

from gatelift.errors import CallerError
from gatelift.safeguards.patterns import (
    ALNUM,
    DIGITS,
    NOT_ALNUM,
    TOKEN,
    UPPER_ALNUM,
    CharSet,
    Element,
    Literal,
    Pattern,
    Run,
)

__all__ = [
    "CANARY_IDS",
    "KEY_IDS",
    "KEY_PATTERNS",
    "CanaryError",
    "canary_pattern",
    "technique_ids",
]

CANARY_IDS = ("AML.T0056", "AML.T0057", "LLM02", "LLM07")
"""Extract LLM system prompt, LLM data leakage; sensitive information, system prompt leakage."""

KEY_IDS = ("AML.T0057", "LLM02")
"""LLM data leakage; sensitive information disclosure."""

_MIN_CANARY_CHARS = 8
_MAX_CANARY_CHARS = 200
_MAX_CANARY_WORDS = 24
_LITERAL_CHARS = 64
_SEPARATOR = Run(chars=NOT_ALNUM, min_chars=0, max_chars=3)
_WORD = re.compile(r"[^\W_]+")


class CanaryError(CallerError):
    """A planted string would match ordinary text, or is too long to hold back."""

    code = "bad_canary"


def canary_pattern(number: int, canary: str) -> Pattern:
    """Return the pattern of planted string `number`; raises `CanaryError` without quoting it.

    It has no left boundary: a leak that is glued to the word before it is a leak.
    """
    words = _WORD.findall(canary)
    letters = sum(len(word) for word in words)
    if (
        letters < _MIN_CANARY_CHARS
        or len(canary) > _MAX_CANARY_CHARS
        or len(words) > _MAX_CANARY_WORDS
    ):
        raise CanaryError(
            f"canary {number}: expected at least {_MIN_CANARY_CHARS} letters and digits in at most "
            f"{_MAX_CANARY_WORDS} words and {_MAX_CANARY_CHARS} characters, got {letters} in "
            f"{len(words)} words; plant a longer or a shorter string"
        )
    elements: list[Element] = []
    for word in words:
        if elements:
            elements.append(_SEPARATOR)
        for start in range(0, len(word), _LITERAL_CHARS):
            piece = word[start : start + _LITERAL_CHARS]
            elements.append(Literal(text=piece, ignore_case=True))
    return Pattern(id=f"canary:{number}", elements=tuple(elements), left_boundary=False)


def technique_ids(rule: str) -> tuple[str, ...]:
    """Return the technique ids of a leak rule."""
    return CANARY_IDS if rule.startswith("canary:") else KEY_IDS


def _key(name: str, *elements: Element) -> Pattern:
    return Pattern(id=f"key:{name}", elements=elements)


def _text(text: str) -> Literal:
    return Literal(text=text)


def _of(chars: CharSet, least: int, most: int | None = None) -> Run:
    return Run(chars=chars, min_chars=least, max_chars=least if most is None else most)


_GL_WORD = CharSet(body="A-Za-z0-9-")
_PEM_LABELS = ("", "RSA ", "EC ", "DSA ", "OPENSSH ", "ENCRYPTED ")

KEY_PATTERNS: tuple[Pattern, ...] = (
    _key("aws_access_key_id", _text("AKIA"), _of(UPPER_ALNUM, 16)),
    _key("aws_temporary_key_id", _text("ASIA"), _of(UPPER_ALNUM, 16)),
    *(
        _key("github_token", _text(f"gh{kind}_"), _of(ALNUM, 36))
        for kind in ("p", "o", "u", "s", "r")
    ),
    _key(
        "github_fine_grained_token",
        _text("github_pat_"),
        _of(ALNUM, 22),
        _text("_"),
        _of(ALNUM, 59),
    ),
    _key("gitlab_token", _text("glpat-"), _of(TOKEN, 20)),
    *(
        _key(
            "slack_token",
            _text(prefix),
            _of(DIGITS, 10, 13),
            _text("-"),
            _of(DIGITS, 10, 13),
            _text("-"),
            _of(ALNUM, 10),
        )
        for prefix in ("xoxb-", "xoxp-")
    ),
    _key("stripe_live_key", _text("sk_live_"), _of(ALNUM, 24)),
    _key("stripe_live_key", _text("rk_live_"), _of(ALNUM, 24)),
    _key("google_api_key", _text("AIza"), _of(TOKEN, 35)),
    _key("openai_key", _text("sk-proj-"), _of(TOKEN, 40)),
    _key("anthropic_key", _text("sk-ant-"), _of(ALNUM, 3, 12), _text("-"), _of(TOKEN, 40)),
    _key("npm_token", _text("npm_"), _of(ALNUM, 36)),
    _key("sendgrid_key", _text("SG."), _of(TOKEN, 22), _text("."), _of(TOKEN, 43)),
    _key("gatelift_key", _text("gl_"), _of(_GL_WORD, 4, 64), _text("_"), _of(_GL_WORD, 16)),
    *(
        _key("private_key_pem", _text(f"-----BEGIN {label}PRIVATE KEY-----"))
        for label in _PEM_LABELS
    ),
    _key("private_key_pem", _text("-----BEGIN PGP PRIVATE KEY BLOCK-----")),
)
