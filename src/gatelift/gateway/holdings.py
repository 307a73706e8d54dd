"""What a worker holds to judge a request: bundle, roster, orders, and the life of its status.

Invariants
- Everything held was verified here from bytes; nothing counts because the keeper or control say so.
- An order is in force from the moment it arrives. It goes only with a verified `Clear`.
- A status is adopted only if it answers our nonce, names the bundle and roster that we serve from,
  and names no order that we lack. Its life runs from the asking on the boot-time clock.
- Without a live status nothing is permitted; under a plan that says `replicated`, nothing where
  records go to one store only.
- A certificate that says more sealing or binding than the node's probes show now is not served from.
- An overseer's own grant counts by its own signature, whatever the roster holds (`own_grants`).
- A grant counts while the roster holds it. One that a newer roster lacks is gone at once; one that a
  newer roster changes is judged as changed from the status on that names that roster.

Pure but for its own state: clocks and bytes are arguments. The keeper link feeds it.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gatelift.encoding import Digest
from gatelift.errors import CallerError
from gatelift.gateway.key_book import Identified, KeyBook
from gatelift.gateway.order_book import OrderBook
from gatelift.gateway.own_grants import OwnGrantBook
from gatelift.gateway.probed import ProbedPlacements
from gatelift.gateway.root_line import RootLine
from gatelift.gateway.standing import Standing, StandingBook, edges_of, permit_as_sealed
from gatelift.messages import (
    Placement,
    VerifiedBundle,
    VerifiedRoster,
    verify_bundle,
    verify_roster,
)
from gatelift.terms import Binding, Durability, Sealing
from gatelift.trust import (
    Grant,
    Refusal,
    Root,
    StandingOrder,
    Status,
    VerifiedCertificate,
    verify_status,
)

__all__ = ["Holdings", "HoldingsError", "Identified"]

_MAX_NONCES = 64


class HoldingsError(CallerError):
    """Something arrived that may not be adopted."""

    code = "not_adopted"


class Holdings:
    """What one worker holds. `read` returns a file's bytes by digest, checked by the caller.

    `first_root` is the first that the host ever pinned; `replicated` says that its records go to a second
    store too.
    """

    def __init__(
        self,
        pinned_root: Digest,
        read: Callable[[Digest], bytes],
        *,
        first_root: Digest | None = None,
        replicated: bool = False,
    ) -> None:
        self._line = RootLine(first_root or pinned_root, pinned_root, read)
        self._replicated = replicated
        self._read = read
        self.bundle: VerifiedBundle | None = None
        self.roster: VerifiedRoster | None = None
        self._roster_digest: Digest | None = None
        self._next_bundle: VerifiedBundle | None = None
        self._next_roster: tuple[VerifiedRoster, Digest] | None = None
        self._orders = OrderBook()
        self._own = OwnGrantBook()
        self._probed = ProbedPlacements()
        self._usable: tuple[Placement, ...] | None = None
        self._asked_ms: dict[str, int] = {}
        self._status: Status | None = None
        self._alive_until_ms = 0
        self._newest: dict[str, int] = {}
        self._judged = StandingBook()
        self._keys = KeyBook()

    @property
    def orders(self) -> tuple[StandingOrder, ...]:
        """All orders in force."""
        return self._orders.in_force

    @property
    def status(self) -> Status | None:
        """The last status adopted, alive or not."""
        return self._status

    def ask(self, nonce: str, boot_ms: int) -> None:
        """Note that `nonce` was sent at `boot_ms` on the boot-time clock."""
        self._asked_ms[nonce] = boot_ms
        while len(self._asked_ms) > _MAX_NONCES:
            self._asked_ms.pop(next(iter(self._asked_ms)))

    @property
    def is_relaxed(self) -> bool:
        """Whether the plan in force lets answers leave before their records are on disk."""
        bundle = self.bundle
        return bundle is not None and bundle.plan.trust.durability is Durability.RELAXED

    def is_alive(self, boot_ms: int) -> bool:
        """Return whether a status stands at `boot_ms`."""
        return self._status is not None and boot_ms < self._alive_until_ms

    @property
    def alive_until_ms(self) -> int:
        """When the status lapses, on the boot-time clock."""
        return self._alive_until_ms

    def adopt_root(self, digest: Digest, now_ms: int) -> None:
        """Pin the root that follows the pinned one; raises and keeps the old one if it does not.

        What is served goes on under the old root until a bundle of the new one is. A root that is no
        newer than the pinned one changes nothing but which orders of before are known (`root_line`).
        """
        followed = self._line.follow(digest, now_ms)
        if followed is not None:
            self._own.judge_by(followed)

    def adopt_bundle(self, digest: Digest, now_ms: int) -> VerifiedBundle:
        """Verify a bundle; raises and keeps the old one when it does not hold.

        The first is served from at once; a later one from the status on that names it, so that a
        renewal leaves no moment between two certificates.
        """
        for held in (self.bundle, self._next_bundle):
            if held is not None and held.digest == digest:
                return held
        found = verify_bundle(self._read(digest), self._read, self._line.pinned, now_ms)
        if self.bundle is not None and found.bundle.number < self.bundle.bundle.number:
            raise HoldingsError(
                f"bundle {found.bundle.number} is older than {self.bundle.bundle.number}",
                code="went_back",
            )
        found = msgspec.structs.replace(found, certificates=self._not_superseded(found))
        if self.bundle is None:
            self.bundle = found
        else:
            self._judge_roster_under(found)
            self._next_bundle = found
        self._usable = None
        self._orders.adopt_waiting(self.bundle.root, self._line.known)
        self._own.judge_by(self.bundle.root)
        self._changed()
        return found

    def _judge_roster_under(self, found: VerifiedBundle) -> None:
        """Judge the roster again where a bundle brings another root: its grants may not hold there."""
        digest = self._next_roster[1] if self._next_roster else self._roster_digest
        newest = self._next_bundle or self.bundle
        if newest is None or digest is None or found.bundle.root == newest.bundle.root:
            return
        self._next_roster = (verify_roster(self._read(digest), found.root, found.plan), digest)

    def _not_superseded(self, found: VerifiedBundle) -> dict[str, VerifiedCertificate]:
        """Return the certificates that are no older than one this worker has held.

        A stolen control could hand out an earlier, wider certificate that has not expired.
        """
        kept = {}
        for stage, held in found.certificates.items():
            sequence = held.certificate.sequence
            if sequence >= self._newest.get(stage, 0):
                self._newest[stage] = sequence
                kept[stage] = held
        return kept

    def adopt_roster(self, digest: Digest) -> VerifiedRoster:
        """Verify a roster; raises and keeps the old one when it does not hold. As `adopt_bundle`."""
        newest = self._next_bundle or self.bundle
        if newest is None:
            raise HoldingsError("a roster came before any bundle")
        found = verify_roster(self._read(digest), newest.root, newest.plan)
        if self.roster is not None and found.number < self.roster.number:
            raise HoldingsError(
                f"roster {found.number} is older than {self.roster.number}", code="went_back"
            )
        if self.roster is None:
            self.roster, self._roster_digest = found, digest
            self._changed()
        else:
            self._next_roster = (found, digest)
        return found

    def adopt_order(self, data: bytes) -> StandingOrder | None:
        """Verify an order and put it in force; null while no root is known to verify it with."""
        standing = self._orders.adopt_order(data, self._root, self._line.known)
        self._changed()
        return standing

    def adopt_clear(self, data: bytes) -> None:
        """Verify a clear and lift the orders that it names; it waits as an order does."""
        self._orders.adopt_clear(data, self._root)
        self._changed()

    def adopt_own_grant(self, data: bytes) -> None:
        """Verify an overseer's own grant and hold it; it waits as an order does."""
        self._own.adopt(data)

    @property
    def _root(self) -> Root | None:
        return None if self.bundle is None else self.bundle.root

    def adopt_status(self, data: bytes) -> bool:
        """Adopt a status if it answers one of our nonces and names what we hold.

        Returns false for one that answers other askers; raises when it may not be adopted.
        """
        if self.bundle is None or self.roster is None:
            return False
        status = verify_status(data, self.bundle.root, last=self._status)
        answered = [nonce for nonce in status.nonces if nonce in self._asked_ms]
        if not answered:
            return False
        if status.release != self.bundle.plan.name:
            raise HoldingsError(
                f"the status is of release {status.release!r}", code="wrong_release"
            )
        bundle, roster = self._named(status)
        lacking = self._orders.lacks(status.orders)
        if lacking:
            raise HoldingsError(f"the status names {lacking} order(s) that we lack")
        ttl_ms = min(status.ttl_ms, self.bundle.plan.trust.status_ttl_ms)
        asked_ms = max(self._asked_ms.pop(nonce) for nonce in answered)
        before = (self.bundle, self.roster, self._status and self._status.certificates)
        if self.bundle is not bundle:
            self.bundle, self._usable = bundle, None
        self.roster, self._roster_digest = roster
        if self._next_roster is not None and self._next_roster[0] is self.roster:
            self._next_roster = None
        self._status = status
        if before != (bundle, roster[0], status.certificates):
            self._changed()
        self._alive_until_ms = max(self._alive_until_ms, asked_ms + ttl_ms)
        return True

    def _named(self, status: Status) -> tuple[VerifiedBundle, tuple[VerifiedRoster, Digest]]:
        """Return the bundle and roster that a status names; raises when we do not hold them yet."""
        current = (
            (self.roster, self._roster_digest) if self.roster and self._roster_digest else None
        )
        bundles = [b for b in (self.bundle, self._next_bundle) if b and b.digest == status.bundle]
        held = (self._next_roster, current)
        if bundles and self.bundle and bundles[0].bundle.root != self.bundle.bundle.root:
            held = (self._next_roster, None)  # the other one was judged under the root before
        rosters = [r for r in held if r and r[1] == status.roster]
        if not bundles or not rosters:
            raise HoldingsError("the status names a bundle or roster that we do not hold yet")
        return bundles[0], rosters[0]

    def set_placement(
        self,
        name: str,
        *,
        up: bool,
        sealing: Sealing = Sealing.OPEN,
        binding: Binding = Binding.CLAIMED,
    ) -> None:
        """Note what the node's probes say of a placement."""
        self._probed.set(name, up=up, sealing=sealing, binding=binding)
        self._usable = None
        self._changed()

    def take_out(self, name: str) -> None:
        """Stop using a placement that made more than was asked; only a restart brings it back."""
        self._probed.take_out(name)
        self._usable = None

    def placements(self) -> tuple[Placement, ...]:
        """Return the enrolled placements that the node's probes call up, in the bundle's order.

        The same tuple until something changes. A bundle that waits for its status takes away what
        it no longer enrols at once, and adds nothing yet.
        """
        if self._usable is None:
            newest = self._next_bundle or self.bundle
            held = self.bundle
            self._usable = (
                () if held is None or newest is None else self._probed.usable(held, newest)
            )
        return self._usable

    @property
    def sealing(self) -> Sealing | None:
        """The weakest sealing that the node's probes show now, null while no placement is up."""
        return None if self.bundle is None else self._probed.sealing(self.bundle)

    @property
    def binding(self) -> Binding | None:
        """The weakest binding that the node's probes show now, null while no placement is up."""
        return None if self.bundle is None else self._probed.binding(self.bundle)

    def identify(self, shown: bytes) -> Identified | None:
        """Return the grant of an API key, null when it is nobody's. Constant time in the secret."""
        if self.roster is None or self.bundle is None:
            return None
        found = self._keys.identify(shown, self.roster)
        if found is None:
            found = self._own.identify(shown, self.bundle.plan, self.roster.by_public_id)
        return found

    def standing(self, who: Identified, now_ms: int, boot_ms: int) -> Standing | Refusal:
        """Return what a grant may do now."""
        grant, roster = who.grant, self.roster
        if (
            roster is not None
            and self._next_roster is None
            and roster.by_public_id.get(who.public_id) is grant
            and self.is_alive(boot_ms)
        ):
            # What was judged of the grant in force, under all that is held now, is the answer.
            judged = self._judged.get(who.public_id, grant, now_ms)
            if judged is not None:
                return judged
        return self._judge(who, now_ms, boot_ms)

    def _judge(self, who: Identified, now_ms: int, boot_ms: int) -> Standing | Refusal:
        if self.bundle is None or self.roster is None or not self.is_alive(boot_ms):
            return Refusal(
                code="status_lapsed",
                message="no fresh status: the gateway is cut off from its control plane "
                "and serves nothing until it hears again",
            )
        asked = self.bundle.plan.trust.durability
        if asked is Durability.REPLICATED and not self._replicated:
            return Refusal(
                code="not_replicated",
                message="the plan asks for records on two stores, and this gateway runs with one",
            )
        grant = self._in_force(who)
        if isinstance(grant, Refusal):
            return grant
        judged = self._judged.get(who.public_id, grant, now_ms)
        if judged is not None:
            return judged
        found = permit_as_sealed(
            self.bundle.plan,
            self._standing_certificates(),
            self.orders,
            grant,
            who.public_id,
            now_ms,
            seen=self.sealing,
            binding=self.binding,
        )
        if self._own.holds(grant, who.public_id):
            found = self._own.narrowed(found, who.public_id)
        return self._judged.put(who.public_id, grant, found, now_ms)

    def _standing_certificates(self) -> dict[str, VerifiedCertificate]:
        """Return the newest certificate of each stage that status names."""
        held = self.bundle.certificates if self.bundle else {}
        named = set(self._status.certificates) if self._status else set()
        return {name: c for name, c in held.items() if c.digest in named}

    def _changed(self) -> None:
        held = self.bundle.certificates.values() if self.bundle else ()
        self._judged.forget(edges_of(held, self._orders.seen))

    def _in_force(self, who: Identified) -> Grant | Refusal:
        """Return the grant as the roster has it now; an open exchange may have begun under another.

        A change that takes from the exchange what it was admitted by is a refusal.
        """
        if self._own.holds(who.grant, who.public_id):
            return who.grant
        now = self.roster.by_public_id.get(who.public_id) if self.roster else None
        if now is who.grant and self._next_roster is None:
            return now
        coming = self._next_roster[0].by_public_id if self._next_roster else None
        before = who.grant
        gone = now is None or (coming is not None and who.public_id not in coming)
        if gone or now is None or (now.id, now.principal) != (before.id, before.principal):
            return Refusal(
                code="grant_expired", message="the grant is not in force: ask for a new one"
            )
        moved = (now.organisation, now.private_endpoint) != (
            before.organisation,
            before.private_endpoint,
        )
        if moved or not set(before.endpoints) <= set(now.endpoints):
            return Refusal(code="endpoint_not_granted", message="the grant was changed: ask again")
        return now
