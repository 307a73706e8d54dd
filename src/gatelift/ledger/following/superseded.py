"""What the log has replaced: the newest certificate of each stage, the newest grant of each id.

A signature outlives what it was given for. An earlier certificate, or an earlier grant of the same
id, still verifies, and who holds the control plane's keys could hand it out again. The log says
which one is the newest, and a keeper that reads the log remembers it across every restart, so it
passes on no status that serves from an older one.

Invariants
- A status may name only certificates that are logged, and of each stage the newest in force.
- A roster may hold only grants that are logged, and of each id the newest.
- What replaces a certificate counts from `GRACE_MS` after it was logged, or after it begins if that
  is later: until then control may not have built the bundle that holds it.

Fails closed: the status is refused, and workers stop when their last one lapses. Knows no files and
no clock; what it is told was verified before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from gatelift.encoding import Digest, sha256_digest
from gatelift.ledger.errors import LedgerError
from gatelift.trust import Certificate, Grant

__all__ = ["GRACE_MS", "Superseded"]

GRACE_MS: Final = 10_000


class _Logged(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate's stage, place among its stage's certificates, and when it counts."""

    stage: tuple[str, str]
    sequence: int
    from_ms: int


class Superseded:
    """Remembers certificates and grants in the order of the log."""

    def __init__(self) -> None:
        self._certificates: dict[Digest, _Logged] = {}
        self._of_stage: dict[tuple[str, str], list[_Logged]] = {}
        self._newest_grant: dict[str, Digest] = {}
        self._grants: dict[Digest, str] = {}
        self._roster: Digest | None = None

    def take_certificate(self, digest: Digest, value: Certificate, at_ms: int) -> None:
        """Note a certificate that was logged at `at_ms`."""
        logged = _Logged(
            stage=(value.release, value.stage),
            sequence=value.sequence,
            from_ms=max(at_ms, value.not_before) + GRACE_MS,
        )
        self._certificates[digest] = logged
        self._of_stage.setdefault(logged.stage, []).append(logged)

    def take_grant(self, digest: Digest, value: Grant) -> None:
        """Note a grant that was logged; it replaces an earlier one of the same id."""
        self._newest_grant[value.id] = digest
        self._grants[digest] = value.id
        self._roster = None

    def check_certificates(self, named: Iterable[Digest], now_ms: int) -> None:
        """Return if a status may name these; raises `LedgerError` (`superseded`, `not_logged`)."""
        for digest in named:
            held = self._certificates.get(digest)
            if held is None:
                raise LedgerError(
                    f"the status names certificate {digest[:24]}, which is not in the log: it is "
                    "not passed on",
                    code="not_logged",
                )
            newer = [
                other
                for other in self._of_stage[held.stage]
                if other.sequence > held.sequence and other.from_ms <= now_ms
            ]
            if newer:
                raise LedgerError(
                    f"the status names certificate {held.sequence} of stage {held.stage[1]!r}, "
                    f"certificate {newer[-1].sequence} replaced it: it is not passed on",
                    code="superseded",
                )

    def check_roster(self, roster: Digest, grants: Iterable[str]) -> None:
        """Return if a status may name this roster; raises `LedgerError` as above.

        `grants` are the envelopes that it holds; they are read once for each roster and log.
        """
        if roster == self._roster:
            return
        for envelope in grants:
            digest = sha256_digest(envelope.encode("utf-8"))
            name = self._grants.get(digest)
            if name is None:
                raise LedgerError(
                    f"the roster holds grant {digest[:24]}, which is not in the log: its status "
                    "is not passed on",
                    code="not_logged",
                )
            if self._newest_grant[name] != digest:
                raise LedgerError(
                    f"the roster holds an earlier grant {name!r} than the log's newest: its "
                    "status is not passed on",
                    code="superseded",
                )
        self._roster = roster
