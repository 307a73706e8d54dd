"""What the public page leaves out: who was admitted, and what others wrote about them.

Invariants
- A reason about one organisation is shown without its name; orders on one organisation, principal
  or key are counted, never listed.
- In text that people wrote (an order's reason, an incident's title, a reviewer's note), every name
  that a grant or an observation knows is blacked out, as a whole word and whatever its case.
- What a probe said of an upstream is left out: it may hold an address.

It cannot know what else a person writes into a public statement: the entry itself is public.
"""

from __future__ import annotations

import re

from gatelift.decide import DOCS, ReasonCode, State
from gatelift.messages import Reason
from gatelift.trust import TargetKind
from gatelift.web.formats import plain
from gatelift.web.model import ReasonLine

__all__ = ["PRIVATE_TARGETS", "WITHHELD", "Scrubber"]

WITHHELD = "[name withheld]"
PRIVATE_TARGETS = frozenset({TargetKind.ORGANISATION, TargetKind.PRINCIPAL, TargetKind.KEY})
_BY_PEOPLE = frozenset({ReasonCode.ORDER_STANDING, ReasonCode.REVIEW_REFUSED})
_MEANING_ONLY = frozenset(
    {
        ReasonCode.ORGANISATION_SUSPENDED,
        ReasonCode.PLACEMENT_DOWN,
        ReasonCode.PLAN_UNREADABLE,
        ReasonCode.FIGURES_UNUSABLE,
    }
)
_CODES = {code.value: code for code in ReasonCode}
_MAX_CHARS = 500


class Scrubber:
    """Makes public text of what the state holds. Names are collected once."""

    def __init__(self, state: State) -> None:
        names: set[str] = set()
        for entry in state.grants.values():
            grant = entry.grant
            names |= {grant.id, grant.principal, grant.organisation, grant.project}
            names |= {key.public_id for key in grant.keys}
        for held in state.observations.values():
            names |= {each.organisation for each in held.observation.organisations}
        for given in state.orders.values():
            target = given.standing.order.target
            if target.kind in PRIVATE_TARGETS:
                names.add(target.name)
        longest_first = sorted((n for n in names if n.strip()), key=lambda n: (-len(n), n))
        joined = "|".join(re.escape(name) for name in longest_first)
        self._names = (
            re.compile(rf"(?<!\w)(?:{joined})(?!\w)", re.IGNORECASE) if longest_first else None
        )

    def text(self, written: str) -> str:
        """Return what a person wrote, without names of the admitted, at most 500 characters."""
        if self._names is not None:
            written = self._names.sub(WITHHELD, written)
        return written if len(written) <= _MAX_CHARS else written[: _MAX_CHARS - 1] + "…"

    def reason(self, found: Reason) -> ReasonLine:
        """Return a reason as the public may read it."""
        code = _CODES.get(found.code)
        subject, message = found.subject, plain(found.message)
        if code is None or code in _MEANING_ONLY:
            subject, message = "", ""
        elif code in _BY_PEOPLE:
            message = self.text(message)
        if code is ReasonCode.ORGANISATION_SUSPENDED:
            subject = found.subject.partition("@")[0]
        meaning = DOCS[code][1] if code else "A cause that this page does not know."
        if code is ReasonCode.ORGANISATION_SUSPENDED:
            meaning = "The evidence names one organisation and the others alone do not cross."
        return ReasonLine(
            code=found.code,
            subject=subject,
            meaning=meaning,
            message=message,
            opens_with=found.opens_with,
        )
