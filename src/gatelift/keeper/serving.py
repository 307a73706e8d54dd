"""What the node serves from now: bundle and roster by digest, and the placements to be watched.

Invariants
- A bundle is verified here before a worker hears of it, and its number never goes back.
- The digest of the newest bundle and roster outlive a restart (`run/bundle`, `run/roster`), so that
  journals can be counted and orders kept while control is away.
- A sidecar is asked only as two people enrolled it, whatever the bundle says.
- A placement's watch lives as long as its enrolment says the same; another baseline, address or
  model begins a new one.

Does not watch (`drift`) and grants nothing: workers verify the bundle for themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import msgspec

from gatelift.encoding import Digest, parse_digest
from gatelift.errors import GateliftError
from gatelift.keeper.drift import ProbeJob
from gatelift.keeper.errors import KeeperError
from gatelift.messages import (
    Sidecar,
    UpstreamTls,
    VerifiedBundle,
    verify_bundle,
    verify_sidecar,
)
from gatelift.messages.frames import BundleFrame, RosterFrame
from gatelift.plan import Plan
from gatelift.wire.files import FileStore, replace_durably
from gatelift.wire.probes import parse_baseline
from gatelift.wire.sealing import PinnedServer

__all__ = ["Serving"]

_LOG = logging.getLogger(__name__)


class Serving:
    """Bundle and roster of one node; `memory` is the folder where their digests are kept."""

    def __init__(self, *, node: str, files: FileStore, pinned_root: Digest, memory: Path) -> None:
        self._node = node
        self._files = files
        self._pinned_root = pinned_root
        self._memory = memory
        self._bundle: VerifiedBundle | None = None
        self._sidecars: dict[str, Sidecar] = {}
        self._roster: RosterFrame | None = None

    def pin_root(self, digest: Digest) -> None:
        """Verify bundles by the root of this digest from now on; it was verified by the one before."""
        self._pinned_root = digest

    @property
    def plan(self) -> tuple[Digest, Plan] | None:
        """The plan in force and its digest, null while no bundle was seen."""
        held = self._bundle
        return None if held is None else (held.bundle.plan, held.plan)

    def load(self, now_ms: int) -> None:
        """Take up what was served before a restart; a bundle that no longer verifies is left out."""
        bundle, roster = self._memory / "bundle", self._memory / "roster"
        if bundle.exists():
            self.adopt_bundle(
                BundleFrame(digest=parse_digest(bundle.read_text("ascii").strip())), now_ms
            )
        if roster.exists():
            self._roster = msgspec.json.decode(roster.read_bytes(), type=RosterFrame)

    def adopt_bundle(self, frame: BundleFrame, now_ms: int) -> bool:
        """Verify a bundle and serve from it; return whether it is a new one.

        Raises `KeeperError` (`went_back`) or the error of its verification.
        """
        if self._bundle is not None and self._bundle.digest == frame.digest:
            return False
        data = self._files.get(frame.digest)
        found = verify_bundle(data, self._files.get, self._pinned_root, now_ms)
        if self._bundle is not None and found.bundle.number < self._bundle.bundle.number:
            raise KeeperError(
                f"bundle {found.bundle.number} is older than {self._bundle.bundle.number}",
                code="went_back",
            )
        replace_durably(self._memory / "bundle", f"{frame.digest}\n".encode("ascii"))
        self._bundle = found
        self._sidecars = dict(self._enrolled(found, now_ms))
        return True

    def _enrolled(self, found: VerifiedBundle, now_ms: int) -> Iterator[tuple[str, Sidecar]]:
        for placement in found.bundle.placements:
            if placement.sidecar is None or placement.enrolment is None:
                continue
            try:
                data = self._files.get(placement.enrolment)
                yield (
                    placement.name,
                    verify_sidecar(placement, data, found.root, found.bundle.candidate, now_ms),
                )
            except GateliftError as error:
                _LOG.warning(
                    "the sidecar of placement %s is not believed: %s", placement.name, error
                )

    def adopt_roster(self, frame: RosterFrame) -> None:
        """Pass a roster on from now; raises `FileStoreError` when its file is not there."""
        if self._roster is not None and frame.number < self._roster.number:
            raise KeeperError(
                f"roster {frame.number} is older than {self._roster.number}", code="went_back"
            )
        self._files.get(frame.digest)
        replace_durably(self._memory / "roster", msgspec.json.encode(frame))
        self._roster = frame

    def frames(self) -> tuple[BundleFrame | RosterFrame, ...]:
        """Return what a worker must hear after the orders."""
        bundle = (BundleFrame(digest=self._bundle.digest),) if self._bundle else ()
        roster = (self._roster,) if self._roster else ()
        return (*bundle, *roster)

    def jobs(self) -> tuple[ProbeJob, ...]:
        """Return how each enrolled placement is to be watched.

        A baseline that can't be read counts as one that every answer differs from: it closes.
        """
        held = self._bundle
        if held is None:
            return ()
        return tuple(
            ProbeJob(
                node=self._node,
                placement=placement,
                sidecar=self._sidecars.get(placement.name),
                system_prompt=held.candidate.model_part.system_prompt,
                baseline=self._baseline(placement.baseline),
                terms=held.plan.drift,
                fingerprint=held.bundle.candidate,
                weights=held.candidate.model_part.weights,
                pinned=self._pinned(placement.tls),
            )
            for placement in held.bundle.placements
        )

    @property
    def needs_credentials(self) -> bool:
        """Whether a placement is sealed, so that workers need certificates to reach it."""
        held = self._bundle
        return held is not None and any(each.tls for each in held.bundle.placements)

    def _pinned(self, tls: UpstreamTls | None) -> PinnedServer | None:
        if tls is None:
            return None
        try:
            ca = self._files.get(tls.ca)
        except GateliftError:
            ca = b""  # trusts nobody: the placement stays down
        return PinnedServer(server_name=tls.server_name, ca=ca)

    def _baseline(self, digest: Digest | None) -> tuple[Digest, ...]:
        if digest is None:
            return ()
        try:
            return parse_baseline(self._files.get(digest))
        except GateliftError:
            return (digest,)
