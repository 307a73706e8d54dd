"""The worker: the one door in front of the model.

Serves only inside a valid certificate and a live status, never over a cap, never without a record.
Its own HTTP/1.1 on both sides; no store, no approver keys. The way of a request through this room
is `worker` → `routes` → `chat` → `admission` → `releasing`; the contract with callers is `replies`.
"""

from gatelift.gateway.replies import CODES, ErrorCode
from gatelift.gateway.worker import run
from gatelift.gateway.worker_settings import WorkerSettings

__all__ = ["CODES", "ErrorCode", "WorkerSettings", "run"]
