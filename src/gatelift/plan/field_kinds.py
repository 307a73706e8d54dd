"""Kinds that several field tables of the plan share: names, roles, rates, ages, postures.

Invariants
- Words of the design that this version does not enforce are refused by name, never taken silently.
- The keys of machines and of admissions may not sit in a quorum.

Source: DESIGN.md sections 2 and 5.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from gatelift.plan.kinds import Duration, Number, OrWord, Text, Whole, Word
from gatelift.plan.shapes import Field, ListOf, MapOf, Record
from gatelift.terms import Band, Category, Posture, Severity, Side, Tier, Window, window_ms

__all__ = [
    "AGE",
    "BAND",
    "CATEGORY",
    "CONFIDENCE",
    "COUNT",
    "DAY_MS",
    "DEPUTIES",
    "ERROR_SHARE",
    "FILE",
    "HARM",
    "MAX_UNITS",
    "NAME",
    "NAME_TEXT",
    "ONE_LINE",
    "ORGANISATIONS",
    "POSTURES",
    "PROOF",
    "QUORUM_ROLES",
    "RATE",
    "REMOVE",
    "REQUIRES",
    "ROLES",
    "SEVERITY",
    "TIERS",
    "not_enforced",
]

QUORUM_ROLES: Final = ("operator", "safety", "security", "overseer", "evaluator")
REMOVE: Final = "the plan without it"
DAY_MS: Final = window_ms(Window.DAY)
MAX_UNITS: Final = 10_000_000


def not_enforced(*words: str) -> dict[str, str]:
    """Return the refusal of each word that the design knows and this version does not hold."""
    return {word: f"this version does not enforce {word}" for word in words}


NAME: Final = "[a-z][a-z0-9_-]{0,39}"
NAME_TEXT = Text(
    pattern=NAME, form="a name of a-z, 0-9, - and _, at most 40", example="a-short-name"
)
ONE_LINE = Text(
    pattern=r"\S(.{0,198}\S)?", form="one line of at most 200 characters", example="one short line"
)
PROOF = Text(
    pattern="[a-z][a-z0-9_.-]{0,39}(@[0-9]{1,6})?",
    form="a proof such as identity or terms@3",
    example="identity",
)
FILE = Text(
    pattern=r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}",
    form="a path beside the plan, without ..",
    example="prompt.txt",
)
RATE = Number(low=Decimal("0.000001"), high=Decimal(1), below=True)
CONFIDENCE = Number(low=Decimal("0.5"), high=Decimal("0.999999"))
ERROR_SHARE = Number(low=Decimal("0.0001"), high=Decimal("0.5"))
AGE = Duration(low_ms=1_000, high_ms=365 * DAY_MS)
COUNT = Whole(low=1, high=MAX_UNITS)
_ROLE = Word(
    words=QUORUM_ROLES,
    refused={
        role: f"the role {role} may not sign here: its keys serve another purpose"
        for role in ("admissions", "control", "node", "log", "witness", "stop")
    },
)
ROLES = ListOf(kind=_ROLE, low=1, unique=True)
DEPUTIES = MapOf(
    pattern="|".join(QUORUM_ROLES), form=f"a role, one of {', '.join(QUORUM_ROLES)}", kind=ONE_LINE
)
CATEGORY = Word(words=tuple(Category))
_POSTURE = Word(
    words=(Posture.OBSERVE, Posture.CUT, Posture.BLOCK), refused=not_enforced("redact", "reroute")
)
POSTURES = Record(
    title="postures",
    fields=tuple(
        Field(name=category, kind=_POSTURE, says=f"what to do about {category}", required=False)
        for category in Category
        if category is not Category.HONEY
    ),
    unenforced={"extraction": REMOVE},
)
SEVERITY = Word(words=tuple(Severity))
BAND = Word(words=tuple(Band))

REQUIRES = ListOf(kind=PROOF, unique=True)
TIERS = Word(
    words=tuple(tier for tier in Tier if tier is not Tier.NOBODY),
    refused={"nobody": "a stage that admits nobody is no stage"},
)
ORGANISATIONS = OrWord(word="none", value=None, kind=Whole(low=1, high=1_000_000))

HARM = Record(
    title="condition",
    fields=(
        Field(name="safeguard", kind=CATEGORY, says="the safeguard that spoke"),
        Field(name="side", kind=Word(words=tuple(Side)), says="about the prompt or the answer"),
        Field(name="band", kind=BAND, says="only verdicts of this band", required=False),
    ),
)
