"""Tests of rates that may be looked at at any time, and exact bounds for a single look.

`stop` gathers evidence that a rate is above its limit, `widen` that it is below; `fixed` judges an
assessment of committed size; `blindness` says what could go unseen; `attribution` names
organisations; `accounts` keeps what may be spent on false alarms. All figures are decimals under one
pinned context, so that every platform records the same digits (reference/statistics.md).
"""

from __future__ import annotations

from gatelift.stats.accounts import Account, Breach, judge, open_account, reopen
from gatelift.stats.arithmetic import StatsError
from gatelift.stats.attribution import attribute
from gatelift.stats.blindness import Delay, blind_rate, delays, detectable_rate, unseen_bound
from gatelift.stats.counts import Counts
from gatelift.stats.fixed import (
    Outcome,
    Requirement,
    Verdict,
    attempts_to_rule_out,
    lower_bound,
    requirement_met,
    upper_bound,
    verdict,
)
from gatelift.stats.stop import (
    StopState,
    crossed,
    log_e_overall,
    log_e_stop,
    observe,
    stop_threshold,
    units_to_stop,
)
from gatelift.stats.widen import cleared, gate_alpha, log_e_widen, units_to_clear

__all__ = [
    "Account",
    "Breach",
    "Counts",
    "Delay",
    "Outcome",
    "Requirement",
    "StatsError",
    "StopState",
    "Verdict",
    "attempts_to_rule_out",
    "attribute",
    "blind_rate",
    "cleared",
    "crossed",
    "delays",
    "detectable_rate",
    "gate_alpha",
    "judge",
    "log_e_overall",
    "log_e_stop",
    "log_e_widen",
    "lower_bound",
    "observe",
    "open_account",
    "reopen",
    "requirement_met",
    "stop_threshold",
    "units_to_clear",
    "units_to_stop",
    "unseen_bound",
    "upper_bound",
    "verdict",
]
