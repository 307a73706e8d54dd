"""Reviews: a signed judgement of a stage, the conditions on it, and what they leave of a certificate.

Invariants
- Of one person's reviews of a stage the newest speaks; withdrawn, it says nothing, and none before it
  revives. Only its author withdraws a review.
- An approval stands for exactly its plan and candidate, up to its own `until`.
- Every approval that stands binds a certificate of its stage, also one that no gate asked for: the
  certificate ends no later than the earliest `until` and is no wider than the narrowest condition.
- What is judged is what stood when the certificate was logged, by the log's time.

A condition's text is published and binds people; `max_organisations` is the part that machines check.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

import msgspec

from gatelift.encoding import Digest
from gatelift.errors import CallerError
from gatelift.terms import Audience, Envelope, is_within
from gatelift.trust import Certificate

__all__ = [
    "MAX_CONDITIONS",
    "MAX_CONDITION_CHARACTERS",
    "Bounds",
    "Condition",
    "Review",
    "ReviewError",
    "SpokenReview",
    "bounds_of",
    "check_bounds",
    "standing_approvals",
]

MAX_CONDITIONS = 16
MAX_CONDITION_CHARACTERS = 500


class ReviewError(CallerError):
    """A certificate goes beyond the approvals that it rests on."""

    code = "bad_review"


class Condition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Under what a stage was approved: a text for people, and a limit that machines hold."""

    text: str
    max_organisations: int | None = None


class Review(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A human judgement for one stage, bound to the digests that were reviewed.

    An approval may have conditions, and an end of its own in `until` (ms UTC); a refusal has neither.
    """

    id: str
    release: str
    stage: str
    approves: bool
    plan: Digest
    fingerprint: Digest
    evidence: tuple[Digest, ...]
    note: str
    conditions: tuple[Condition, ...] = ()
    until: int | None = None


class SpokenReview(msgspec.Struct, frozen=True, kw_only=True):
    """A logged review: the digest of its body, and the people who signed it."""

    review: Review
    digest: Digest
    people: frozenset[str]


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What approvals leave: the latest end, and the envelope; an end of none is no end."""

    until: int | None = None
    envelope: Envelope = Envelope()


def standing_approvals(
    spoken: Iterable[SpokenReview],
    withdrawn: AbstractSet[Digest],
    *,
    stage: str,
    plan: Digest,
    fingerprint: Digest,
    at_ms: int,
) -> tuple[Review, ...]:
    """Return the approvals of a stage that stand at `at_ms`; `spoken` are in the order of the log."""
    newest: dict[str, SpokenReview] = {}
    for each in spoken:
        if each.review.stage == stage:
            newest |= dict.fromkeys(each.people, each)
    return tuple(
        review
        for each in newest.values()
        for review in (each.review,)
        if review.approves
        and each.digest not in withdrawn
        and (review.plan, review.fingerprint) == (plan, fingerprint)
        and (review.until is None or at_ms < review.until)
    )


def bounds_of(approvals: Iterable[Review]) -> Bounds:
    """Return the narrowest of all approvals."""
    held = tuple(approvals)
    ends = [each.until for each in held if each.until is not None]
    most = [
        condition.max_organisations
        for each in held
        for condition in each.conditions
        if condition.max_organisations is not None
    ]
    audience = Audience(max_organisations=min(most, default=None))
    return Bounds(until=min(ends, default=None), envelope=Envelope(audience=audience))


def check_bounds(certificate: Certificate, bounds: Bounds) -> None:
    """Return if a certificate stays inside; raises `ReviewError` (`outlives_approval`, `exceeds_condition`)."""
    if bounds.until is not None and certificate.not_after > bounds.until:
        raise ReviewError(
            f"certificate ends at {certificate.not_after}, an approval it rests on at {bounds.until}: "
            "certify for shorter, or have the stage approved for longer",
            code="outlives_approval",
        )
    if not is_within(certificate.envelope, bounds.envelope):
        most = bounds.envelope.audience.max_organisations
        raise ReviewError(
            f"certificate admits {certificate.envelope.audience.max_organisations} organisations, an "
            f"approval it rests on at most {most}: certify what was approved",
            code="exceeds_condition",
        )
