"""The keeper: one process a node that counts caps, passes on orders and status, and keeps the log.

Workers draw leases from it (`counters`, `draws`), hear orders and statuses through it (`orders`,
`releases`, `serving`, `server`), and write journals that it turns into the node's requests log and
its counts (`journals`, `charges`, `settling`). It probes the placements (`drift`, `placements`) and
reports to control (`uplink`, `reports`). `node` wires it together, `app` starts it.
"""

from gatelift.keeper.app import run
from gatelift.keeper.errors import KeeperError

__all__ = ["KeeperError", "run"]
