"""What control does by itself: counts, heads, orders, incidents, the witness, and its own end."""

from __future__ import annotations

import signal
import sqlite3
import time
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatelift.decide import Mismatch, replay
from gatelift.encoding import Digest, parse_base64
from gatelift.messages import (
    Body,
    EntryHeader,
    EventCount,
    Observation,
    OrganisationCount,
    RecordRange,
    verify_body,
)
from gatelift.messages.frames import BundleFrame, Counted, HeadFrame, OrderFrame, StatusFrame
from gatelift.terms import Category, Side
from gatelift.tlog import Checkpoint, NoteSigner, parse_checkpoint, parse_note, sign_checkpoint
from gatelift.trust import verify_order, verify_root, verify_status
from tests.integration.control_house import (
    NAME,
    Deployment,
    FakeKeeper,
    keeper_of,
    probe,
    running,
    seed_of,
    wait_for,
)

ORIGIN = f"{NAME}/requests/n1/2026-11"
RANGE = RecordRange(origin=ORIGIN, first=0, last=9)


def certified(it: Deployment, keeper: FakeKeeper) -> Digest:
    keeper.send(probe())
    wait_for(lambda: it.state()["last_decision"]["decision"]["kind"] == "advance")
    assert it.certify().status_code == 201
    wait_for(lambda: keeper.certified_status(it.root))
    return Digest(it.state()["stages"][0]["certificate_digest"])


def observed(certificate: Digest, n: int, last: int = 9) -> Observation:
    return Observation(
        release="aurora",
        metric="leak_rate",
        stage="assess",
        certificate=certificate,
        stretch=0,
        n=n,
        s=0,
        open=0,
        units=n,
        organisations=(OrganisationCount(organisation="org", n=n, s=0, open=0),),
        ranges=(msgspec.structs.replace(RANGE, last=last),),
    )


def leaked(count: int) -> EventCount:
    return EventCount(
        release="aurora",
        stage="assess",
        category=Category.LEAK,
        side=Side.ANSWER,
        count=count,
        ranges=(RANGE,),
    )


def counts(*observations: Observation, events: tuple[EventCount, ...] = ()) -> Counted:
    return Counted(node="n1", observations=observations, events=events)


def head(size: int, seed: str = "n1 requests") -> HeadFrame:
    signer = NoteSigner(ORIGIN, Ed25519PrivateKey.from_private_bytes(seed_of(seed)))
    note = sign_checkpoint(Checkpoint(origin=ORIGIN, size=size, root=bytes([size]) * 32), signer)
    return HeadFrame(origin=ORIGIN, checkpoint=note.decode())


def kinds(it: Deployment) -> list[str]:
    page = it.call("GET", "entries?limit=256", "reader").json()["entries"]
    return [entry["header"]["kind"] for entry in page]


def replayed(it: Deployment) -> list[Mismatch]:
    """Replay the log as a stranger would, from what the API shows a submitter."""
    groups: list[list[tuple[EntryHeader, Body]]] = [[]]
    root = None
    for entry in it.call("GET", "entries?limit=256").json()["entries"]:
        header = msgspec.convert(entry["header"], EntryHeader)
        data = parse_base64(entry["body"])
        if root is None:
            root = verify_root(data, header.at)
            body = Body(kind=header.kind, value=root, signers=())
        else:
            body = verify_body(header.kind, data, root, header.at)
        groups[-1].append((header, body))
        if header.end:
            groups.append([])
    assert groups.pop() == []
    return replay(groups, lambda d: it.call("GET", f"files/{d[7:]}").content)


def test_an_event_that_the_plan_counts_halts_the_release_once_also_over_a_restart(
    tmp_path: Path,
) -> None:
    with running(tmp_path) as it:
        with keeper_of(it) as keeper:
            certified(it, keeper)
            keeper.send(counts(events=(leaked(3),)))
            frame = wait_for(lambda: keeper.of(OrderFrame))[0]
            standing = verify_order(frame.envelope, it.root)
            assert (standing.by.role, standing.order.ceiling) == ("control", None)
            wait_for(lambda: it.state()["incidents"] and it.state()["orders"])
            state = wait_for(
                lambda: (now := it.state())["last_decision"]["decision"]["kind"] == "halt" and now
            )
            assert [each["order"]["id"] for each in state["orders"]] == [standing.order.id]
            assert [each["incident"]["severity"] for each in state["incidents"]] == ["SEV-1"]
            assert state["stages"][0]["ceiling"] is None
            keeper.send(counts(events=(leaked(4),)))
            wait_for(lambda: it.state()["events"][0]["count"] == 4)
            assert replayed(it) == []
        it.end(signal.SIGKILL)
        it.start()
        after = it.state()
        assert (len(after["orders"]), len(after["incidents"])) == (1, 1)
        assert after["last_decision"] == state["last_decision"]
        # Counts and orders stay what they were when the same report comes again.
        with keeper_of(it) as keeper:
            keeper.send(counts(events=(leaked(4),)))
            time.sleep(0.5)
            assert it.state()["size"] == after["size"]


