"""The ledger: the logs as they are written, published, witnessed and read again.

`ReleasesLog` is the one log of releases, kept in a store; `RequestsLog` a node's log of commit
batches, kept in files; `TileLog` reads either as a stranger would; `ask_witness` gets a head
cosigned.
"""

from gatelift.ledger.errors import LedgerError
from gatelift.ledger.head_memory import HEADS, HeadMemory
from gatelift.ledger.releases import NewEntry, ReleasesLog
from gatelift.ledger.requests import RequestsLog
from gatelift.ledger.tile_files import read_checkpoint
from gatelift.ledger.tiles_reader import TileLog
from gatelift.ledger.witnessing import (
    Consistency,
    ask_witness,
    fetch_witness_head,
    format_add_checkpoint,
    parse_cosignatures,
    read_witness_head,
)

__all__ = [
    "HEADS",
    "Consistency",
    "HeadMemory",
    "LedgerError",
    "NewEntry",
    "ReleasesLog",
    "RequestsLog",
    "TileLog",
    "ask_witness",
    "fetch_witness_head",
    "format_add_checkpoint",
    "parse_cosignatures",
    "read_checkpoint",
    "read_witness_head",
]
