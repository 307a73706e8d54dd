"""Assessments: what a candidate can do and whether a safeguard holds, measured through the door.

A run is committed before it is made, its items are drawn by the log after that, its requests go
through the gateway with an ordinary key, and its evidence counts every attempt: what failed and what
cannot be told included. Here the items are made, asked and scored; whether the figures open a gate
is `decide`'s business. Results of other tools are not read in this version.

`data_sets` draws items from a specification, `scorers` judge answers, `seed` says where chance came
from, `commit` writes the promise, `runner` keeps it, `results` sums it up.
"""

from gatelift.assess.access import AccessError, NotAdmittedError, Terms
from gatelift.assess.commit import CommitError, commit_for, demand_of, threshold_of
from gatelift.assess.data_sets import (
    ASSESSMENTS,
    Assessment,
    DataSet,
    DataSetError,
    Item,
    load_assessment,
    parse_assessment,
)
from gatelift.assess.preflight import RunRefusedError
from gatelift.assess.results import (
    EvidenceDraft,
    Results,
    Row,
    sign_commit,
    sign_evidence,
    summary,
)
from gatelift.assess.runner import (
    RunSettings,
    RunVoidError,
    run,
    run_assessment,
)
from gatelift.assess.scorers import Heard, Scorer, Verdict, score
from gatelift.assess.seed import RunSeed, SeedError, seed_of, verify_seed

__all__ = [
    "ASSESSMENTS",
    "AccessError",
    "Assessment",
    "CommitError",
    "DataSet",
    "DataSetError",
    "EvidenceDraft",
    "Heard",
    "Item",
    "NotAdmittedError",
    "Results",
    "Row",
    "RunRefusedError",
    "RunSeed",
    "RunSettings",
    "RunVoidError",
    "Scorer",
    "SeedError",
    "Terms",
    "Verdict",
    "commit_for",
    "demand_of",
    "load_assessment",
    "parse_assessment",
    "run",
    "run_assessment",
    "score",
    "seed_of",
    "sign_commit",
    "sign_evidence",
    "summary",
    "threshold_of",
    "verify_seed",
]
