"""The one error of the store."""

from __future__ import annotations

from gatelift.errors import PeerError

__all__ = ["StoreError"]


class StoreError(PeerError):
    """The database is not as we left it, or not ours.

    Codes: `store_locked` (another process leads), `fenced` (another leader took over),
    `store_missing`, `unknown_schema`, `not_stored`, `not_durable` (the database will not promise durability),
    `conflict`.
    """

    code = "store_failed"
