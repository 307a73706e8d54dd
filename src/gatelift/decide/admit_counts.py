"""What control counts and probes: checks before such an entry is logged.

Invariants
- Cumulative counts never go back, parts add up to the whole, stretches come in order.
"""

from __future__ import annotations

from gatelift.decide.admit_error import refuse, require_plan, require_release, require_stage
from gatelift.decide.state import ObservationKey, State
from gatelift.messages import EventCount, Observation, Probe

__all__ = ["check_event", "check_observation", "check_probe"]


def check_probe(state: State, value: Probe) -> None:
    """Refuse a probe from an unknown node, of an unknown placement, or that does not add up."""
    if value.placement not in state.placements:
        refuse("unknown_placement", f"placement {value.placement!r} is not enrolled")
    nodes = () if state.root is None else state.root.nodes
    if value.node not in {node.name for node in nodes}:
        refuse("unknown_node", f"node {value.node!r} is not enrolled in the root")
    if not 0 <= value.changed <= value.of:
        refuse("bad_probe", f"expected 0 <= changed <= of, got {value.changed} of {value.of}")


def check_observation(state: State, value: Observation) -> None:
    """Refuse counts that go back, contradict themselves or name what the plan does not have."""
    require_release(state, value.release)
    require_stage(state, value.stage)
    plan = require_plan(state)
    if value.metric not in {metric.name for metric in plan.metrics}:
        refuse("unknown_metric", f"the plan has no metric {value.metric!r}")
    if state.certificate_index(value.stage, value.certificate) is None:
        refuse("unknown_certificate", f"no certificate {value.certificate} of {value.stage}")
    whole = 0 <= value.s <= value.n <= value.units and 0 <= value.open <= value.n
    parts = value.organisations
    sums = value.n <= sum(o.n for o in parts) <= value.units and value.s <= sum(o.s for o in parts)
    each = all(0 <= o.s <= o.n and 0 <= o.open <= o.n for o in parts)
    once = len({o.organisation for o in parts}) == len(parts)
    if not (whole and sums and each and once):
        refuse(
            "bad_counts",
            f"{value.metric} in {value.stage}: expected 0 <= s <= n <= units, and organisations, "
            f"each once, that cover them; got n={value.n}, s={value.s}, units={value.units}",
        )
    key: ObservationKey = (value.metric, value.stage, value.certificate, value.stretch)
    held = state.observations.get(key)
    if held is not None:
        before = held.observation
        if value.n < before.n or value.units < before.units:
            refuse(
                "goes_back",
                f"{key}: had n={before.n}, units={before.units}; got {value.n}, {value.units}",
            )
    elif value.stretch < 0 or (
        value.stretch > 0 and (*key[:3], value.stretch - 1) not in state.observations
    ):
        refuse("stretch_skipped", f"{key}: the stretch before it is not on the log")


def check_event(state: State, value: EventCount) -> None:
    """Refuse an event count that goes back."""
    require_release(state, value.release)
    require_stage(state, value.stage)
    before = state.events.get((value.stage, value.category, value.side), 0)
    if value.count < before:
        refuse("goes_back", f"{value.category.value}: had {before}, got {value.count}")
