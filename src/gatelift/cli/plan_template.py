"""The plan that `init` and `up` write: YAML text with its reasons beside it.

Invariants
- What is returned parses (`parse_plan`); a template that did not would be a bug, found by a test.
- `small` has the first two rungs, `full` all five. Numbers are starting points, not advice: the
  comments say what each is for.

Source: DESIGN.md section 5.
"""

from __future__ import annotations

import enum
import re

from gatelift.cli.errors import InputError
from gatelift.plan import parse_plan

__all__ = ["DEFAULT_PROMPT", "PlanSize", "render_plan"]

DEFAULT_PROMPT = "You are a helpful assistant. Be brief.\n"
_MODEL = re.compile(r"\S(?:[^\x00-\x1f\x7f]{0,198}\S)?")


class PlanSize(enum.StrEnum):
    """How many rungs the written plan has."""

    SMALL = "small"
    FULL = "full"


_HEAD = """\
apiVersion: gatelift/v1
kind: Release
metadata: {{name: {release}}}
candidate:
  model: {model}
  dialect: openai
  system_prompt: prompt.txt   # a path beside the plan; its text is part of the candidate
  weights: null               # what `gatelift candidate seal` prints; null is shown as unknown
  engine: null                # the engine and its version; null is shown as unknown
  sampling: {{temperature: 0.7, top_p: 0.95}}
trust:
  quorum: [safety, security, overseer]   # who signs where a stage names nobody else
  notice: 0s
  status_ttl: 10s                        # a gateway that is cut off serves at most this long
  durability: node
false_alarm: 0.05        # a harmless rollout is ever stopped with at most this probability
false_assurance: 0.05    # a harmful one is ever cleared with at most this probability
session_window: {window}
stretch: 50
units_per_organisation: 20   # of each stretch the first sessions of an organisation count
drift: {{probes: 8, tokens: 8, every: 5s, changed: 3}}
thresholds:
  - name: cyber_uplift
    evidence: {{assessment: cyber-proxy, metric: end_to_end_success, limit: 0.1, margin: 0.02, attempts: 60, confidence: 0.95, max_age: 14d}}
    unless_ruled_out:   # reached is no refusal: it switches on what the level demands
      audience: {{requires: [identity]}}
      safeguards: {{misuse: block, leak: cut}}
      evidence:
        - {{assessment: safeguard-red-team, metric: attack_success, below: 0.2, min_attempts: 60, confidence: 0.95, max_age: 14d}}
metrics:
  leak_rate: {{of: session, harmful_when: {{safeguard: leak, side: answer}}, labels: rules}}
  probing_rate: {{of: session, harmful_when: {{safeguard: probing, side: prompt}}, labels: rules}}
stages:
  - name: assess        # where assessments run: evaluators only, hours, hard caps
    audience: {{tier: evaluators, max_organisations: 1, requires: []}}
    scope: {{endpoints: [chat, models], tools: none, agent_steps: 0, context_tokens: 4096, output_tokens: 512, logprobs: false, unlocked: []}}
{assess}    retention: {{content: none, training: never}}
    quorum: [operator, safety]
    assurance: dev
    sealing: open
    certificate: 8h
    gate: {{}}
  - name: internal      # our own people
    audience: {{tier: internal, max_organisations: 10, requires: [identity]}}
    scope: {{endpoints: [chat, models], tools: none, agent_steps: 0, context_tokens: 4096, output_tokens: 1024, logprobs: false, unlocked: []}}
{internal}    retention: {{content: none, training: never}}
    quorum: [operator, safety]
    assurance: dev
    sealing: open
    certificate: 7d
    gate:
      thresholds: [cyber_uplift]
      reviews: {{roles: [safety], max_age: 14d}}
      incidents: {{open: 0, at_or_above: SEV-3}}
    watch:
      - {{metric: leak_rate, limit: 0.1, role: guardrail, on_breach: rescope, to: assess}}
      - {{metric: probing_rate, limit: 0.2, role: signal}}
    events:
      - {{event: {{safeguard: leak, side: answer}}, count: 3, on_breach: hold, severity: SEV-3}}
"""

