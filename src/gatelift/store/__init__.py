"""The store: the releases log's entries, tree and heads, and the little that is kept nowhere else.

One database (SQLite in `DIR/store`, or another by its URL), one writer, fenced by an epoch. Bodies
of entries lie beside it in files named by digest.
"""

from gatelift.store.errors import StoreError
from gatelift.store.store import Store, StoredCheckpoint, Transaction

__all__ = ["Store", "StoreError", "StoredCheckpoint", "Transaction"]
