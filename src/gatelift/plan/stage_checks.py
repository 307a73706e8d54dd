"""Checks of one stage against what came before it: its envelope, its gate, its watches.

Invariants
- As in `plan.checks`: what was refused already is skipped, every check says what to write instead.
- A gate looks only backwards: soak, clearance and rescope name earlier stages.
- A stage's unit counts mean something only while the safeguard that labels them is in force there.

Source: DESIGN.md section 5 (levels, stage zero), section 8 (statistics).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from gatelift.plan.conditions import check_condition
from gatelift.plan.kinds import BAD
from gatelift.plan.model import BreachAction
from gatelift.plan.problems import Report
from gatelift.stats import gate_alpha, units_to_clear
from gatelift.terms import (
    Assurance,
    CapUnit,
    Category,
    Sealing,
    Tier,
    WatchRole,
    Window,
    at_least,
    format_duration,
    window_ms,
)

__all__ = ["FIRST_CERTIFICATE_MS", "Known", "Tree", "check_gate", "check_stage", "check_watches"]

FIRST_CERTIFICATE_MS = window_ms(Window.DAY)
"""Stage zero lives for hours: its certificate lasts a day at most."""

_FIRST_QUORUM = ("operator", "safety")
_NEEDED_POSTURES = (Category.LEAK, Category.MISUSE, Category.AUTONOMY)
_TOTALS = (CapUnit.REQUESTS, CapUnit.OUTPUT_TOKENS)
Tree = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the checks of one stage may look at. Refused values are left out.

    `thresholds_complete` is false when a threshold's name was refused: it could be the one meant.
    """

    report: Report
    stages: tuple[Tree, ...]
    metrics: Tree
    metrics_given: frozenset[str]
    thresholds: tuple[str, ...]
    thresholds_complete: bool
    false_assurance: Decimal | None
    quorum: tuple[Any, ...] | None

    def earlier(self, index: int, name: str, path: str) -> Tree | None:
        """Return the stage of that name if it stands before `index`, else report and None."""
        for stage in self.stages[:index]:
            if stage.get("name") == name:
                return stage
        if any("name" not in stage for stage in self.stages[:index]):
            return None
        names = [stage["name"] for stage in self.stages[:index]]
        later = any(stage.get("name") == name for stage in self.stages[index:])
        what = "is not an earlier stage" if later else "is no stage of this plan"
        instead = f"one of {', '.join(names)}" if names else "it in a later stage"
        self.report.add(path, f"{name} {what}", instead)
        return None

    def check_metric(self, name: str, path: str) -> None:
        """Report a metric that the plan does not define."""
        if name not in self.metrics_given:
            known = ", ".join(sorted(self.metrics_given)) or "a metric under metrics:"
            self.report.add(path, f"{name} is no metric of this plan", known)

    def check_labelled(self, stage: Tree, category: Category | None, path: str) -> None:
        """Report a count in a stage whose safeguard is not in force: it would be clean by silence."""
        postures = stage.get("safeguards")
        if category is Category.HONEY:
            return  # it has no posture and always speaks
        if category is not None and postures is not None and category not in postures:
            self.report.add(
                path,
                f"the safeguard {category} has no posture in stage {stage.get('name', '?')}, so "
                "nothing would ever be counted there",
                f"a posture for {category} under that stage's safeguards",
            )

    def category_of(self, metric: str) -> Category | None:
        """Return the safeguard that labels a metric, None when that was refused."""
        category: Category | None = (
            self.metrics.get(metric, {}).get("harmful_when", {}).get("safeguard")
        )
        return category


def check_stage(known: Known, index: int) -> None:
    """Report what is wrong with the envelope, the quorum and the levels of a stage."""
    stage, path, report = known.stages[index], f"stages[{index}]", known.report
    audience = stage.get("audience", {})
    tier = audience.get("tier")
    if (
        tier is not None
        and tier is not Tier.PUBLIC
        and audience.get("max_organisations", 1) is None
    ):
        report.add(
            f"{path}.audience.max_organisations",
            f"the tier {tier} has no limit of organisations",
            "a number; only public may say none",
        )
    scope = stage.get("scope", {})
    if scope.get("output_tokens", 0) > scope.get("context_tokens", scope.get("output_tokens", 0)):
        report.add(
            f"{path}.scope.output_tokens",
            f"{scope['output_tokens']} tokens out do not fit in {scope['context_tokens']} of context",
            f"at most {scope['context_tokens']}",
        )
    content = stage.get("retention", {}).get("content", 0)
    if content % window_ms(Window.DAY):
        report.add(
            f"{path}.retention.content",
            f"content is kept in whole days, not {format_duration(content)}",
            "whole days such as 30d, or none",
        )
    _check_levels(known, index)
    _check_quorum(known, index)
    if index == 0:
        _check_first(known)
    else:
        _check_later(known, index)


