"""The store: the releases log's entries, tree and heads, and the little that is kept nowhere else.

One database (SQLite in `DIR/store`, or another by its URL), one writer, fenced by an epoch. Bodies
of entries lie beside it in files named by digest.
"""

from gatelift.store.errors import StoreError
from gatelift.store.lock import StoreLock
from gatelift.store.reader import EntryRow, Reader, StoredCheckpoint
from gatelift.store.store import Store, Transaction

__all__ = [
    "EntryRow",
    "Reader",
    "Store",
    "StoreError",
    "StoreLock",
    "StoredCheckpoint",
    "Transaction",
]
