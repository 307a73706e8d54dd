"""The orders that a node holds: from the log, from control, from files; and which statuses may pass.

Every order acts by its own signature, whoever brings it. It is kept before it is passed on, so that
a restart forgets none: the envelope in `files/`, its digest as a name in `orders/`.

A status is passed on to workers only if it names every order that is logged, not cleared and not
over; if it lacks one, control has forgotten or hides it. An order counts as cleared when a logged
`clear` lists it, or a logged certificate does: whether that certificate lifts it, and for which
stage, each worker judges for itself, because it holds the order all the same. Nor does a status
pass that serves from a certificate or a grant that the log has replaced (`superseded`), or from a
certificate that leaves out an objection (`objections`) or goes beyond an approval (`approvals`).

Invariants
- Nothing unverified is kept or passed on.
- An order that was once adopted stays adopted; only a verified clear takes it from the workers.
- What the log holds is judged by the root of its time: reading begins with the first root that this host
  pinned, each that follows and verifies judges all that comes after it, any other changes nothing. A
  status, and what comes another way, is judged by the newest alone.
- No status passes while the log has not led to the root that is pinned here, or an order was kept that no
  root vouches for: it may still stand.
- No status passes while the log can't be followed, or an order's body is missing.

Fails closed: without statuses every worker stops when its last one lapses.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from gatelift.encoding import Digest, decode_json, parse_digest, sha256_digest
from gatelift.errors import CallerError, GateliftError
from gatelift.ledger.errors import LedgerError
from gatelift.ledger.following.approvals import Approvals
from gatelift.ledger.following.follower import ReleasesFollower
from gatelift.ledger.following.objections import Objections
from gatelift.ledger.following.root_notices import RootNotices
from gatelift.ledger.following.superseded import Superseded
from gatelift.messages import (
    EntryHeader,
    EntryKind,
    Erasure,
    Hold,
    HoldLift,
    Revocation,
    parse_roster,
    releases_policy,
    verify_body,
)
from gatelift.messages.frames import ClearFrame, OrderFrame
from gatelift.trust import (
    Announcement,
    Certificate,
    Grant,
    Objection,
    Order,
    Root,
    StandingOrder,
    Status,
    TargetKind,
    unverified_root,
    verify_clear,
    verify_order,
    verify_root,
    verify_status,
)
from gatelift.wire.files import FileStore, make_directory, replace_durably

__all__ = ["FOLLOWED", "Erasing", "OrderDesk"]

_LOG = logging.getLogger(__name__)
FOLLOWED = frozenset(
    {
        EntryKind.ROOT,
        EntryKind.ORDER,
        EntryKind.CLEAR,
        EntryKind.CERTIFICATE,
        EntryKind.GRANT,
        EntryKind.ANNOUNCEMENT,
        EntryKind.OBJECTION,
        EntryKind.REVIEW,
        EntryKind.ROOT_ANNOUNCEMENT,
        EntryKind.REVOCATION,
        EntryKind.ERASURE,
        EntryKind.HOLD,
        EntryKind.HOLD_LIFT,
        EntryKind.OWN_GRANT,
    }
)
"""The kinds of entries whose bodies are read; the others say nothing about orders, statuses or records."""

_LIFTED_BY_CERTIFICATE = frozenset({TargetKind.RELEASE, TargetKind.STAGE})


Erasing = Erasure | Hold | HoldLift


def _nobody(_: Erasing) -> None:
    """Nobody erases: for who only judges orders."""


def _nobody_admits(_: bytes) -> None:
    """Nobody admits: for who only judges orders."""


def _no_root(_: Digest, __: Root) -> None:
    """Nobody pins: for who keeps no root."""


class OrderDesk:
    """Holds orders and clears, and judges statuses. `index` is the folder of their digests.

    `root` is the one that the host pins, `first` the first that it ever pinned, where that is another.

    `on_new(frame)` is called for each order or clear that was not held before, `on_erasing` for each
    erasure, hold and lift that the log holds, `on_own_grant` for each envelope of an overseer's own grant
    that it holds, `on_root` for each root that the log leads to after the first. `verify` says which statuses are judged: whole
    ones, or a
    proposal (`verify_proposal`) by who is asked to sign it.
    """

    def __init__(
        self,
        *,
        root: Root,
        first: Root | None = None,
        files: FileStore,
        index: Path,
        follower: ReleasesFollower,
        on_new: Callable[[OrderFrame | ClearFrame], None],
        on_erasing: Callable[[Erasing], None] = _nobody,
        on_own_grant: Callable[[bytes], None] = _nobody_admits,
        on_root: Callable[[Digest, Root], None] = _no_root,
        verify: Callable[..., Status] = verify_status,
    ) -> None:
        self._root = root
        self._log_root = first or root
        self._verify = verify
        self._files = files
        self._index = index
        self._follower = follower
        self._on_new = on_new
        self._on_erasing = on_erasing
        self._on_own_grant = on_own_grant
        self._on_root = on_root
        self._orders: dict[Digest, StandingOrder] = {}
        self._envelopes: dict[Digest, OrderFrame | ClearFrame] = {}
        self._logged: set[Digest] = set()
        self._plan_of: dict[Digest, Digest] = {}
        self._cleared: set[str] = set()
        self._cleared_by_certificate: set[str] = set()
        self._superseded = Superseded()
        self._objections = Objections()
        self._approvals = Approvals()
        self._root_notices = RootNotices()
        self._unproven: list[bytes] = []
        self._unread: deque[bytes] = deque()
        self._last: Status | None = None
        self._roster: tuple[Digest, tuple[str, ...]] | None = None
        make_directory(index)
        self._load()

    def frames(self) -> tuple[OrderFrame | ClearFrame, ...]:
        """Return everything a worker must hold, orders before clears.

        Not orders that a clear has lifted: a worker could not tell who was allowed to lift them then.
        """
        orders = [
            self._envelopes[digest]
            for digest, standing in self._orders.items()
            if standing.order.target.kind in _LIFTED_BY_CERTIFICATE
            or standing.order.id not in self._cleared
        ]
        held = self._envelopes.values()
        return (*orders, *(frame for frame in held if isinstance(frame, ClearFrame)))

    def unlogged(self) -> tuple[bytes, ...]:
        """Return the envelopes of orders that are held and not in the log yet."""
        return tuple(
            self._envelopes[digest].envelope
            for digest in self._orders
            if digest not in self._logged
        )

    @property
    def plan_of(self) -> Mapping[Digest, Digest]:
        """The plan that each logged certificate was signed for, by digests."""
        return self._plan_of

    def adopt_order(self, envelope: bytes) -> StandingOrder:
        """Keep and pass on an order; raises the error of its verification."""
        held = self._orders.get(sha256_digest(envelope))
        return held or self._hold_order(envelope, self._root)

    def _hold_order(self, envelope: bytes, root: Root) -> StandingOrder:
        standing = verify_order(envelope, root)
        if standing.digest not in self._orders:
            self._keep(standing.digest, OrderFrame(envelope=envelope), "order")
            self._orders[standing.digest] = standing
        return standing

    def adopt_clear(self, envelope: bytes) -> None:
        """Keep and pass on a clear; raises the error of its verification."""
        if sha256_digest(envelope) not in self._envelopes:
            self._hold_clear(envelope, self._root)

    def _hold_clear(self, envelope: bytes, root: Root) -> None:
        clear = verify_clear(envelope, root)
        digest = self._files.put(envelope)
        if digest not in self._envelopes:
            self._keep(digest, ClearFrame(envelope=envelope), "clear")
        self._cleared.update(clear.orders)

    def follow(self) -> None:
        """Read what the log has grown by; raises `LedgerError` when it can't be followed."""
        self._take(self._follower.read())

    def check_status(self, envelope: bytes, now_ms: int) -> Status:
        """Return a status that may be passed on to workers.

        Raises `LedgerError` (`incomplete_status`, `superseded`, `objection_hidden`, `not_logged`, `went_back`,
        `bad_log`, `unproven_order`, `stale_head`) or the error of its verification.
        """
        status = self._verify(envelope, self._root, last=self._last)
        self._take(self._follower.read_to(status.checkpoint.encode("utf-8")))
        self._follower.check_fresh(now_ms, self._root.witness_max_age_ms)
        if self._log_root.version < self._root.version:
            raise LedgerError(
                f"the log leads to root {self._log_root.version}, root {self._root.version} is pinned "
                "here: what it holds cannot be judged; log the pinned root, or pin the log's",
                code="bad_log",
            )
        if self._unproven:
            raise LedgerError(
                f"{len(self._unproven)} orders were kept here that no root vouches for which the log has "
                "led to: put back root.first, the digest of the first root that this host pinned",
                code="unproven_order",
            )
        named = set(status.orders)
        lacking = [d for d in self._must_be_named(now_ms) if d not in named]
        if lacking:
            raise LedgerError(
                f"status {status.number} lacks {len(lacking)} order(s) that stand in the log, "
                f"first {lacking[0]}: it is not passed on",
                code="incomplete_status",
            )
        self._superseded.check_certificates(status.certificates, now_ms)
        self._objections.check_certificates(status.certificates)
        self._approvals.check_certificates(status.certificates)
        if self._roster is None or self._roster[0] != status.roster:
            # Its digest names its bytes, so once is enough: every status names a roster.
            roster = parse_roster(self._files.get(status.roster), self._root)
            self._roster = (status.roster, roster.grants)
        self._superseded.check_roster(*self._roster)
        for digest in named - self._orders.keys():
            # Named and not held: workers would refuse the status until they have the order.
            self.adopt_order(self._files.get(digest))
        self._last = status
        return status

    def _must_be_named(self, now_ms: int) -> list[Digest]:
        return [
            digest
            for digest in self._logged
            if not self._is_lifted(self._orders[digest].order, now_ms)
        ]

    def _is_lifted(self, order: Order, now_ms: int) -> bool:
        if order.until is not None and now_ms >= order.until:
            return True
        if order.target.kind in _LIFTED_BY_CERTIFICATE:
            return order.id in self._cleared_by_certificate
        return order.id in self._cleared

    def _take(self, entries: list[bytes]) -> None:
        # Kept in line until each can be read and its body is there: the log is not read again.
        self._unread += entries
        while self._unread:
            header = decode_json(self._unread[0], EntryHeader)
            if header.kind in FOLLOWED:
                self._take_body(header)
            self._unread.popleft()

    def _take_body(self, header: EntryHeader) -> None:
        body = self._files.get(header.body)
        try:
            match header.kind:
                case EntryKind.ROOT:
                    self._take_root(header, body)
                case EntryKind.ORDER:
                    self._logged.add(self._hold_order(body, self._log_root).digest)
                case EntryKind.CLEAR:
                    self._hold_clear(body, self._log_root)
                case EntryKind.OWN_GRANT:
                    self._on_own_grant(body)
                case _:
                    found = verify_body(header.kind, body, self._log_root, header.at)
                    value = found.value
                    self._approvals.take(header.body, value, found.signers)
                    self._root_notices.take(header.body, found)
                    if isinstance(value, Announcement):
                        self._objections.take_announcement(header.body, value)
                    elif isinstance(value, Objection):
                        self._objections.take_objection(header.body, value, found.signers)
                    elif isinstance(value, Revocation):
                        self._objections.take_revocation(value, found.signers)
                    elif isinstance(value, Certificate):
                        self._objections.take_certificate(header.body, value)
                        self._approvals.take_certificate(header.body, value, header.at)
                        self._cleared_by_certificate.update(value.clears)
                        self._plan_of[header.body] = value.plan
                        self._superseded.take_certificate(header.body, value, header.at)
                    elif isinstance(value, Grant):
                        self._superseded.take_grant(header.body, value)
                    elif isinstance(value, Erasure | Hold | HoldLift):
                        self._on_erasing(value)
        except GateliftError as error:
            # Control logged what is not validly signed. It lifts nothing and stops nothing.
            _LOG.error("a logged %s does not verify: %s", header.kind.value, error)

    def _take_root(self, header: EntryHeader, body: bytes) -> None:
        if unverified_root(body).version <= self._log_root.version:
            return  # the one that this began with, or an older one
        self._root_notices.check(body)
        found = verify_root(body, header.at, self._log_root)
        if found.version == self._root.version and found != self._root:
            raise LedgerError(
                f"the log holds another root {found.version} than the one that is pinned here",
                code="bad_log",
            )
        self._root_notices.forget_announced()
        self._log_root = found
        if found.version > self._root.version:
            self._follower.judge_by(releases_policy(found))
            self._root = found
        self._on_root(header.body, found)
        self._prove_by(found)

    def _prove_by(self, root: Root) -> None:
        """Take up what was kept before and no root so far vouched for."""
        unproven, self._unproven = self._unproven, []
        for envelope in unproven:
            try:
                _ = self._hold_order(envelope, root)
            except GateliftError:
                self._unproven.append(envelope)

    def _keep(self, digest: Digest, frame: OrderFrame | ClearFrame, kind: str) -> None:
        self._files.put(frame.envelope)
        name = self._index / digest.removeprefix("sha256:")
        if not name.exists():
            replace_durably(name, f"{kind}\n".encode("ascii"))
        self._envelopes[digest] = frame
        self._on_new(frame)

    def _load(self) -> None:
        for path in sorted(self._index.iterdir()):
            if path.name.startswith("."):
                continue  # a write that a crash cut short; its order was not passed on
            envelope = self._files.get(parse_digest(f"sha256:{path.name}"))
            # It was verified when it was kept, perhaps by a root before this one: the log leads there. A
            # clear by a key that is gone comes from the log alone, judged by the root of its time.
            try:
                if path.read_bytes() == b"order\n":
                    _ = self.adopt_order(envelope)
                else:
                    self.adopt_clear(envelope)
            except CallerError:
                if path.read_bytes() == b"order\n":
                    self._unproven.append(envelope)
        self._prove_by(self._log_root)
