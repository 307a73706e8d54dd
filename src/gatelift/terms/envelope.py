"""The envelope: the most that a stage, a certificate or an order's ceiling allows.

An envelope is audience x scope x caps x safeguards x retention. Every part has a meet (the most
that both allow), so envelopes form a meet-semilattice with `Envelope()` (everything) on top, and
`a <= b` is defined as `meet(a, b) == a`.

Invariants
- `meet` is commutative, associative and idempotent; `Envelope()` changes nothing.
- `meet(a, b)` is tighter than or equal to both: combining can only subtract.
- `compare` says `incomparable` when neither orders the other; callers count that as looser.
- `None` in a limit means that this part sets no limit; a limit is 0 or more.
- Every value is normalised on construction, so equal permissions are equal values.

An order's ceiling that allows nothing is written as no envelope at all (see `trust.order`).
"""

from __future__ import annotations

import enum
from typing import TypeVar

import msgspec

from gatelift.errors import CallerError
from gatelift.terms.caps import Cap, meet_caps, normalise_caps
from gatelift.terms.postures import SafeguardTerms, meet_safeguards
from gatelift.terms.words import Band, Endpoint, Tier

__all__ = [
    "Audience",
    "Comparison",
    "Envelope",
    "EnvelopeError",
    "Retention",
    "Scope",
    "compare",
    "is_within",
    "meet",
]

T = TypeVar("T", bound=str)


class EnvelopeError(CallerError):
    """A part of an envelope is not a permission."""

    code = "bad_envelope"


def _check_limits(part: msgspec.Struct, *names: str) -> None:
    for name in names:
        limit = getattr(part, name)
        if limit is not None and limit < 0:
            raise EnvelopeError(f"{name}: expected a limit of 0 or more, or none, got {limit}")


class Audience(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may be admitted. `requires` are proofs that every grant must carry, sorted.

    `safety_identifier` true asks every request to say for which end user it is made.
    """

    tier: Tier = Tier.PUBLIC
    max_organisations: int | None = None
    requires: tuple[str, ...] = ()
    safety_identifier: bool = False

    def __post_init__(self) -> None:
        _check_limits(self, "max_organisations")
        msgspec.structs.force_setattr(self, "requires", tuple(sorted(set(self.requires))))


class Scope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be asked for. Token limits are for one request.

    `images` opens what no safeguard reads; a plan that does not write it leaves it shut.
    """

    endpoints: tuple[Endpoint, ...] | None = None
    tools: tuple[str, ...] | None = None
    agent_steps: int | None = None
    context_tokens: int | None = None
    output_tokens: int | None = None
    logprobs: bool = True
    images: bool = True
    unlocked: tuple[Band, ...] | None = None

    def __post_init__(self) -> None:
        _check_limits(self, "agent_steps", "context_tokens", "output_tokens")
        for name in ("endpoints", "tools", "unlocked"):
            value = getattr(self, name)
            if value is not None:
                msgspec.structs.force_setattr(self, name, tuple(sorted(set(value))))


class Retention(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long content may be kept, in days (0 is not at all), and whether it may be trained on."""

    content_days: int | None = None
    training: bool = True

    def __post_init__(self) -> None:
        _check_limits(self, "content_days")


class Envelope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Audience x scope x caps x safeguards x retention. The default allows everything."""

    audience: Audience = Audience()
    scope: Scope = Scope()
    caps: tuple[Cap, ...] = ()
    safeguards: SafeguardTerms = SafeguardTerms()
    retention: Retention = Retention()

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "caps", normalise_caps(self.caps))


class Comparison(enum.StrEnum):
    """How the first envelope stands to the second."""

    EQUAL = "equal"
    TIGHTER = "tighter"
    LOOSER = "looser"
    INCOMPARABLE = "incomparable"


def _smaller(left: int | None, right: int | None) -> int | None:
    if left is None or right is None:
        return left if right is None else right
    return min(left, right)


def _common(left: tuple[T, ...] | None, right: tuple[T, ...] | None) -> tuple[T, ...] | None:
    if left is None or right is None:
        return left if right is None else right
    return tuple(sorted(set(left) & set(right)))


def _meet_audience(left: Audience, right: Audience) -> Audience:
    ladder = list(Tier)
    return Audience(
        tier=min(left.tier, right.tier, key=ladder.index),
        max_organisations=_smaller(left.max_organisations, right.max_organisations),
        requires=(*left.requires, *right.requires),
        safety_identifier=left.safety_identifier or right.safety_identifier,
    )


def _meet_scope(left: Scope, right: Scope) -> Scope:
    return Scope(
        endpoints=_common(left.endpoints, right.endpoints),
        tools=_common(left.tools, right.tools),
        agent_steps=_smaller(left.agent_steps, right.agent_steps),
        context_tokens=_smaller(left.context_tokens, right.context_tokens),
        output_tokens=_smaller(left.output_tokens, right.output_tokens),
        logprobs=left.logprobs and right.logprobs,
        images=left.images and right.images,
        unlocked=_common(left.unlocked, right.unlocked),
    )


def meet(left: Envelope, right: Envelope) -> Envelope:
    """Return the most that both envelopes allow."""
    return Envelope(
        audience=_meet_audience(left.audience, right.audience),
        scope=_meet_scope(left.scope, right.scope),
        caps=meet_caps(left.caps, right.caps),
        safeguards=meet_safeguards(left.safeguards, right.safeguards),
        retention=Retention(
            content_days=_smaller(left.retention.content_days, right.retention.content_days),
            training=left.retention.training and right.retention.training,
        ),
    )


def compare(left: Envelope, right: Envelope) -> Comparison:
    """Return how `left` stands to `right`; `incomparable` counts as looser."""
    if left == right:
        return Comparison.EQUAL
    both = meet(left, right)
    if both == left:
        return Comparison.TIGHTER
    if both == right:
        return Comparison.LOOSER
    return Comparison.INCOMPARABLE


def is_within(inner: Envelope, outer: Envelope) -> bool:
    """Return whether `inner` allows nothing that `outer` does not."""
    return meet(inner, outer) == inner
