"""The whole run: every part in order, its raw figures in one file, its summary in one line.

Invariants
- A part that fails leaves its figures null and the run not valid, with the reason in the file.
- `valid` is true only if every count agrees: answers past `identify` with finish records, those
  with `upstream: true` with the mock's own count, and no answer but 2xx beyond the intended ones.
- A peer that is not there, or whose answers are no answers, makes its ratio null, with the reason
  in the file; it does not make the run void.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import statistics
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.capacity import CapacitySettings, RunFigures, ratios, run_rounds, to_builtins, typical
from bench.contenders import Contender, EverythingOn
from bench.deployment import data_disk
from bench.house import House, open_house, say, told
from bench.latency import OpenLoop, Timed, added, drive
from bench.lifecycle import measure_memory, measure_starts
from bench.machine import describe, fdatasync_ms
from bench.settings import CONTENDERS, LATENCY_OF, RunSettings
from bench.stopping import measure_stops
from bench.streaming import measure_streams

__all__ = ["SUMMARY_KEYS", "run_everything"]

SUMMARY_KEYS: Final = (
    "ratio_nginx",
    "ratio_envoy",
    "ratio_litellm",
    "ratio_portkey",
    "rps",
    "added_p50_ms",
    "added_p99_ms",
    "fdatasync_ms",
    "chunk_us",
    "ttft_added_ms",
    "streams_gap_p99_ms",
    "stream_kb",
    "rss_mb",
    "start_s",
    "stop_p50_ms",
    "stop_max_ms",
    "valid",
)


class _Run:
    """What a run gathers."""

    def __init__(self, settings: RunSettings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.parts: dict[str, Any] = {}
        self.faults: list[str] = []
        self.notes: list[str] = []

    def part(self, name: str, do: Callable[[], Any]) -> Any:
        """Do one part; a failure is noted and the run goes on."""
        say(f"== {name}")
        try:
            self.parts[name] = do()
        except Exception as error:  # noqa: BLE001 (one part must not lose the others' figures)
            say(traceback.format_exc())
            self.faults.append(f"{name}: {told(error)}")
            self.parts[name] = None
        return self.parts[name]

    def gateway_parts(self, house: House) -> None:
        """Measure what needs the contenders."""
        ours = house.ours()
        runs = self.part("capacity", lambda: self._capacity(house)) or []
        self.part("latency", lambda: self._latency(house, ours))
        ours.thaw()
        already = sum(run["sent"] for run in runs if run["contender"] == ours.name)
        requests = self.settings.requests
        memory = self.part("memory", lambda: measure_memory(house, ours, requests, already))
        self.faults += [f"memory: {fault}" for fault in (memory or {}).get("faults", ())]
        self.part("start", lambda: measure_starts(house, ours, self.settings.starts))
        self.parts["outcomes"] = dict(ours.tally.outcomes)

    def _capacity(self, house: House) -> Any:
        settings = CapacitySettings(
            rounds=self.settings.rounds,
            connections=self.settings.connections,
            warm_s=self.settings.warm_s,
            measure_s=self.settings.measure_s,
            gateway_core=house.gateway_core,
            load_core=house.load_core,
        )
        runs = run_rounds(house.contenders, house.mock, house.folder, settings)
        for run in runs:
            told = self.faults if run.contender == "gatelift" else self.notes
            told += [f"{run.contender}, round {run.round}: {fault}" for fault in run.faults]
        return to_builtins(runs)

    def _latency(self, house: House, ours: EverythingOn) -> dict[str, Any]:
        """Return the runs of the open-loop driver, and the disk's own time in the same minutes."""
        load = OpenLoop(
            rate=self.settings.latency_rate,
            seconds=self.settings.latency_s,
            load_core=house.load_core,
        )
        measured = [each for each in house.contenders if each.name in LATENCY_OF]
        runs: list[Timed] = []
        syncs = []
        for number in range(1, self.settings.latency_rounds + 1):
            syncs.append(fdatasync_ms(ours.deployment.folder / "journal", self.settings.syncs))
            direct = {"Authorization": f"Bearer {house.key}"}
            runs.append(
                drive(
                    *("direct", number),
                    port=house.mock.port,
                    headers=direct,
                    folder=house.folder,
                    load=load,
                )
            )
            runs += [self._drive(each, number, house, load) for each in measured]
        for run in runs:
            say(f"  round {run.round}  {run.target:<20} p50 {run.p50_ms} ms  p99 {run.p99_ms} ms")
        return {"runs": msgspec.to_builtins(runs), "fdatasync_ms": syncs}

    def _drive(self, contender: Contender, number: int, house: House, load: OpenLoop) -> Timed:
        contender.thaw()
        try:
            contender.settle()
            before = house.mock.count()
            finishes = contender.tally.finishes if isinstance(contender, EverythingOn) else 0
            target = contender.target()
            run = drive(
                *(contender.name, number),
                port=target.port,
                headers={"Authorization": f"Bearer {target.api_keys[0]}", **target.headers},
                folder=house.folder,
                load=load,
            )
            contender.settle()
            counts = {"asked": run.answers + run.failed, "mock": house.mock.count() - before}
            ours = isinstance(contender, EverythingOn)
            if isinstance(contender, EverythingOn):
                counts["recorded"] = contender.tally.finishes - finishes
            if len(set(counts.values())) != 1 or run.failed:
                told = self.faults if ours else self.notes
                told.append(f"latency of {run.target}: {counts}, {run.failed} failed")
        finally:
            contender.freeze()
        return run

    def summary(self) -> dict[str, Any]:
        """Return the last line: exactly `SUMMARY_KEYS`."""
        runs = [msgspec.convert(run, RunFigures) for run in self.parts.get("capacity") or ()]
        latency = self.parts.get("latency") or {}
        timed = [msgspec.convert(run, Timed) for run in latency.get("runs", ())]
        syncs = latency.get("fdatasync_ms")
        streams = self.parts.get("streams") or {}
        scenes = streams.get("scenes") or ()
        stops = self.parts.get("stop") or {}
        most = max(scenes, key=lambda each: each["scene"]["count"], default=None)
        fastest = max(scenes, key=lambda each: each["scene"]["rate"], default=None)
        gaps = [each["through"]["gap_p99_ms"] for each in scenes]
        rps = typical(runs, "gatelift")
        peers = ("nginx", "envoy", "litellm", "portkey")
        values: dict[str, Any] = {
            f"ratio_{peer}": _rounded(ratios(runs, "gatelift", peer)) for peer in peers
        }
        values |= {
            "rps": rps,
            "added_p50_ms": added(timed, "gatelift", "p50_ms"),
            "added_p99_ms": added(timed, "gatelift", "p99_ms"),
            "fdatasync_ms": _rounded(statistics.median(syncs)) if syncs else None,
            "chunk_us": fastest["through"]["chunk_us"]["worker"] if fastest else None,
            "ttft_added_ms": streams.get("ttft_added_ms"),
            "streams_gap_p99_ms": max(gaps) if gaps and None not in gaps else None,
            "stream_kb": most["through"]["stream_kib"] if most else None,
            "rss_mb": (self.parts.get("memory") or {}).get("rss_mb"),
            "start_s": (self.parts.get("start") or {}).get("median_s"),
            "stop_p50_ms": stops.get("p50_ms"),
            "stop_max_ms": stops.get("max_ms"),
            "valid": not self.faults,
        }
        return {key: values[key] for key in SUMMARY_KEYS}

    def check_streams(self) -> None:
        """Note where counts of streams and stops do not agree."""
        streams, stops = self.parts.get("streams"), self.parts.get("stop")
        if streams and not streams["agrees"]:
            self.faults.append(f"streams: counts differ: {streams['counts']}")
        for each in (streams or {}).get("scenes", ()):
            if not each["through"]["whole"]:
                told = f"{each['through']['clean']} of {each['scene']['count']}"
                self.faults.append(f"streams: {told} ended cleanly")
        if stops and not stops["whole"]:
            self.faults.append("stop: not every stream was open and cut")


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def run_everything(settings: RunSettings, build: Path, results: Path) -> dict[str, Any]:
    """Run all parts, keep the raw figures, and return the summary."""
    # This process only waits; what it starts is pinned where it belongs.
    os.sched_setaffinity(0, {settings.load_core})
    machine = describe(settings.gateway_core, settings.load_core)
    folder = build / "gateway"
    run = _Run(settings, folder)
    cores = {"gateway_core": settings.gateway_core, "load_core": settings.load_core}
    with open_house(folder, CONTENDERS, callers=settings.callers, **cores) as house:
        machine["disk"] = data_disk(house.folder)
        absent = house.absent
        if "gatelift" in absent:
            run.faults.append(f"gatelift: {absent['gatelift']}")
        else:
            run.gateway_parts(house)
            house.ours().freeze()
    with open_house(folder, (), callers=0, **cores) as house:
        run.part("streams", lambda: measure_streams(house, settings.streams))
        run.part("stop", lambda: measure_stops(house, settings.stops))
    run.check_streams()
    summary = run.summary()
    at = dt.datetime.now(dt.UTC)
    value = {
        "at": at.isoformat(timespec="seconds"),
        "summary": summary,
        "faults": run.faults,
        "notes": run.notes,
        "absent": absent,
        "machine": machine,
        "settings": msgspec.to_builtins(settings),
        "parts": run.parts,
    }
    place = build if settings.quick else results
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{at:%Y-%m-%d}-gateway.json"
    path.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")
    say(f"raw figures: {path}")
    for fault in run.faults:
        say(f"NOT VALID: {fault}")
    shutil.rmtree(folder, ignore_errors=True)
    return summary
