"""Frames between worker and keeper, and between keeper and control.

Invariants
- A frame is one tagged struct in msgpack; big things travel as files named by digest.
- Only the keeper grants and denies. Amounts granted to a worker for one counter and window add up;
  what it gives back is subtracted.
- Orders, clears, statuses, bundles and rosters are signed bytes: a frame carries them, the reader
  verifies them.

Clocks are never compared: a nonce carries the asker's own sense of time.
"""

from __future__ import annotations

import msgspec

from gatelift.encoding import Digest
from gatelift.messages.entries import EventCount, Observation, Probe
from gatelift.terms import Binding, Sealing

__all__ = [
    "Ask",
    "BundleFrame",
    "ClearFrame",
    "Committed",
    "ControlToKeeper",
    "Counted",
    "CredentialFrame",
    "Denied",
    "Draw",
    "Granted",
    "HeadFrame",
    "Hello",
    "KeeperToControl",
    "KeeperToWorker",
    "Lease",
    "NodeHello",
    "OrderAnswer",
    "OrderFrame",
    "OrderReport",
    "OwnGrantFrame",
    "OwnGrantReport",
    "PlacementFrame",
    "ProbeReport",
    "Recall",
    "ReceiptAsk",
    "ReceiptFrame",
    "Release",
    "RosterFrame",
    "StatusFrame",
    "Want",
    "WorkerToKeeper",
]


