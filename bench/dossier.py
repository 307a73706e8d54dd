"""How long verifying a dossier takes: one is made, and both verifiers are run over it.

The dossier is made by the tests' own deployment, with real signatures: two workers, two records a chat,
heads and observations in between. CPU seconds are given beside the clock's, because a machine that
does other things shows its own load in the latter.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.house import say
from gatelift.messages import Start
from tests.integration.dossier_deployment import LEAK, Deployment
from tests.support.world import PLAN_FILE, World

__all__ = ["measure_dossier"]

_CAPS = "caps: {principal: {requests: 600/min, parallel: 8}, stage: {output_tokens: 100k/d}}"
_WIDE = "caps: {principal: {requests: 1M/min, parallel: 8}, stage: {output_tokens: 1G/d}}"
_ONE_FILE = Path(__file__).parents[1] / "verifier/gatelift_verify.py"
_PACKAGE = """
import json, sys, time
from pathlib import Path
from gatelift.ledger.verify import verify_dossier
path, root, now_ms = sys.argv[1:]
report = verify_dossier(Path(path), anchor_root=root, policy=None, now_ms=int(now_ms))
print(json.dumps({"exit": report.exit_code, "counts": report.counts}))
"""
_FILE = """
import json, runpy, sys
one_file, path, root, now_ms = sys.argv[1:]
audit = runpy.run_path(one_file)["Audit"](root, None, int(now_ms))
audit.run(path)
print(json.dumps({"exit": audit.exit_code, "counts": audit.counts}))
"""


_HEADS = 10
"""How often the deployment logs a head and its observations."""


class _Busy(Deployment):
    """A deployment with a chat each five milliseconds."""

    def start(self, user: str = "u", **more: Any) -> Start:
        self.now -= 45
        return super().start(user, **more)


def _make(folder: Path, records: int, chats_a_batch: int) -> _Busy:
    text = PLAN_FILE.read_text("utf-8")
    if _CAPS not in text:
        raise SystemExit("the tests' plan has other caps now: change bench/dossier.py")
    told = _Busy(folder / "deployment", World(plan_bytes=text.replace(_CAPS, _WIDE, 1).encode()))
    told.requests_limit = 1_000_000
    told.begin()
    told.certify()
    told.grant()
    chats, batches = records // 2, 0
    each = max(1, chats // chats_a_batch // _HEADS)
    while chats > 0:
        run = (f"w{batches % 2}", f"r{batches % 2}")
        for _ in range(min(chats, chats_a_batch)):
            found = (LEAK,) if chats % 5003 == 3 else ()
            told.finish(told.start(f"user{chats % 97}", run=run), *found, run=run)
            chats -= 1
        told.commit(run)
        batches += 1
        if batches % each == 0:
            told.head()
            told.observe()
    told.head()
    told.observe()
    told.export(folder / "dossier")
    return told


def _timed(words: list[str]) -> dict[str, Any]:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", *words], check=True, capture_output=True, text=True
    )
    wall_s = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    said = json.loads(done.stdout)
    if said["exit"] != 0:
        raise SystemExit(f"the dossier does not verify: {said}")
    return {"wall_s": round(wall_s, 2), "cpu_s": round(cpu_s, 2), "counts": said["counts"]}


def measure_dossier(
    folder: Path, *, records: int, chats_a_batch: int, rounds: int
) -> dict[str, Any]:
    """Make a dossier of so many records in `folder`; return how long each verifier took, each round."""
    say(f"making a dossier of {records} records")
    told = _make(folder, records, chats_a_batch)
    path, root, now_ms = str(folder / "dossier"), told.world.root_digest, str(told.now)
    found: dict[str, Any] = {"records": records, "chats_a_batch": chats_a_batch}
    for name, words in (
        ("package", [_PACKAGE, path, root, now_ms]),
        ("one file", [_FILE, str(_ONE_FILE), path, root, now_ms]),
    ):
        say(f"verifying: {name}")
        runs = [_timed(words) for _ in range(rounds)]
        counts = runs[0]["counts"]
        found |= {"entries": counts["entries"], "batches": counts["batches"]}
        wall_s = sorted(run["wall_s"] for run in runs)
        found[name] = {
            "wall_s": wall_s,
            "cpu_s": sorted(run["cpu_s"] for run in runs),
            "wall_s_a_million": round(statistics.median(wall_s) / records * 1e6, 1),
        }
    found["load"] = round(os.getloadavg()[0], 1)
    return found
