"""`python -m bench gateway | docs`: the whole run, and the page that is drawn from it.

`python -m bench capacity | ledger | profile | streams | stops` are the quick looks, for who works on
speed; the last two take the same environment as the whole run (`settings`). `python -m bench dossier`
measures verifying: it needs nothing but this package and its tests.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.capacity import CapacitySettings, ratios, run_rounds, to_builtins, typical
from bench.dossier import measure_dossier
from bench.house import open_house, say
from bench.ledger import LedgerSettings, measure_ledger, measure_verifying
from bench.machine import describe, raise_file_limit
from bench.pages import RESULTS, draw
from bench.profile import profile_worker
from bench.restart import measure_restart
from bench.run import run_everything
from bench.settings import read_settings
from bench.stopping import measure_stops
from bench.streaming import measure_streams


def _capacity(options: argparse.Namespace) -> int:
    names = options.contenders.split(",")
    with open_house(options.folder / "capacity", names, callers=options.callers) as house:
        settings = CapacitySettings(
            rounds=options.rounds,
            connections=options.connections,
            warm_s=1.0,
            measure_s=options.seconds,
            gateway_core=house.gateway_core,
            load_core=house.load_core,
        )
        runs = run_rounds(house.contenders, house.mock, house.folder, settings)
        absent = house.absent
    for run in runs:
        parts = ", ".join(f"{part} {us:.1f}" for part, us in run.cpu_us.items())
        say(
            f"  {run.contender} round {run.round}: CPU us a chat: {parts}; its core {run.gateway_core_busy:.0%}, "
            f"load {run.load_core_busy:.0%} busy"
        )
    value: dict[str, Any] = {
        f"ratio_{name}": ratios(runs, "gatelift", name) for name in names if name != "gatelift"
    }
    value |= {f"rps_{name}": typical(runs, name) for name in names}
    value |= {"valid": not any(run.faults for run in runs), "absent": absent}
    (options.folder / "capacity.json").write_text(json.dumps(to_builtins(runs), indent=1))
    print(json.dumps(value))
    return 0


def _profile(options: argparse.Namespace) -> int:
    with open_house(options.folder / "profile", ["gatelift"], callers=options.callers) as house:
        ours = house.ours()
        ours.thaw()
        text = profile_worker(
            ours,
            house.folder,
            core=house.load_core,
            connections=options.connections,
            seconds=options.seconds,
            native=options.native,
        )
    print(text)
    if options.keep:
        RESULTS.mkdir(exist_ok=True)
        kept = RESULTS / f"{datetime.now(UTC):%Y-%m-%d}-profile.txt"
        kept.write_text(text)
        say(f"kept: {kept.name}")
    return 0


def _streams(options: argparse.Namespace) -> int:
    with open_house(options.folder / "streams", (), callers=0) as house:
        print(json.dumps(measure_streams(house, read_settings().streams)))
    return 0


def _stops(options: argparse.Namespace) -> int:
    with open_house(options.folder / "stops", (), callers=0) as house:
        print(json.dumps(measure_stops(house, read_settings().stops)))
    return 0


def _ledger(options: argparse.Namespace) -> int:
    settings = LedgerSettings(
        verify_records=options.records, verify_chats=options.chats, verify_rounds=options.rounds
    )
    with open_house(options.folder / "ledger", ["gatelift"], callers=options.callers) as house:
        value = measure_ledger(house, settings)
    # The deployment is down: what follows has the machine for itself.
    value |= measure_restart(options.folder / "ledger" / "gatelift")
    value |= measure_verifying(options.folder, settings)
    if options.keep:
        at = datetime.now(UTC)
        kept = RESULTS / f"{at:%Y-%m-%d}-ledger.json"
        found = {"at": at.isoformat(timespec="seconds"), "summary": value}
        kept.write_text(json.dumps(found | {"machine": describe(0, 1)}, indent=1) + "\n")
        say(f"kept: {kept.name}")
    print(json.dumps(value))
    return 0


def _gateway(options: argparse.Namespace) -> int:
    summary = run_everything(read_settings(), options.folder.resolve(), RESULTS)
    print(json.dumps(summary))
    return 0


def _dossier(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        found = measure_dossier(
            Path(folder),
            records=options.records,
            chats_a_batch=options.chats,
            rounds=options.rounds,
        )
    if options.keep:
        kept = RESULTS / "dossier" / f"{datetime.now(UTC):%Y-%m-%d}-{options.chats}-a-batch.json"
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(json.dumps(found, indent=1) + "\n")
        say(f"kept: {kept.name}")
    print(json.dumps(found))
    return 0


def _docs(options: argparse.Namespace) -> int:
    return draw(check=options.check)


def main() -> int:
    """Run one part."""
    todo = {
        "gateway": _gateway,
        "docs": _docs,
        "ledger": _ledger,
        "capacity": _capacity,
        "profile": _profile,
        "streams": _streams,
        "stops": _stops,
        "dossier": _dossier,
    }
    parser = argparse.ArgumentParser(prog="bench")
    parser.add_argument("what", choices=list(todo))
    parser.add_argument("--contenders", default="nginx,gatelift", help="In the order of a round.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--connections", type=int, default=128)
    parser.add_argument(
        "--records", type=int, default=200_000, help="dossier, ledger: how many are verified."
    )
    parser.add_argument(
        "--chats", type=int, default=16, help="dossier, ledger: in a batch of a worker."
    )
    parser.add_argument("--native", action="store_true", help="Profile C extensions too.")
    parser.add_argument(
        "--keep",
        action="store_true",
        help="profile, ledger, dossier: keep what came out in results.",
    )
    parser.add_argument("--check", action="store_true", help="docs: only say whether they match.")
    parser.add_argument("--folder", type=Path, default=Path("build/bench"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    raise_file_limit()
    return todo[options.what](options)


if __name__ == "__main__":
    sys.exit(main())
