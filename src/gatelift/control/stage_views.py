"""The stages as the CLI and the page are shown them: part of `views`.

Invariants
- As `views`. That nodes withhold what stands is said beside it, never instead of it.
"""

from __future__ import annotations

import msgspec

from gatelift.decide import (
    State,
    clears_for,
    next_sequence,
    standing_certificate,
    standing_envelope,
    uncleared,
    withheld_by,
)
from gatelift.encoding import Digest
from gatelift.terms import Envelope
from gatelift.trust import Certificate

__all__ = ["StageView", "view_stages"]


class StageView(msgspec.Struct, frozen=True, kw_only=True):
    """One stage. `ceiling`: what may be served now, null for nothing.

    `withheld`: why nodes serve nothing of it although its certificate stands, null if they do.
    """

    name: str
    standing: bool
    ceiling: Envelope | None
    withheld: str | None
    certificate: Certificate | None
    certificate_digest: Digest | None
    certificate_index: int | None
    held_down_by: tuple[str, ...]
    next_clears: tuple[str, ...]
    next_sequence: int
    quorum: tuple[str, ...]
    grants: int
    organisations: int


def view_stages(state: State, now_ms: int) -> tuple[StageView, ...]:
    """Return every stage of the plan at `now_ms`."""
    found = []
    for stage in state.plan.stages if state.plan else ():
        name = stage.name
        held = standing_certificate(state, name, now_ms)
        ceiling = standing_envelope(state, name, now_ms)
        grants = [
            each.grant
            for each in state.grants.values()
            if each.grant.stage == name and now_ms < each.grant.not_after
        ]
        found.append(
            StageView(
                name=name,
                standing=ceiling is not None,
                ceiling=ceiling,
                withheld=None if held is None else withheld_by(state, held.certificate),
                certificate=held.certificate if held else None,
                certificate_digest=held.digest if held else None,
                certificate_index=held.index if held else None,
                held_down_by=tuple(e.standing.order.id for e in uncleared(state, name)),
                next_clears=clears_for(state, name),
                next_sequence=next_sequence(state, name),
                quorum=stage.quorum,
                grants=len(grants),
                organisations=len({grant.organisation for grant in grants}),
            )
        )
    return tuple(found)
