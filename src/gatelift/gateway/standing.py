"""What a grant may do, judged once and kept until something changes.

A permission follows from bundle, roster, orders, the certificates that status names, and time. The
first four change by frames from the keeper, each of which makes the book forget all it holds; time
matters only where something begins or ends. So between two such moments the answer is the same, and
what follows from it (which caps count, under which counters) is made once as well.

Invariants
- A certificate that says more sealing or binding than the node's probes show is left out, as a lapsed
  one is.
- What was judged at one moment is used only until the next edge in time, and never before it.
- Whether status lives is not kept here: that is asked each time.

Pure but for its own state; the clock is an argument.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from gatelift.encoding import Digest
from gatelift.gateway.reservation import cap_lines
from gatelift.plan import Plan
from gatelift.safeguards import Suite
from gatelift.terms import Binding, Envelope, Sealing
from gatelift.trust import (
    Grant,
    Permission,
    Refusal,
    StandingOrder,
    VerifiedCertificate,
    binding_holds,
    permit,
    sealing_holds,
)

__all__ = ["Standing", "StandingBook", "edges_of", "permit_as_sealed"]

_NEVER_MS = 2**63 - 1
# What a grant reads whose own stage is left out, where no earlier one takes it either.
_FELL_BACK = frozenset({"no_certificate", "outside_audience", "grant_lacks_proof"})


class Standing:
    """A permission, with what is made of it once. `suite` is set by who first needs it."""

    __slots__ = ("cap_lines", "certificate", "envelope", "permission", "stage", "suite")

    def __init__(self, permission: Permission, grant: Grant) -> None:
        self.permission = permission
        self.envelope: Envelope = permission.envelope
        self.stage: str = permission.certificate.certificate.stage
        self.certificate: Digest = permission.certificate.digest
        self.cap_lines = cap_lines(self.envelope, grant, self.stage)
        self.suite: Suite | None = None


class _Judged:
    """One judgement and the time in which it holds."""

    __slots__ = ("found", "from_ms", "grant", "until_ms")

    def __init__(
        self, grant: Grant, found: Standing | Refusal, from_ms: int, until_ms: int
    ) -> None:
        self.grant = grant
        self.found = found
        self.from_ms = from_ms
        self.until_ms = until_ms


def edges_of(
    certificates: Iterable[VerifiedCertificate], orders: Iterable[StandingOrder]
) -> Iterator[int]:
    """Yield the moments, in ms UTC, at which one of these begins or ends."""
    for held in certificates:
        yield held.certificate.not_before
        yield held.certificate.not_after
    for standing in orders:
        if standing.order.until is not None:
            yield standing.order.until


def permit_as_sealed(
    plan: Plan,
    certificates: Mapping[str, VerifiedCertificate],
    orders: tuple[StandingOrder, ...],
    grant: Grant,
    public_id: str,
    now_ms: int,
    *,
    seen: Sealing | None,
    binding: Binding | None,
) -> Permission | Refusal:
    """Return what `permit` returns of the certificates that the `seen` sealing and binding carry.

    Both are null while no placement is up: nothing is sent anywhere then.
    """
    kept = {
        stage: held
        for stage, held in certificates.items()
        if (seen is None or sealing_holds(held.certificate, plan.stage(stage), seen))
        and (binding is None or binding_holds(held.certificate, binding))
    }
    found = permit(plan, kept, orders, grant, public_id, now_ms)
    if seen is None or binding is None or grant.stage in kept or grant.stage not in certificates:
        return found
    said = certificates[grant.stage].certificate
    lapsed = not said.not_before <= now_ms < said.not_after
    if lapsed or isinstance(found, Permission) or found.code not in _FELL_BACK:
        return found
    if not binding_holds(said, binding):
        return Refusal(
            code="binding_below",
            message=f"the certificate of stage {grant.stage!r} says that the weights are "
            f"{said.levels.binding.value}, and they are only {binding.value} now: nothing is served "
            "from it until its sidecar measures them again",
        )
    return Refusal(
        code="sealing_below",
        message=f"the certificate of stage {grant.stage!r} says that the model server is "
        f"{said.levels.sealing.value}, and probes from outside find it {seen.value}: nothing is "
        "served from it until its door is shut again",
    )


class StandingBook:
    """Judgements by the public id of the key that was shown."""

    __slots__ = ("_edges", "_judged")

    def __init__(self) -> None:
        self._judged: dict[str, _Judged] = {}
        self._edges: tuple[int, ...] = ()

    def forget(self, edges: Iterable[int]) -> None:
        """Forget all judgements; `edges` are the moments at which the next ones must end."""
        self._judged.clear()
        self._edges = tuple(edges)

    def get(self, public_id: str, grant: Grant, now_ms: int) -> Standing | Refusal | None:
        """Return what was judged of this very grant and still holds at `now_ms`."""
        held = self._judged.get(public_id)
        if held is None or held.grant is not grant or not held.from_ms <= now_ms < held.until_ms:
            return None
        return held.found

    def put(
        self, public_id: str, grant: Grant, found: Permission | Refusal, now_ms: int
    ) -> Standing | Refusal:
        """Keep a judgement made at `now_ms` until the next edge; return it."""
        kept = found if isinstance(found, Refusal) else Standing(found, grant)
        edges = (*self._edges, grant.not_before, grant.not_after)
        until_ms = min((edge for edge in edges if edge > now_ms), default=_NEVER_MS)
        self._judged[public_id] = _Judged(grant, kept, now_ms, until_ms)
        return kept
