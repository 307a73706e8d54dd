"""Objections that a log holds, and certificates that were logged as if it held none.

Whether a notice was kept each gateway judges by the proofs that the certificate names. What it cannot
see is an objection that the certificate leaves out; who follows the log can.

Invariant: an objection counts against what is logged after it, until an overseer of its organisation
withdrew it. A certificate that was in force before it goes on: orders stop that one.

Knows no files and no clock; what it is told was verified before.
"""

from __future__ import annotations

from collections.abc import Iterable

from gatelift.encoding import Digest
from gatelift.ledger.errors import LedgerError
from gatelift.messages import Revocation
from gatelift.trust import Announcement, Certificate, Objection, Signer

__all__ = ["Objections"]


class Objections:
    """Remembers objections and certificates in the order of the log."""

    def __init__(self) -> None:
        self._terms_of: dict[Digest, tuple[str, Digest, Digest]] = {}
        self._standing: dict[Digest, tuple[Digest, str]] = {}
        self._hiding: dict[Digest, Digest] = {}

    def take_announcement(self, digest: Digest, value: Announcement) -> None:
        """Note an announcement: an objection to it stands against its twins as well."""
        self._terms_of[digest] = value.terms

    def take_objection(self, digest: Digest, value: Objection, signers: Iterable[Signer]) -> None:
        """Note an objection; the first of each organisation to an announcement counts."""
        for signer in signers:
            held = (value.announcement, signer.organisation)
            if signer.role == "overseer" and held not in self._standing.values():
                self._standing[digest] = held

    def take_revocation(self, value: Revocation, signers: Iterable[Signer]) -> None:
        """Note that an objection was withdrawn, if its own organisation says so."""
        held = self._standing.get(value.body)
        mine = {signer.organisation for signer in signers if signer.role == "overseer"}
        if held is not None and held[1] in mine:
            del self._standing[value.body]

    def take_certificate(self, digest: Digest, value: Certificate) -> None:
        """Note a certificate; it hides what stands against its terms and is not named on it."""
        if value.notice is None:
            return
        terms = (value.stage, value.fingerprint, value.plan)
        against = (o for o, (a, _) in self._standing.items() if self._terms_of.get(a) == terms)
        for objection in set(against) - set(value.notice.objections):
            self._hiding[digest] = objection

    def check_certificates(self, named: Iterable[Digest]) -> None:
        """Return if a status may name these; raises `LedgerError` (`objection_hidden`)."""
        for digest in named:
            if digest in self._hiding:
                raise LedgerError(
                    f"the status names certificate {digest[:24]}, which leaves out the objection "
                    f"{self._hiding[digest][:24]}: it is not passed on",
                    code="objection_hidden",
                )
