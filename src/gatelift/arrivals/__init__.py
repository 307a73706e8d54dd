"""What comes from another gateway, read as ours: keys, placements, limits, and what stays behind.

Pure: bytes of a configuration and rows of a database go in, an `Arrival` comes out. It admits nobody:
admissions signs the grants, the plan's quorum the caps. Today it reads LiteLLM.
"""

from gatelift.arrivals.errors import ArrivalError
from gatelift.arrivals.left import Left, Why
from gatelift.arrivals.limits import Choice, Difference
from gatelift.arrivals.litellm import Arrival, carry_litellm, model_of, summary
from gatelift.arrivals.litellm_config import Config, parse_config
from gatelift.arrivals.litellm_keys import CarriedKey
from gatelift.arrivals.litellm_rows import COLUMNS, NEEDED, Rows, parse_rows
from gatelift.arrivals.placements import CarriedPlacement
from gatelift.arrivals.prices import CURRENCY
from gatelift.arrivals.pseudonyms import Pseudonyms
from gatelift.arrivals.report import caps_yaml, limit_text, prices_yaml, render_report, report_value

__all__ = [
    "COLUMNS",
    "CURRENCY",
    "NEEDED",
    "Arrival",
    "ArrivalError",
    "CarriedKey",
    "CarriedPlacement",
    "Choice",
    "Config",
    "Difference",
    "Left",
    "Pseudonyms",
    "Rows",
    "Why",
    "caps_yaml",
    "carry_litellm",
    "limit_text",
    "model_of",
    "parse_config",
    "parse_rows",
    "prices_yaml",
    "render_report",
    "report_value",
    "summary",
]