_LATER = """\
  - name: {name}
    audience: {{tier: {tier}, max_organisations: {organisations}, requires: [{requires}]}}
    scope: {{endpoints: [chat, models], tools: none, agent_steps: 0, context_tokens: 4096, output_tokens: 1024, logprobs: false, unlocked: [{unlocked}]}}
    caps: {{principal: {{requests: 60/min, parallel: 4}}, organisation: {{output_tokens: 500k/d}}, stage: {{output_tokens: {tokens}/d}}}}
    safeguards: {{leak: cut, misuse: block, autonomy: block, probing: observe}}
    retention: {{content: none, training: never}}
    quorum: [{quorum}]
    assurance: {assurance}
    sealing: declared
    certificate: 7d
    gate:
      thresholds: [cyber_uplift]
      reviews: {{roles: [{quorum}], max_age: 14d}}
      incidents: {{open: 0, at_or_above: SEV-3}}
      soak: {{from: {earlier}, time: 3d, sessions: 100, organisations: 6}}
      clear:
        - {{metric: leak_rate, limit: 0.1, from: {earlier}}}
    watch:
      - {{metric: leak_rate, limit: 0.1, role: guardrail, on_breach: roll_back}}
      - {{metric: probing_rate, limit: 0.2, role: signal}}
    events:
      - {{event: {{safeguard: leak, side: answer}}, count: 3, on_breach: {on_event}, severity: {severity}}}
"""

# Caps and safeguards of the first two stages: as enforced, and as observed beside wider hard caps.
_ASSESS = """\
    caps: {principal: {requests: 600/min, parallel: 8}, stage: {output_tokens: 500k/d}}
    safeguards: {leak: cut, misuse: observe, autonomy: block, probing: observe}
"""
_ASSESS_OBSERVED = """\
    caps: {principal: {requests: 6000/min, parallel: 64}, stage: {output_tokens: 5M/d}}
    safeguards: {leak: observe, misuse: observe, autonomy: observe, probing: observe}
    observe:            # recorded, NOT enforced: gatelift report would-have-refused
      caps: {principal: {requests: 600/min, parallel: 8}, stage: {output_tokens: 500k/d}}
      safeguards: {leak: cut, misuse: block, autonomy: block}
"""
_INTERNAL = """\
    caps: {principal: {requests: 120/min, parallel: 4}, stage: {output_tokens: 2M/d, requests: 20k/d}}
    safeguards: {leak: cut, misuse: block, autonomy: block, probing: observe}
"""
_INTERNAL_OBSERVED = """\
    caps: {principal: {requests: 1200/min, parallel: 40}, stage: {output_tokens: 20M/d, requests: 200k/d}}
    safeguards: {leak: observe, misuse: observe, autonomy: observe, probing: observe}
    observe:
      caps: {principal: {requests: 120/min, parallel: 4}, stage: {output_tokens: 2M/d, requests: 20k/d}}
      safeguards: {leak: cut, misuse: block, autonomy: block}
"""

_STAGES: tuple[dict[str, str], ...] = (
    {
        "name": "researchers",
        "tier": "verified",
        "organisations": "20",
        "requires": "identity, terms@1",
        "unlocked": "dual_use",
        "tokens": "5M",
        "quorum": "safety, security",
        "assurance": "self",
        "earlier": "internal",
        "on_event": "hold",
        "severity": "SEV-3",
    },
    {
        "name": "partners",
        "tier": "partners",
        "organisations": "50",
        "requires": "identity, terms@1",
        "unlocked": "",
        "tokens": "20M",
        "quorum": "safety, security, overseer",
        "assurance": "overseen",
        "earlier": "researchers",
        "on_event": "roll_back",
        "severity": "SEV-2",
    },
    {
        "name": "public",
        "tier": "public",
        "organisations": "none",
        "requires": "identity",
        "unlocked": "",
        "tokens": "100M",
        "quorum": "safety, security, overseer",
        "assurance": "overseen",
        "earlier": "partners",
        "on_event": "halt",
        "severity": "SEV-1",
    },
)
_TAIL = "exposures: []   # every door outside Gatelift: weight copies, clouds, batch\n"


def render_plan(
    *,
    release: str,
    model: str,
    size: PlanSize,
    session_window: str = "1h",
    observe: bool = False,
) -> bytes:
    """Return the plan's bytes; raises `PlanError` when a name or the window cannot stand in one.

    With `observe` the first two stages record their caps and safeguards and do not enforce them.
    """
    if _MODEL.fullmatch(model) is None:
        raise InputError("expected a model's name as one line of at most 200 characters")
    # A single-quoted scalar has one escape: a quote is written twice.
    quoted = "'" + model.replace("'", "''") + "'"
    text = _HEAD.format(
        release=release,
        model=quoted,
        window=session_window,
        assess=_ASSESS_OBSERVED if observe else _ASSESS,
        internal=_INTERNAL_OBSERVED if observe else _INTERNAL,
    )
    if size is PlanSize.FULL:
        text += "".join(_LATER.format(**stage) for stage in _STAGES)
    data = (text + _TAIL).encode("utf-8")
    parse_plan(data)
    return data
