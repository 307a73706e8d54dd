"""Verifying a dossier offline, from its bytes alone.

    root of trust → releases log → entries → authority → decisions
                                 ↘ heads → requests logs → batches → exchanges → caps, observations

Invariants
- Nothing is believed because the dossier says so: every sentence under `proved` was computed here.
- Without an anchor from elsewhere the result is "consistent with itself, not authenticated": a
  forger can make such a dossier from nothing.
- Whatever the bytes are, the answer is a report; a parser that falls over is a finding.

Each step collects its findings apart; a sentence stands only if its step and those before it found
nothing. Format: docs/reference/dossier.md.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from gatelift.decide import Commitment, State, open_commitments
from gatelift.encoding import Digest, decode_json
from gatelift.ledger.audit.archive import open_dossier
from gatelift.ledger.audit.authority import Authority, read_authority
from gatelift.ledger.audit.contents import check_contents, check_unlisted
from gatelift.ledger.audit.decisions import replay_decisions
from gatelift.ledger.audit.folder import MANIFEST, RELEASES, ROOT, Folder
from gatelift.ledger.audit.manifest import VERSION, Manifest
from gatelift.ledger.audit.releases import (
    Releases,
    is_vouched,
    open_first_root,
    read_releases,
    verify_head,
)
from gatelift.ledger.audit.report import CANNOT_PROVE, AuditReport, Findings
from gatelift.ledger.audit.requests import (
    RequestsLog,
    read_batches,
    read_requests_logs,
    verify_heads,
)
from gatelift.ledger.audit.tally import Tally

__all__ = ["verify_dossier"]

_CLOCK_SLACK_MS = 300_000


def verify_dossier(
    path: Path, *, anchor_root: Digest | None, policy: bytes | None, now_ms: int
) -> AuditReport:
    """Return what the dossier at `path` proves and what in it does not hold; never raises for it.

    It is a folder, or an archive, which is read in place.

    `anchor_root` is a root's digest and `policy` a tlog policy, both from elsewhere; either may be
    null. `now_ms` is the auditor's clock in ms UTC.
    """
    audit = _Audit(anchor_root, policy, now_ms)
    folder = None
    with audit.input.reading(path.name):
        folder = open_dossier(path)
    if folder is not None:
        with audit.input.reading(path.name, "unreadable"):
            names = folder.inspect(audit.input)
            audit.counts["files"] = len(names)
            audit.run(folder, names)
    return audit.report()


class _Audit:
    """One run; each part of it has its own findings."""

    def __init__(self, anchor_root: Digest | None, policy: bytes | None, now_ms: int) -> None:
        self._anchor_root = anchor_root
        self._policy = policy
        self._now_ms = now_ms
        self._parts: list[Findings] = []
        self._proved: list[str] = []
        self._commitments: tuple[Commitment, ...] = ()
        self._is_readable = False
        self._is_authenticated = False
        self.counts: dict[str, int] = {}
        self.input = self._part()

    def report(self) -> AuditReport:
        """Return what was found so far."""
        for part in self._parts:
            for code, count in part.left_out().items():
                name = f"findings.{code}"
                self.counts[name] = self.counts.get(name, 0) + count
        return AuditReport(
            findings=tuple(finding for part in self._parts for finding in part.kept()),
            proved=tuple(self._proved),
            cannot_prove=CANNOT_PROVE,
            authenticated=self._is_authenticated,
            readable=self._is_readable,
            counts=self.counts,
            commitments=self._commitments,
        )

    def run(self, folder: Folder, names: tuple[str, ...]) -> None:
        """Go through the dossier, part by part; `names` are the files in it that have its form."""
        manifest = decode_json(folder.read(MANIFEST), Manifest)
        if manifest.v != VERSION:
            raise ValueError(f"expected a dossier of version {VERSION}, got {manifest.v}")
        root = folder.read(ROOT)
        self._is_readable = True
        log = self._part()
        releases = None
        with log.reading(ROOT):
            releases = read_releases(folder, RELEASES, open_first_root(root), log)
        if releases is None:
            return
        verify_head(folder, releases, self._policy, self._now_ms, log)
        self._check_anchor(releases, log)
        self._check_expiry(releases, log)
        self.counts["entries"] = len(releases.log.entries)
        self._say_releases(releases, log)
        granted = self._part()
        authority = read_authority(folder, releases, granted)
        self._say_authority(releases, authority, granted, log)
        decided = self._part()
        replayed = replay_decisions(folder, releases, decided)
        self.counts["decisions"] = replayed.recorded
        self._note_commitments(replayed.state)
        self._say(
            f"all {replayed.recorded} recorded decisions follow from the entries before them, with their "
            "reasons and figures",
            decided,
            log,
        )
        logs = self._requests(folder, releases, authority, log, granted)
        check_contents(
            folder,
            manifest,
            releases,
            logs,
            release=authority.plans[-1].adoption.release if authority.plans else "",
            records=self.counts["records"],
            findings=self._part(),
        )
        if not any(part.errors for part in self._parts):
            check_unlisted(names, releases, logs, self._part())

    def _note_commitments(self, state: State | None) -> None:
        if state is not None:
            self._commitments = open_commitments(state, self._now_ms)
            self.counts["commitments_open"] = len(self._commitments)
            late = [each for each in self._commitments if each.overdue]
            self.counts["commitments_overdue"] = len(late)

    def _part(self) -> Findings:
        part = Findings()
        self._parts.append(part)
        return part

    def _say(self, sentence: str, *parts: Findings) -> None:
        if not any(part.errors for part in (self.input, *parts)):
            self._proved.append(sentence)

    def _check_anchor(self, releases: Releases, findings: Findings) -> None:
        digests = {held.digest for held in releases.roots}
        if self._anchor_root is not None and self._anchor_root not in digests:
            findings.error(
                "wrong_root",
                ROOT,
                f"expected a chain with the root {self._anchor_root}, got {sorted(digests)}: "
                "this dossier is of another deployment, or forged",
            )
            return
        if not is_vouched(releases, self._anchor_root, with_policy=self._policy is not None):
            if self._anchor_root is not None or self._policy is not None:
                findings.warn(
                    "root_not_vouched",
                    ROOT,
                    "the anchor does not vouch for it: the log does not begin with this root, so "
                    "who wrote this folder may have chosen it",
                )
            return
        self._is_authenticated = releases.witnessed is not None

    def _check_expiry(self, releases: Releases, findings: Findings) -> None:
        root = releases.root
        if self._now_ms >= root.expires_at:
            findings.warn(
                "root_expired_now",
                ROOT,
                f"root {root.version} expired at {root.expires_at}: it judges this log's past only",
            )
        last = releases.entries[-1] if releases.entries else None
        if last is not None and last.header.at > self._now_ms + _CLOCK_SLACK_MS:
            findings.warn(
                "from_the_future",
                releases.place(last.index),
                f"written at {last.header.at}, it is {self._now_ms}: one of the clocks is wrong",
            )

    def _say_releases(self, releases: Releases, findings: Findings) -> None:
        size, witnessed = len(releases.log.entries), releases.witnessed
        if witnessed is None:
            return
        self._say(
            f"the releases log {releases.log.origin} holds exactly these {size} entries, under a "
            f"checkpoint signed by its key and cosigned by {self._witnesses(releases)}",
            findings,
        )
        self._say(
            f"every entry is signed by people of the root of trust (version {releases.root.version}) "
            "whose role may say it, and time never goes back",
            findings,
        )

    def _witnesses(self, releases: Releases) -> str:
        if releases.witnessed is None or not releases.witnessed.witnesses:
            return "nobody (the root asks for no witness)"
        independent = {w.name for w in releases.root.witnesses if w.independent}
        said = []
        for name, cosigned in zip(
            releases.witnessed.witnesses, releases.witnessed.cosignatures, strict=True
        ):
            when = datetime.fromtimestamp(cosigned.time_s, UTC).isoformat()
            note = "" if name in independent else ", not independent of the operator"
            said.append(f"{name} (at {when}{note})")
        return ", ".join(said)

    def _say_authority(
        self, releases: Releases, authority: Authority, findings: Findings, log: Findings
    ) -> None:
        self.counts["certificates"] = len(authority.certificates)
        self.counts["orders"] = len(authority.orders)
        self._say_copies(authority, findings, log)
        if not releases.is_whole:
            return
        self._say(
            f"each of the {len(authority.certificates)} certificates was signed by its plan's "
            "quorum, for this candidate and plan, inside its stage's envelope, and none was granted "
            "past a stop that it does not clear",
            findings,
            log,
        )

    def _say_copies(self, authority: Authority, findings: Findings, log: Findings) -> None:
        known = [each for each in authority.copies.values() if not each.is_closed]
        late = [each for each in known if self._now_ms >= each.export.expires_at]
        self.counts["copies"] = len(known)
        for each in late:
            findings.warn(
                "copy_overdue",
                each.place,
                f"the copy with {each.export.custodian[:80]} was due back at "
                f"{each.export.expires_at}, and nobody signed that it is gone",
            )
        if authority.copies:
            self._say(
                f"{len(known)} copies of the weights are known, {len(late)} of them overdue; operator "
                "and security signed for each before it was made",
                findings,
                log,
            )

    def _requests(
        self,
        folder: Folder,
        releases: Releases,
        authority: Authority,
        log: Findings,
        granted: Findings,
    ) -> tuple[RequestsLog, ...]:
        found = self._part()
        logs = read_requests_logs(folder, releases, found)
        verify_heads(releases, logs, found)
        batches = (batch for held in logs for batch in read_batches(folder, held, found))
        tally = Tally(batches, releases, authority)
        self._parts += [tally.erasing, tally.paired, tally.capped, tally.counted]
        self.counts |= {"requests_logs": len(logs), **tally.counts}
        self._say_records(found, tally.erasing, log)
        if tally.erased.erasures:
            self._say(tally.erased.sentence(self.counts["records"]), found, tally.erasing, log)
        self._say_exchanges(found, tally.erasing, tally.paired, granted, log)
        self._say(
            f"by their own records, no cap was exceeded in any of {tally.counts['counters']} "
            "counters and windows",
            *(found, tally.erasing, tally.paired, tally.capped, granted, log),
        )
        self._say(
            f"all {tally.counts['observations']} logged observations and event counts are what the "
            "records give when they are counted again",
            *(found, tally.erasing, tally.counted, granted, log),
        )
        return logs

    def _say_records(self, *parts: Findings) -> None:
        self._say(
            f"{self.counts['records']} records in {self.counts['batches']} batches of "
            f"{self.counts['requests_logs']} requests log(s) are exactly those that the nodes "
            "committed, and every head in the releases log is a prefix of its log",
            *parts,
        )

    def _say_exchanges(self, *parts: Findings) -> None:
        finished = self.counts["exchanges"] - self.counts["exchanges_open"]
        self._say(
            f"no record is missing from any run; {finished} exchanges have one start and one "
            f"finish, {self.counts['exchanges_open']} were open; each of the "
            f"{self.counts['exchanges_upstream']} that went upstream lies under a certificate and "
            "grant that stood, and under no stop that must have arrived",
            *parts,
        )
