"""What follows from the releases log: state, gates, watches, the decision, its preview and replay.

Pure: entries go in, a decision comes out with its reasons and figures. `fold` builds the state,
`gate` says why a stage is shut, `decide` what to do, `check_entry` what may not be logged, `preview`
what is missing, `replay` whether the recorded decisions are the ones that follow.
"""

from gatelift.decide.admit import check_entry
from gatelift.decide.admit_error import AdmitError
from gatelift.decide.commitments import Commitment, open_commitments
from gatelift.decide.copies import (
    COPY_QUORUM,
    Exposure,
    exposures_of,
    open_copies,
    overdue_copies,
)
from gatelift.decide.due_incidents import incidents_due
from gatelift.decide.engine import changed, decide
from gatelift.decide.evidence import under_words
from gatelift.decide.fold import fold
from gatelift.decide.gates import Examination, examine, gate
from gatelift.decide.notice import announced, objections_to
from gatelift.decide.people import approvals_at, bounds_at
from gatelift.decide.places import binding_of, sealing_of, up_probes, withheld_by
from gatelift.decide.preview import Blindness, Preview, Remaining, StagePreview, preview
from gatelift.decide.reasons import DOCS, ReasonCode, render_reasons
from gatelift.decide.replay import Mismatch, replay
from gatelift.decide.root_notice import root_objections
from gatelift.decide.stages import (
    clears_for,
    next_sequence,
    orders_in_force,
    standing_certificate,
    standing_envelope,
    target_stage,
    uncleared,
    widest_stage,
)
from gatelift.decide.state import (
    CertificateEntry,
    CommitEntry,
    CopyEntry,
    EvidenceEntry,
    GrantEntry,
    Latch,
    ObservationEntry,
    OrderEntry,
    ProbeEntry,
    RecordedDecision,
    ReviewEntry,
    State,
)
from gatelift.decide.table import TABLE, Fact, Row
from gatelift.decide.watching import Finding, IncidentDraft, Watched, watch

__all__ = [
    "COPY_QUORUM",
    "DOCS",
    "TABLE",
    "AdmitError",
    "Blindness",
    "CertificateEntry",
    "CommitEntry",
    "Commitment",
    "CopyEntry",
    "EvidenceEntry",
    "Examination",
    "Exposure",
    "Fact",
    "Finding",
    "GrantEntry",
    "IncidentDraft",
    "Latch",
    "Mismatch",
    "ObservationEntry",
    "OrderEntry",
    "Preview",
    "ProbeEntry",
    "ReasonCode",
    "RecordedDecision",
    "Remaining",
    "ReviewEntry",
    "Row",
    "StagePreview",
    "State",
    "Watched",
    "announced",
    "approvals_at",
    "binding_of",
    "bounds_at",
    "changed",
    "check_entry",
    "clears_for",
    "decide",
    "examine",
    "exposures_of",
    "fold",
    "gate",
    "incidents_due",
    "next_sequence",
    "objections_to",
    "open_commitments",
    "open_copies",
    "orders_in_force",
    "overdue_copies",
    "preview",
    "render_reasons",
    "replay",
    "root_objections",
    "sealing_of",
    "standing_certificate",
    "standing_envelope",
    "target_stage",
    "uncleared",
    "under_words",
    "up_probes",
    "watch",
    "widest_stage",
    "withheld_by",
]
