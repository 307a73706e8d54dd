"""Watching a placement: is it there, does it answer as it did, does it answer strangers.

    starting --full pass, fewer than `closes_at` changed, and the door tried--> up
    starting, up --`closes_at` changed--> drifted (for good)
    up --two failures in a row--> unreachable --full pass--> up

At the start every probe is asked before the placement is up; then a couple of probes each round, in
turn. A probe counts as changed by its latest answer, so one odd answer that is not repeated mends
itself when its turn comes again.

Invariants
- A placement is up only after every probe was answered and fewer than `closes_at` had changed.
- Drift latches: nothing but a new enrolment (another baseline) or a restart opens it again.
- Silence closes too, and opens again only after a full pass.
- A placement is up only after its door was tried from outside, whatever came of it.
- Sealing that could not be found out is told as `open`: unknown is not sealed. What was seen is
  forgotten after `_SILENCES_TO_FORGET` tries in a row that say nothing: one busy moment of the
  server is no open door, and a stranger who is answered is one at once.

Where a sidecar is enrolled the placement is up only after that was asked too (`measuring`).

Fails closed. Probes detect, they never prove identity. `PlacementState` is pure; `watch_placement`
asks.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable

import msgspec

from gatelift.encoding import Digest
from gatelift.keeper.measuring import MeasuredState, watch_sidecar
from gatelift.messages import Placement, Probe, Sidecar
from gatelift.plan import DriftTerms
from gatelift.terms import Binding, Sealing
from gatelift.wire.http_client import Upstream
from gatelift.wire.probes import (
    ProbeError,
    ProbeTarget,
    ask_probe,
    open_upstream,
    probe_prompts,
)
from gatelift.wire.sealing import PinnedServer, ProbeIdentities
from gatelift.wire.sealing_probes import probe_sealing
from gatelift.wire.tls import TlsFileError

__all__ = ["PlacementState", "ProbeJob", "watch_placement"]

_LOG = logging.getLogger(__name__)
_EACH_ROUND = 2
_FAILURES_TO_CLOSE = 2
_SEALING_EVERY_S = 60.0
_SILENCES_TO_FORGET = 3


class PlacementState:
    """What the probes of one placement have shown so far."""

    def __init__(
        self,
        node: str,
        name: str,
        baseline: tuple[Digest, ...],
        closes_at: int,
        measured: MeasuredState | None = None,
    ) -> None:
        self._measured = measured
        self._node = node
        self._name = name
        self._baseline = baseline
        self._closes_at = closes_at
        self._changed: set[int] = set()
        self._drifted = False
        self._failures = 0
        self._has_passed = False
        self._was_tried = False
        self._silences = 0
        self.up = False
        self.reason = "starting"
        self.sealing: Sealing | None = None

    @property
    def is_drifted(self) -> bool:
        """Whether drift has closed this placement for good."""
        return self._drifted

    def answered(self, number: int, answer: Digest) -> None:
        """Take the answer to probe `number`."""
        self._failures = 0
        if self._baseline[number : number + 1] == (answer,):
            self._changed.discard(number)
        elif self._baseline:
            # Also a probe that the baseline lacks: it was measured for another plan.
            self._changed.add(number)
        if len(self._changed) >= self._closes_at:
            self._drifted = True
            self.up, self.reason = False, "drift"

    def failed(self, reason: str) -> None:
        """Take that a probe got no answer."""
        self._failures += 1
        if self._failures >= _FAILURES_TO_CLOSE and not self._drifted:
            self._has_passed = False
            self.up, self.reason = False, reason

    def passed(self) -> None:
        """Take that every probe was answered, one after the other."""
        self._has_passed = True
        self._open_up()

    def tried(self, sealing: Sealing | None) -> None:
        """Take what strangers found at the door, null if that says nothing."""
        self._was_tried = True
        self._silences = 0 if sealing is not None else self._silences + 1
        if sealing is not None or self._silences >= _SILENCES_TO_FORGET:
            self.sealing = sealing
        self._open_up()

    def measured(self) -> None:
        """Take that the sidecar was asked, whatever came of it."""
        self._open_up()

    def _open_up(self) -> None:
        asked = self._measured is None or self._measured.was_asked
        if self._has_passed and self._was_tried and asked and not self._drifted:
            self.up, self.reason = True, ""

    def probe(self) -> Probe:
        """Return what is reported to control."""
        known = self.sealing is not None
        return Probe(
            node=self._node,
            placement=self._name,
            sealing=self.sealing or Sealing.OPEN,
            changed=len(self._changed),
            of=len(self._baseline),
            up=self.up,
            reason=self.reason or ("" if known else "sealing_unknown"),
            binding=Binding.CLAIMED if self._measured is None else self._measured.binding,
            measurement=None if self._measured is None else self._measured.measurement,
        )


class ProbeJob(msgspec.Struct, frozen=True, kw_only=True):
    """All that it takes to watch one placement. `baseline` is empty when the enrolment has none."""

    node: str
    placement: Placement
    system_prompt: str | None
    baseline: tuple[Digest, ...]
    terms: DriftTerms
    fingerprint: Digest
    weights: str | None
    pinned: PinnedServer | None = None
    sidecar: Sidecar | None = None

    def measured(self) -> MeasuredState | None:
        """Return what is known of the weights before anybody was asked, null without a sidecar."""
        if self.sidecar is None:
            return None
        return MeasuredState(self.sidecar, self.placement.name, self.fingerprint, self.weights)

    def target(self) -> ProbeTarget:
        """Return how the placement is asked."""
        return ProbeTarget(
            base_url=self.placement.base_url,
            model=self.placement.model,
            system_prompt=self.system_prompt,
            max_tokens=self.terms.tokens,
            pinned=self.pinned,
        )


async def watch_placement(
    job: ProbeJob,
    credential: str | None,
    on_change: Callable[[Probe], None],
    identities: ProbeIdentities | None = None,
) -> None:
    """Probe a placement until cancelled; `on_change` is called when what is known has changed.

    `identities` are the certificates to be shown to a sealed placement.
    """
    measured, sidecar = job.measured(), job.sidecar
    state = PlacementState(job.node, job.placement.name, job.baseline, job.terms.changed, measured)
    told: Probe | None = None

    def tell() -> None:
        nonlocal told
        found = state.probe()
        if found != told:
            told = found
            on_change(found)

    target = job.target()
    async with open_upstream(target, identities) as upstream, asyncio.TaskGroup() as group:
        probe = functools.partial(probe_sealing, target, credential, identities)
        group.create_task(_watch_sealing(job, state, tell, probe))
        if measured is not None and sidecar is not None:

            def tell_measured() -> None:
                state.measured()
                tell()

            group.create_task(
                watch_sidecar(sidecar.url, measured, tell_measured, every_ms=job.terms.every_ms)
            )
        await _watch_answers(job, credential, state, tell, upstream)


async def _watch_sealing(
    job: ProbeJob,
    state: PlacementState,
    tell: Callable[[], None],
    probe: Callable[[], Awaitable[Sealing]],
) -> None:
    while True:
        found: Sealing | None = None
        try:
            found = await probe()
        except (ProbeError, TlsFileError) as error:
            _LOG.warning("placement %s: sealing unknown: %s", job.placement.name, error)
        state.tried(found)
        tell()
        await asyncio.sleep(_SEALING_EVERY_S if found else job.terms.every_ms / 1000)


async def _watch_answers(
    job: ProbeJob,
    credential: str | None,
    state: PlacementState,
    tell: Callable[[], None],
    upstream: Upstream,
) -> None:
    prompts = probe_prompts(job.terms.probes)
    in_a_row = 0
    number = 0
    while not state.is_drifted:
        try:
            answer = await ask_probe(upstream, job.target(), prompts[number], credential)
        except (ProbeError, TlsFileError) as error:
            _LOG.warning("placement %s: %s", job.placement.name, error)
            state.failed("unreachable" if error.code == "probe_unreachable" else error.code)
            in_a_row = 0
            tell()
            await asyncio.sleep(min(1.0, job.terms.every_ms / 1000))
            continue
        state.answered(number, answer)
        number = (number + 1) % len(prompts)
        in_a_row += 1
        if in_a_row >= len(prompts):
            state.passed()
        tell()
        if state.up and number % _EACH_ROUND == 0:
            await asyncio.sleep(job.terms.every_ms / 1000)
