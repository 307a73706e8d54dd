"""From the checked tree of a plan file to the `Plan` value.

Invariants
- Runs only on a tree without problems, so every required key is there and of its kind.
- Optional keys that are left out take the default of `plan.model`, in one place each.

Does not check anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatelift.plan.model import (
    BreachAction,
    CandidateSource,
    DriftTerms,
    EventWatch,
    EvidenceDemand,
    Gate,
    HarmCondition,
    IncidentDemand,
    Measures,
    Metric,
    MetricClearance,
    MetricWatch,
    Observed,
    Plan,
    RefusalForm,
    ReviewDemand,
    SafeguardDemand,
    Sampling,
    Soak,
    Stage,
    Threshold,
    TrustTerms,
)
from gatelift.terms import (
    Audience,
    Binding,
    Cap,
    CapUnit,
    Category,
    Envelope,
    Posture,
    Prices,
    Retention,
    SafeguardTerms,
    Scope,
    Subject,
    Window,
    normalise_caps,
    window_ms,
)

__all__ = ["build_plan"]

# The file's shorter words for fields of the model that carry a unit or would clash with a keyword.
_MODEL_NAMES = {
    "from": "from_stage",
    "to": "rescope_to",
    "system_prompt": "system_prompt_file",
    "max_age": "max_age_ms",
    "answer_by": "answer_by_ms",
    "time": "time_ms",
    "every": "every_ms",
    "notice": "notice_ms",
    "status_ttl": "status_ttl_ms",
}


def build_plan(tree: Mapping[str, Any]) -> Plan:
    """Return the plan of a tree that was read and checked without a problem."""
    quorum = tree["trust"]["quorum"]
    candidate = dict(tree["candidate"])
    sampling = Sampling(**candidate.pop("sampling"))
    trust = TrustTerms(**_named(tree["trust"]))
    return Plan(
        name=tree["metadata"]["name"],
        candidate=CandidateSource(**_named(candidate), sampling=sampling),
        trust=trust,
        false_alarm=tree["false_alarm"],
        false_assurance=tree["false_assurance"],
        session_window_ms=tree["session_window"],
        stretch=tree["stretch"],
        units_per_organisation=tree["units_per_organisation"],
        drift=DriftTerms(**_named(tree["drift"])),
        thresholds=tuple(_threshold(each) for each in tree["thresholds"]),
        metrics=tuple(_metric(name, each) for name, each in tree["metrics"].items()),
        stages=tuple(
            # The first stage opens to evaluators alone, before there is anything to announce.
            _stage(each, quorum, trust.notice_ms if index else 0)
            for index, each in enumerate(tree["stages"])
        ),
        exposures=tree["exposures"],
        prices=_prices(tree.get("prices")),
    )


def _named(values: Mapping[str, Any]) -> dict[str, Any]:
    return {_MODEL_NAMES.get(key, key): value for key, value in values.items()}


def _prices(values: Mapping[str, Any] | None) -> Prices | None:
    if values is None:
        return None
    return Prices(
        currency=values["currency"],
        input_micros=values["input"],
        output_micros=values["output"],
    )


def _threshold(values: Mapping[str, Any]) -> Threshold:
    measures = values["unless_ruled_out"]
    return Threshold(
        name=values["name"],
        evidence=EvidenceDemand(**_named(values["evidence"])),
        unless_ruled_out=Measures(
            audience=Audience(**measures.get("audience", {})),
            safeguards={
                Category(name): Posture(value)
                for name, value in measures.get("safeguards", {}).items()
            },
            evidence=tuple(
                SafeguardDemand(**_named(each)) for each in measures.get("evidence", ())
            ),
        ),
    )


def _metric(name: str, values: Mapping[str, Any]) -> Metric:
    return Metric(
        name=name,
        of=values["of"],
        harmful_when=HarmCondition(**values["harmful_when"]),
        labels=values["labels"],
    )


def _stage(values: Mapping[str, Any], quorum: tuple[str, ...], notice_ms: int) -> Stage:
    return Stage(
        name=values["name"],
        envelope=_envelope(values),
        gate=_gate(values["gate"]),
        watch=tuple(_watch(each) for each in values.get("watch", ())),
        events=tuple(
            EventWatch(**{**each, "event": HarmCondition(**each["event"])})
            for each in values.get("events", ())
        ),
        quorum=values.get("quorum", quorum),
        notice_ms=values.get("notice", notice_ms),
        assurance=values["assurance"],
        sealing=values["sealing"],
        binding=values.get("binding", Binding.CLAIMED),
        certificate_ms=values["certificate"],
        refusal=values.get("refusal", RefusalForm.ERROR),
        observe=_observed(values.get("observe")),
    )


def _envelope(values: Mapping[str, Any]) -> Envelope:
    retention = values["retention"]
    return Envelope(
        audience=Audience(**values["audience"]),
        # No safeguard reads an image: what a plan does not write stays shut.
        scope=Scope(**{"images": False, **values["scope"]}),
        caps=_caps(values["caps"]),
        safeguards=SafeguardTerms(postures=values["safeguards"]),
        retention=Retention(
            content_days=retention["content"] // window_ms(Window.DAY),
            training=retention["training"] == "allowed",
        ),
    )


def _caps(values: Mapping[str, Any]) -> tuple[Cap, ...]:
    return tuple(
        Cap(subject=Subject(subject), unit=CapUnit(unit), window=window, limit=limit)
        for subject, units in values.items()
        for unit, limits in units.items()
        for limit, window, _ in limits
    )


def _observed(values: Mapping[str, Any] | None) -> Observed | None:
    if values is None:
        return None
    return Observed(
        caps=normalise_caps(_caps(values.get("caps", {}))),
        safeguards={
            Category(name): Posture(value) for name, value in values.get("safeguards", {}).items()
        },
    )


def _gate(values: Mapping[str, Any]) -> Gate:
    reviews, incidents, soak = (values.get(key) for key in ("reviews", "incidents", "soak"))
    return Gate(
        thresholds=values.get("thresholds", ()),
        reviews=None if reviews is None else ReviewDemand(**_named(reviews)),
        incidents=None if incidents is None else IncidentDemand(**incidents),
        soak=None if soak is None else Soak(**_named(soak)),
        clear=tuple(MetricClearance(**_named(each)) for each in values.get("clear", ())),
    )


def _watch(values: Mapping[str, Any]) -> MetricWatch:
    return MetricWatch(**_named({"on_breach": BreachAction.HOLD, **values}))
