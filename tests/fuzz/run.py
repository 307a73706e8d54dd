"""Fuzz the parsers, coverage-guided: `make fuzz`, an hour by default, split over the targets.

    python -m tests.fuzz.run --seconds 3600 [--target request] [--keep]

Each target runs in a process of its own, for its share of the time, from the kept corpus and what
earlier runs found (`build/fuzz/<target>/corpus`). An input that breaks a property is left in
`build/fuzz/<target>/` and the run ends with 1: mend it, then put the input into
`tests/fuzz/corpus/<target>/`, where `make test` replays it for ever. `--keep` puts what reached new
code into the kept corpus, minimised.

Needs atheris (requirements/fuzz.txt), which has wheels for Linux.
"""

# ruff: noqa: T201 - a program for a terminal

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "tests" / "fuzz" / "corpus"
WORK = ROOT / "build" / "fuzz"
DICTIONARIES = ROOT / "tests" / "fuzz" / "dictionaries"
NAMES = (
    *("request", "chunked", "response", "sse", "json", "chat", "answer", "frames"),
    "chat_answer",
    *("responses_request", "responses_answer", "completions_request", "completions_answer"),
    *("embeddings_request", "embeddings_answer", "messages_request", "messages_answer"),
)
MAX_INPUT_BYTES = 1500
MAX_MEMORY_MB = 1024
FRAMING = {"request", "chunked", "response"}


def fuzz_here(name: str, options: list[str]) -> None:
    """Run the fuzzer in this process; it ends the process by itself."""
    import atheris

    with atheris.instrument_imports(include=["gatelift", "tests.fuzz"]):
        from tests.fuzz.targets import TARGETS

    # To merge, libFuzzer starts itself anew by what it takes for its own name, through a shell.
    itself = shlex.join([sys.executable, "-m", "tests.fuzz.run", "--here", name])
    atheris.Setup([itself, *options], TARGETS[name])
    atheris.Fuzz()


def _options(name: str) -> list[str]:
    words = DICTIONARIES / f"{'http' if name in FRAMING else name}.txt"
    found = [
        f"-max_len={MAX_INPUT_BYTES}",
        f"-rss_limit_mb={MAX_MEMORY_MB}",
        "-timeout=10",
        f"-artifact_prefix={WORK / name}/",
        "-print_final_stats=1",
    ]
    return [*found, f"-dict={words}"] if words.exists() else found


def _run(name: str, options: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["nice", "-n", "19", sys.executable, "-m", "tests.fuzz.run", "--here", name, *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def fuzz(name: str, seconds: int) -> bool:
    """Fuzz one target; return whether every property held."""
    grown, kept = WORK / name / "corpus", KEPT / name
    for folder in (grown, kept):
        folder.mkdir(parents=True, exist_ok=True)
    done = _run(name, [*_options(name), f"-max_total_time={seconds}", str(grown), str(kept)])
    (WORK / name / "log.txt").write_text(done.stdout)
    runs = re.search(r"stat::number_of_executed_units:\s*(\d+)", done.stdout)
    covered = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", done.stdout)
    edges, features, inputs = covered[-1] if covered else ("?", "?", "?")
    print(
        f"  {name:19} {seconds:5} s  {runs.group(1) if runs else '?':>9} executions"
        f"  {edges:>5} edges {features:>6} features {inputs:>5} inputs"
        f"  {'ok' if done.returncode == 0 else 'FAILED'}",
        flush=True,
    )
    if done.returncode:
        print("\n".join(done.stdout.splitlines()[-40:]))
        print(f"  the input is in {WORK / name}/")
    return done.returncode == 0


def keep(name: str) -> None:
    """Put what reaches new code into the kept corpus, as few and as small inputs as do."""
    fresh = WORK / name / "merged"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    corpora = [str(fresh), str(KEPT / name), str(WORK / name / "corpus")]
    done = _run(name, [*_options(name), "-set_cover_merge=1", *corpora])
    if done.returncode:
        print(f"  {name}: could not be merged, see below\n{done.stdout[-2000:]}")
        return
    named = [
        path for path in (KEPT / name).iterdir() if not re.fullmatch("[0-9a-f]{40}", path.name)
    ]
    found = {path.read_bytes(): path for path in sorted(fresh.iterdir())}
    for path in named:
        found.pop(path.read_bytes(), None)
    for path in set((KEPT / name).iterdir()) - set(named):
        path.unlink()
    for data, path in found.items():
        (KEPT / name / path.name).write_bytes(data)
    size = sum(path.stat().st_size for path in (KEPT / name).iterdir())
    print(f"  {name:19} {len(list((KEPT / name).iterdir()))} inputs kept, {size} bytes")


def main() -> int:
    """Fuzz, and return 1 if anything was found."""
    parser = argparse.ArgumentParser(description="Fuzz the parsers of hostile bytes.")
    parser.add_argument("--seconds", type=int, default=3600)
    parser.add_argument("--target", choices=NAMES, action="append")
    parser.add_argument("--keep", action="store_true")
    asked = parser.parse_args()
    names = asked.target or list(NAMES)
    share = max(1, asked.seconds // len(names))
    print(f"fuzzing {len(names)} targets, {share} s each", flush=True)
    held = [fuzz(name, share) for name in names]
    if asked.keep:
        for name in names:
            keep(name)
    return 0 if all(held) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--here"]:
        fuzz_here(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(main())
