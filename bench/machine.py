"""The machine: which core does what, and what /proc says of a process.

Invariants
- What is measured runs on `gateway_core`, load and mock on `load_core`; no process is left unpinned.
- CPU time is user plus system time of the whole process, all its threads.
- Processes are known by their id; nothing is looked up or ended by name.
"""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import signal
import statistics
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

__all__ = [
    "core_busy_seconds",
    "cpu_seconds",
    "descendants",
    "describe",
    "end",
    "fdatasync_ms",
    "freeze",
    "pinned",
    "raise_file_limit",
    "rss_kb",
    "thaw",
    "thread_cpu_seconds",
    "wait_for",
]

_TICKS = os.sysconf("SC_CLK_TCK")
_SYNC_BYTES = 16 * 1024


def pinned(core: int, words: Sequence[str]) -> list[str]:
    """Return a command that runs `words` on one core; what it starts stays there too."""
    return ["taskset", "-c", str(core), *words]


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return user plus system seconds that processes have used so far."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def thread_cpu_seconds(pid: int) -> dict[int, float]:
    """Return user plus system seconds of each thread of a process so far."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        found[int(task.name)] = (int(fields[11]) + int(fields[12])) / _TICKS
    return found


def core_busy_seconds(core: int) -> float:
    """Return the seconds that a core was not idle, since boot."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            user, nice, system, _, _, irq, softirq, *_ = map(int, fields)
            return (user + nice + system + irq + softirq) / _TICKS
    raise ValueError(f"this machine has no core {core}")


def rss_kb(pids: Iterable[int]) -> int:
    """Return the resident memory of processes in KiB."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1])
    return total


def descendants(pid: int) -> list[int]:
    """Return a process and all that it started, oldest first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, queue = [pid], [pid]
    while queue:
        more = sorted(children.get(queue.pop(0), ()))
        found += more
        queue += more
    return found


def freeze(pids: Iterable[int]) -> None:
    """Stop processes where they are, so that they take nothing of another's turn."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)


def thaw(pids: Iterable[int]) -> None:
    """Let processes go on."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def end(process: subprocess.Popen[Any], grace_s: float = 10.0) -> None:
    """End a process that this run started."""
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def wait_for(check: Any, what: str, *, seconds: float = 30.0, every_s: float = 0.05) -> Any:
    """Return the first true value of `check`; raises `TimeoutError` that names `what`."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = check()
        if found:
            return found
        time.sleep(every_s)
    raise TimeoutError(f"{what}: did not happen within {seconds:g} s")


def fdatasync_ms(folder: Path, count: int) -> float:
    """Return the median milliseconds of `fdatasync` after an append of 16 KiB in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "fdatasync.probe"
    block = os.urandom(_SYNC_BYTES)
    taken = []
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    try:
        for _ in range(count):
            os.write(descriptor, block)
            began = time.perf_counter()
            os.fdatasync(descriptor)
            taken.append((time.perf_counter() - began) * 1000)
    finally:
        os.close(descriptor)
        path.unlink()
    return statistics.median(taken)


def raise_file_limit() -> None:
    """Let this process, and what it starts, open as many files as the machine allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def describe(gateway_core: int, load_core: int) -> dict[str, Any]:
    """Return what a reader needs to know of this machine. It names no host and no path."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory_kb = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(memory_kb / 1024**2, 1),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "gateway_core": gateway_core,
        "load_core": load_core,
        "load_average_before": os.getloadavg()[0],
    }
