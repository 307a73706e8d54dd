"""Envelopes in words: what one allows, and where two differ."""

from __future__ import annotations

from gatelift.terms import CapUnit, Envelope, Window, format_money

__all__ = ["describe", "differences"]


def _limit(value: int | None) -> str:
    return "no limit" if value is None else f"{value:,}".replace(",", " ")


def _names(values: tuple[str, ...] | None) -> str:
    if values is None:
        return "all"
    return ", ".join(str(value) for value in values) or "none"


def describe(envelope: Envelope) -> list[tuple[str, str]]:
    """Return each part of an envelope as a name and a short text, in a fixed order."""
    audience, scope = envelope.audience, envelope.scope
    rows = [
        ("audience", audience.tier.value),
        ("organisations", _limit(audience.max_organisations)),
        ("requires", _names(audience.requires)),
        ("safety identifier", "required" if audience.safety_identifier else "optional"),
        ("endpoints", _names(scope.endpoints)),
        ("tools", _names(scope.tools)),
        ("agent steps", _limit(scope.agent_steps)),
        ("context tokens", _limit(scope.context_tokens)),
        ("output tokens", _limit(scope.output_tokens)),
        ("logprobs", "yes" if scope.logprobs else "no"),
        ("images", "yes" if scope.images else "no"),
        ("unlocked", _names(scope.unlocked)),
    ]
    for cap in envelope.caps:
        window = "" if cap.window is Window.NONE else f"/{cap.window}"
        # An envelope has no currency: it is its plan's.
        much = format_money(cap.limit, "") if cap.unit is CapUnit.COST else _limit(cap.limit)
        rows.append((f"cap {cap.subject} {cap.unit}{window}", much.strip()))
    for category, posture in envelope.safeguards.postures.items():
        rows.append((f"safeguard {category}", str(posture)))
    rows.extend(
        (f"block rule {rule.id}", "; ".join(rule.phrases))
        for rule in envelope.safeguards.block_rules
    )
    days = envelope.retention.content_days
    rows.append(("content kept", "no limit" if days is None else f"{days} days"))
    rows.append(("training", "allowed" if envelope.retention.training else "never"))
    return rows


def differences(before: Envelope, after: Envelope) -> list[tuple[str, str, str]]:
    """Return (part, before, after) for every part that differs."""
    old, new = dict(describe(before)), dict(describe(after))
    names = list(dict.fromkeys([*old, *new]))
    return [
        (name, old.get(name, "-"), new.get(name, "-"))
        for name in names
        if old.get(name) != new.get(name)
    ]
