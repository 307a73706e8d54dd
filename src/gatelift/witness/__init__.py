"""The witness: another organisation's process that cosigns a log's checkpoints.

It keeps the last head of each log it follows, cosigns only what extends it, and keeps evidence of
logs that show two histories. `decision` judges bytes, `shelf` remembers, `witness` does both under
one lock, `server` speaks HTTP.

Follows C2SP tlog-witness v1.0.0.
"""

from __future__ import annotations

from gatelift.witness.decision import Accepted, Outcome, Refused, decide_submission
from gatelift.witness.server import ServeError, make_app, serve
from gatelift.witness.shelf import Shelf, ShelfError, read_evidence
from gatelift.witness.witness import Answer, Witness, parse_log_vkeys

__all__ = [
    "Accepted",
    "Answer",
    "Outcome",
    "Refused",
    "ServeError",
    "Shelf",
    "ShelfError",
    "Witness",
    "decide_submission",
    "make_app",
    "parse_log_vkeys",
    "read_evidence",
    "serve",
]
