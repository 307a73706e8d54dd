"""Incidents: what went wrong, how bad, which clocks run, what is contained, what is learnt.

A fold of two kinds of log entries into values, and the deadlines that follow from them as data.
"""

from gatelift.incidents.clocks import DUTIES, Clock, Duty, StartEvent, clocks
from gatelift.incidents.incident import (
    Incident,
    IncidentRefusal,
    change_incident,
    open_at_or_above,
    open_incident,
)

__all__ = [
    "DUTIES",
    "Clock",
    "Duty",
    "Incident",
    "IncidentRefusal",
    "StartEvent",
    "change_incident",
    "clocks",
    "open_at_or_above",
    "open_incident",
]
