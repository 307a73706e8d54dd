"""Where the microseconds of one worker go: py-spy samples it under the load of `capacity`.

Writes `profile.txt` (a table of functions and of modules, in microseconds a chat), `profile.raw`
(collapsed stacks) and `profile.svg` (a flame graph).

Invariants
- Shares are those of samples within a thread; microseconds are the CPU time that the kernel counted
  for that thread. A thread that waits (for the disk, for its turn) is thus not charged for waiting.
- The profiler runs on the load's core. It costs rate, so a rate from here is no figure of speed.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

from bench.contenders import EverythingOn
from bench.machine import pinned, thread_cpu_seconds
from bench.wrk import WrkResult, run_wrk

__all__ = ["ProfileError", "profile_worker", "summarise"]

_TOP = 45


class ProfileError(RuntimeError):
    """py-spy could not look into the worker."""


def _py_spy(pid: int, core: int, seconds: float, shape: str, out: Path, *, native: bool) -> None:
    tool = Path("build/bench-tools/bin/py-spy")
    if not tool.exists():
        raise ProfileError("py-spy is not installed: make bench-profile sets it up")
    words = [str(tool), "record", "--pid", str(pid), "--duration", str(max(1, int(seconds)))]
    words += ["--rate", "400", "--format", shape, "--output", str(out), "--threads"]
    words += ["--native"] if native else []
    done = subprocess.run(pinned(core, words), capture_output=True, text=True, check=False)
    if done.returncode or not out.exists():
        raise ProfileError(f"py-spy: {done.stderr[-500:]} (it needs the right to trace processes)")


def profile_worker(
    contender: EverythingOn,
    folder: Path,
    *,
    core: int,
    connections: int,
    seconds: float,
    native: bool,
) -> str:
    """Load a deployment, sample its worker, and return the summary that was written."""
    pid = contender.deployment.pids("worker")[0]
    results: list[WrkResult] = []

    def load() -> None:
        results.append(
            run_wrk(
                contender.target(),
                folder / "requests-profile",
                core=core,
                connections=connections,
                warm_s=1.0,
                measure_s=2 * seconds + 6,
            )
        )

    before = thread_cpu_seconds(pid)
    thread = threading.Thread(target=load)
    thread.start()
    raw, picture = folder.parent / "profile.raw", folder.parent / "profile.svg"
    for path in (raw, picture):
        path.unlink(missing_ok=True)
    try:
        _py_spy(pid, core, seconds, "raw", raw, native=native)
        _py_spy(pid, core, seconds, "flamegraph", picture, native=native)
    finally:
        thread.join()
    sent = max(1, results[0].sent)
    used = {
        thread: (seconds - before.get(thread, 0.0)) * 1e6 / sent
        for thread, seconds in thread_cpu_seconds(pid).items()
    }
    text = summarise(raw.read_text(), used)
    (folder.parent / "profile.txt").write_text(text)
    print(f"written: {raw} {picture} {folder.parent / 'profile.txt'}", file=sys.stderr)
    return text


def _place(frame: str) -> tuple[str, str]:
    """Return (function and file, file) of a frame as py-spy writes it: `name (file:line)`."""
    name, _, rest = frame.rpartition(" (")
    file = rest.rstrip(")").rpartition(":")[0] or rest.rstrip(")")
    short = "/".join(Path(file).parts[-2:])
    return f"{name} ({short})", short


def _read_stacks(raw: str) -> list[tuple[int, list[str], int]]:
    """Return (thread, frames, samples) of each line `thread (id): name;frame;frame number`."""
    found = []
    for line in raw.splitlines():
        stack, _, number = line.rpartition(" ")
        frames = stack.split(";")
        heads = [frame for frame in frames if frame.startswith("thread (")]
        thread = int(heads[-1].removeprefix("thread (").partition(")")[0]) if heads else 0
        found.append((thread, [frame for frame in frames if frame not in heads], int(number)))
    return found


def summarise(raw: str, used_us: dict[int, float]) -> str:
    """Return tables of own and total time from collapsed stacks.

    `used_us` is the CPU time of each thread for one chat, in microseconds.
    """
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    modules: Counter[str] = Counter()
    stacks = _read_stacks(raw)
    samples: Counter[int] = Counter()
    for thread, _, count in stacks:
        samples[thread] += count
    for thread, frames, count in stacks:
        us = used_us.get(thread, 0.0) * count / samples[thread]
        places = [_place(frame) for frame in frames if " (" in frame]
        if not places:
            continue
        # Counters of nanoseconds: whole numbers add up alike in any order.
        share = round(us * 1000)
        own[places[-1][0]] += share
        modules[places[-1][1]] += share
        for function in {name for name, _ in places}:
            total[function] += share
    if not samples:
        return "no sample: the worker was idle\n"
    whole = sum(used_us.values())

    def table(title: str, counts: Counter[str]) -> list[str]:
        rows = [f"{title:<78} {'us':>8} {'share':>7}"]
        for name, ns in counts.most_common(_TOP):
            rows.append(f"{name[:78]:<78} {ns / 1000:>8.1f} {ns / 1000 / whole:>7.1%}")
        return [*rows, ""]

    threads = Counter({f"thread {thread}": round(us * 1000) for thread, us in used_us.items()})
    lines = [f"{whole:.1f} us of the worker's CPU a chat, {samples.total()} samples", ""]
    lines += table("thread", threads) + table("own time by module", modules)
    lines += table("own time by function", own)
    lines += table("with what it calls", total)
    return "\n".join(lines) + "\n"
