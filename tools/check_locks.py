"""Check that the locks can be published: hashes everywhere, no registry named, no machine's paths.

Invariants
- Every requirement in `requirements/*.txt` is pinned with `==` and carries at least one SHA-256.
- No line names an index, an address, or an absolute path.
- Two locks that are installed together never pin one package to two versions.

It does not resolve anything and does not touch the network.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

LOCKS = Path(__file__).resolve().parent.parent / "requirements"
TOGETHER = ("build", "base", "postgres", "hsm", "kms", "demo", "dev", "fuzz", "model")
FORBIDDEN = re.compile(
    r"https?:|^--?(index|extra-index|find-links|trusted-host|i |f )|(?<![\w.])/\w"
)
PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[a-z-]+\])?==([^\s;\\]+)")


def _blocks(text: str) -> list[str]:
    lines = [
        line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")
    ]
    return "\n".join(lines).replace("\\\n", " ").splitlines()


def find_faults(name: str, text: str, seen: dict[str, str]) -> list[str]:
    """Return what is wrong with one lock; `seen` gathers the pins of locks installed together."""
    faults = [
        f"{name}:{number}: names a registry or a path: {line.strip()[:60]}"
        for number, line in enumerate(text.splitlines(), 1)
        if FORBIDDEN.search(line)
    ]
    for block in _blocks(text):
        pin = PIN.match(block.strip())
        if pin is None:
            faults.append(f"{name}: expected 'package==version', got {block.strip()[:60]!r}")
            continue
        package, version = pin[1].lower().replace("_", "-").replace(".", "-"), pin[2]
        if "--hash=sha256:" not in block:
            faults.append(f"{name}: {package} has no hash: run `make lock`")
        if name in TOGETHER and seen.setdefault(package, version) != version:
            faults.append(
                f"{name}: {package} is {version} here and {seen[package]} in another lock"
            )
    return faults


def main() -> int:
    """Print the faults of every lock and return 1 if there are any."""
    seen: dict[str, str] = {}
    faults = [
        fault
        for path in sorted(LOCKS.glob("*.txt"))
        for fault in find_faults(path.stem, path.read_text("utf-8"), seen)
    ]
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
