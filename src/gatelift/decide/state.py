"""The state of one release: everything on the releases log that a decision may rest on.

Invariants
- A `State` is the fold of the log's entries in order and of nothing else.
- What was logged keeps its index, its time and the digest of its body, so that later questions
  ("before the stop?", "which bytes?") have exact answers.
- Nothing is forgotten: every run, certificate and order stays; what no longer counts is marked.

Does not: judge. Gates and watches do; `decide.fold` makes the next state.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from gatelift.encoding import Digest
from gatelift.incidents import Incident
from gatelift.messages import (
    Commit,
    CopyClosing,
    Decision,
    Erasure,
    Evidence,
    Export,
    Hold,
    Narrowing,
    Observation,
    PlacementEnrolment,
    Probe,
    Review,
)
from gatelift.plan import Plan
from gatelift.stats import Account
from gatelift.terms import Category, DecisionKind, Envelope, Side
from gatelift.trust import (
    Announcement,
    Certificate,
    Disclosure,
    Grant,
    Objection,
    Root,
    Signer,
    StandingOrder,
    StandingOwnGrant,
    TargetKind,
)

__all__ = [
    "AnnouncementEntry",
    "CertificateEntry",
    "CommitEntry",
    "CopyEntry",
    "EventBaseline",
    "EvidenceEntry",
    "GrantEntry",
    "Latch",
    "ObjectionEntry",
    "ObservationEntry",
    "ObservationKey",
    "OrderEntry",
    "OwnGrantEntry",
    "ProbeEntry",
    "RecordedDecision",
    "ReviewEntry",
    "RootAnnouncementEntry",
    "State",
]

ObservationKey: TypeAlias = tuple[str, str, Digest, int]
"""(metric, stage, certificate, stretch)."""


class ProbeEntry(msgspec.Struct, frozen=True, kw_only=True):
    """The newest probe of one placement from one node."""

    probe: Probe
    at: int


class CommitEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A commit, who signed it, and the body of the evidence that completed it in time, if one did."""

    commit: Commit
    index: int
    at: int
    by: tuple[str, ...] = ()
    completed_by: Digest | None = None


class EvidenceEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Evidence. `usable`: it is the first result of a commit made before it, in time, as promised."""

    evidence: Evidence
    digest: Digest
    index: int
    at: int
    usable: bool


class ReviewEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A review and who signed it."""

    review: Review
    digest: Digest
    index: int
    at: int
    signers: tuple[Signer, ...]


class AnnouncementEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An announcement; `at` is the log's own time, which never shortens a notice."""

    announcement: Announcement
    digest: Digest
    index: int
    at: int
    by: tuple[str, ...] = ()


class RootAnnouncementEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An announced root by the digest of its envelope, and the entry that holds it."""

    root: Digest
    index: int
    at: int


class ObjectionEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An objection, whose it is, and whether it was withdrawn."""

    objection: Objection
    digest: Digest
    organisation: str
    index: int
    at: int
    withdrawn: bool = False


class CertificateEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate. `reopens`: the orders that no earlier certificate of its stage had cleared."""

    certificate: Certificate
    digest: Digest
    index: int
    at: int
    reopens: frozenset[str]


class GrantEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A grant and the digest of its envelope."""

    grant: Grant
    digest: Digest
    index: int


class OrderEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A logged order. `cleared_index` is the entry of the `Clear` that lifted it."""

    standing: StandingOrder
    index: int
    at: int
    cleared_index: int | None = None

    @property
    def is_stop(self) -> bool:
        """Whether it lowers the ceiling of the release or a stage; block rules alone ride along."""
        order = self.standing.order
        narrows = order.ceiling is None or order.ceiling != Envelope()
        return narrows and order.target.kind in (TargetKind.RELEASE, TargetKind.STAGE)


class CopyEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A registered copy of the weights, and what closed it, if something did."""

    export: Export
    digest: Digest
    index: int
    at: int
    by: tuple[str, ...] = ()
    closing: CopyClosing | None = None
    closed_index: int | None = None


