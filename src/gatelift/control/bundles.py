"""Bundle and roster: what gateways serve from, built from the state, numbered and signed.

Invariants
- A certificate enters the bundle only with a proof that it is in the cosigned log, unexpired, for
  the plan and candidate adopted now; of each stage the newest. A proof, once made, is kept, so the
  bundle changes only when what it holds changes.
- Numbers only rise, also over restarts: the number and digest of the last one are in the store
  before the file is named to anybody.
- The file is durable before a frame or status names it.
- A grant that is over leaves the roster; one that is wider than the plan never entered the log.

It decides nothing: gateways verify every part of it again.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gatelift.decide import State
from gatelift.encoding import Digest, decode_json, parse_digest
from gatelift.messages import (
    Bundle,
    LoggedCertificate,
    Placement,
    Roster,
    sign_bundle,
    sign_roster,
)
from gatelift.store import Store
from gatelift.trust import SigningKey, parse_envelope
from gatelift.wire.files import FileStore

__all__ = ["Bundles", "Outgoing", "Published"]

_BUNDLE = "bundle"
_ROSTER = "roster"


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle or roster that is out: its number and the digest of its envelope."""

    number: int
    digest: Digest


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """What gateways are told to hold: both, or null before a plan was adopted."""

    bundle: Published | None = None
    roster: Published | None = None
    certificates: tuple[Digest, ...] = ()


class Bundles:
    """Builds what is due. Call `refresh` from the writer's thread only: it writes to the store.

    `prove(index)` returns the leaf and the tlog-proof of an entry under the newest cosigned
    checkpoint, both as bytes.
    """

    def __init__(
        self,
        *,
        store: Store,
        files: FileStore,
        key: SigningKey,
        prove: Callable[[int], tuple[bytes, bytes]],
    ) -> None:
        self._store = store
        self._files = files
        self._key = key
        self._prove = prove
        self._proofs: dict[Digest, LoggedCertificate] = {}
        self._bundle: Bundle | None = None
        self._roster: Roster | None = None
        self._admitted: dict[str, str] = {}
        self._published: dict[str, Published] = {}
        self._load()

    @property
    def outgoing(self) -> Outgoing:
        """What is out now, as one value."""
        return Outgoing(
            bundle=self._published.get(_BUNDLE),
            roster=self._published.get(_ROSTER),
            certificates=tuple(each.envelope for each in self._bundle.certificates)
            if self._bundle
            else (),
        )

    def refresh(self, state: State, cosigned_size: int, now_ms: int) -> Outgoing:
        """Publish a bundle and a roster if they changed; return what is out then."""
        if state.plan is not None:
            self._refresh_bundle(state, cosigned_size, now_ms)
            self._refresh_roster(state, cosigned_size, now_ms)
        return self.outgoing

    def _refresh_bundle(self, state: State, cosigned_size: int, now_ms: int) -> None:
        if state.root_digest is None or state.plan_digest is None or state.fingerprint is None:
            return
        placements = tuple(
            Placement(
                name=each.name,
                base_url=each.base_url,
                model=each.model,
                baseline=each.baseline,
                tls=each.tls,
                sidecar=each.sidecar,
                enrolment=state.enrolments.get(each.name),
            )
            for each in state.placements.values()
            if each.fingerprint == state.fingerprint
        )
        bundle = Bundle(
            release=state.release or "",
            number=0 if self._bundle is None else self._bundle.number,
            # Keepers take a root from the cosigned log; until it is there its predecessor stands.
            root=state.root_digest
            if self._bundle is None or state.root_index < cosigned_size
            else self._bundle.root,
            plan=state.plan_digest,
            candidate=state.fingerprint,
            certificates=self._certificates(state, cosigned_size, now_ms),
            placements=placements,
        )
        if bundle == self._bundle:
            return
        bundle = msgspec.structs.replace(bundle, number=bundle.number + 1)
        self._publish(_BUNDLE, bundle.number, sign_bundle(bundle, self._key))
        self._bundle = bundle

    def _certificates(
        self, state: State, cosigned_size: int, now_ms: int
    ) -> tuple[LoggedCertificate, ...]:
        found = []
        for stage in state.plan.stages if state.plan else ():
            logged = [
                entry
                for entry in state.certificates.get(stage.name, ())
                # One that is not cosigned yet leaves its predecessor standing till it is.
                if entry.index < cosigned_size
            ]
            if not logged:
                continue
            newest, held = logged[-1], logged[-1].certificate
            same = held.plan == state.plan_digest and held.fingerprint == state.fingerprint
            if same and held.not_before <= now_ms < held.not_after:
                found.append(self._logged(newest.digest, newest.index))
        return tuple(found)

    def _logged(self, digest: Digest, index: int) -> LoggedCertificate:
        held = self._proofs.get(digest)
        if held is None:
            leaf, proof = self._prove(index)
            held = LoggedCertificate(
                envelope=digest, leaf=leaf.decode("utf-8"), proof=proof.decode("utf-8")
            )
            self._proofs[digest] = held
        return held

    def _refresh_roster(self, state: State, cosigned_size: int, now_ms: int) -> None:
        admitted: dict[str, str] = {}
        for name, entry in state.grants.items():
            if now_ms >= entry.grant.not_after:
                continue
            # Keepers pass on only what a cosigned log holds; until then its predecessor stands.
            if entry.index < cosigned_size:
                admitted[name] = self._files.get(entry.digest).decode("utf-8")
            elif name in self._admitted:
                admitted[name] = self._admitted[name]
        self._admitted = admitted
        roster = Roster(
            release=state.release or "",
            number=0 if self._roster is None else self._roster.number,
            grants=tuple(admitted.values()),
        )
        if roster == self._roster:
            return
        roster = msgspec.structs.replace(roster, number=roster.number + 1)
        self._publish(_ROSTER, roster.number, sign_roster(roster, self._key))
        self._roster = roster

    def _publish(self, which: str, number: int, envelope: bytes) -> None:
        digest = self._files.put(envelope)
        with self._store.transaction() as transaction:
            transaction.set_meta(f"{which}_digest", digest)
        self._published[which] = Published(number=number, digest=digest)

    def _load(self) -> None:
        # Our own last word, read from the bytes that were signed, so that numbers go on from it.
        bundle = self._read(_BUNDLE)
        if bundle is not None:
            self._bundle = decode_json(bundle, Bundle)
            self._published[_BUNDLE] = self._found(_BUNDLE, self._bundle.number)
            self._proofs = {each.envelope: each for each in self._bundle.certificates}
        roster = self._read(_ROSTER)
        if roster is not None:
            self._roster = decode_json(roster, Roster)
            self._published[_ROSTER] = self._found(_ROSTER, self._roster.number)

    def _read(self, which: str) -> bytes | None:
        text = self._store.meta(f"{which}_digest")
        if text is None:
            return None
        return parse_envelope(self._files.get(parse_digest(text))).unverified_payload()

    def _found(self, which: str, number: int) -> Published:
        digest = parse_digest(self._store.meta(f"{which}_digest") or "")
        return Published(number=number, digest=digest)
