"""The levels of a certificate in words: said as they are, with what each does not show.

Invariants
- Every word of the four lists has a sentence; a new word without one fails a test.
- A level is read off the certificate; what was seen since stands beside it, never instead of it.
"""

from __future__ import annotations

from gatelift.decide import State, binding_of, sealing_of, up_probes
from gatelift.terms import Assurance, Binding, Durability, Sealing
from gatelift.trust import Levels
from gatelift.web.model import LevelLine

__all__ = ["ASSURANCE", "BINDING", "DURABILITY", "SEALING", "describe_levels", "summarise_levels"]

ASSURANCE = {
    Assurance.DEV: "The signers' identities are unproven. For trying out, not for relying on.",
    Assurance.SELF: "At least two proven people of the operator signed; nobody from outside did.",
    Assurance.OVERSEEN: "An overseer from outside the operator signed as well.",
    Assurance.WITNESSED: "Overseen, and independent witnesses cosign the log.",
}
SEALING = {
    Sealing.OPEN: "The model server also answers without Gatelift's credential: a second door.",
    Sealing.DECLARED: "The model server refused calls without the credential whenever it was "
    "probed; that there is no other door is the operator's word.",
    Sealing.SEALED: "The model server took no call without a short-lived certificate that the "
    "gateway's own node issues while status stands, whenever it was probed.",
}
BINDING = {
    Binding.CLAIMED: "That this candidate is what answers is the operator's word. "
    "Drift probes would show many changes; they prove no identity.",
    Binding.MEASURED: "A signed manifest of the weights was checked when they were loaded.",
}
DURABILITY = {
    Durability.RELAXED: "An answer leaves before its record is on any disk: a power cut, unlike a killed "
    "process, can lose the records of the last moments. No record, no response is not promised.",
    Durability.NODE: "A record is on one machine's disk before an answer leaves; "
    "with that disk it would be lost.",
    Durability.REPLICATED: "A record is on two stores before an answer leaves; that the second does "
    "not fail with the first is the operator's word.",
}


def describe_levels(state: State, levels: Levels) -> tuple[LevelLine, ...]:
    """Return the four levels of a certificate, with what the newest probes and the root say."""
    seen, bound = sealing_of(state), binding_of(state)
    probes = up_probes(state)
    drift = max(probes, key=lambda each: each.changed, default=None)
    return (
        LevelLine(
            name="Assurance",
            level=levels.assurance.value,
            meaning=ASSURANCE[levels.assurance],
            seen="",
        ),
        LevelLine(
            name="Sealing",
            level=levels.sealing.value,
            meaning=SEALING[levels.sealing],
            seen="no placement is up" if seen is None else f"newest probe: {seen.value}",
        ),
        LevelLine(
            name="Binding",
            level=levels.binding.value,
            meaning=BINDING[levels.binding],
            seen=""
            if drift is None or bound is None
            else f"newest probe: {bound.value}; {drift.changed} of {drift.of} answers changed",
        ),
        LevelLine(
            name="Durability",
            level=levels.durability.value,
            meaning=DURABILITY[levels.durability],
            seen="",
        ),
    )


def summarise_levels(levels: Levels) -> str:
    """Return the four words on one line."""
    return (
        f"assurance {levels.assurance.value}, sealing {levels.sealing.value}, "
        f"binding {levels.binding.value}, durability {levels.durability.value}"
    )
