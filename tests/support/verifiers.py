"""Both verifiers of a dossier, asked the same: the package's, and the one file of `verifier/`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from gatelift.encoding import Digest
from gatelift.ledger.audit import AuditReport
from gatelift.ledger.verify import verify_dossier

FILE = Path(__file__).parents[2] / "verifier" / "gatelift_verify.py"


class Answer(NamedTuple):
    """What a verifier said: its exit code, the codes of errors and of warnings, and all of it."""

    exit_code: int
    errors: frozenset[str]
    warnings: frozenset[str]
    said: Any


def load_file() -> ModuleType:
    """Return the one file as a module; nothing else imports it."""
    name = "gatelift_verify_under_test"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, FILE)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


def by_package(
    path: Path, *, root: str | None = None, policy: bytes | None = None, now_ms: int
) -> Answer:
    """Ask `gatelift verify`."""
    anchor = None if root is None else Digest(root)
    report: AuditReport = verify_dossier(path, anchor_root=anchor, policy=policy, now_ms=now_ms)
    return Answer(
        report.exit_code,
        frozenset(f.code for f in report.errors),
        frozenset(f.code for f in report.findings if f not in report.errors),
        report,
    )


def by_file(
    path: Path, *, root: str | None = None, policy: bytes | None = None, now_ms: int
) -> Answer:
    """Ask `gatelift_verify.py`."""
    audit = load_file().Audit(root, policy, now_ms)
    audit.run(str(path))
    result = audit.result()

    def codes(severity: str) -> frozenset[str]:
        return frozenset(f["code"] for f in result["findings"] if f["severity"] == severity)

    return Answer(result["exit_code"], codes("error"), codes("warning"), result)
