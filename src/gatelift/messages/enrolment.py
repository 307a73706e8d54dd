"""The sidecar of a placement in a bundle, believed only as two people enrolled it.

Invariants
- A bundle is signed by control alone. Whom to believe about the weights is not control's to say: the
  enrolment itself, by digest, is verified again under the pinned root, with its two signatures.
- What it says of name, address, model, candidate and sidecar is what the bundle says.

A root that no longer holds the keys that signed an enrolment ends it: two people enrol it anew. That an
enrolment is the newest of its placement is not shown here; the log shows it.
"""

from __future__ import annotations

from typing import Final

from gatelift.encoding import Digest
from gatelift.errors import CallerError
from gatelift.messages.authority import verify_body
from gatelift.messages.bundle import Placement
from gatelift.messages.entries import EntryKind, PlacementEnrolment, Sidecar
from gatelift.trust import Root, verify_quorum

__all__ = ["SIDECAR_QUORUM", "EnrolmentError", "verify_sidecar"]

SIDECAR_QUORUM: Final = ("operator", "security")


class EnrolmentError(CallerError):
    """A placement in a bundle is not what was enrolled."""

    code = "other_enrolment"


def verify_sidecar(
    placement: Placement, data: bytes, root: Root, fingerprint: Digest, now_ms: int
) -> Sidecar:
    """Return the sidecar of a placement that the enrolment in the envelope `data` names.

    Raises `EnrolmentError`, `QuorumError`, `AuthorityError`, `StatementError` or `DsseError`.
    """
    body = verify_body(EntryKind.PLACEMENT, data, root, now_ms)
    verify_quorum(root, body.signers, SIDECAR_QUORUM)
    value = body.value
    if not isinstance(value, PlacementEnrolment) or value.sidecar is None:
        raise EnrolmentError(f"the enrolment of {placement.name!r} names no sidecar")
    enrolled = (value.name, value.base_url, value.model, value.fingerprint, value.sidecar)
    said = (placement.name, placement.base_url, placement.model, fingerprint, placement.sidecar)
    if enrolled != said:
        raise EnrolmentError(
            f"the bundle says other things of placement {placement.name!r} than what two people "
            "enrolled: its weights count as claimed"
        )
    return value.sidecar
