"""Folds over records: sessions into units, units into observations, verdicts into events.

Pure and refoldable: the same batches in the same order give the same counts, so that a verifier
counts with this class what a keeper counted.
"""

from gatelift.watch.saved import SavedCounter
from gatelift.watch.session import (
    SessionError,
    make_session,
    session_secret,
    session_window_start_ms,
)
from gatelift.watch.units import UnitCounter, WatchError
from gatelift.watch.would_have import Exchange, WouldHave, would_have_refused

__all__ = [
    "Exchange",
    "SavedCounter",
    "SessionError",
    "UnitCounter",
    "WatchError",
    "WouldHave",
    "make_session",
    "session_secret",
    "session_window_start_ms",
    "would_have_refused",
]