def _check_levels(known: Known, index: int) -> None:
    stage, path, report = known.stages[index], f"stages[{index}]", known.report
    tier = stage.get("audience", {}).get("tier")
    assurance, sealing = stage.get("assurance"), stage.get("sealing")
    if tier is None:
        return
    if tier is Tier.PUBLIC and assurance and not at_least(assurance, Assurance.OVERSEEN):
        report.add(
            f"{path}.assurance",
            f"a stage beyond named partners needs an outside overseer, got {assurance}",
            "overseen or witnessed",
        )
    if tier is not Tier.INTERNAL and at_least(tier, Tier.INTERNAL) and sealing is Sealing.OPEN:
        report.add(
            f"{path}.sealing",
            f"an upstream that answers without our credential opens nothing above internal: {tier}",
            "declared",
        )


def _check_quorum(known: Known, index: int) -> None:
    stage, path, report = known.stages[index], f"stages[{index}]", known.report
    own = report.given(f"{path}.quorum")
    quorum = stage.get("quorum") if own else known.quorum
    if quorum is None or BAD in quorum:
        return
    if own and len(set(quorum)) < 2:
        report.add(
            f"{path}.quorum",
            "expected at least two distinct roles: nobody alone may widen",
            "two roles, such as [safety, security]",
        )
    if index == 0 and not set(_FIRST_QUORUM) <= set(quorum):
        report.add(
            f"{path}.quorum",
            "the first stage is signed by operator and safety",
            "[operator, safety]",
        )
    assurance = stage.get("assurance")
    if assurance and at_least(assurance, Assurance.OVERSEEN) and "overseer" not in quorum:
        report.add(
            f"{path}.quorum",
            f"assurance {assurance} stands on an overseer who does not sign",
            f"[{', '.join((*quorum, 'overseer'))}]",
        )


def _check_first(known: Known) -> None:
    stage, report = known.stages[0], known.report
    tier = stage.get("audience", {}).get("tier")
    if tier not in {None, Tier.NOBODY, Tier.EVALUATORS}:
        report.add(
            "stages[0].audience.tier",
            f"the first stage is where assessments run, not {tier}",
            "evaluators",
        )
    caps = stage.get("caps")
    broken = report.given("stages[0].caps.stage") and "stage" not in (caps or {})
    totals = (caps or {}).get("stage", {})
    hidden = any(
        report.given(f"stages[0].caps.stage.{unit}") and unit not in totals for unit in _TOTALS
    )
    if caps is not None and not broken and not hidden and not any(u in totals for u in _TOTALS):
        report.add(
            "stages[0].caps",
            "the first stage has no hard cap on all of its use",
            "stage: {output_tokens: 100k/d}, or requests",
        )
    if stage.get("certificate", 0) > FIRST_CERTIFICATE_MS:
        report.add(
            "stages[0].certificate",
            f"the first stage lives for hours, not {format_duration(stage['certificate'])}",
            f"{format_duration(FIRST_CERTIFICATE_MS)} or less",
        )


def _check_later(known: Known, index: int) -> None:
    stage, path, report = known.stages[index], f"stages[{index}]", known.report
    gate = stage.get("gate")
    if gate is not None:
        if not gate.get("thresholds") and not (
            report.given(f"{path}.gate.thresholds") and "thresholds" not in gate
        ):
            report.add(
                f"{path}.gate.thresholds",
                "every stage after the first asks for thresholds",
                "thresholds: [a threshold of this plan]",
            )
        if not report.given(f"{path}.gate.reviews"):
            report.add(
                f"{path}.gate.reviews",
                "every stage after the first asks for reviews",
                "reviews: {roles: [safety], max_age: 14d}",
            )
    postures = stage.get("safeguards")
    for category in _NEEDED_POSTURES if postures is not None else ():
        if not report.given(f"{path}.safeguards.{category}"):
            report.add(
                f"{path}.safeguards.{category}",
                f"every stage after the first says what it does about {category}",
                f"{category}: block, cut or observe",
            )


