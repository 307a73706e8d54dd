"""Reviews that a log holds, and what their approvals leave of each certificate.

Invariant: a certificate is held against the approvals that stood when it was logged, by the log's time;
what is approved or withdrawn later changes nothing on it. Orders stop that one.

Knows no files and no clock; what it is told was verified before.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gatelift.encoding import Digest
from gatelift.ledger.errors import LedgerError
from gatelift.messages import (
    Review,
    ReviewError,
    Revocation,
    SpokenReview,
    bounds_of,
    check_bounds,
    standing_approvals,
)
from gatelift.trust import Certificate, Signer

__all__ = ["Approvals"]


class Approvals:
    """Remembers reviews, and who withdrew which, in the order of the log."""

    def __init__(self) -> None:
        self._spoken: dict[Digest, SpokenReview] = {}
        self._withdrawn: set[Digest] = set()
        self._beyond: dict[Digest, ReviewError] = {}

    def take(self, digest: Digest, value: msgspec.Struct, signers: Iterable[Signer]) -> None:
        """Note a review or its withdrawal by its author; other entries say nothing."""
        people = frozenset(signer.person for signer in signers)
        match value:
            case Review():
                self._spoken[digest] = SpokenReview(review=value, digest=digest, people=people)
            case Revocation():
                held = self._spoken.get(value.body)
                if held is not None and people & held.people:
                    self._withdrawn.add(value.body)
            case _:
                pass

    def check(self, value: Certificate, at_ms: int) -> None:
        """Return if a certificate logged at `at_ms` stays inside; raises `ReviewError`."""
        standing = standing_approvals(
            (each for each in self._spoken.values() if each.review.release == value.release),
            self._withdrawn,
            stage=value.stage,
            plan=value.plan,
            fingerprint=value.fingerprint,
            at_ms=at_ms,
        )
        check_bounds(value, bounds_of(standing))

    def take_certificate(self, digest: Digest, value: Certificate, at_ms: int) -> None:
        """Note a certificate that was logged although it goes beyond what was approved."""
        try:
            self.check(value, at_ms)
        except ReviewError as error:
            self._beyond[digest] = error

    def check_certificates(self, named: Iterable[Digest]) -> None:
        """Return if a status may name these; raises `LedgerError` with the certificate's own code."""
        for digest in named:
            if digest in self._beyond:
                error = self._beyond[digest]
                raise LedgerError(
                    f"the status names certificate {digest[:24]}: {error}; it is not passed on",
                    code=error.code,
                )
