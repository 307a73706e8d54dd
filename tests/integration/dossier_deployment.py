"""A small genuine deployment on disk, told step by step and signed with real keys.

It does what control, keeper and workers do, as plainly as possible: entries are admitted, folded and
decided; records are committed in signed batches; logs are laid out as tiles; a dossier is exported.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatelift.decide import State, changed, check_entry, clears_for, decide, fold, next_sequence
from gatelift.encoding import Digest, encode_base64, encode_json, sha256_digest
from gatelift.journal.segments import FrameKind, encode_frame
from gatelift.ledger.dossier import DossierSummary, export_dossier
from gatelift.messages import (
    BatchEntry,
    Beat,
    Body,
    Charge,
    EntryHeader,
    EntryKind,
    Finish,
    Head,
    Outcome,
    PlacementEnrolment,
    PlanAdoption,
    Probe,
    Record,
    RecordedVerdict,
    RecordRef,
    Start,
    Ticket,
    Visibility,
    record_leaf,
    sign_batch,
    verify_body,
)
from gatelift.terms import (
    Band,
    Cap,
    Category,
    Endpoint,
    Posture,
    Sealing,
    Side,
    Tier,
    window_start_ms,
)
from gatelift.tlog import (
    Checkpoint,
    MemoryTree,
    NoteSigner,
    TlogProof,
    add_signatures,
    encode_entries,
    entry_tiles_for_size,
    format_checkpoint,
    format_proof,
    root_of,
    sign_checkpoint,
    tile_bytes,
    tiles_for_size,
)
from gatelift.trust import (
    After,
    Certificate,
    Grant,
    GrantKey,
    Order,
    Target,
    TargetKind,
    parse_root,
)
from gatelift.watch import UnitCounter, WatchError, make_session
from tests.support.erased import erase_last
from tests.support.world import HOUR, NOW, World, key, seed

ORIGIN = "test.example/requests/n1/2026-09"
LEAK = RecordedVerdict(
    category=Category.LEAK,
    band=Band.PLATFORM_ABUSE,
    rule="r1",
    side=Side.ANSWER,
    action=Posture.OBSERVE,
)
SECOND = 1_000
RESERVED = {"requests": 1, "output_tokens": 32, "cost": 400, "coverage": 1}
# 5 in and 20 out at 2.5 and 10 for a million are 212.5 millionths.
SPENT = {
    "principal.requests": 1,
    "stage.output_tokens": 20,
    "stage.cost": 213,
    "principal.coverage": 1,
}


class Deployment:
    """One deployment of one node. `now` moves with each step."""

    def __init__(self, directory: Path, world: World | None = None) -> None:
        self.directory = directory
        self.world = world or World()
        self.now = NOW
        self.requests_limit = 200
        self.state = State()
        self.files: dict[Digest, bytes] = {
            self.world.plan_digest: self.world.plan_bytes,
            self.world.fingerprint: self.world.candidate_bytes,
        }
        self.headers: list[EntryHeader] = []
        self.certificate: Digest | None = None
        self.origin = ORIGIN
        self.logs: dict[str, list[bytes]] = {ORIGIN: []}
        self.frames: dict[tuple[str, str], bytearray] = {}
        self.pending: dict[tuple[str, str], list[Record]] = {}
        self.seqs: dict[tuple[str, str], int] = {}
        self.counter = UnitCounter(self.world.plan)
        self.lines: list[bytes] = []
        self.tickets: list[Ticket] = []
        self.key = key("batch")
        self.spoil: Callable[[bytes], bytes] = bytes
        """Applied to the bytes of every record before they are committed."""
        body = Body(kind=EntryKind.ROOT, value=self.world.root, signers=())
        self._append(EntryKind.ROOT, body, self.world.root_envelope)
        self.settle()

    @property
    def batches(self) -> list[bytes]:
        """The entries of the requests log of the present month."""
        return self.logs[self.origin]

    def next_month(self) -> None:
        self.origin = ORIGIN.replace("2026-09", "2026-10")
        self.logs[self.origin] = []

    # -- the releases log -----------------------------------------------------------------------

    def read(self, digest: Digest) -> bytes:
        return self.files[digest]

    def _append(self, kind: EntryKind, body: Body, data: bytes) -> Digest:
        actor = tuple(sorted(f"{s.role}:{s.person}" for s in body.signers)) or ("root",)
        header = EntryHeader(
            v=1,
            at=self.now,
            kind=kind,
            actor=actor,
            body=sha256_digest(data),
            body_bytes=len(data),
            visibility=Visibility.PUBLIC,
            end=False,
        )
        self.files[header.body] = data
        self.state = fold(self.state, self.state.size, header, body, self.read)
        self.headers.append(header)
        return header.body

    def log(
        self, kind: EntryKind, value: msgspec.Struct, *signers: str, admit: bool = True
    ) -> Digest:
        self.now += 10
        data = self.world.sign(kind.value, value, *signers)
        body = verify_body(kind, data, self.world.root, self.now)
        if admit:
            check_entry(self.state, kind, body, data, self.now, self.read)
        return self._append(kind, body, data)

    def settle(self, **forged: Any) -> None:
        decision, _ = decide(self.state, self.now)
        last = self.state.last_decision
        if forged or changed(last.decision if last else None, decision):
            decision = msgspec.structs.replace(decision, **forged)
            data = self.world.sign("decision", decision, "control:machine")
            body = verify_body(EntryKind.DECISION, data, self.world.root, self.now)
            self._append(EntryKind.DECISION, body, data)
        self.headers[-1] = msgspec.structs.replace(self.headers[-1], end=True)

    def rotate(self, *signers: str, **changes: Any) -> Digest:
        """Log the root's successor; it judges what follows."""
        self.now += 10
        version = self.world.root.version + 1
        payload = self.world.root_payload(**{"version": version, **changes})
        data = self.world.sign_root(payload, *signers)
        root = parse_root(payload)
        digest = self._append(
            EntryKind.ROOT, Body(kind=EntryKind.ROOT, value=root, signers=()), data
        )
        self.settle()
        self.world.root = root
        return digest

    def leaves(self) -> list[bytes]:
        return [encode_json(header) for header in self.headers]

    def begin(self) -> None:
        world = self.world
        adoption = PlanAdoption(
            release="aurora", plan=world.plan_digest, candidate=world.fingerprint
        )
        self.log(EntryKind.PLAN, adoption, "operator:olga")
        placement = PlacementEnrolment(
            name="p1",
            base_url="http://127.0.0.1:1",
            model="m",
            fingerprint=world.fingerprint,
            baseline=None,
        )
        self.log(EntryKind.PLACEMENT, placement, "operator:olga")
        probe = Probe(
            node="n1",
            placement="p1",
            sealing=Sealing.DECLARED,
            changed=0,
            of=16,
            up=True,
            reason="",
        )
        self.log(EntryKind.PROBE, probe, "control:machine")
        self.settle()

    def certify(self, *signers: str, admit: bool = True, **changes: Any) -> Digest:
        leaves = self.leaves()
        base = self.world.certificate("assess")
        caps = tuple(
            msgspec.structs.replace(cap, limit=self.requests_limit)
            if cap.key == "principal.requests/min"
            else cap
            for cap in base.envelope.caps
        )
        value: Certificate = msgspec.structs.replace(
            base,
            envelope=msgspec.structs.replace(base.envelope, caps=caps),
            root_version=self.world.root.version,
            clears=clears_for(self.state, "assess"),
            sequence=next_sequence(self.state, "assess"),
            after=After(
                origin="test.example/releases",
                size=len(leaves),
                root=encode_base64(MemoryTree(leaves).root()),
            ),
            not_before=self.now,
            not_after=self.now + HOUR,
        )
        value = msgspec.structs.replace(value, **changes)
        quorum = signers or self.world.quorum_of("assess")
        self.certificate = self.log(EntryKind.CERTIFICATE, value, *quorum, admit=admit)
        self.settle()
        return self.certificate

    def grant(self, name: str = "g1", organisation: str = "evals.example") -> None:
        value = Grant(
            id=name,
            release="aurora",
            stage="assess",
            principal=f"principal-{name}",
            organisation=organisation,
            project="p",
            tier=Tier.EVALUATORS,
            endpoints=(Endpoint.CHAT,),
            proofs=(),
            vetting=None,
            keys=(GrantKey(public_id=f"k{name}", digest=sha256_digest(name.encode())),),
            not_before=self.now,
            not_after=self.now + 100 * HOUR,
        )
        self.log(EntryKind.GRANT, value, "admissions:ada")
        self.settle()

    def order(self, ceiling: Any = None) -> str:
        value = Order(
            id=f"order_{len(self.headers):026d}",
            release="aurora",
            target=Target(kind=TargetKind.STAGE, name="assess"),
            ceiling=ceiling,
            reasons=("because",),
            at=self.now,
        )
        self.log(EntryKind.ORDER, value, "stop:sam")
        self.settle()
        return value.id

    def head(self, origin: str | None = None, note: bytes | None = None) -> None:
        value = Head(
            origin=origin or self.origin, checkpoint=(note or self.requests_note()).decode()
        )
        self.log(EntryKind.HEAD, value, "control:machine")
        self.settle()

    def observe(self, **changes: Any) -> None:
        for seen in self.counter.observations():
            value = msgspec.structs.replace(seen, **changes) if seen.metric == "leak_rate" else seen
            self.log(EntryKind.OBSERVATION, value, "control:machine")
        for event in self.counter.events():
            self.log(EntryKind.EVENT, event, "control:machine")
        self.settle()

    # -- records --------------------------------------------------------------------------------

    def _place(self, run: tuple[str, str]) -> dict[str, Any]:
        seq = self.seqs.get(run, 0)
        self.seqs[run] = seq + 1
        return {"v": 1, "node": "n1", "worker": run[0], "run": run[1], "seq": seq, "at": self.now}

    def _put(self, run: tuple[str, str], record: Record) -> None:
        self.pending.setdefault(run, []).append(record)

    def charges(self, caps: Sequence[Cap], amounts: dict[str, int]) -> tuple[Charge, ...]:
        return tuple(
            Charge(
                counter=f"assess:{cap.key}:{'principal-g1' if cap.subject == 'principal' else 'assess'}",
                window=window_start_ms(cap.window, self.now),
                amount=amounts[cap.unit],
            )
            for cap in caps
            if cap.unit != "parallel"
        )

    def start(
        self, user: str = "u", *, run: tuple[str, str] = ("w0", "r0"), **changes: Any
    ) -> Start:
        self.now += 50
        caps = self.world.certificate("assess").envelope.caps
        value = Start(
            **self._place(run),
            request_id="q",
            release="aurora",
            stage="assess",
            certificate=self.certificate,
            fingerprint=self.world.fingerprint,
            grant="g1",
            principal="principal-g1",
            organisation="evals.example",
            session=make_session(
                "g1", user, self.now, self.world.plan.session_window_ms, b"s" * 32
            ),
            endpoint=Endpoint.CHAT,
            stream=False,
            request=sha256_digest(b"request"),
            request_bytes=7,
            reserved=self.charges(caps, RESERVED),
        )
        value = msgspec.structs.replace(value, **changes)
        self._put(run, value)
        return value

    def finish(
        self,
        start: Start,
        *verdicts: RecordedVerdict,
        run: tuple[str, str] = ("w0", "r0"),
        **changes: Any,
    ) -> Finish:
        value = Finish(
            **self._place(run),
            of=RecordRef(node="n1", worker=start.worker, run=start.run, seq=start.seq),
            request_id=start.request_id,
            release=start.release,
            stage=start.stage,
            grant=start.grant,
            organisation=start.organisation,
            session=start.session,
            outcome=Outcome.SERVED,
            reason="",
            upstream=True,
            status=200,
            answer=sha256_digest(b"answer"),
            answer_bytes=6,
            input_tokens=5,
            output_tokens=20,
            spent=tuple(
                msgspec.structs.replace(c, amount=SPENT[c.counter.split(":")[1].split("/")[0]])
                for c in start.reserved
            ),
            overrun_tokens=0,
            verdicts=verdicts,
        )
        value = msgspec.structs.replace(value, **changes)
        self._put(run, value)
        return value

    def served(self, user: str = "u", *verdicts: RecordedVerdict, **changes: Any) -> Finish:
        return self.finish(self.start(user), *verdicts, **changes)

    def denied(self, outcome: Outcome = Outcome.STOPPED) -> None:
        start = self.start(reserved=(), certificate=None)
        self.finish(start, outcome=outcome, upstream=False, spent=(), answer=None, output_tokens=0)

    def beat(self, run: tuple[str, str] = ("w0", "r0")) -> None:
        self.now += 1000
        self._put(run, Beat(**self._place(run), refused={}))

    def commit(self, run: tuple[str, str] = ("w0", "r0")) -> int:
        """Sign what waits of a run as one batch, write it to its journal and to the requests log."""
        records = self.pending.pop(run)
        stored = [(self._salt(record), self.spoil(encode_json(record))) for record in records]
        leaves = [record_leaf(salt, data) for salt, data in stored]
        entry = BatchEntry(
            v=1,
            node="n1",
            worker=run[0],
            run=run[1],
            seq=records[0].seq,
            n=len(records),
            root=Digest(f"sha256:{root_of(leaves).hex()}"),
            at=self.now,
        )
        data, signature = sign_batch(entry, self.key)
        frames = [encode_frame(FrameKind.RECORD, salt + raw) for salt, raw in stored]
        frames.append(encode_frame(FrameKind.BATCH, signature + data))
        self.frames.setdefault(run, bytearray()).extend(b"".join(frames))
        with contextlib.suppress(WatchError):  # told wrongly on purpose
            self.counter.fold(records, self.origin, len(self.batches))
        tree = MemoryTree()
        for leaf in leaves:
            tree.append_leaf(leaf)
        self.tickets.append(
            Ticket(
                v=1,
                entry=data.decode(),
                signature=encode_base64(signature),
                index=0,
                path=tuple(encode_base64(step) for step in tree.inclusion_proof(0)),
                salt=encode_base64(stored[0][0]),
                record=stored[0][1].decode(),
                content_salt=encode_base64(bytes(32)),
            )
        )
        for offset, (salt, raw) in enumerate(stored):
            row = {"log": self.origin, "batch": len(self.batches), "i": offset}
            row |= {"salt": encode_base64(salt), "record": raw.decode()}
            self.lines.append(encode_json(row))
        self.batches.append(data)
        return len(self.batches) - 1

    def _salt(self, record: Record) -> bytes:
        return hashlib.sha256(f"{record.worker}{record.run}{record.seq}".encode()).digest()

    def receipt(self, index: int) -> bytes:
        tree = MemoryTree(self.batches)
        return format_proof(
            TlogProof(
                index=index,
                hashes=tree.inclusion_proof(index),
                checkpoint_note=self.requests_note(),
            )
        )

    # -- on disk --------------------------------------------------------------------------------

    def requests_note(self, batches: list[bytes] | None = None) -> bytes:
        tree = MemoryTree(self.batches if batches is None else batches)
        signer = NoteSigner(self.origin, Ed25519PrivateKey.from_private_bytes(seed("requests")))
        head = Checkpoint(origin=self.origin, size=tree.size, root=tree.root())
        return sign_checkpoint(head, signer)

    def releases_note(self) -> bytes:
        tree = MemoryTree(self.leaves())
        head = Checkpoint(origin=self.world.log.name, size=tree.size, root=tree.root())
        note = sign_checkpoint(head, self.world.log)
        line = self.world.witness.sign(format_checkpoint(head), self.now // 1000)
        return add_signatures(note, [line])

    def write(self) -> None:
        for digest, data in self.files.items():
            put(self.directory / "files/sha256" / digest.removeprefix("sha256:"), data)
        put(self.directory / "root.sha256", f"{self.world.root_digest}\n".encode())
        put_log(self.directory / "logs/releases", self.leaves(), self.releases_note())
        newest = self.origin
        for origin, batches in self.logs.items():
            self.origin = origin
            name = f"n1-{self.origin[-7:]}"
            put_log(self.directory / "logs/requests" / name, batches, self.requests_note())
        self.origin = newest
        for (worker, run), frames in self.frames.items():
            put(self.directory / "journal" / worker / f"{run}-0001.seg", bytes(frames))
        put(self.directory / "keys/control.key", b"secret\n")
        put(self.directory / "store/control.sqlite", b"secret\n")

    def export(self, out: Path) -> DossierSummary:
        self.write()
        return export_dossier(
            self.directory, out, checkpoint_note=self.releases_note(), now_ms=self.now
        )

    def put_records(self, dossier: Path) -> None:
        """Write the records as they were committed, where the journal was told too wrongly to read."""
        path, manifest = dossier / "records/n1-2026-09.jsonl", dossier / "dossier.json"
        put(path, b"".join(line + b"\n" for line in self.lines))
        contents = json.loads(manifest.read_bytes()) | {"records": len(self.lines), "missing": []}
        manifest.write_bytes(encode_json(contents))

    # -- scenes ---------------------------------------------------------------------------------

    def serve_some(self) -> None:
        """Two workers' batches: served, one leak, denials, and a dead worker closed by the keeper."""
        for number in range(12):
            self.served(f"user{number % 5}", *([LEAK] if number == 3 else []))
        self.denied(Outcome.CAPPED)
        self.commit()
        self.beat()
        self.served("user7")
        self.commit()
        left = self.start("user8", run=("w1", "r1"))
        self.commit(("w1", "r1"))
        self.finish(
            left,
            run=("keeper", "r2"),
            outcome=Outcome.ABORTED,
            spent=left.reserved,
            answer=None,
            output_tokens=0,
        )
        self.commit(("keeper", "r2"))

    def tell_shortly(self) -> None:
        """Open stage zero and serve."""
        self.begin()
        self.certify()
        self.grant()
        self.serve_some()
        self.head()
        self.observe()

    def tell(self, *, erasing: bool = True) -> None:
        """Open stage zero, serve, stop it, open it again, serve, erase."""
        self.begin()
        self.certify()
        self.grant()
        self.serve_some()
        for _ in range(260):
            self.beat()
            self.commit()
        self.head()
        self.observe()
        self.order()
        self.now += 20 * SECOND
        self.denied()
        self.commit()
        self.certify()
        self.served("user9")
        self.served("forgotten")
        self.commit()
        self.head()
        if erasing:
            erase_last(self)
        self.observe()


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def put_log(directory: Path, entries: list[bytes], note: bytes) -> None:
    tree = MemoryTree(entries)
    for bundle in entry_tiles_for_size(tree.size):
        rows = entries[bundle.first : bundle.first + bundle.width]
        put(directory / bundle.path, encode_entries(rows))
    for tile in tiles_for_size(tree.size):
        put(directory / tile.path, tile_bytes(tree, tile))
    put(directory / "checkpoint", note)
