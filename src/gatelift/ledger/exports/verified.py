"""The part of a dossier that exports are made of: its releases log, verified and folded.

Invariants
- Nothing is exported from a log that does not hold: the first finding is the refusal.
- Whether an anchor from elsewhere authenticates it is said beside it, never assumed.
- `at` is the time of the log's last entry, so the same dossier gives the same bytes.

Does not read records: exports say what was measured, judged and permitted, not what was served.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from gatelift.decide import State, fold
from gatelift.encoding import Digest
from gatelift.errors import CallerError
from gatelift.ledger.audit.archive import open_dossier
from gatelift.ledger.audit.authority import Authority, read_authority
from gatelift.ledger.audit.decisions import replay_decisions
from gatelift.ledger.audit.folder import RELEASES, ROOT, Folder
from gatelift.ledger.audit.releases import (
    Releases,
    is_vouched,
    open_first_root,
    read_releases,
    verify_head,
)
from gatelift.ledger.audit.report import Findings, Severity
from gatelift.plan import Candidate, Plan, parse_candidate

__all__ = ["ExportError", "VerifiedDossier", "open_verified"]


class ExportError(CallerError):
    """Nothing can be exported from this dossier. Codes: `not_verified`, `no_plan`."""

    code = "not_verified"


class VerifiedDossier(msgspec.Struct, frozen=True, kw_only=True):
    """A releases log that holds, folded to its end."""

    plan: Plan
    plan_digest: Digest
    candidate: Candidate
    fingerprint: Digest
    state: State
    authority: Authority
    releases: Releases
    authenticated: bool

    @property
    def at(self) -> int:
        """The time of the log's last entry, in ms UTC."""
        return self.state.at


def open_verified(
    path: Path, *, anchor_root: Digest | None, policy: bytes | None, now_ms: int
) -> VerifiedDossier:
    """Return the verified releases log of the dossier at `path`; raises `ExportError`.

    Log, signatures, certificates and decisions are verified as `gatelift verify` does it; records are
    not. `now_ms` is the reader's clock in ms UTC.
    """
    findings = Findings()
    opened = None
    with findings.reading(path.name):
        folder = open_dossier(path)
        releases = read_releases(folder, RELEASES, open_first_root(folder.read(ROOT)), findings)
        if releases is not None:
            verify_head(folder, releases, policy, now_ms, findings)
            if anchor_root is not None and anchor_root not in {r.digest for r in releases.roots}:
                findings.error("wrong_root", ROOT, f"expected {anchor_root} in the chain of roots")
            authority = read_authority(folder, releases, findings)
            replay_decisions(folder, releases, findings)
            opened = (folder, releases, authority)
    for found in findings.kept():
        if found.severity is Severity.ERROR:
            raise ExportError(f"{found.where}: {found.message} [{found.code}]: see gatelift verify")
    if opened is None:
        raise ExportError(f"{path.name} holds no releases log: see gatelift verify")
    return _folded(*opened, is_vouched(opened[1], anchor_root, with_policy=policy is not None))


def _folded(
    folder: Folder, releases: Releases, authority: Authority, authenticated: bool
) -> VerifiedDossier:
    state = State()
    for entry in releases.entries:
        state = fold(state, entry.index, entry.header, entry.body, folder.read_digest)
    if state.plan is None or state.plan_digest is None or state.fingerprint is None:
        raise ExportError("no plan is on the log yet: there is nothing to say", code="no_plan")
    return VerifiedDossier(
        plan=state.plan,
        plan_digest=state.plan_digest,
        candidate=parse_candidate(folder.read_digest(state.fingerprint)),
        fingerprint=state.fingerprint,
        state=state,
        authority=authority,
        releases=releases,
        authenticated=authenticated,
    )
