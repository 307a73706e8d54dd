"""Control: the one leader of a deployment. It folds, decides, records, signs and publishes.

`writer` is the one door to the log, `assembling` what a transaction holds, `refold` the way back
from the store; `publisher` gets the log cosigned, `bundles` and `statuses` say what gateways serve
from, `relay` and `actor` narrow, `keepers` and `node_reports` speak with nodes; `control` wires
them, `api` is the admin API over it and `run` the process.
"""

from gatelift.control.api import make_app
from gatelift.control.clock import wall_clock_ms
from gatelift.control.control import Control
from gatelift.control.errors import ControlError, ControlFailedError, SizeMovedError
from gatelift.control.run import ExtraRoutes, run
from gatelift.control.signing import Draft
from gatelift.control.tokens import AdminTokens, TokenError, load_admin_tokens
from gatelift.control.views import StateView, view_state

__all__ = [
    "AdminTokens",
    "Control",
    "ControlError",
    "ControlFailedError",
    "Draft",
    "ExtraRoutes",
    "SizeMovedError",
    "StateView",
    "TokenError",
    "load_admin_tokens",
    "make_app",
    "run",
    "view_state",
    "wall_clock_ms",
]
