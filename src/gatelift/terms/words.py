"""The closed word lists that plan, code, wire, ledger and page share.

Invariants
- Every list is closed: an unknown word is refused where it is read, never guessed.
- A list with an order is written from tightest or lowest to loosest or highest, severities alone
  worst first; `at_least` knows both.

Source: DESIGN.md sections 2 and 5; bands after the public cyber policies of 2026.
"""

from __future__ import annotations

import enum
from typing import Final

__all__ = [
    "GENERATING_ENDPOINTS",
    "WINDOWLESS",
    "Assurance",
    "Band",
    "Binding",
    "CapUnit",
    "Category",
    "DecisionKind",
    "Durability",
    "Endpoint",
    "Posture",
    "Sealing",
    "Severity",
    "Side",
    "Subject",
    "ThresholdVerdict",
    "Tier",
    "WatchRole",
    "Window",
    "at_least",
]


class _Word(enum.StrEnum):
    """A closed list of words. Hashed as the text it is, which the interpreter does in C."""

    __hash__ = str.__hash__


class Band(_Word):
    """How bad the worst use of a category is. `prohibited` is never unlocked."""

    PROHIBITED = "prohibited"
    HIGH_RISK_DUAL_USE = "high_risk_dual_use"
    DUAL_USE = "dual_use"
    DEFENSIVE = "defensive"
    PLATFORM_ABUSE = "platform_abuse"
    UNRELATED = "unrelated"


class Category(_Word):
    """What a safeguard looks for; the key of a posture in a plan.

    `honey` has no posture: touching bait is always refused as if the bait were not there.
    """

    LEAK = "leak"
    MISUSE = "misuse"
    AUTONOMY = "autonomy"
    PROBING = "probing"
    HONEY = "honey"


class Posture(_Word):
    """What a safeguard does when it finds something."""

    OBSERVE = "observe"
    REDACT = "redact"
    CUT = "cut"
    REROUTE = "reroute"
    BLOCK = "block"


class Side(_Word):
    """Which way the text was going."""

    PROMPT = "prompt"
    ANSWER = "answer"


class Tier(_Word):
    """Rungs of the audience ladder, from nobody to everyone."""

    NOBODY = "nobody"
    EVALUATORS = "evaluators"
    INTERNAL = "internal"
    VERIFIED = "verified"
    PARTNERS = "partners"
    PUBLIC = "public"


class Endpoint(_Word):
    """What a scope can open. Only endpoints that this version serves are listed."""

    CHAT = "chat"
    RESPONSES = "responses"
    COMPLETIONS = "completions"
    MESSAGES = "messages"
    EMBEDDINGS = "embeddings"
    COUNT_TOKENS = "count_tokens"
    MODELS = "models"


GENERATING_ENDPOINTS: Final = frozenset(
    {Endpoint.CHAT, Endpoint.RESPONSES, Endpoint.COMPLETIONS, Endpoint.MESSAGES}
)
"""Where a model writes text. Only they make units: an exchange that could not do harm proves none."""


class Subject(_Word):
    """Whose use a cap counts together."""

    PRINCIPAL = "principal"
    ORGANISATION = "organisation"
    AUDIENCE = "audience"
    STAGE = "stage"


class CapUnit(_Word):
    """What a cap counts. `cost` is in micro-units of the plan's currency, `coverage` in prompts."""

    REQUESTS = "requests"
    INPUT_TOKENS = "input_tokens"
    OUTPUT_TOKENS = "output_tokens"
    BYTES_OUT = "bytes_out"
    PARALLEL = "parallel"
    COST = "cost"
    COVERAGE = "coverage"


WINDOWLESS: Final = frozenset({CapUnit.PARALLEL, CapUnit.COVERAGE})
"""Units of no window. `parallel` comes back at the end of an exchange, `coverage` never does."""


class Window(_Word):
    """Fixed UTC windows; `none` only for `parallel` and `coverage`."""

    NONE = "none"
    MINUTE = "min"
    HOUR = "h"
    DAY = "d"


class ThresholdVerdict(_Word):
    """What an assessment says of a threshold. `cannot_rule_out` counts as reached."""

    REACHED = "reached"
    RULED_OUT = "ruled_out"
    CANNOT_RULE_OUT = "cannot_rule_out"


class WatchRole(_Word):
    """A guardrail may narrow, a signal may only hold."""

    GUARDRAIL = "guardrail"
    SIGNAL = "signal"


class DecisionKind(_Word):
    """What `decide` can say of a release."""

    ADVANCE = "advance"
    HOLD = "hold"
    RESCOPE = "rescope"
    ROLL_BACK = "roll_back"
    HALT = "halt"
    RESUME = "resume"


class Severity(_Word):
    """Severity of an incident, worst first."""

    SEV_1 = "SEV-1"
    SEV_2 = "SEV-2"
    SEV_3 = "SEV-3"
    SEV_4 = "SEV-4"


class Assurance(_Word):
    """Who stands behind a certificate, weakest first."""

    DEV = "dev"
    SELF = "self"
    OVERSEEN = "overseen"
    WITNESSED = "witnessed"


class Sealing(_Word):
    """Whether the upstream has another door, weakest first. Only probed levels are listed."""

    OPEN = "open"
    DECLARED = "declared"
    SEALED = "sealed"


class Binding(_Word):
    """How the candidate is tied to what answers, weakest first."""

    CLAIMED = "claimed"
    MEASURED = "measured"


class Durability(_Word):
    """Where a record must stand before a byte leaves, weakest first; `relaxed` is in memory only."""

    RELAXED = "relaxed"
    NODE = "node"
    REPLICATED = "replicated"


def at_least(have: enum.StrEnum, need: enum.StrEnum) -> bool:
    """Return whether `have` stands at or above `need` in the order of their list.

    A severity is at least another when it is as bad or worse: SEV-1 is at least SEV-3.
    Raises `TypeError` when the two come from different lists.
    """
    if type(have) is not type(need):
        raise TypeError(f"expected two words of one list, got {have!r} and {need!r}")
    order = list(type(have))
    if isinstance(have, Severity):
        order.reverse()
    return order.index(have) >= order.index(need)