def test_only_counts_that_changed_are_logged_and_what_is_refused_is_not_repeated(
    tmp_path: Path,
) -> None:
    with running(tmp_path) as it, keeper_of(it) as keeper:
        certificate = certified(it, keeper)
        for n in range(1, 40):
            keeper.send(counts(observed(certificate, n)))
            time.sleep(0.02)
        wait_for(lambda: any(each["n"] == 39 for each in it.state()["metrics"]))
        assert kinds(it).count("observation") <= 5
        size = it.state()["size"]
        unknown = observed(Digest("sha256:" + "9" * 64), 5)
        keeper.send(counts(observed(certificate, 39, last=20), unknown))
        time.sleep(0.8)
        assert it.state()["size"] == size
        keeper.send(counts(observed(certificate, 40, last=20), unknown))
        wait_for(lambda: it.state()["size"] == size + 1)


def test_what_only_grows_waits_and_what_was_found_harmful_does_not(tmp_path: Path) -> None:
    def harmful(certificate: Digest, n: int) -> Observation:
        organisations = (OrganisationCount(organisation="org", n=n, s=1, open=0),)
        grown = observed(certificate, n)
        return msgspec.structs.replace(grown, s=1, organisations=organisations)

    with running(tmp_path) as it, keeper_of(it) as keeper:
        certificate = certified(it, keeper)
        keeper.send(counts(observed(certificate, 1)))
        wait_for(lambda: kinds(it).count("observation") == 1)
        keeper.send(counts(observed(certificate, 2)))
        time.sleep(0.6)
        assert kinds(it).count("observation") == 1
        keeper.send(counts(harmful(certificate, 3)))
        began = time.monotonic()
        wait_for(lambda: kinds(it).count("observation") == 2)
        assert time.monotonic() - began < 1
        keeper.send(counts(harmful(certificate, 4)))
        wait_for(lambda: any(each["n"] == 4 for each in it.state()["metrics"]))


def test_heads_are_anchored_when_asked_if_the_node_signed_them_and_never_go_back(
    tmp_path: Path,
) -> None:
    def anchored(it: Deployment) -> Any:
        answer = it.call("POST", "heads")
        assert answer.status_code == 200, answer.text
        held = answer.json()["heads"].get(ORIGIN)
        return None if held is None else parse_checkpoint(parse_note(held.encode()).text).size

    with running(tmp_path) as it, keeper_of(it) as keeper:
        keeper.send(head(7))
        assert wait_for(lambda: anchored(it)) == 7
        keeper.send(head(6))
        keeper.send(head(9, seed="somebody"))
        keeper.send(head(8))
        wait_for(lambda: anchored(it) == 8)
        assert kinds(it).count("head") == 2
        it.end(signal.SIGKILL)
        it.start()
        with keeper_of(it) as back:
            back.send(head(7))
            time.sleep(0.2)
            assert anchored(it) == 8


def test_the_first_head_of_a_log_is_anchored_at_once_and_the_next_a_minute_later(
    tmp_path: Path,
) -> None:
    with running(tmp_path) as it, keeper_of(it) as keeper:
        keeper.send(head(7))
        wait_for(lambda: kinds(it).count("head") == 1)
        keeper.send(head(8))
        time.sleep(4.5)
        assert kinds(it).count("head") == 1, "the log that is kept for ever grows each second"


def test_without_the_witness_nothing_new_is_proved_but_orders_act_and_statuses_go_on(
    tmp_path: Path,
) -> None:
    with running(tmp_path, witnessed=True) as it, keeper_of(it) as keeper:
        certified(it, keeper)
        held = wait_for(lambda: (now := it.state())["checkpoint"]["size"] == now["size"] and now)
        bundles = len(keeper.of(BundleFrame))
        assert it.witness is not None
        it.witness.kill()
        it.witness.wait(10)
        answer = it.call("POST", "orders", None, json={"envelope": it.order("order_w")})
        assert answer.status_code == 201
        wait_for(lambda: keeper.of(OrderFrame))
        wait_for(lambda: it.state()["witness_problem"])
        before = len(keeper.of(StatusFrame))
        wait_for(lambda: len(keeper.of(StatusFrame)) > before + 1)
        status = verify_status(keeper.of(StatusFrame)[-1].envelope, it.root)
        assert f"\n{held['checkpoint']['size']}\n" in status.checkpoint
        assert len(status.orders) == 1
        assert len(keeper.of(BundleFrame)) == bundles
        it.start_witness()
        wait_for(lambda: (now := it.state())["checkpoint"]["size"] == now["size"])
        assert it.state()["witness_problem"] is None


def test_a_leader_that_was_overtaken_signs_nothing_more_and_ends(tmp_path: Path) -> None:
    with running(tmp_path) as it, keeper_of(it) as keeper:
        wait_for(lambda: keeper.of(StatusFrame))
        store = sqlite3.connect(it.folder / "store" / "control.sqlite")
        store.execute("UPDATE meta SET value = '99' WHERE name = 'epoch'")
        store.commit()
        store.close()
        answer = it.submit_commit("commit_fenced")
        assert answer is None or answer.status_code == 503
        assert keeper.closed.wait(10)
        assert it.process is not None
        assert it.process.wait(20) == 3
        numbers = [verify_status(f.envelope, it.root).epoch for f in keeper.of(StatusFrame)]
        assert set(numbers) == {1}


def test_a_leader_that_was_overtaken_ends_though_nothing_is_written(tmp_path: Path) -> None:
    with running(tmp_path) as it, keeper_of(it) as keeper:
        wait_for(lambda: keeper.of(StatusFrame))
        store = sqlite3.connect(it.folder / "store" / "control.sqlite")
        store.execute("UPDATE meta SET value = '99' WHERE name = 'epoch'")
        store.commit()
        store.close()
        assert keeper.closed.wait(10)
        assert it.process is not None
        assert it.process.wait(20) == 3
