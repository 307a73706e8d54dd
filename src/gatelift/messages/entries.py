"""Entries of the releases log: a small header that is the leaf, and a body kept beside it.

Invariants
- The leaf is the stored JSON of `EntryHeader`; it names its body by the digest of its bytes.
- Every body is a DSSE envelope: a root, or an in-toto statement of the entry's kind.
- `at` never decreases. The last entry of a transaction carries `end`, so that a replay knows when
  `decide` was run, and with which `now`: the `at` of the transaction's last entry that is not a
  decision.
- Kinds are a closed list; an unknown kind makes a log unreadable rather than partly read.

Signatures of observations, decisions, heads, probes and ticks are control's: they are checked by
the replay and against the requests logs, not believed.
"""

from __future__ import annotations

import enum
from decimal import Decimal

import msgspec

from gatelift.encoding import Digest
from gatelift.messages.copies import CopyClosing, Export
from gatelift.messages.decisions import Decision, Tick
from gatelift.messages.erasures import Erasure, Hold, HoldLift
from gatelift.messages.reviews import Review
from gatelift.terms import Binding, Category, Sealing, Severity, Side
from gatelift.trust import Announcement, Disclosure, Objection, OwnGrant, RootAnnouncement

__all__ = [
    "PREDICATES",
    "Commit",
    "EntryHeader",
    "EntryKind",
    "EventCount",
    "Evidence",
    "Head",
    "IncidentChange",
    "IncidentOpening",
    "Observation",
    "OrganisationCount",
    "PlacementEnrolment",
    "PlanAdoption",
    "Probe",
    "RecordRange",
    "Revocation",
    "Sidecar",
    "UpstreamTls",
    "Visibility",
]


class EntryKind(enum.StrEnum):
    """What an entry says."""

    ROOT = "root"
    PLAN = "plan"
    PLACEMENT = "placement"
    PROBE = "probe"
    COMMIT = "commit"
    EVIDENCE = "evidence"
    REVOCATION = "revocation"
    REVIEW = "review"
    ANNOUNCEMENT = "announcement"
    OBJECTION = "objection"
    ROOT_ANNOUNCEMENT = "root_announcement"
    CERTIFICATE = "certificate"
    GRANT = "grant"
    ORDER = "order"
    CLEAR = "clear"
    OBSERVATION = "observation"
    EVENT = "event"
    HEAD = "head"
    INCIDENT = "incident"
    INCIDENT_CHANGE = "incident_change"
    ERASURE = "erasure"
    HOLD = "hold"
    HOLD_LIFT = "hold_lift"
    DECISION = "decision"
    TICK = "tick"
    EXPORT = "export"
    COPY_CLOSED = "copy_closed"
    OWN_GRANT = "own_grant"
    DISCLOSURE = "disclosure"


class Visibility(enum.StrEnum):
    """Who may read an entry's body. This version knows two of the four words."""

    PUBLIC = "public"
    OVERSEER = "overseer"


class EntryHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The leaf. `actor` is `<role>:<person>` of each signer, sorted, or `root`."""

    v: int
    at: int
    kind: EntryKind
    actor: tuple[str, ...]
    body: Digest
    body_bytes: int
    visibility: Visibility
    end: bool


class RecordRange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Entries `first` to `last`, both counted, of the requests log of `origin`."""

    origin: str
    first: int
    last: int


class PlanAdoption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The release runs under this plan, for this candidate. Signed by the operator."""

    release: str
    plan: Digest
    candidate: Digest


class UpstreamTls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a sealed placement is known: its name, and by digest the PEM certificates that prove it.

    Workers show it the short-lived certificate of their node, and nothing in its absence.
    """

    server_name: str
    ca: Digest


