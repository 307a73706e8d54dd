"""Following the releases log as one who passes statuses on, or signs them: keeper and beacon.

`follower` reads the log and never back, `superseded` knows what it replaced, `desk` holds the orders
and judges each status by both.
"""

from gatelift.ledger.following.desk import FOLLOWED, OrderDesk
from gatelift.ledger.following.follower import ReleasesFollower
from gatelift.ledger.following.superseded import GRACE_MS

__all__ = ["FOLLOWED", "GRACE_MS", "OrderDesk", "ReleasesFollower"]
