"""What an envelope allows, in words: audience, scope, caps, safeguards, retention.

Invariants
- Every part of an envelope is said, also where it sets no limit.
- Block rules are counted and never shown: their phrases tell what to avoid.
"""

from __future__ import annotations

from gatelift.plan import Observed
from gatelift.terms import Cap, CapUnit, Envelope, Tier, Window, format_money
from gatelift.web.formats import number
from gatelift.web.model import Term, TermChange

__all__ = ["TIER_WORDS", "changes", "describe", "describe_observed"]

TIER_WORDS = {
    Tier.NOBODY: "nobody",
    Tier.EVALUATORS: "evaluators only",
    Tier.INTERNAL: "the operator's own people",
    Tier.VERIFIED: "verified researchers",
    Tier.PARTNERS: "enterprise partners",
    Tier.PUBLIC: "everyone who is admitted",
}
_WINDOWS = {Window.MINUTE: " a minute", Window.HOUR: " an hour", Window.DAY: " a day"}
_UNITS = {
    CapUnit.REQUESTS: "requests",
    CapUnit.INPUT_TOKENS: "input tokens",
    CapUnit.OUTPUT_TOKENS: "output tokens",
    CapUnit.BYTES_OUT: "bytes out",
    CapUnit.PARALLEL: "requests at once",
    CapUnit.COVERAGE: "distinct prompts, for ever",
}


def _listed(values: tuple[str, ...] | None) -> str:
    if values is None:
        return "no limit"
    return ", ".join(str(each).replace("_", " ") for each in values) or "none"


def _limit(value: int | None, unit: str) -> str:
    return "no limit" if value is None else f"{number(value)} {unit}"


def _cap(cap: Cap) -> str:
    if cap.unit is CapUnit.COST:
        # An envelope has no currency: it is its plan's, whose prices stand with the plan.
        much = f"cost of {format_money(cap.limit, 'in the currency of the plan')}"
    else:
        much = f"{number(cap.limit)} {_UNITS[cap.unit]}"
    return f"each {cap.subject.value}: {much}{_WINDOWS.get(cap.window, '')}"


def describe_observed(observed: Observed | None) -> tuple[Term, ...]:
    """Return what a stage records and does not enforce; nothing where it enforces all it says."""
    if observed is None:
        return ()
    found = [_cap(cap) for cap in observed.caps]
    found += [f"{category}: {posture}" for category, posture in observed.safeguards.items()]
    return (Term(name="Observed, NOT enforced", text="; ".join(found)),)


def describe(envelope: Envelope) -> tuple[Term, ...]:
    """Return what an envelope allows, one term a part."""
    audience, scope = envelope.audience, envelope.scope
    rows = [
        ("Who", TIER_WORDS[audience.tier]),
        ("Organisations at most", _limit(audience.max_organisations, "").strip()),
        ("Proofs required", _listed(audience.requires)),
        ("End user named in each request", "yes" if audience.safety_identifier else "not asked"),
        ("Endpoints", _listed(scope.endpoints)),
        ("Tools", _listed(scope.tools)),
        ("Agent steps", _limit(scope.agent_steps, "").strip()),
        ("Context", _limit(scope.context_tokens, "tokens a request")),
        ("Answer", _limit(scope.output_tokens, "tokens a request")),
        ("Log probabilities", "yes" if scope.logprobs else "no"),
        ("Images (no safeguard reads them)", "yes" if scope.images else "no"),
        ("Unlocked uses", _listed(scope.unlocked)),
        ("Caps", "; ".join(_cap(each) for each in envelope.caps) or "none"),
        (
            "Safeguards",
            "; ".join(
                f"{category}: {posture}"
                for category, posture in envelope.safeguards.postures.items()
            )
            or "none",
        ),
    ]
    rules = len(envelope.safeguards.block_rules)
    if rules:
        rows.append(("Further block rules", number(rules)))
    days = envelope.retention.content_days
    rows += [
        ("Content kept", "not at all" if days == 0 else _limit(days, "days")),
        ("Used for training", "allowed" if envelope.retention.training else "never"),
    ]
    return tuple(Term(name=name, text=text) for name, text in rows)


def changes(now: Envelope | None, then: Envelope) -> tuple[TermChange, ...]:
    """Return what `then` allows otherwise than `now`; all of it where nothing stands."""
    held = {} if now is None else {term.name: term.text for term in describe(now)}
    return tuple(
        TermChange(name=term.name, now=held.get(term.name), then=term.text)
        for term in describe(then)
        if held.get(term.name) != term.text
    )
