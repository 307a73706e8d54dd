"""`gatelift restart`: new worker processes in the place of the running ones, without losing a request.

A new worker serves on its predecessor's socket before that one is told to end; the old one ends what
it has begun (at most 10 s) and answers its kept connections with `connection: close`. For renewed
settings, keys and code. Control, keeper and witness go on.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Annotated

import typer

from gatelift.cli.errors import InputError
from gatelift.cli.layout import Deployment
from gatelift.cli.output import JsonFlag, say, show
from gatelift.cli.supervisor import RESTARTED, ChildDiedError, RestartResult, supervisor_of
from gatelift.encoding import decode_json

__all__ = ["restart"]


def restart(
    directory: Annotated[Path, typer.Option("--dir", help="The deployment's folder.")] = Path(
        "gatelift-dev"
    ),
    timeout_s: Annotated[
        float, typer.Option("--timeout-s", min=1, help="How long to wait until all are renewed.")
    ] = 300.0,
    json_output: JsonFlag = False,
) -> None:
    """Renew the workers that `gatelift up` runs, one after the other, without losing a request."""
    run = Deployment(directory).path("run")
    pid = supervisor_of(run)
    if pid is None:
        raise InputError(
            f"nothing runs {directory}: start it with `gatelift up`", code="not_running"
        )
    told = run / RESTARTED
    told.unlink(missing_ok=True)
    os.kill(pid, signal.SIGHUP)
    until = time.monotonic() + timeout_s
    while not told.exists():
        if time.monotonic() >= until or supervisor_of(run) != pid:
            raise ChildDiedError(f"not renewed within {timeout_s:g} s: see {run}", code="not_ready")
        time.sleep(0.05)
    result = decode_json(told.read_bytes(), RestartResult)
    if not result.ok:
        raise ChildDiedError(result.problem, code="not_ready")
    value = {"workers": result.workers, "took_ms": result.took_ms}
    show(value, lambda: say(f"{result.workers} workers renewed in {result.took_ms / 1000:.1f} s."))
