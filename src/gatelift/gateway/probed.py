"""What the node's probes show of the placements: which may be used, and how far they are sealed.

Invariants
- A placement is used only while the bundle enrols it, the node's probes call it up, and it was not
  taken out here for making more than was asked.
- The sealing and the binding that are seen are the weakest of all enrolled placements that are up,
  those taken out too: one open door is a way round the gateway to the same model. What a node does not
  say is `open` and `claimed`.

Pure but for its own state. Whether a certificate may be served from is `holdings`' business.
"""

from __future__ import annotations

from gatelift.messages import Placement, VerifiedBundle
from gatelift.terms import Binding, Sealing

__all__ = ["ProbedPlacements"]


class ProbedPlacements:
    """The placements of one worker by name, as its node probes them."""

    def __init__(self) -> None:
        self._up: dict[str, tuple[Sealing, Binding]] = {}
        self._taken_out: set[str] = set()

    def set(self, name: str, *, up: bool, sealing: Sealing, binding: Binding) -> None:
        """Note what the node's probes say of a placement."""
        if up:
            self._up[name] = (sealing, binding)
        else:
            self._up.pop(name, None)

    def take_out(self, name: str) -> None:
        """Stop using a placement; only a restart brings it back."""
        self._taken_out.add(name)

    def usable(self, bundle: VerifiedBundle, newest: VerifiedBundle) -> tuple[Placement, ...]:
        """Return what may be used, in the bundle's order.

        `newest` may wait for its status: it takes away what it no longer enrols, and adds nothing.
        """
        return tuple(
            placement
            for placement in bundle.bundle.placements
            if placement in newest.bundle.placements
            and placement.name not in self._taken_out
            and placement.name in self._up
        )

    def sealing(self, bundle: VerifiedBundle) -> Sealing | None:
        """Return the weakest sealing that is seen, null while no placement is up."""
        seen = [sealing for sealing, _ in self._seen(bundle)]
        return min(seen, key=list(Sealing).index, default=None)

    def binding(self, bundle: VerifiedBundle) -> Binding | None:
        """Return the weakest binding that is seen, null while no placement is up."""
        seen = [binding for _, binding in self._seen(bundle)]
        return min(seen, key=list(Binding).index, default=None)

    def _seen(self, bundle: VerifiedBundle) -> list[tuple[Sealing, Binding]]:
        return [self._up[each.name] for each in bundle.bundle.placements if each.name in self._up]