def check_gate(known: Known, index: int) -> None:
    """Report what a gate names that is not there, and what no traffic could open."""
    stage, path, report = known.stages[index], f"stages[{index}].gate", known.report
    gate = stage.get("gate", {})
    for place, name in enumerate(gate.get("thresholds", ())):
        if name is BAD or name in known.thresholds or not known.thresholds_complete:
            continue
        report.add(
            f"{path}.thresholds[{place}]",
            f"{name} is no threshold of this plan",
            ", ".join(known.thresholds) or "a threshold under thresholds:",
        )
    soak = gate.get("soak", {})
    if "from" in soak:
        source = known.earlier(index, soak["from"], f"{path}.soak.from")
        most = (source or {}).get("audience", {}).get("max_organisations")
        if most is not None and soak.get("organisations", 0) > most:
            report.add(
                f"{path}.soak.organisations",
                f"stage {soak['from']} admits at most {most}: this gate could never open",
                f"{most} or less",
            )
    for place, each in enumerate(gate.get("clear", ())):
        if each is not BAD:
            _check_clearance(known, index, each, f"{path}.clear[{place}]")


def _check_clearance(known: Known, index: int, clear: Tree, path: str) -> None:
    report = known.report
    source = None
    if "from" in clear:
        source = known.earlier(index, clear["from"], f"{path}.from")
    if "metric" in clear:
        known.check_metric(clear["metric"], f"{path}.metric")
        if source is not None:
            known.check_labelled(source, known.category_of(clear["metric"]), f"{path}.metric")
    if "limit" not in clear or known.false_assurance is None:
        return
    gates = sum(1 for stage in known.stages if stage.get("gate", {}).get("clear"))
    need = units_to_clear(clear["limit"], gate_alpha(known.false_assurance, max(1, gates)))
    if need is None:
        report.add(f"{path}.limit", "no traffic clears so low a limit", "a higher limit")
        return
    soak = known.stages[index].get("gate", {}).get("soak", {})
    same = soak.get("from") == clear.get("from")
    if same and soak.get("sessions", need) < need:
        report.add(
            f"stages[{index}].gate.soak.sessions",
            f"{soak['sessions']} clean sessions cannot clear {clear.get('metric', 'the metric')} at "
            f"{clear['limit']} over {gates} clearing gate(s)",
            f"{need} or more",
        )


def check_watches(known: Known, index: int) -> None:
    """Report watches that name nothing, act beyond their role, or see nothing."""
    stage, path, report = known.stages[index], f"stages[{index}]", known.report
    seen: set[str] = set()
    for place, watch in enumerate(stage.get("watch", ())):
        inner = f"{path}.watch[{place}]"
        if watch is BAD:
            continue
        if "metric" in watch:
            known.check_metric(watch["metric"], f"{inner}.metric")
            known.check_labelled(stage, known.category_of(watch["metric"]), f"{inner}.metric")
            if watch["metric"] in seen:
                report.add(
                    f"{inner}.metric", f"{watch['metric']} is watched twice", "one watch of it"
                )
            seen.add(watch["metric"])
        _check_action(known, index, watch, inner)
    for place, event in enumerate(stage.get("events", ())):
        if event is not BAD:
            inner = f"{path}.events[{place}].event"
            condition = event.get("event", {})
            check_condition(condition, inner, report)
            known.check_labelled(stage, condition.get("safeguard"), inner)


def _check_action(known: Known, index: int, watch: Tree, path: str) -> None:
    report, action, role = known.report, watch.get("on_breach"), watch.get("role")
    given = report.given(f"{path}.on_breach")
    if role is WatchRole.GUARDRAIL and not given:
        report.add(path, "a guardrail says what a breach does", "on_breach: roll_back")
    if role is WatchRole.SIGNAL and action not in {None, BreachAction.HOLD}:
        report.add(f"{path}.on_breach", f"a signal may only hold, got {action}", "hold")
    rescopes = action is BreachAction.RESCOPE
    if rescopes and not report.given(f"{path}.to"):
        report.add(
            path, "rescope without a stage", "to: the earlier stage that becomes the ceiling"
        )
    if report.given(f"{path}.to") and not rescopes and (action is not None or not given):
        report.add(f"{path}.to", "only rescope goes to a stage", "the watch without to")
    elif "to" in watch:
        known.earlier(index, watch["to"], f"{path}.to")
