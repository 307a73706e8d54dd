"""The life of one exchange as a literal table.

    receive → identify → admit → reserve → inspect → start → forward → release* → settle → finish

Invariants
- `TABLE` is all there is: an event that a state does not list is a broken contract and ends the
  exchange closed; it never skips a step.
- Nothing is sent upstream before `STARTED`, nothing released before the start is durable
  (`RELEASING`), nothing ends before the finish is durable (`FINISHED`).
- A denial past `identify` goes the same way without `forward`: it is recorded and gets a ticket.

Pure: the pipeline drives it. Diagrams in the docs are drawn from `TABLE`.
"""

from __future__ import annotations

import enum
from typing import Final

from gatelift.errors import GateliftError

__all__ = ["TABLE", "Event", "Exchange", "ExchangeError", "State"]


class ExchangeError(GateliftError):
    """A step was taken out of order; the exchange is closed."""

    code = "exchange_out_of_order"


class State(enum.StrEnum):
    """How far an exchange is."""

    # As the text it is, in C: looked up in a table at each step.
    __hash__ = str.__hash__

    RECEIVED = "received"
    IDENTIFIED = "identified"
    ADMITTED = "admitted"
    RESERVED = "reserved"
    DENIED = "denied"
    STARTED = "started"
    FORWARDED = "forwarded"
    RELEASING = "releasing"
    SETTLED = "settled"
    FINISHED = "finished"
    TURNED_AWAY = "turned_away"


class Event(enum.StrEnum):
    """What moves an exchange on."""

    # As the text it is, in C: looked up in a table at each step.
    __hash__ = str.__hash__

    IDENTIFY = "identify"
    TURN_AWAY = "turn_away"
    ADMIT = "admit"
    DENY = "deny"
    RESERVE = "reserve"
    START = "start"
    FORWARD = "forward"
    RELEASE = "release"
    SETTLE = "settle"
    FINISH = "finish"


TABLE: Final[dict[State, dict[Event, State]]] = {
    State.RECEIVED: {Event.IDENTIFY: State.IDENTIFIED, Event.TURN_AWAY: State.TURNED_AWAY},
    State.IDENTIFIED: {
        Event.ADMIT: State.ADMITTED,
        Event.DENY: State.DENIED,
        Event.TURN_AWAY: State.TURNED_AWAY,
    },
    State.ADMITTED: {Event.RESERVE: State.RESERVED, Event.DENY: State.DENIED},
    State.RESERVED: {Event.START: State.STARTED, Event.DENY: State.DENIED},
    State.DENIED: {Event.START: State.STARTED},
    State.STARTED: {Event.FORWARD: State.FORWARDED, Event.SETTLE: State.SETTLED},
    State.FORWARDED: {Event.RELEASE: State.RELEASING, Event.SETTLE: State.SETTLED},
    State.RELEASING: {Event.RELEASE: State.RELEASING, Event.SETTLE: State.SETTLED},
    State.SETTLED: {Event.FINISH: State.FINISHED},
    State.FINISHED: {},
    State.TURNED_AWAY: {},
}


# Named once: a look into the class of an enum costs as much as the step itself.
_DENY: Final = Event.DENY
_FORWARD: Final = Event.FORWARD


class Exchange:
    """One exchange's state. `on` moves it or raises."""

    __slots__ = ("denied", "state")

    def __init__(self) -> None:
        self.state = State.RECEIVED
        self.denied = False

    def on(self, event: Event) -> None:
        """Take one step; raises `ExchangeError` if the table does not have it."""
        to = TABLE[self.state].get(event)
        if to is None or (event is _FORWARD and self.denied):
            raise ExchangeError(f"no {event.value} from {self.state.value}: the exchange is closed")
        if event is _DENY:
            self.denied = True
        self.state = to
