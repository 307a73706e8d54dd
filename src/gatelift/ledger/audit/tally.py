"""Records, counted in one pass over the batches of all logs: exchanges, caps, observations.

Invariants
- Each of them, and what was erased, has findings of its own; a sentence stands or falls with those that it rests on.
- Batches come in the order of the logs, those of a node by month.
"""

from __future__ import annotations

from collections.abc import Iterable

from gatelift.ledger.audit.authority import Authority
from gatelift.ledger.audit.caps import CapRecount
from gatelift.ledger.audit.erasures import Erased
from gatelift.ledger.audit.exchanges import Exchange, Exchanges
from gatelift.ledger.audit.observations import Recount
from gatelift.ledger.audit.own_calls import OwnCallCount
from gatelift.ledger.audit.releases import Releases
from gatelift.ledger.audit.report import Findings
from gatelift.ledger.audit.requests import Batch

__all__ = ["Tally"]


class Tally:
    """What the batches that it is made over add up to."""

    def __init__(self, batches: Iterable[Batch], releases: Releases, authority: Authority) -> None:
        self.paired, self.capped, self.counted = Findings(), Findings(), Findings()
        self.erasing = Findings()
        self.erased = Erased(releases, self.erasing)
        caps = CapRecount(authority, self.capped)
        own = OwnCallCount(authority.own, self.capped)

        def take(exchange: Exchange) -> None:
            caps.take(exchange)
            if exchange.own is not None and exchange.finish and exchange.finish.upstream:
                own.take(exchange.start, exchange.own, exchange.where)

        exchanges = Exchanges(authority, self.paired, take, self.erased)
        recount = Recount(releases, authority, self.counted)
        count = records = 0
        for batch in batches:
            count += 1
            records += len(batch.records)
            if batch.erased:
                self.erased.fold(batch)
                recount.note_erased(batch, self.erased)
            exchanges.fold(batch)
            recount.fold(batch)
        self.erased.close()
        exchanges.close()
        caps.close()
        own.close()
        recount.close()
        self.counts = {
            "batches": count,
            "records": records,
            "erasures": self.erased.erasures,
            "records_erased": self.erased.records,
            "exchanges": exchanges.paired + exchanges.open,
            "exchanges_open": exchanges.open,
            "exchanges_upstream": exchanges.upstream,
            "counters": caps.counters,
            "own_calls": own.calls,
            "observations": recount.compared,
        }