class Sidecar(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who measures the weights beside a model server: where it is asked, and the key it signs with.

    `key` is Ed25519 in base64 and serves nothing else; `manifest` is the digest of the signed
    manifest's bytes, so that it pins who sealed the weights too.
    """

    url: str
    key: str
    manifest: Digest


class PlacementEnrolment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the candidate runs. `baseline` is the digest of its answers to the drift probes.

    Signed by the operator: enrolling a placement says "this is the candidate". With a `sidecar` it
    is signed by operator and security, two people: what that measures may be certified.
    """

    name: str
    base_url: str
    model: str
    fingerprint: Digest
    baseline: Digest | None
    tls: UpstreamTls | None = None
    sidecar: Sidecar | None = None


class Probe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What probing a placement from outside showed. Signed by control.

    `binding` is `measured` only beside a `measurement`: the envelope that its sidecar signed, as text.
    """

    node: str
    placement: str
    sealing: Sealing
    changed: int
    of: int
    up: bool
    reason: str
    binding: Binding = Binding.CLAIMED
    measurement: str | None = None


class Commit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What will be measured, before it is. An abandoned commit is a failure after `deadline`.

    `comparator` is `below`; `limit`, `margin` and `confidence` are shares; the run's seed comes
    from the first cosigned head after this entry.
    """

    id: str
    fingerprint: Digest
    assessment: str
    metric: str
    comparator: str
    limit: Decimal
    margin: Decimal
    confidence: Decimal
    attempts: int
    data_set: Digest
    deadline: int


class Evidence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A signed result of one commit: `s` successes of `n` determined attempts.

    Undetermined and errored attempts count as successes wherever that is the bad direction.
    `results` is the digest of the rows; `stage` is where the requests went.
    """

    id: str
    commit: str
    fingerprint: Digest
    assessment: str
    metric: str
    n: int
    s: int
    undetermined: int
    errors: int
    tool: str
    tool_version: str
    seed: str
    stage: str
    started: int
    finished: int
    results: Digest
    under: tuple[str, ...]


class Revocation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Evidence, a review or an objection that no longer counts, by the digest of its body."""

    body: Digest
    reason: str


class OrganisationCount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Units of one organisation: opened, harmful, and opened but still open (unlabelled)."""

    organisation: str
    n: int
    s: int
    open: int


class Observation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Cumulative counts of one metric, certificate and stretch; a later one of a key supersedes.

    The key is (metric, stage, certificate, stretch); stretches of a certificate count from 0.
    `n` and `s` are the counted units (the first k of each organisation); `open` are those of `n`
    still open. `units` counts all units of the stretch, over the first k or not.
    """

    release: str
    metric: str
    stage: str
    certificate: Digest
    stretch: int
    n: int
    s: int
    open: int
    units: int
    organisations: tuple[OrganisationCount, ...]
    ranges: tuple[RecordRange, ...]


class EventCount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often a safeguard of `category` spoke on `side` in `stage`, cumulative."""

    release: str
    stage: str
    category: Category
    side: Side
    count: int
    ranges: tuple[RecordRange, ...]


class Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The head of a requests log, anchored: the signed checkpoint note as text."""

    origin: str
    checkpoint: str


class IncidentOpening(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An incident. Times in ms UTC; a null time has not happened or is not known.

    `source` is `watch:<event>` when the machine opened it, else `person`.
    """

    id: str
    release: str
    severity: Severity
    title: str
    source: str
    occurred_at: int | None
    detected_at: int
    aware_at: int | None
    discovered_at: int | None
    reasonable_belief_at: int | None
    determined_at: int | None


class IncidentChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change to an incident: a new severity, a clock that started, containment, resolution.

    Severity goes up alone and down only with two people; `retrospective` is a digest of its text.
    """

    id: str
    severity: Severity | None
    aware_at: int | None
    discovered_at: int | None
    reasonable_belief_at: int | None
    determined_at: int | None
    contained_at: int | None
    resolved_at: int | None
    retrospective: Digest | None
    note: str


PREDICATES: dict[EntryKind, type[msgspec.Struct]] = {
    EntryKind.PLAN: PlanAdoption,
    EntryKind.PLACEMENT: PlacementEnrolment,
    EntryKind.PROBE: Probe,
    EntryKind.COMMIT: Commit,
    EntryKind.EVIDENCE: Evidence,
    EntryKind.REVOCATION: Revocation,
    EntryKind.REVIEW: Review,
    EntryKind.ANNOUNCEMENT: Announcement,
    EntryKind.OBJECTION: Objection,
    EntryKind.ROOT_ANNOUNCEMENT: RootAnnouncement,
    EntryKind.OBSERVATION: Observation,
    EntryKind.EVENT: EventCount,
    EntryKind.HEAD: Head,
    EntryKind.INCIDENT: IncidentOpening,
    EntryKind.INCIDENT_CHANGE: IncidentChange,
    EntryKind.ERASURE: Erasure,
    EntryKind.HOLD: Hold,
    EntryKind.HOLD_LIFT: HoldLift,
    EntryKind.DECISION: Decision,
    EntryKind.TICK: Tick,
    EntryKind.EXPORT: Export,
    EntryKind.COPY_CLOSED: CopyClosing,
    EntryKind.OWN_GRANT: OwnGrant,
    EntryKind.DISCLOSURE: Disclosure,
}
"""Bodies that say no more than their shape; certificate, grant, order, clear and root have their own."""
