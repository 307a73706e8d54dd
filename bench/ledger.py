"""How fast the ledger is: appended to, proved from, hashed, and asked about certificates.

Invariants
- Appends and receipts are asked for from outside, over HTTP, of a deployment that `gatelift up` runs
  with everything on: control, its store with a durable commit for each group, witness, keeper, worker.
- An append counts when control has answered 201, and its place is asked for again afterwards: an
  answer for an entry that is not on the log makes the figure void.
- Receipts are asked for while `wrk` loads the gateway as in `capacity`; each proof is compared with
  the ticket's own batch entry, by the verifier of the package.
- Hashing and certificate checks are timed in this process, on bytes that the deployment made.
- Verifying is timed by the clock, once the deployment is at rest, on a dossier that `dossier` makes. What
  is said of a million records names the number that it was extrapolated from; null if it was a million.
"""

from __future__ import annotations

import http.client
import json
import secrets
import tempfile
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from bench.contenders import EverythingOn
from bench.deployment import Deployment
from bench.dossier import measure_dossier
from bench.house import House
from bench.latency import percentile
from bench.wrk import WrkRun
from gatelift.encoding import ID_ENTROPY_BYTES, Digest, make_id, parse_digest, sha256_digest
from gatelift.gateway.holdings import Holdings
from gatelift.gateway.standing import Standing
from gatelift.journal import RunFollower, list_runs
from gatelift.messages import (
    BUNDLE_TYPE,
    ROSTER_TYPE,
    Commit,
    EntryKind,
    parse_ticket,
    record_leaf,
    releases_policy,
    verify_bundle,
    verify_logged,
)
from gatelift.tlog import root_of
from gatelift.trust import (
    STATEMENT_TYPE,
    Status,
    Subject,
    encode_statement,
    sign_envelope,
    sign_status,
    verify_certificate,
)
from gatelift.wire.keyfiles import load_signing_key

__all__ = ["LedgerSettings", "measure_ledger", "measure_verifying"]

_ENTRIES = "/admin/v1/entries"
_RECEIPT_WAIT_S = 10.0
_MILLION = 1_000_000


class LedgerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How many appenders at once, how many entries each, how many receipts, for how long.

    `verify_records` and `verify_chats` are those of the dossier: records, and chats in a batch.
    """

    appenders: int = 64
    entries_each: int = 40
    receipts: int = 100
    load_s: float = 20.0
    connections: int = 128
    records: int = 200_000
    checks: int = 20_000
    verify_records: int = 200_000
    verify_chats: int = 16
    verify_rounds: int = 3


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _commits(deployment: Deployment, count: int) -> list[bytes]:
    """Return signed commitments as bodies of POST: what evaluators log before they measure."""
    key = load_signing_key(deployment.folder / "keys" / "evaluator.key")
    fingerprint = sha256_digest((deployment.folder / "candidate.json").read_bytes())
    bodies = []
    for number in range(count):
        commit = Commit(
            id=make_id("commit", _now_ms(), secrets.token_bytes(ID_ENTROPY_BYTES)),
            fingerprint=fingerprint,
            assessment="bench-ledger",
            metric=f"metric-{number % 8}",
            comparator="below",
            limit=Decimal("0.1"),
            margin=Decimal("0.02"),
            confidence=Decimal("0.95"),
            attempts=10,
            data_set=fingerprint,
            deadline=_now_ms() + 3_600_000,
        )
        payload = encode_statement(
            EntryKind.COMMIT.value, (Subject(name="candidate", digest=fingerprint),), commit
        )
        envelope = sign_envelope(payload, STATEMENT_TYPE, [key]).decode()
        bodies.append(json.dumps({"kind": "commit", "envelope": envelope}).encode())
    return bodies


class _Appender:
    """One client that appends its entries one after the other over one connection."""

    def __init__(self, number: int, port: int, token: str, bodies: list[bytes]) -> None:
        # An address of its own on loopback: control bounds the requests of each address.
        self._source = (f"127.0.1.{number + 1}", 0)
        self._port, self._token, self._bodies = port, token, bodies
        self.took_s: list[float] = []
        self.indices: list[int] = []
        self.errors: list[str] = []

    def run(self, barrier: threading.Barrier) -> None:
        """Append all, timed from each request's first byte to the answer's last."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self._port, timeout=60, source_address=self._source
        )
        headers = {"authorization": f"Bearer {self._token}", "content-type": "application/json"}
        connection.connect()
        barrier.wait()
        for body in self._bodies:
            began = time.perf_counter()
            connection.request("POST", _ENTRIES, body, headers)
            answer = connection.getresponse()
            data = answer.read()
            self.took_s.append(time.perf_counter() - began)
            if answer.status == 201:
                self.indices.append(int(json.loads(data)["index"]))
            else:
                self.errors.append(f"{answer.status} {data[:200].decode(errors='replace')}")
        connection.close()


