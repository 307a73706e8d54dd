"""Sidecars: who may be enrolled to measure weights, and what is logged as measured.

Invariants
- An enrolment that names a sidecar is signed by operator and security, two people: what it measures
  may be certified, so that one person alone cannot say whom to believe.
- A sidecar's key serves nothing else: no key of the root, of its logs, nodes and witnesses, and no
  other placement's sidecar.
- A probe says `measured` only with a measurement beside it that this sidecar signed for this
  placement, candidate and manifest. Without one it is refused, not read as less.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from gatelift.decide.admit_error import AdmitError, refuse
from gatelift.decide.state import State
from gatelift.errors import CallerError
from gatelift.messages import (
    SIDECAR_QUORUM,
    Body,
    PlacementEnrolment,
    Probe,
    Sidecar,
    verify_measurement,
)
from gatelift.terms import Binding
from gatelift.trust import key_id, machine_keys, parse_public_key, verify_quorum

__all__ = ["check_measured", "check_sidecar"]


def check_sidecar(state: State, body: Body, value: PlacementEnrolment) -> None:
    """Refuse an enrolment whose sidecar is not for two people to trust."""
    sidecar, root = value.sidecar, state.root
    if sidecar is None:
        return
    if root is None:
        refuse("no_root", "no root is on the log: log it first")
    try:
        verify_quorum(root, body.signers, SIDECAR_QUORUM)
        public = parse_public_key(sidecar.key)
    except CallerError as error:
        raise AdmitError(f"a placement with a sidecar: {error}", code=error.code) from error
    parts = urlsplit(sidecar.url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        refuse(
            "bad_placement", f"expected http://host:port of the sidecar, got {sidecar.url[:80]!r}"
        )
    used = {key_id(each): what for what, each in machine_keys(root)}
    used |= dict.fromkeys(root.keys, "a person of the root")
    used |= {
        key_id(parse_public_key(each.sidecar.key)): f"the sidecar of placement {name}"
        for name, each in state.placements.items()
        if each.sidecar is not None and name != value.name
    }
    if key_id(public) in used:
        refuse(
            "key_in_two_roles",
            f"the sidecar's key serves {used[key_id(public)]} already: draw one of its own",
        )


def check_measured(state: State, value: Probe) -> None:
    """Refuse a probe that says `measured` without the sidecar's own word."""
    if value.binding is Binding.CLAIMED and value.measurement is None:
        return
    enrolment = state.placements[value.placement]
    sidecar: Sidecar | None = enrolment.sidecar
    if value.measurement is None or value.binding is not Binding.MEASURED or sidecar is None:
        refuse(
            "not_measured",
            f"placement {value.placement}: expected {Binding.MEASURED.value} together with the "
            "measurement of an enrolled sidecar, got one without the other",
        )
    try:
        verify_measurement(
            value.measurement.encode("utf-8"),
            sidecar,
            placement=value.placement,
            fingerprint=enrolment.fingerprint,
        )
    except CallerError as error:
        raise AdmitError(f"placement {value.placement}: {error}", code=error.code) from error