class ObservationEntry(msgspec.Struct, frozen=True, kw_only=True):
    """The newest observation of a key, and the entry at which the key first appeared."""

    observation: Observation
    first_index: int


class EventBaseline(msgspec.Struct, frozen=True, kw_only=True):
    """From which count an event watch counts again, and the entry at which that was settled."""

    count: int = 0
    index: int = -1


class Latch(msgspec.Struct, frozen=True, kw_only=True):
    """A breach on record: its cause, what it demands, and the entry of the decision."""

    code: str
    subject: str
    kind: DecisionKind
    narrow: tuple[Narrowing, ...]
    message: str
    index: int


class RecordedDecision(msgspec.Struct, frozen=True, kw_only=True):
    """The newest decision on the log and the index of its entry."""

    decision: Decision
    index: int


class OwnGrantEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A logged own grant, who owes its disclosure, and the disclosure once it is there."""

    standing: StandingOwnGrant
    index: int
    at: int
    by: tuple[str, ...] = ()
    disclosure: Disclosure | None = None
    disclosed_index: int | None = None


class State(msgspec.Struct, frozen=True, kw_only=True):
    """All of one release. `size` is the number of entries folded, `at` the time of the last.

    `events` are cumulative by (stage, category, side); `baselines` by the subject of an event
    watch; `root_announcements` are those under this root; `enrolments` the bodies that `placements` came from; `pardons` are entries that cleared control's order on an organisation.
    """

    size: int = 0
    at: int = 0
    root: Root | None = None
    root_digest: Digest | None = None
    root_index: int = -1
    release: str | None = None
    plan: Plan | None = None
    plan_digest: Digest | None = None
    plan_index: int = -1
    plan_entry: Digest | None = None
    plan_problem: str | None = None
    fingerprint: Digest | None = None
    weights: str | None = None
    placements: dict[str, PlacementEnrolment] = {}
    enrolments: dict[str, Digest] = {}
    probes: dict[tuple[str, str], ProbeEntry] = {}
    commits: dict[str, CommitEntry] = {}
    evidence: tuple[EvidenceEntry, ...] = ()
    revoked: frozenset[Digest] = frozenset()
    reviews: tuple[ReviewEntry, ...] = ()
    announcements: tuple[AnnouncementEntry, ...] = ()
    objections: tuple[ObjectionEntry, ...] = ()
    root_announcements: dict[Digest, RootAnnouncementEntry] = {}
    certificates: dict[str, tuple[CertificateEntry, ...]] = {}
    reopenings: dict[str, int] = {}
    grants: dict[str, GrantEntry] = {}
    orders: dict[str, OrderEntry] = {}
    pardons: dict[str, int] = {}
    observations: dict[ObservationKey, ObservationEntry] = {}
    events: dict[tuple[str, Category, Side], int] = {}
    baselines: dict[str, EventBaseline] = {}
    incidents: dict[str, Incident] = {}
    heads: dict[str, str] = {}
    holds: dict[str, Hold] = {}
    lifted_holds: frozenset[str] = frozenset()
    erasures: dict[str, Erasure] = {}
    copies: dict[str, CopyEntry] = {}
    own_grants: dict[Digest, OwnGrantEntry] = {}
    account: Account | None = None
    latches: tuple[Latch, ...] = ()
    last_decision: RecordedDecision | None = None

    def newest_certificate(self, stage: str) -> CertificateEntry | None:
        """Return the certificate of a stage that was logged last, in its window or not."""
        held = self.certificates.get(stage)
        return held[-1] if held else None

    def certificate_index(self, stage: str, digest: Digest) -> int | None:
        """Return the index of a certificate's entry, None if it is not on the log."""
        for entry in reversed(self.certificates.get(stage, ())):
            if entry.digest == digest:
                return entry.index
        return None
