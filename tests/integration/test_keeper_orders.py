"""Orders, statuses, drift, counts and receipts through a real keeper process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gatelift.encoding import Digest, sha256_digest
from gatelift.ledger.following import GRACE_MS
from gatelift.messages import EntryKind, Placement
from gatelift.messages.frames import (
    Ask,
    BundleFrame,
    ClearFrame,
    Counted,
    HeadFrame,
    OrderFrame,
    OrderReport,
    PlacementFrame,
    ProbeReport,
    ReceiptAsk,
    ReceiptFrame,
    RosterFrame,
    StatusFrame,
)
from gatelift.terms import Endpoint, Sealing, Tier
from gatelift.tlog import KeyKind, VerifierKey, parse_policy, parse_proof, verify_proof
from gatelift.trust import Clear, Grant, GrantKey, Target, TargetKind
from gatelift.wire.probes import ProbeTarget, measure_baseline
from tests.integration.keeper_house import House, Peer, end_all
from tests.support.upstream import ScriptedUpstream
from tests.support.world import World, key


@pytest.fixture(autouse=True)
def _nothing_left_running() -> Iterator[None]:
    yield
    end_all()


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    server = ScriptedUpstream()
    yield server
    server.close()


def made_grant(world: World, **changes: Any) -> Grant:
    made = Grant(
        id="grant_1",
        release=world.plan.name,
        stage="internal",
        principal="alice",
        organisation="us",
        project="p",
        tier=Tier.INTERNAL,
        endpoints=(Endpoint.CHAT,),
        proofs=(),
        vetting=None,
        keys=(GrantKey(public_id="AB", digest=sha256_digest(b"k")),),
        not_before=world.now - 1,
        not_after=world.now + 9_000_000,
    )
    return msgspec.structs.replace(made, **changes)


def test_an_order_by_file_reaches_workers_within_a_second_and_outlives_a_kill(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        house = House(tmp_path / "d")
        await house.start(control=False)
        worker = await house.worker()
        incoming = house.directory / "incoming"
        (incoming / "bad.order.json").write_bytes(house.order(by="evaluator:eve"))
        (incoming / "half.order.json").write_bytes(b'{"payload":')
        began = time.monotonic()
        (incoming / "good.order.json").write_bytes(house.order())
        frame = await worker.wait(OrderFrame)
        assert time.monotonic() - began < 1
        assert frame.envelope == house.order()
        await asyncio.sleep(1.5)
        refused = sorted(path.name for path in (incoming / "refused").glob("*.reason"))
        assert refused == ["bad.order.json.reason", "half.order.json.reason"]
        assert (incoming / "done" / "good.order.json").exists()
        assert len(worker.all(OrderFrame)) == 1
        house.kill_keeper()
        house.start_keeper()
        again = await house.worker("w8")
        assert (await again.wait(OrderFrame)).envelope == house.order()
        await house.close()

    asyncio.run(main())


def test_a_status_without_a_logged_order_is_not_passed_on(tmp_path: Path) -> None:
    async def main() -> None:
        house = House(tmp_path / "d")
        await house.start()
        worker = await house.worker()
        worker.send(Ask(nonces=("n1", "n2")))
        assert set((await house.control.wait(Ask)).nonces) == {"n1", "n2"}
        first = house.push_status()
        await worker.wait(StatusFrame, lambda f: f.envelope == first)
        order = house.order()
        house.log(EntryKind.ORDER, order)
        await worker.wait(OrderFrame)
        house.push_status()
        house.push_status()
        whole = house.push_status(order)
        await worker.wait(StatusFrame, lambda f: f.envelope == whole)
        assert [f.envelope for f in worker.all(StatusFrame)] == [first, whole]
        # A certificate whose signers saw the order lifts it, so a status may leave it out.
        clearing = house.world.signed_certificate("internal", clears=("order_1",), sequence=2)
        house.log(EntryKind.CERTIFICATE, clearing)
        lifted = house.push_status()
        await worker.wait(StatusFrame, lambda f: f.envelope == lifted)
        await house.close()

    asyncio.run(main())


def test_a_status_from_what_the_log_has_replaced_is_not_passed_on(tmp_path: Path) -> None:
    async def main() -> None:
        house = House(tmp_path / "d")
        world = house.world
        world.now -= 2 * GRACE_MS
        await house.start()
        worker = await house.worker()
        worker.send(Ask(nonces=("n1",)))
        await house.control.wait(Ask)
        first = house.push_status()
        await worker.wait(StatusFrame, lambda f: f.envelope == first)

        async def passes(status: bytes) -> bool:
            await asyncio.sleep(0.5)
            return any(f.envelope == status for f in worker.all(StatusFrame))

        # An earlier certificate of a stage, from the moment that the log holds a later one.
        house.log(EntryKind.CERTIFICATE, world.signed_certificate("internal", sequence=2))
        assert not await passes(house.push_status())
        house.certificate = house.shelf.leaves[-1][0]
        assert await passes(house.push_status())
        # One that is signed and not in the log.
        logged, house.certificate = house.certificate, sha256_digest(b"never logged")
        assert not await passes(house.push_status())
        house.certificate = logged
        # An earlier grant of an id; one that was never logged; and both are known after a kill.
        wide, narrow = (
            world.sign("grant", made_grant(world, not_after=world.now + after), "admissions:ada")
            for after in (9_000_000, 8_000_000)
        )
        house.log(EntryKind.GRANT, wide)
        house.log(EntryKind.GRANT, narrow)
        other = world.sign("grant", made_grant(world, id="grant_9"), "admissions:ada")
        for kill in (False, True):
            if kill:
                house.kill_keeper()
                house.start_keeper()
                worker = await house.worker("w8")
                worker.send(Ask(nonces=("n2",)))
                await house.control.wait(Ask, lambda f: "n2" in f.nonces)
            for grant, stands in ((wide, False), (other, False), (narrow, True)):
                house.roster = sha256_digest(house.shelf.roster(grant))
                house.store()
                assert await passes(house.push_status()) is stands
        await house.close()

    asyncio.run(main())


def test_only_a_clear_lifts_an_order_on_an_organisation(tmp_path: Path) -> None:
    async def main() -> None:
        house = House(tmp_path / "d")
        await house.start()
        worker = await house.worker()
        target = Target(kind=TargetKind.ORGANISATION, name="o1")
        house.log(EntryKind.ORDER, house.order(target=target))
        refused = house.push_status()
        clear = Clear(release="aurora", orders=("order_1",), at=house.world.now)
        body = house.world.sign("clear", clear, "admissions:ada", "safety:sam")
        house.log(EntryKind.CLEAR, body)
        await worker.wait(ClearFrame)
        passed = house.push_status()
        await worker.wait(StatusFrame, lambda f: f.envelope == passed)
        assert refused not in [f.envelope for f in worker.all(StatusFrame)]
        await house.close()

    asyncio.run(main())


def test_statuses_stop_when_the_releases_log_goes_back(tmp_path: Path) -> None:
    async def main() -> None:
        house = House(tmp_path / "d")
        await house.start()
        worker = await house.worker()
        older = house.status()
        house.log(EntryKind.ORDER, house.order())
        await worker.wait(OrderFrame)
        house.kill_keeper()  # what it has seen is remembered on disk
        house.start_keeper()
        worker = await house.worker("w8")
        await worker.wait(OrderFrame)
        house.control.send(StatusFrame(envelope=older))
        whole = house.push_status(house.order())
        await worker.wait(StatusFrame, lambda f: f.envelope == whole, timeout_s=8)
        assert [f.envelope for f in worker.all(StatusFrame)] == [whole]
        await house.close()

    asyncio.run(main())


def test_statuses_on_a_head_that_no_quorum_confirmed_lately_are_not_passed_on(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        house = House(tmp_path / "d")
        await house.start()
        worker = await house.worker()
        worker.send(Ask(nonces=("n1",)))
        await house.control.wait(Ask)
        real, day_ms = house.world.now, house.world.root.witness_max_age_ms
        fresh = []
        for late_ms in (real - day_ms - 5_000, real + 600_000):
            # Signed by control just now, over a head that was cosigned at another time.
            house.world.now = late_ms
            house.push_status()
            house.world.now = real - day_ms + 60_000
            fresh.append(house.push_status())
            await worker.wait(StatusFrame, lambda f: f.envelope == fresh[-1])
        assert [f.envelope for f in worker.all(StatusFrame)] == fresh
        await house.close()

    asyncio.run(main())


def test_orders_known_to_the_node_alone_are_reported_to_control(tmp_path: Path) -> None:
    async def main() -> None:
        house = House(tmp_path / "d")
        await house.start()
        await house.worker()
        (house.directory / "incoming" / "x.order.json").write_bytes(house.order())
        report = await house.control.wait(OrderReport)
        assert report.envelope == house.order()
        await house.close()

    asyncio.run(main())


async def _placed(house: House, upstream: ScriptedUpstream) -> None:
    target = ProbeTarget(
        base_url=upstream.url,
        model="m",
        system_prompt="You are a helpful assistant. Be brief.",
        max_tokens=house.world.plan.drift.tokens,
    )
    baseline = house.shelf.put(await measure_baseline(target, 16, "up"))
    place = Placement(name="here", base_url=upstream.url, model="m", baseline=baseline)
    house.enrol((place,), number=2)


def test_a_changed_model_is_closed_and_stays_closed(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    async def main() -> None:
        house = House(tmp_path / "d")
        await _placed(house, upstream)
        await house.start()
        worker = await house.worker()
        await worker.wait(PlacementFrame, lambda f: f.up)
        assert all(b["temperature"] == 0 for b in upstream.bodies)
        was = upstream.words
        upstream.words = ["other"]
        down = await worker.wait(PlacementFrame, lambda f: f.reason == "drift")
        assert not down.up
        report = await house.control.wait(ProbeReport, lambda f: f.probe.reason == "drift")
        assert (report.probe.changed, report.probe.of) == (3, 16)
        assert report.probe.sealing is Sealing.DECLARED
        upstream.words = was
        await asyncio.sleep(0.5)
        late = await house.worker("w8")
        assert not (await late.wait(PlacementFrame)).up
        await house.close()

    asyncio.run(main())


def test_a_silent_placement_is_down_and_comes_back_by_itself(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    async def main() -> None:
        house = House(tmp_path / "d")
        await _placed(house, upstream)
        await house.start()
        worker = await house.worker()
        await worker.wait(PlacementFrame, lambda f: f.up)
        upstream.status = 503
        await worker.wait(PlacementFrame, lambda f: not f.up and f.reason == "probe_odd")
        worker.frames.clear()
        upstream.status = 200
        await worker.wait(PlacementFrame, lambda f: f.up)
        await house.close()

    asyncio.run(main())


def test_counts_heads_and_receipts_agree_with_the_requests_log(tmp_path: Path) -> None:
    async def main() -> None:
        house = House(tmp_path / "d")
        await house.start()
        peer = await house.worker()
        await peer.wait(RosterFrame)
        assert peer.all(BundleFrame)[0].digest == house.bundle
        worker = house.spawn_worker("w0", requests=10, limit=50)
        await asyncio.to_thread(worker.ready)
        worker.go()
        batches = set()
        while "done" not in (line := await asyncio.to_thread(worker.line)):
            batches |= {Digest(line["batch"])} if "batch" in line else set()
        counted = await house.control.wait(
            Counted, lambda f: any(o.n == 10 for o in f.observations)
        )
        seen = next(o for o in counted.observations if o.metric == "leak_rate")
        assert (seen.certificate, seen.n, seen.s, seen.units) == (house.certificate, 10, 0, 10)
        assert counted.events == ()
        head = await house.control.wait(HeadFrame)
        vkey = VerifierKey(name=head.origin, kind=KeyKind.NOTE, public_key=key("requests").public)
        policy = parse_policy(f"log {vkey.vkey}\nquorum none\n".encode())
        entries = {sha256_digest(entry): entry for entry in house.logged()}
        for number, batch in enumerate(sorted(batches)):
            receipt = await _receipt(peer, number, batch)
            verify_proof(parse_proof(receipt.proof), entries[batch], policy)
        unknown = await _receipt(peer, 99, Digest("sha256:" + "0" * 64), known=False)
        assert unknown.proof is None
        await asyncio.to_thread(worker.leave)
        await house.close()

    asyncio.run(main())


async def _receipt(peer: Peer, number: int, batch: Digest, *, known: bool = True) -> ReceiptFrame:
    peer.send(ReceiptAsk(id=number, batch=batch))
    found: ReceiptFrame = await peer.wait(ReceiptFrame, lambda f: f.id == number)
    assert found.known is known
    return found


def test_a_batch_that_another_key_signed_closes_the_node(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    async def main() -> None:
        house = House(tmp_path / "d")
        await _placed(house, upstream)
        await house.start()
        peer = await house.worker()
        await peer.wait(PlacementFrame, lambda f: f.up)
        forger = house.spawn_worker("w0", requests=1, limit=50, forged=True)
        await asyncio.to_thread(forger.ready)
        forger.go()
        await peer.wait(PlacementFrame, lambda f: f.reason == "node_closed")
        await house.control.wait(ProbeReport, lambda f: f.probe.reason == "node_closed")
        house.push_status()
        order = house.order()
        house.log(EntryKind.ORDER, order)
        await peer.wait(OrderFrame)  # orders still go out
        assert peer.all(StatusFrame) == []
        await asyncio.to_thread(forger.leave)
        await house.close()

    asyncio.run(main())
