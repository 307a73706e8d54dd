"""Checking a deployment's logs on disk while nothing writes them: everything is derived again.

`fsck` is the door. `releases_log` compares the releases log's store, memory, publication and files;
`requests_logs` the node's requests logs with their bundles, tiles, journals and anchored heads.
"""

from gatelift.ledger.fsck.report import FsckReport, LogFound
from gatelift.ledger.fsck.run import fsck

__all__ = ["FsckReport", "LogFound", "fsck"]
