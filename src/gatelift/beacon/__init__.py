"""The beacon: another organisation's process without whose signature no status counts.

It follows the releases log itself and signs only a status that hides no order and serves from nothing
that was replaced; silent, it stops service. `mirror` fetches what that takes, `beacon` judges and
signs, `server` speaks HTTP.
"""

from __future__ import annotations

from gatelift.beacon.beacon import PAUSED, Beacon
from gatelift.beacon.errors import BeaconError
from gatelift.beacon.server import serve

__all__ = ["PAUSED", "Beacon", "BeaconError", "serve"]
