"""Certificates for workers, issued only while a verified status stands.

A status stands from the moment its nonce was asked for, for its ttl, on the boot-time clock: the
same rule by which workers live, here for the node. What is issued lives three ttl (at least 30 s, at
most 5 min) and is renewed at half of that; so a node that is cut off from control loses its upstreams
by itself, soon after its workers have stopped.

Invariants
- Nothing is issued without a status that answers a nonce of this node and names a certificate, nor
  once the node is closed, nor where no placement is sealed.
- Each worker gets a key of its own; keys are in memory and on the node's own socket alone.
- The keeper's own probes may ask at any time: a placement is measured before anything is certified.

Pure but for its own state: clocks are arguments.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from gatelift.keeper.counters import WorkerRun
from gatelift.messages.frames import CredentialFrame
from gatelift.trust import Status
from gatelift.wire.sealing import Bearer, ProbeIdentities, UpstreamCa

__all__ = ["Issuer"]

_TTLS: Final = 3
_LEAST_MS: Final = 30_000
_MOST_MS: Final = 300_000
_MAX_NONCES: Final = 4096
_PROBE: Final = "keeper"


class _Standing(NamedTuple):
    release: str
    until_ms: int
    lives_ms: int


class Issuer:
    """Issues the certificates of one node; without a CA it issues none."""

    def __init__(self, node: str, ca: UpstreamCa | None) -> None:
        self._node = node
        self._ca = ca
        self._asked_ms: dict[str, int] = {}
        self._standing: _Standing | None = None
        self._renew_at_ms: dict[WorkerRun, int] = {}
        self._closed = False

    def asked(self, nonces: tuple[str, ...], boot_ms: int) -> None:
        """Note that a worker of this node asked for a status with these nonces."""
        for nonce in nonces:
            self._asked_ms.setdefault(nonce, boot_ms)
        while len(self._asked_ms) > _MAX_NONCES:
            self._asked_ms.pop(next(iter(self._asked_ms)))

    def adopt(self, status: Status, plan_ttl_ms: int) -> None:
        """Take a verified status; one that answers nobody here keeps nothing alive."""
        asked = [self._asked_ms.pop(nonce) for nonce in status.nonces if nonce in self._asked_ms]
        if not status.certificates:
            self._standing = None
            return
        if not asked:
            return
        ttl_ms = min(status.ttl_ms, plan_ttl_ms)
        before = self._standing.until_ms if self._standing else 0
        self._standing = _Standing(
            release=status.release,
            until_ms=max(before, max(asked) + ttl_ms),
            lives_ms=max(_LEAST_MS, min(_MOST_MS, _TTLS * ttl_ms)),
        )

    def issue_due(
        self, worker: WorkerRun, *, boot_ms: int, now_ms: int, anew: bool = False
    ) -> CredentialFrame | None:
        """Return a certificate for a worker whose last is half over, or that came `anew`."""
        standing = self._standing
        if self._ca is None or self._closed or standing is None or boot_ms >= standing.until_ms:
            return None
        if not anew and boot_ms < self._renew_at_ms.get(worker, 0):
            return None
        self._renew_at_ms[worker] = boot_ms + standing.lives_ms // 2
        bearer = Bearer(node=self._node, worker=worker.worker, release=standing.release)
        lives_s = standing.lives_ms // 1000
        pem = self._ca.issue(bearer, now_ms=now_ms, lives_s=lives_s)
        return CredentialFrame(pem=pem, lives_ms=lives_s * 1000)

    def forget(self, worker: WorkerRun) -> None:
        """Take that a worker has left."""
        self._renew_at_ms.pop(worker, None)

    def close_node(self) -> None:
        """Issue nothing more, for good."""
        self._closed = True

    def probe_identities(self, release: str) -> ProbeIdentities | None:
        """Return what the keeper's own probes show, null without a CA."""
        if self._ca is None:
            return None
        return ProbeIdentities(self._ca, Bearer(node=self._node, worker=_PROBE, release=release))