def measure_appends(deployment: Deployment, settings: LedgerSettings) -> dict[str, Any]:
    """Let all appenders loose at once; p50 and p99 in ms, entries a second, and what went wrong."""
    token = (deployment.folder / "keys" / "submitter.token").read_text().strip()
    bodies = _commits(deployment, settings.appenders * settings.entries_each)
    clients = [
        _Appender(number, deployment.port + 1, token, bodies[number :: settings.appenders])
        for number in range(settings.appenders)
    ]
    barrier = threading.Barrier(len(clients) + 1)
    threads = [threading.Thread(target=each.run, args=(barrier,)) for each in clients]
    for thread in threads:
        thread.start()
    barrier.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    took = [ms * 1000 for each in clients for ms in each.took_s]
    indices = [index for each in clients for index in each.indices]
    errors = [error for each in clients for error in each.errors]
    if len(set(indices)) != len(indices):
        errors.append("two entries were answered with one index")
    return {
        "append_p50_ms": round(percentile(took, 0.5), 2),
        "append_p99_ms": round(percentile(took, 0.99), 2),
        "appends_per_s": round(len(indices) / seconds, 1),
        "appended": len(indices),
        "append_errors": errors[:3],
    }


def measure_receipts(house: House, ours: EverythingOn, settings: LedgerSettings) -> dict[str, Any]:
    """Ask, under full load, how long after an answer its receipt is there; median, p99, longest in s."""
    deployment = ours.deployment
    run = WrkRun(
        ours.target(),
        house.folder / "requests-receipts",
        core=house.load_core,
        connections=settings.connections,
        warm_s=1.0,
        measure_s=settings.load_s,
    )
    time.sleep(2.0)
    took: list[float] = []
    end = time.monotonic() + settings.load_s - 2.0
    while len(took) < settings.receipts and time.monotonic() < end:
        answer = deployment.chat(deployment.api_keys[0])
        answered = time.monotonic()
        took.append(_receipt_after(deployment, answer.headers["gatelift-ticket"], answered))
    done = run.finish()
    return {
        "receipt_p50_s": round(percentile(took, 0.5), 3),
        "receipt_s": round(percentile(took, 0.99), 3),
        "receipt_max_s": round(max(took), 3),
        "receipts": len(took),
        "receipts_under_rps": round(done.rps, 1),
    }


def _receipt_after(deployment: Deployment, ticket: str, answered: float) -> float:
    entry = parse_ticket(ticket).entry.encode()
    path = f"/v1/receipts/{sha256(entry).hexdigest()}"
    connection = http.client.HTTPConnection("127.0.0.1", deployment.port, timeout=30)
    headers = {"authorization": f"Bearer {deployment.api_keys[0]}"}
    while time.monotonic() < answered + _RECEIPT_WAIT_S:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status == 200:
            connection.close()
            return time.monotonic() - answered
        time.sleep(0.02)
    raise RuntimeError(f"no receipt within {_RECEIPT_WAIT_S:g} s of the answer")


def measure_hashing(journals: Path, count: int) -> dict[str, Any]:
    """Return how many of the deployment's own records are hashed to a batch's root a second."""
    batches: list[list[tuple[bytes, bytes]]] = []
    records = 0
    for directory in sorted(journals.iterdir()):
        for run in list_runs(directory):
            follower = RunFollower(directory, run)
            while records < count and (read := follower.poll()):
                for batch in read:
                    batches.append([(stored.salt, stored.data) for stored in batch.records])
                    records += len(batch.records)
    began = time.process_time()
    for each in batches:
        root_of([record_leaf(salt, data) for salt, data in each])
    seconds = time.process_time() - began
    size = sum(len(data) for each in batches for _, data in each)
    return {
        "records_per_s": round(records / seconds),
        "records_hashed": records,
        "record_bytes": round(size / records),
    }


def _best_us(work: Callable[[], object], times: int, rounds: int = 5) -> float:
    """Return the microseconds of one call: the median over rounds of the mean of many calls."""
    found = []
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(times):
            work()
        found.append((time.process_time() - began) * 1e6 / times)
    return percentile(found, 0.5)


