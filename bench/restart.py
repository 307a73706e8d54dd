"""How long a keeper that begins anew folds: from its journals alone, and from what it last kept."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

from gatelift.encoding import sha256_digest
from gatelift.keeper.journals import Journals
from gatelift.plan import parse_plan
from gatelift.trust import unverified_root
from gatelift.wire.keyfiles import load_private_key, load_signing_key

__all__ = ["measure_restart"]

_NODE: Final = "n1"


def measure_restart(folder: Path) -> dict[str, Any]:
    """Return the seconds of both over the journals of a deployment in `folder`, which must be down."""
    kept = folder / "run" / "folded"
    kept.unlink(missing_ok=True)
    took = [_fold(folder, kept) for _ in range(2)]
    return {"refold_s": round(took[0], 3), "restart_s": round(took[1], 3)}


def _fold(folder: Path, kept: Path) -> float:
    plan = (folder / "plan.yaml").read_bytes()
    journals = Journals(
        directory=folder / "journal",
        logs=folder / "logs" / "requests",
        heads=folder / "heads" / "requests",
        deployment=unverified_root((folder / "root.json").read_bytes()).name,
        node=_NODE,
        batch_key=load_signing_key(folder / "keys" / f"node-{_NODE}-batch.key"),
        log_key=load_private_key(folder / "keys" / f"node-{_NODE}-requests.key"),
        saved=kept,
    )
    now_ms = time.time_ns() // 1_000_000
    began = time.perf_counter()
    journals.open({sha256_digest(plan): parse_plan(plan)}, now_ms)
    took = time.perf_counter() - began
    journals.step(now_ms)
    journals.publish()
    journals.save(now=True)
    journals.close()
    return took
