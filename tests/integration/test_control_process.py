"""Control as a process of its own: submit, refuse, decide, restart, kill, and keepers on a socket."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from gatelift.encoding import Digest, encode_base64, parse_base64, parse_json, sha256_digest
from gatelift.messages import (
    EntryHeader,
    EntryKind,
    PlanAdoption,
    Tick,
    releases_policy,
    verify_bundle,
    verify_logged,
)
from gatelift.messages.frames import Ask, OrderFrame, OrderReport, StatusFrame
from gatelift.tlog import verify_witnessed
from gatelift.trust import verify_status
from tests.integration.control_house import (
    WITNESS_NAME,
    Deployment,
    free_port,
    keeper_of,
    probe,
    running,
    wait_for,
)


def test_from_root_to_a_certificate_that_a_gateway_would_serve_from(tmp_path: Path) -> None:
    with running(tmp_path, witnessed=True) as it, keeper_of(it) as keeper:
        shut = it.certify()
        assert (shut.status_code, shut.json()["code"]) == (400, "gate_shut")
        assert [r["code"] for r in shut.json()["reasons"]] == ["placement_unprobed"]

        keeper.send(probe())
        wait_for(lambda: it.state()["last_decision"]["decision"]["kind"] == "advance")
        answer = it.certify()
        assert answer.status_code == 201, answer.text
        assert answer.json()["cosigned"] is True
        index = answer.json()["index"]

        keeper.send(Ask(nonces=("nonce-1",)))
        status = wait_for(lambda: keeper.certified_status(it.root))
        read = lambda digest: (it.folder / "files" / "sha256" / digest[7:]).read_bytes()  # noqa: E731
        bundle = verify_bundle(read(status.bundle), read, it.root_digest, int(time.time() * 1000))
        assert list(bundle.certificates) == ["assess"]
        assert bundle.certificates["assess"].digest in status.certificates
        assert not bundle.rejected

        policy = releases_policy(it.root)
        proof = it.call("GET", f"proof/{index}", "reader").content
        leaf = it.call("GET", f"entries/{index}", "reader").json()
        body = parse_base64(leaf["body"])
        stored = msgspec.json.encode(msgspec.convert(leaf["header"], EntryHeader))
        verify_logged(EntryKind.CERTIFICATE, sha256_digest(body), stored, proof, policy)
        public = it.call("GET", "checkpoint", None).content
        assert verify_witnessed(public, policy).witnesses == (WITNESS_NAME,)
        assert it.call("GET", "log/checkpoint", None).status_code == 200
        stage = it.state()["stages"][0]
        assert (stage["standing"], stage["certificate_index"]) == (True, index)


def test_statuses_answer_nonces_with_rising_numbers_and_end_with_the_process(
    tmp_path: Path,
) -> None:
    with running(tmp_path) as it, keeper_of(it) as keeper:
        wait_for(lambda: keeper.of(StatusFrame))
        asked = time.monotonic()
        keeper.send(Ask(nonces=("a", "b")))

        def answered() -> Any:
            for at, frame in list(keeper.frames):
                if isinstance(frame, StatusFrame):
                    status = verify_status(frame.envelope, it.root)
                    if {"a", "b"} <= set(status.nonces):
                        return at, status
            return None

        at, status = wait_for(answered)
        assert at - asked < 1.0
        held = len(keeper.of(StatusFrame))
        time.sleep(2.5)
        assert len(keeper.of(StatusFrame)) >= held + 2, "one a second also when nobody asks"
        numbers = [verify_status(f.envelope, it.root).number for f in keeper.of(StatusFrame)]
        assert numbers == sorted(set(numbers))
        it.end(signal.SIGKILL)
        assert keeper.closed.wait(5)
        held = len(keeper.of(StatusFrame))
        it.start()
        with keeper_of(it) as again:
            later = wait_for(lambda: again.of(StatusFrame))[0]
            newer = verify_status(later.envelope, it.root, last=status)
            assert newer.epoch == status.epoch + 1
            assert "a" not in newer.nonces
        assert len(keeper.of(StatusFrame)) == held


def test_an_order_without_a_token_reaches_the_keeper_within_a_second_and_is_named(
    tmp_path: Path,
) -> None:
    with running(tmp_path) as it, keeper_of(it) as keeper:
        envelope = it.order("order_1")
        began = time.monotonic()
        answer = it.call("POST", "orders", None, json={"envelope": envelope})
        assert answer.status_code == 201, answer.text
        at, frame = wait_for(
            lambda: next((f for f in keeper.frames if isinstance(f[1], OrderFrame)), None)
        )
        assert at - began < 1.0
        assert frame.envelope.decode() == envelope
        digest = sha256_digest(envelope.encode())
        wait_for(
            lambda: any(
                digest in verify_status(f.envelope, it.root).orders for f in keeper.of(StatusFrame)
            )
        )
        again = it.call("POST", "orders", None, json={"envelope": envelope})
        assert again.json() == answer.json()
        keeper.send(OrderReport(envelope=it.order("order_2").encode()))
        wait_for(lambda: len(it.state()["orders"]) == 2)
        # A keeper that comes back gets every order first.
        with keeper_of(it) as back:
            wait_for(lambda: len(back.of(OrderFrame)) == 2)
            assert isinstance(back.frames[0][1], OrderFrame)


def test_a_second_node_and_a_node_that_is_not_enrolled_are_refused(tmp_path: Path) -> None:
    with running(tmp_path, adopt=False) as it, keeper_of(it):
        wait_for(lambda: it.state()["node_connected"])
        for name in ("n2", "stranger"):
            with keeper_of(it, name) as other:
                assert other.closed.wait(5)
                assert not other.frames
        assert it.state()["node"] == "n1"


@pytest.mark.parametrize(
    ("role", "method", "path", "status", "code"),
    [
        (None, "GET", "state", 401, "token_missing"),
        ("wrong", "GET", "state", 403, "token_refused"),
        ("reader", "POST", "heads", 403, "token_refused"),
        ("reader", "GET", "entries/99", 404, "not_found"),
        ("reader", "GET", "files/" + "0" * 64, 404, "not_found"),
        ("reader", "GET", "files/..%2Froot.json", 404, "not_found"),
        (None, "GET", "log/..%2F..%2Fkeys%2Fcontrol.key", 404, "not_found"),
        ("reader", "GET", "entries?limit=1000000", 400, "bad_request"),
    ],
)
def test_what_may_not_be_read_is_refused_with_its_code(
    shared: Deployment, role: str | None, method: str, path: str, status: int, code: str
) -> None:
    shared.tokens["wrong"] = shared.tokens["submitter"][:-1] + "x"
    answer = shared.call(method, path, role)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert "glat_" not in answer.text.replace("glat_<role>_<secret>", "")


def test_what_may_not_be_logged_is_refused_with_its_code(shared: Deployment) -> None:
    it = shared
    size = it.state()["size"]
    own = it.sign(EntryKind.TICK, Tick(release="aurora"), ("control",))
    by_stop = it.sign(
        EntryKind.PLAN,
        PlanAdoption(release="aurora", plan=it.root_digest, candidate=it.root_digest),
        ("stop",),
    )
    absent = it.sign(
        EntryKind.PLAN,
        PlanAdoption(release="aurora", plan=Digest("sha256:" + "1" * 64), candidate=it.root_digest),
        ("operator",),
    )
    forged = parse_json(it.commit("commit_9").encode())
    forged["signatures"][0]["sig"] = encode_base64(b"\x01" * 64)
    for kind, envelope, code in (
        (EntryKind.TICK, own, "role_not_allowed"),
        (EntryKind.PLAN, by_stop, "role_not_allowed"),
        (EntryKind.PLAN, absent, "attachment_missing"),
        (EntryKind.COMMIT, json.dumps(forged), "forged"),
        (EntryKind.REVIEW, it.commit("commit_8"), "role_not_allowed"),
        (EntryKind.COMMIT, "{", "not_json"),
    ):
        answer = it.submit(kind, envelope)
        assert (answer.status_code, answer.json()["code"]) == (400, code), answer.text
    assert it.state()["size"] == size


def test_the_same_envelope_is_logged_once(shared: Deployment) -> None:
    envelope = shared.commit("commit_twice")
    first = shared.submit(EntryKind.COMMIT, envelope).json()
    second = shared.submit(EntryKind.COMMIT, envelope).json()
    assert second["index"] == first["index"]
    assert second["size"] == first["size"]


def test_of_concurrent_submissions_at_one_size_exactly_one_wins(shared: Deployment) -> None:
    size = shared.state()["size"]
    envelopes = [shared.commit(f"commit_race_{n}") for n in range(12)]
    with ThreadPoolExecutor(12) as pool:
        answers = list(
            pool.map(lambda e: shared.submit(EntryKind.COMMIT, e, expected_size=size), envelopes)
        )
    codes = sorted(answer.status_code for answer in answers)
    assert codes == [201] + [409] * 11
    assert {a.json()["code"] for a in answers if a.status_code == 409} == {"size_moved"}


def test_one_refused_submission_of_a_group_fails_alone(shared: Deployment) -> None:
    bad = shared.sign(EntryKind.TICK, Tick(release="aurora"), ("operator",))
    envelopes = [shared.commit(f"commit_group_{n}") for n in range(6)]
    envelopes.insert(3, bad)
    with ThreadPoolExecutor(7) as pool:
        answers = list(pool.map(lambda e: shared.submit(EntryKind.COMMIT, e), envelopes))
    assert [a.status_code for a in answers] == [201, 201, 201, 400, 201, 201, 201]
    indices = [a.json()["index"] for a in answers if a.status_code == 201]
    assert len(set(indices)) == 6


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with running(tmp_path_factory.mktemp("shared")) as deployment:
        yield deployment


def test_a_restart_refolds_to_the_same_state_and_decision(tmp_path: Path) -> None:
    with running(tmp_path) as it:
        with keeper_of(it) as keeper:
            keeper.send(probe())
            wait_for(lambda: it.state()["last_decision"]["decision"]["kind"] == "advance")
            assert it.certify().status_code == 201
            wait_for(lambda: keeper.certified_status(it.root))
        before = it.state()
        second = it.spawn(free_port())
        assert second.communicate(timeout=30)[0].strip() == "store_locked"
        assert second.returncode == 3
        assert it.end() == 0
        it.start()
        after = it.state()
        live = {"at", "status_number", "status_signed_at", "node", "node_connected", "checkpoint"}
        assert {k: v for k, v in after.items() if k not in live} == {
            k: v for k, v in before.items() if k not in live
        }


def test_a_kill_in_the_middle_keeps_every_acknowledged_entry(tmp_path: Path) -> None:
    with running(tmp_path) as it:
        acknowledged: dict[int, Digest] = {}
        envelopes = [it.commit(f"commit_{n}") for n in range(200)]

        def send(envelope: str) -> None:
            with contextlib.suppress(httpx.HTTPError):
                answer = it.submit(EntryKind.COMMIT, envelope)
                if answer.status_code == 201:
                    acknowledged[answer.json()["index"]] = sha256_digest(envelope.encode())

        with ThreadPoolExecutor(8) as pool:
            work = [pool.submit(send, envelope) for envelope in envelopes]
            wait_for(lambda: len(acknowledged) >= 20)
            it.end(signal.SIGKILL)
            for each in work:
                each.result(30)
        assert 20 <= len(acknowledged) < 200
        it.start()
        size = it.state()["size"]
        page = it.call("GET", "entries?limit=256", "reader").json()["entries"]
        assert len(page) == size
        for index, digest in acknowledged.items():
            assert page[index]["header"]["body"] == digest
        assert page[-1]["header"]["end"] is True
        assert it.submit(EntryKind.COMMIT, it.commit("commit_after")).status_code == 201