class _Files:
    """The deployment's files by digest, and the newest of each kind that a gateway is handed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "files" / "sha256"

    def read(self, digest: Digest) -> bytes:
        """Return a file's bytes."""
        return (self._folder / parse_digest(digest).removeprefix("sha256:")).read_bytes()

    def newest(self, payload_type: str) -> Digest:
        """Return the digest of the newest envelope of a payload type."""
        wanted = f'"{payload_type}"'.encode()
        found = [path for path in self._folder.iterdir() if wanted in path.read_bytes()]
        return Digest(f"sha256:{max(found, key=lambda path: path.stat().st_mtime_ns).name}")


def _hold(deployment: Deployment, pinned: Digest, files: _Files) -> Holdings:
    """Return what a worker holds, with a status of our own making that the deployment's key signs."""
    holdings = Holdings(pinned, files.read)
    bundle, roster = files.newest(BUNDLE_TYPE), files.newest(ROSTER_TYPE)
    verified = holdings.adopt_bundle(bundle, _now_ms())
    holdings.adopt_roster(roster)
    for placement in verified.bundle.placements:
        holdings.set_placement(placement.name, up=True)
    holdings.ask("nonce", 0)
    status = Status(
        release=verified.plan.name,
        certificates=tuple(held.digest for held in verified.certificates.values()),
        orders=(),
        bundle=bundle,
        roster_number=0,
        roster=roster,
        checkpoint="",
        number=1,
        nonces=("nonce",),
        epoch=1,
        signed_at=_now_ms(),
        ttl_ms=10_000,
    )
    key = load_signing_key(deployment.folder / "keys" / "control.key")
    if not holdings.adopt_status(sign_status(status, key)):
        raise RuntimeError("the worker's holdings did not take the status: nothing is measured")
    return holdings


def measure_certificates(deployment: Deployment, checks: int) -> dict[str, Any]:
    """Time a certificate's check from bytes, and what a request pays for it once it was checked.

    Uncached: quorum, terms, levels, window, leaf, inclusion, checkpoint and cosignatures of each
    certificate of the newest bundle; its root and plan are read once for all. Cached: who is this,
    and what may it do now.
    """
    files = _Files(deployment.folder)
    pinned = Digest((deployment.folder / "root.sha256").read_text().strip())
    holdings = _hold(deployment, pinned, files)
    data = files.read(files.newest(BUNDLE_TYPE))
    whole = verify_bundle(data, files.read, pinned, _now_ms())

    def check_all() -> None:
        for logged in whole.bundle.certificates:
            envelope = files.read(logged.envelope)
            verify_certificate(
                envelope,
                root=whole.root,
                plan=whole.plan,
                plan_digest=whole.bundle.plan,
                fingerprint=whole.bundle.candidate,
                now_ms=_now_ms(),
            )
            leaf, proof = logged.leaf.encode(), logged.proof.encode()
            policy = releases_policy(whole.root)
            verify_logged(EntryKind.CERTIFICATE, sha256_digest(envelope), leaf, proof, policy)

    who = holdings.identify(deployment.api_keys[0].encode("ascii"))
    if who is None or not isinstance(holdings.standing(who, _now_ms(), 1), Standing):
        raise RuntimeError("the caller's key has no standing: nothing is measured")
    at_ms, count = _now_ms(), len(whole.bundle.certificates)
    return {
        "cert_cached_us": round(_best_us(lambda: holdings.standing(who, at_ms, 1), checks), 3),
        "cert_uncached_ms": round(_best_us(check_all, 50) / 1000 / count, 3),
        "bundle_ms": round(
            _best_us(lambda: verify_bundle(data, files.read, pinned, _now_ms()), 10) / 1000, 1
        ),
        "certificates": count,
    }


def measure_verifying(folder: Path, settings: LedgerSettings) -> dict[str, Any]:
    """Return the seconds in which each verifier reads a million records, and what that is drawn from."""
    with tempfile.TemporaryDirectory(dir=folder) as made:
        found = measure_dossier(
            Path(made),
            records=settings.verify_records,
            chats_a_batch=settings.verify_chats,
            rounds=settings.verify_rounds,
        )
    count = settings.verify_records
    return {
        "verify_1m_s": found["package"]["wall_s_a_million"],
        "verify_1m_one_file_s": found["one file"]["wall_s_a_million"],
        "verify_1m_extrapolated_from": None if count == _MILLION else count,
    }


def measure_ledger(house: House, settings: LedgerSettings) -> dict[str, Any]:
    """Measure everything on one deployment; the receipts first, so that hashing has records."""
    ours = house.ours()
    ours.thaw()
    value = measure_receipts(house, ours, settings)
    value |= measure_hashing(ours.deployment.folder / "journal", settings.records)
    value |= measure_appends(ours.deployment, settings)
    return value | measure_certificates(ours.deployment, settings.checks)