class Want(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One counter of a draw: at least `need`, at best `like`, of a cap of `limit`.

    `window` is the window's start in ms UTC and `until` its end; both 0 for `parallel` and `coverage`.
    """

    counter: str
    window: int
    until: int
    limit: int
    need: int
    like: int


class Lease(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """An amount of one counter in one window."""

    counter: str
    window: int
    amount: int


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    """A worker registers: its run, its journal folder and all leases that it holds."""

    node: str
    worker: str
    run: str
    held: tuple[Lease, ...]


class Draw(msgspec.Struct, frozen=True, kw_only=True, tag="draw"):
    """All caps of one request in one frame: all are granted or none."""

    id: int
    wants: tuple[Want, ...]


class Release(msgspec.Struct, frozen=True, kw_only=True, tag="release"):
    """A worker gives back what it holds and has neither spent nor reserved.

    `recall` is the id of the recall that it answers, 0 when nobody asked.
    """

    leases: tuple[Lease, ...]
    recall: int = 0


class Ask(msgspec.Struct, frozen=True, kw_only=True, tag="ask"):
    """Nonces to be answered by the next status."""

    nonces: tuple[str, ...]


class Committed(msgspec.Struct, frozen=True, kw_only=True, tag="committed"):
    """A worker's journal grew: read it."""

    worker: str
    run: str


class ReceiptAsk(msgspec.Struct, frozen=True, kw_only=True, tag="receipt_ask"):
    """Ask for the proof that the batch with this entry digest is in the requests log."""

    id: int
    batch: Digest


WorkerToKeeper = Hello | Draw | Release | Ask | Committed | ReceiptAsk


class Granted(msgspec.Struct, frozen=True, kw_only=True, tag="granted"):
    """A draw's answer: what was added to each counter.

    `used` is, beside each lease, what is spent, reserved or with a worker of that counter now. To a
    draw that needs nothing `reserved` says how much of that is not spent yet.
    """

    id: int
    leases: tuple[Lease, ...]
    used: tuple[int, ...] = ()
    reserved: tuple[int, ...] = ()


class Denied(msgspec.Struct, frozen=True, kw_only=True, tag="denied"):
    """A draw's answer: the counter that is spent, as the keeper counts it.

    `used` was spent by exchanges that have finished, `reserved` is set aside for those under way, or
    with a worker. `reset` is the end of the window in ms UTC, 0 for `parallel` and `coverage`.
    """

    id: int
    counter: str
    limit: int
    used: int
    reserved: int
    reset: int


class Recall(msgspec.Struct, frozen=True, kw_only=True, tag="recall"):
    """Give back what is idle of these counters at once, with a `Release` that names `id`."""

    counters: tuple[str, ...]
    id: int = 0


class OrderFrame(msgspec.Struct, frozen=True, kw_only=True, tag="order"):
    """An order's envelope."""

    envelope: bytes


class OrderAnswer(msgspec.Struct, frozen=True, kw_only=True, tag="order_answer"):
    """What became of an order handed over at the host's socket: kept and passed on, or why not."""

    accepted: bool
    digest: Digest | None = None
    code: str = ""
    message: str = ""


class ClearFrame(msgspec.Struct, frozen=True, kw_only=True, tag="clear"):
    """A clear's envelope."""

    envelope: bytes


class OwnGrantFrame(msgspec.Struct, frozen=True, kw_only=True, tag="own_grant"):
    """The envelope of an overseer's own grant."""

    envelope: bytes


class StatusFrame(msgspec.Struct, frozen=True, kw_only=True, tag="status"):
    """A status' envelope."""

    envelope: bytes


class BundleFrame(msgspec.Struct, frozen=True, kw_only=True, tag="bundle"):
    """A bundle by the digest of its envelope; the file is there already."""

    digest: Digest


class RootFrame(msgspec.Struct, frozen=True, kw_only=True, tag="root"):
    """A root that followed the pinned one, by digest; the file is there already."""

    digest: Digest


class RosterFrame(msgspec.Struct, frozen=True, kw_only=True, tag="roster"):
    """A roster by number and the digest of its envelope; the file is there already."""

    number: int
    digest: Digest


class PlacementFrame(msgspec.Struct, frozen=True, kw_only=True, tag="placement"):
    """Whether a placement may be used, by the node's own probes, and how sealed and bound it is."""

    name: str
    up: bool
    reason: str
    sealing: Sealing = Sealing.OPEN
    binding: Binding = Binding.CLAIMED


class CredentialFrame(msgspec.Struct, frozen=True, kw_only=True, tag="credential"):
    """What a worker shows to sealed placements: certificate and key (PEM), for `lives_ms` from now.

    It travels on the node's own socket and is kept in memory alone.
    """

    pem: bytes
    lives_ms: int

    def __repr__(self) -> str:
        """Show no key."""
        return f"CredentialFrame(lives_ms={self.lives_ms})"


class ReceiptFrame(msgspec.Struct, frozen=True, kw_only=True, tag="receipt"):
    """The tlog-proof of a batch; null while it is not in a published head, or unknown."""

    id: int
    known: bool
    proof: bytes | None


KeeperToWorker = (
    Granted
    | Denied
    | Recall
    | OrderFrame
    | ClearFrame
    | OwnGrantFrame
    | StatusFrame
    | RootFrame
    | BundleFrame
    | RosterFrame
    | PlacementFrame
    | CredentialFrame
    | ReceiptFrame
)


class NodeHello(msgspec.Struct, frozen=True, kw_only=True, tag="node_hello"):
    """A keeper registers its node. `replicated`: it keeps its own records on a second store too."""

    node: str
    replicated: bool = False


class Counted(msgspec.Struct, frozen=True, kw_only=True, tag="counted"):
    """The node's cumulative counts, whole each time: only the newest matters."""

    node: str
    observations: tuple[Observation, ...]
    events: tuple[EventCount, ...]


class HeadFrame(msgspec.Struct, frozen=True, kw_only=True, tag="head"):
    """The signed head of the node's requests log."""

    origin: str
    checkpoint: str


class ProbeReport(msgspec.Struct, frozen=True, kw_only=True, tag="probe_report"):
    """What the node's probes showed."""

    probe: Probe


class OrderReport(msgspec.Struct, frozen=True, kw_only=True, tag="order_report"):
    """An order that reached the node by another way, to be logged."""

    envelope: bytes


class OwnGrantReport(msgspec.Struct, frozen=True, kw_only=True, tag="own_grant_report"):
    """An overseer's own grant that reached the node by another way, to be logged."""

    envelope: bytes


KeeperToControl = NodeHello | Ask | Counted | HeadFrame | ProbeReport | OrderReport | OwnGrantReport

ControlToKeeper = OrderFrame | ClearFrame | StatusFrame | BundleFrame | RosterFrame
