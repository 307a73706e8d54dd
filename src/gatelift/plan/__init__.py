"""The release plan: from a YAML file to a checked value, its schema, its candidate, its demands.

A plan says in advance who is let in when, what must be shown first, and what stops it. Here it is
read, or refused with every problem at once; here too the candidate gets its fingerprint, and the
traffic that each gate needs is counted. Nothing here opens a file, asks a clock or decides.
"""

from gatelift.plan.candidate import (
    Candidate,
    CandidateError,
    ModelPart,
    ServingPart,
    encode_candidate,
    fingerprint,
    make_candidate,
    parse_candidate,
)
from gatelift.plan.expect import ClearanceNeed, SoakNeed, UnitsNeeded, units_needed
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
    UnknownStageError,
)
from gatelift.plan.parse import parse_plan
from gatelift.plan.problems import PlanError, Problem
from gatelift.plan.schema import plan_json_schema

__all__ = [
    "BreachAction",
    "Candidate",
    "CandidateError",
    "CandidateSource",
    "ClearanceNeed",
    "DriftTerms",
    "EventWatch",
    "EvidenceDemand",
    "Gate",
    "HarmCondition",
    "IncidentDemand",
    "Measures",
    "Metric",
    "MetricClearance",
    "MetricWatch",
    "ModelPart",
    "Observed",
    "Plan",
    "PlanError",
    "Problem",
    "RefusalForm",
    "ReviewDemand",
    "SafeguardDemand",
    "Sampling",
    "ServingPart",
    "Soak",
    "SoakNeed",
    "Stage",
    "Threshold",
    "TrustTerms",
    "UnitsNeeded",
    "UnknownStageError",
    "encode_candidate",
    "fingerprint",
    "make_candidate",
    "parse_candidate",
    "parse_plan",
    "plan_json_schema",
    "units_needed",
]
