"""The field table of the whole plan file. Parser and JSON Schema read the same object.

Invariants
- A key that is not in the tables is refused; one that the design names and this version does not
  enforce is refused by name, so that a plan promises nothing that is not held.
- Optional keys have the default that `plan.model` states; nothing else is assumed.

Source: DESIGN.md section 5.
"""

from __future__ import annotations

from typing import Final

from gatelift.plan.field_kinds import (
    DAY_MS,
    ERROR_SHARE,
    NAME,
    NAME_TEXT,
    ONE_LINE,
    REMOVE,
)
from gatelift.plan.kinds import Duration, Whole, Word
from gatelift.plan.money_fields import PRICES
from gatelift.plan.release_fields import CANDIDATE, DRIFT, METRIC, THRESHOLD, TRUST
from gatelift.plan.shapes import Field, ListOf, MapOf, Record
from gatelift.plan.stage_fields import STAGE

__all__ = ["API_VERSION", "PLAN"]

API_VERSION: Final = "gatelift/v1"

PLAN: Final = Record(
    title="the plan",
    fields=(
        Field(name="apiVersion", kind=Word(words=(API_VERSION,)), says=API_VERSION),
        Field(name="kind", kind=Word(words=("Release",)), says="Release"),
        Field(
            name="metadata",
            kind=Record(
                title="metadata",
                fields=(Field(name="name", kind=NAME_TEXT, says="the release's name"),),
            ),
            says="{name: the-release}",
        ),
        Field(name="candidate", kind=CANDIDATE, says="what answers"),
        Field(
            name="prices",
            kind=PRICES,
            says="what tokens cost; asked for where a cap counts cost",
            required=False,
        ),
        Field(name="trust", kind=TRUST, says="who signs, and how fast silence closes"),
        Field(
            name="false_alarm",
            kind=ERROR_SHARE,
            says="most probability that a harmless rollout is ever stopped by a guardrail",
        ),
        Field(
            name="false_assurance",
            kind=ERROR_SHARE,
            says="most probability that a harmful rollout is ever cleared by its traffic",
        ),
        Field(
            name="session_window",
            kind=Duration(low_ms=1_000, high_ms=DAY_MS),
            says="window of a session, counted from the epoch",
        ),
        Field(name="stretch", kind=Whole(low=1, high=100_000), says="units that make one stretch"),
        Field(
            name="units_per_organisation",
            kind=Whole(low=1, high=100_000),
            says="the first units of each organisation and stretch that count",
        ),
        Field(name="drift", kind=DRIFT, says="probes that detect another candidate"),
        Field(name="thresholds", kind=ListOf(kind=THRESHOLD), says="dangerous capability levels"),
        Field(
            name="metrics",
            kind=MapOf(pattern=NAME, form="a name of a-z, 0-9, - and _", kind=METRIC),
            says="rates over live traffic, by name",
        ),
        Field(name="stages", kind=ListOf(kind=STAGE, low=1, high=32), says="rungs of exposure"),
        Field(
            name="exposures",
            kind=ListOf(kind=ONE_LINE, unique=True),
            says="every door outside Gatelift; [] says that there is none",
        ),
    ),
    unenforced={"packs": REMOVE, "commitments": REMOVE, "shadow": REMOVE},
)
