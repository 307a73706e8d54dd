"""Where the candidate runs: is a placement up, is it still the candidate, has it another door.

Invariants
- A placement is up when its newest probe of some node says so and shows less change than the plan's
  limit; the newest probe of every node that found it up must show the sealing.
- A certificate that says more sealing or binding than that is not served from by any node that sees
  it so.
- One placement that is up is enough; if none is, each says why.
- Without a baseline and without a comparison in the probe drift is unknown, and nothing beyond the
  first stage opens.
"""

from __future__ import annotations

from gatelift.decide.reasons import ReasonCode, reason
from gatelift.decide.state import State
from gatelift.messages import PlacementEnrolment, Probe, Reason
from gatelift.plan import Plan, Stage
from gatelift.terms import Binding, Sealing, at_least
from gatelift.trust import Certificate, binding_holds, sealing_holds

__all__ = ["binding_of", "check_places", "check_up", "sealing_of", "up_probes", "withheld_by"]


def _mine(state: State) -> list[PlacementEnrolment]:
    return [each for each in state.placements.values() if each.fingerprint == state.fingerprint]


def _probes(state: State, placement: str) -> list[Probe]:
    return [held.probe for (_, name), held in state.probes.items() if name == placement]


def _is_up(plan: Plan, probe: Probe) -> bool:
    return probe.up and probe.changed < plan.drift.changed


def up_probes(state: State) -> tuple[Probe, ...]:
    """Return the newest probes that found a placement of this candidate up."""
    if state.plan is None:
        return ()
    return tuple(
        probe
        for each in _mine(state)
        for probe in _probes(state, each.name)
        if _is_up(state.plan, probe)
    )


def sealing_of(state: State) -> Sealing | None:
    """Return the weakest sealing among placements that are up, None if none is."""
    levels = list(Sealing)
    return min((probe.sealing for probe in up_probes(state)), key=levels.index, default=None)


def binding_of(state: State) -> Binding | None:
    """Return the weakest binding among placements that are up, None if none is."""
    levels = list(Binding)
    return min((probe.binding for probe in up_probes(state)), key=levels.index, default=None)


def withheld_by(state: State, certificate: Certificate) -> str | None:
    """Return why nodes do not serve from a certificate that stands, null if nothing seen says so."""
    seen, binding = sealing_of(state), binding_of(state)
    if state.plan is None or seen is None or binding is None:
        return None
    if not binding_holds(certificate, binding):
        return (
            f"the certificate says that the weights are {certificate.levels.binding.value}, and the "
            f"newest probe finds them {binding.value}: see to its sidecar, and the next probe lifts "
            "this"
        )
    if sealing_holds(certificate, state.plan.stage(certificate.stage), seen):
        return None
    return (
        f"the certificate says that the model server is {certificate.levels.sealing.value}, and the "
        f"newest probe finds that it is {seen.value}: shut its door, and the next probe lifts this"
    )


def check_up(state: State) -> tuple[Reason, ...]:
    """Return why no placement of this candidate is up; empty if one is."""
    if state.plan is None or up_probes(state):
        return ()
    mine = _mine(state)
    if not mine:
        text = f"no placement is enrolled for candidate {state.fingerprint}"
        return (reason(ReasonCode.PLACEMENT_MISSING, str(state.fingerprint), text),)
    reasons = []
    for each in mine:
        probes = _probes(state, each.name)
        drifted = [probe for probe in probes if probe.changed >= state.plan.drift.changed]
        if not probes:
            text = f"placement {each.name} was not probed since it was enrolled"
            reasons.append(reason(ReasonCode.PLACEMENT_UNPROBED, each.name, text))
        elif drifted:
            text = (
                f"placement {each.name}: {drifted[-1].changed} of {drifted[-1].of} answers changed"
            )
            reasons.append(reason(ReasonCode.DRIFT, each.name, text))
        else:
            text = f"placement {each.name} is down: {probes[-1].reason}"
            reasons.append(reason(ReasonCode.PLACEMENT_DOWN, each.name, text))
    return tuple(reasons)


def check_places(state: State, plan: Plan, stage: Stage) -> tuple[Reason, ...]:
    """Return why the placements do not carry a stage."""
    reasons = list(check_up(state))
    baselines = {each.name: each.baseline for each in _mine(state)}
    for probe in up_probes(state):
        if not at_least(probe.sealing, stage.sealing):
            text = (
                f"placement {probe.placement}, seen from {probe.node}, is {probe.sealing.value}; "
                f"stage {stage.name} needs {stage.sealing.value}"
            )
            reasons.append(reason(ReasonCode.SEALING_BELOW, probe.placement, text))
        if not at_least(probe.binding, stage.binding):
            text = (
                f"placement {probe.placement}, seen from {probe.node}, has weights that are "
                f"{probe.binding.value}; stage {stage.name} needs {stage.binding.value}"
            )
            reasons.append(reason(ReasonCode.BINDING_BELOW, probe.placement, text))
        blind = baselines.get(probe.placement) is None and probe.of == 0
        if blind and stage.name != plan.stages[0].name:
            text = f"placement {probe.placement} has no baseline and no answer was compared"
            reasons.append(reason(ReasonCode.DRIFT_UNKNOWN, probe.placement, text))
    return tuple(reasons)
