"""Folds over records: sessions into units, units into observations, verdicts into events.

Pure and refoldable: the same batches in the same order give the same counts, so that a verifier
counts with this class what a keeper counted.
"""

from gatelift.watch.session import SessionError, make_session, session_window_start_ms
from gatelift.watch.units import UnitCounter, WatchError

__all__ = [
    "SessionError",
    "UnitCounter",
    "WatchError",
    "make_session",
    "session_window_start_ms",
]
