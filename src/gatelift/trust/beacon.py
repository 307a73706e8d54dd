"""The beacon: signatures from outside without which no status counts, so that silence stops service.

A root that has the role `beacon` asks each status for signatures of so many distinct organisations
as its threshold says, over the same bytes that control signed. Who holds control's key alone can
then keep nothing alive.

Invariants
- Organisations are counted, by their one spelling; several keys of one are one voice.
- A root without the role asks for nothing; `root` keeps the role from being taken out without the
  overseer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from gatelift.trust.quorum import QuorumError
from gatelift.trust.root_shape import Root, Signer
from gatelift.trust.witnesses import same_organisation

__all__ = ["BEACON", "check_beacon"]

BEACON: Final = "beacon"


def check_beacon(root: Root, signers: Iterable[Signer]) -> None:
    """Return if the beacon of `root` spoke, or it has none; raises `QuorumError` (`beacon_silent`)."""
    role = root.roles.get(BEACON)
    if role is None:
        return
    spoke = {same_organisation(each.organisation) for each in signers if each.role == BEACON}
    if len(spoke) < role.threshold:
        raise QuorumError(
            f"the beacon asks for signatures of {role.threshold} organisation(s), {len(spoke)} "
            "signed: its silence stops service. Ask them whether it is meant",
            code="beacon_silent",
        )
