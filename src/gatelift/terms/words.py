"""The closed word lists that plan, code, wire, ledger and page share.

Invariants
- Every list is closed: an unknown word is refused where it is read, never guessed.
- A list with an order is written from tightest or lowest to loosest or highest, severities alone
  worst first; `at_least` knows both.

Source: DESIGN.md sections 2 and 5; bands after the public cyber policies of 2026.
"""

from __future__ import annotations

import enum

__all__ = [
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


class Band(enum.StrEnum):
    """How bad the worst use of a category is. `prohibited` is never unlocked."""

    PROHIBITED = "prohibited"
    HIGH_RISK_DUAL_USE = "high_risk_dual_use"
    DUAL_USE = "dual_use"
    DEFENSIVE = "defensive"
    PLATFORM_ABUSE = "platform_abuse"
    UNRELATED = "unrelated"


class Category(enum.StrEnum):
    """What a safeguard looks for; the key of a posture in a plan."""

    LEAK = "leak"
    MISUSE = "misuse"
    AUTONOMY = "autonomy"
    PROBING = "probing"


class Posture(enum.StrEnum):
    """What a safeguard does when it finds something."""

    OBSERVE = "observe"
    REDACT = "redact"
    CUT = "cut"
    REROUTE = "reroute"
    BLOCK = "block"


class Side(enum.StrEnum):
    """Which way the text was going."""

    PROMPT = "prompt"
    ANSWER = "answer"


class Tier(enum.StrEnum):
    """Rungs of the audience ladder, from nobody to everyone."""

    NOBODY = "nobody"
    EVALUATORS = "evaluators"
    INTERNAL = "internal"
    VERIFIED = "verified"
    PARTNERS = "partners"
    PUBLIC = "public"


class Endpoint(enum.StrEnum):
    """What a scope can open. Only endpoints that this version serves are listed."""

    CHAT = "chat"
    MODELS = "models"


class Subject(enum.StrEnum):
    """Whose use a cap counts together."""

    PRINCIPAL = "principal"
    ORGANISATION = "organisation"
    AUDIENCE = "audience"
    STAGE = "stage"


class CapUnit(enum.StrEnum):
    """What a cap counts. `parallel` has no window."""

    REQUESTS = "requests"
    INPUT_TOKENS = "input_tokens"
    OUTPUT_TOKENS = "output_tokens"
    BYTES_OUT = "bytes_out"
    PARALLEL = "parallel"


class Window(enum.StrEnum):
    """Fixed UTC windows; `none` only for `parallel`."""

    NONE = "none"
    MINUTE = "min"
    HOUR = "h"
    DAY = "d"


class ThresholdVerdict(enum.StrEnum):
    """What an assessment says of a threshold. `cannot_rule_out` counts as reached."""

    REACHED = "reached"
    RULED_OUT = "ruled_out"
    CANNOT_RULE_OUT = "cannot_rule_out"


class WatchRole(enum.StrEnum):
    """A guardrail may narrow, a signal may only hold."""

    GUARDRAIL = "guardrail"
    SIGNAL = "signal"


class DecisionKind(enum.StrEnum):
    """What `decide` can say of a release."""

    ADVANCE = "advance"
    HOLD = "hold"
    RESCOPE = "rescope"
    ROLL_BACK = "roll_back"
    HALT = "halt"
    RESUME = "resume"


class Severity(enum.StrEnum):
    """Severity of an incident, worst first."""

    SEV_1 = "SEV-1"
    SEV_2 = "SEV-2"
    SEV_3 = "SEV-3"
    SEV_4 = "SEV-4"


class Assurance(enum.StrEnum):
    """Who stands behind a certificate, weakest first."""

    DEV = "dev"
    SELF = "self"
    OVERSEEN = "overseen"
    WITNESSED = "witnessed"


class Sealing(enum.StrEnum):
    """Whether the upstream has another door, weakest first. Only probed levels are listed."""

    OPEN = "open"
    DECLARED = "declared"


class Binding(enum.StrEnum):
    """How the candidate is tied to what answers, weakest first."""

    CLAIMED = "claimed"
    MEASURED = "measured"


class Durability(enum.StrEnum):
    """Where a record must stand before a byte leaves, weakest first."""

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
