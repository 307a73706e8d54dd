"""Field tables of the release's head: candidate, trust, drift, thresholds, metrics.

Invariants
- A key that is not in these tables is refused; one that the design names and this version does not
  enforce is listed as such and refused by name.

Source: DESIGN.md section 5.
"""

from __future__ import annotations

from decimal import Decimal

from gatelift.plan.field_kinds import (
    AGE,
    CONFIDENCE,
    COUNT,
    DAY_MS,
    FILE,
    HARM,
    NAME_TEXT,
    ONE_LINE,
    ORGANISATIONS,
    POSTURES,
    RATE,
    REMOVE,
    REQUIRES,
    ROLES,
    TIERS,
    not_enforced,
)
from gatelift.plan.kinds import Digest, Duration, Flag, Nullable, Number, Whole, Word
from gatelift.plan.shapes import Field, ListOf, Record
from gatelift.terms import Durability

__all__ = ["CANDIDATE", "DRIFT", "METRIC", "THRESHOLD", "TRUST"]

CANDIDATE = Record(
    title="candidate",
    fields=(
        Field(name="model", kind=ONE_LINE, says="the model's name, as the upstream knows it"),
        Field(
            name="dialect",
            kind=Word(words=("openai",), refused=not_enforced("anthropic")),
            says="the API that the upstream speaks",
        ),
        Field(
            name="system_prompt",
            kind=Nullable(kind=FILE),
            says="file of the system prompt, beside the plan; null for none",
            required=False,
        ),
        Field(
            name="weights",
            kind=Nullable(kind=Digest()),
            says="digest of the weights, as `gatelift candidate seal` prints it; null is unknown",
            required=False,
        ),
        Field(
            name="engine",
            kind=Nullable(kind=ONE_LINE),
            says="the serving engine and its version; null is shown as unknown",
            required=False,
        ),
        Field(
            name="sampling",
            kind=Record(
                title="sampling",
                fields=(
                    Field(
                        name="temperature",
                        kind=Number(low=Decimal(0), high=Decimal(2)),
                        says="sampling temperature, always sent",
                    ),
                    Field(
                        name="top_p",
                        kind=Number(low=Decimal("0.000001"), high=Decimal(1)),
                        says="nucleus share, always sent",
                    ),
                ),
            ),
            says="sampling that the gateway always sends",
        ),
    ),
    unenforced={
        "fallback": REMOVE,
        "adapters": REMOVE,
        "tokenizer": REMOVE,
        "chat_template": REMOVE,
        "quantisation": REMOVE,
    },
)

TRUST = Record(
    title="trust",
    fields=(
        Field(name="quorum", kind=ROLES, says="roles that must all sign to widen"),
        Field(
            name="notice",
            kind=Duration(low_ms=0, high_ms=365 * DAY_MS),
            says="public notice before a stage but the first is certified",
            required=False,
        ),
        Field(
            name="status_ttl",
            kind=Duration(low_ms=1_000, high_ms=3_600_000),
            says="how long a gateway that is cut off goes on serving",
            required=False,
        ),
        Field(
            name="durability",
            kind=Word(words=tuple(Durability)),
            says="where a record stands before a byte leaves",
            required=False,
        ),
    ),
    unenforced={"root": REMOVE, "beacon": REMOVE, "calendar": REMOVE},
)

DRIFT = Record(
    title="drift",
    fields=(
        Field(
            name="probes",
            kind=Whole(low=1, high=64),
            says="probes a round, at temperature 0",
            required=False,
        ),
        Field(
            name="tokens", kind=Whole(low=1, high=256), says="tokens of each answer", required=False
        ),
        Field(
            name="every",
            kind=Duration(low_ms=500, high_ms=3_600_000),
            says="time between rounds",
            required=False,
        ),
        Field(
            name="changed",
            kind=Whole(low=1, high=64),
            says="changed answers that close the gateway",
            required=False,
        ),
    ),
)

_MEASURE_EVIDENCE = Record(
    title="evidence for a measure",
    fields=(
        Field(name="assessment", kind=NAME_TEXT, says="the assessment that shows it"),
        Field(name="metric", kind=NAME_TEXT, says="its metric"),
        Field(name="below", kind=RATE, says="the upper bound must lie below this"),
        Field(name="min_attempts", kind=COUNT, says="fewest attempts"),
        Field(name="confidence", kind=CONFIDENCE, says="level of the one-sided bound"),
        Field(name="max_age", kind=AGE, says="how old it may be"),
    ),
)
THRESHOLD = Record(
    title="threshold",
    fields=(
        Field(name="name", kind=NAME_TEXT, says="the threshold's name, used in gates"),
        Field(
            name="evidence",
            kind=Record(
                title="evidence",
                fields=(
                    Field(name="assessment", kind=NAME_TEXT, says="the assessment that is asked"),
                    Field(name="metric", kind=NAME_TEXT, says="its metric: a rate of success"),
                    Field(name="limit", kind=RATE, says="the rate at which it is reached"),
                    Field(
                        name="margin",
                        kind=Number(low=Decimal(0), high=Decimal(1), below=True),
                        says="added to the upper bound before it is compared",
                    ),
                    Field(name="attempts", kind=COUNT, says="attempts, committed before the run"),
                    Field(name="confidence", kind=CONFIDENCE, says="level of the one-sided bound"),
                    Field(name="max_age", kind=AGE, says="how old it may be"),
                ),
            ),
            says="what rules the threshold out",
        ),
        Field(
            name="unless_ruled_out",
            kind=Record(
                title="measures",
                fields=(
                    Field(
                        name="audience",
                        kind=Record(
                            title="audience of a measure",
                            fields=(
                                Field(name="tier", kind=TIERS, says="widest tier", required=False),
                                Field(
                                    name="max_organisations",
                                    kind=ORGANISATIONS,
                                    says="most organisations, or none for no limit",
                                    required=False,
                                ),
                                Field(
                                    name="requires",
                                    kind=REQUIRES,
                                    says="proofs that every grant carries",
                                    required=False,
                                ),
                                Field(
                                    name="safety_identifier",
                                    kind=Flag(),
                                    says="whether every request must name its end user; false if left out",
                                    required=False,
                                ),
                            ),
                            unenforced={"auth": REMOVE},
                        ),
                        says="the audience at most",
                        required=False,
                    ),
                    Field(
                        name="safeguards",
                        kind=POSTURES,
                        says="postures at least this tight",
                        required=False,
                    ),
                    Field(
                        name="evidence",
                        kind=ListOf(kind=_MEASURE_EVIDENCE),
                        says="evidence that the measures work",
                        required=False,
                    ),
                ),
            ),
            says="what is switched on when it is reached or cannot be ruled out",
        ),
    ),
)

METRIC = Record(
    title="metric",
    fields=(
        Field(
            name="of",
            kind=Word(
                words=("session",),
                refused=not_enforced("request", "exchange", "organisation", "principal"),
            ),
            says="the unit that is counted",
        ),
        Field(name="harmful_when", kind=HARM, says="what makes a unit harmful"),
        Field(
            name="labels",
            kind=Word(words=("rules",), refused=not_enforced("judge", "rules+judge", "people")),
            says="who labels: the safeguards' rules",
        ),
    ),
    unenforced={"sampling": REMOVE, "label_error": REMOVE, "delay": REMOVE},
)
