"""Promise 4: a stop is fast.

Attacked here: sixteen streams are open on four workers when an order comes by the admin API, by a
file, by the host's socket and by the overseer's own endpoint, the last three also while control
hangs, and it stops the release, a stage, an organisation, a principal or a key; or when admissions
takes a grant back; the clock runs from before the order is sent to the last byte that any caller
received. Then control is killed with -9 and kept down, and after that frozen in the middle
of its work, with streams open: the gateway must close by itself within the plan's status_ttl.

Seen to fail: without the call of `recheck` after an order in `gateway.worker` the streams ran on
where control hung, until the status lapsed (red; with control alive its next status hides this); with
`_lapsed` doing nothing they outlived control's death (red). A roster that no open exchange was
judged by again left a grant's streams running after it was taken back (red).
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from tests.promises.hands import Hands, freeze, opened, statement, thaw
from tests.promises.outside import (
    PLANS,
    Deployment,
    OrderList,
    Said,
    Stream,
    gatelift,
    say,
    wait_for,
)
from tests.support.upstream import ScriptedUpstream

WORKERS, STREAMS = 4, 16
TTL_S = 2.0
BOUND_S = 1.0
ORDERS: list[OrderList] = []


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    found = ScriptedUpstream(["word "] * 1024, delay_s=0.02, key="upstream-key-of-promise-four")
    yield found
    found.close()


@pytest.fixture(scope="module")
def orders() -> Iterator[OrderList]:
    found = OrderList()
    ORDERS.append(found)
    yield found
    ORDERS.clear()
    found.close()


@pytest.fixture(scope="module")
def deployment(
    upstream: ScriptedUpstream, orders: OrderList, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    found = Deployment(
        tmp_path_factory.mktemp("p04") / "d",
        upstream=upstream.url,
        upstream_key=upstream.key,
        plan=PLANS / "harbour.yaml",
        workers=WORKERS,
        more=("--overseer-orders", orders.url),
    )
    yield found
    found.stop()


def open_streams(deployment: Deployment) -> list[Stream]:
    deployment.wait_serving()
    streams = [Stream(deployment, max_tokens=1024) for _ in range(STREAMS)]
    wait_for(lambda: all(s.text.count(b"data:") > 5 for s in streams), seconds=15)
    return streams


def judge(streams: list[Stream], began_s: float, bound_s: float, what: str) -> None:
    """Every stream ended within the bound, broken off and not as if it were complete."""
    for stream in streams:
        stream.join(20)
        assert not stream.is_alive()
    slowest = max(s.last_s for s in streams) - began_s
    median = sorted(s.last_s for s in streams)[STREAMS // 2] - began_s
    say(f"{what}: last byte of {STREAMS} streams on {WORKERS} workers after {slowest:.3f} s")
    say(f"  (median {median:.3f} s)")
    assert slowest < bound_s
    assert all(s.broken for s in streams), "a stop must not look like a clean end"
    assert not any(b"[DONE]" in s.text for s in streams)


def post(deployment: Deployment, envelope: bytes) -> None:
    url = f"{deployment.admin_url}/admin/v1/orders"
    response = httpx.post(url, json={"envelope": envelope.decode()}, timeout=10)
    assert response.status_code == 201, response.text


def drop(deployment: Deployment, envelope: bytes) -> None:
    path = deployment.folder / "incoming/half"
    path.write_bytes(envelope)
    path.rename(deployment.folder / f"incoming/{time.monotonic_ns()}.order.json")


def hand_over(deployment: Deployment, envelope: bytes) -> None:
    """Give it to the keeper at the host's socket, and wait for its word."""
    answer = at_socket(deployment, envelope)
    assert answer["accepted"], answer


def at_socket(deployment: Deployment, envelope: bytes) -> dict[str, Any]:
    """Send one order frame by hand; return the answer frame."""
    path = deployment.folder / "run/orders.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    frame = msgspec.msgpack.encode({"type": "order", "envelope": envelope})
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(str(path))
        sock.sendall(struct.pack(">I", len(frame)) + frame)
        data = b""
        while more := sock.recv(65536):
            data += more
    found: dict[str, Any] = msgspec.msgpack.decode(data[4:])
    return found


def publish(deployment: Deployment, envelope: bytes) -> None:
    """Put it on the overseer's own web server, where nobody of the operator stands in between."""
    ORDERS[0].publish(envelope)


Deliver = Callable[[Deployment, bytes], None]


def without_control(deliver: Deliver) -> Deliver:
    """Deliver while control hangs: nothing but the order itself can stop anybody."""

    def delivered(deployment: Deployment, envelope: bytes) -> None:
        freeze(deployment)
        (pid,) = deployment.processes("control")
        os.kill(pid, signal.SIGSTOP)

        def go_on() -> None:
            os.kill(pid, signal.SIGCONT)
            thaw(deployment)

        threading.Timer(BOUND_S + 0.5, go_on).start()
        deliver(deployment, envelope)

    return delivered


def whoami(deployment: Deployment, hands: Hands) -> dict[str, str]:
    """Return the names that an order can stop the deployment's own caller by."""
    public_id = deployment.api_key.split("_")[1]
    for text in opened(hands.file(hands.served("roster")))["grants"]:
        grant = opened(text.encode())["predicate"]
        if grant["keys"][0]["public_id"] == public_id:
            return {"principal": grant["principal"], "key": public_id}
    raise AssertionError("the caller has no grant")


def reopen(deployment: Deployment) -> None:
    def done() -> bool:
        return deployment.cli("certify", "--stage", "assess", who=("operator", "safety")).code == 0

    wait_for(done, seconds=30)
    deployment.wait_serving()


@pytest.mark.parametrize(
    ("deliver", "kind", "name"),
    [
        pytest.param(post, "release", "harbour", id="api-release"),
        pytest.param(drop, "stage", "assess", id="file-stage"),
        pytest.param(without_control(drop), "stage", "assess", id="file-stage-control-hangs"),
        pytest.param(hand_over, "release", "harbour", id="socket-release"),
        pytest.param(
            without_control(hand_over), "stage", "assess", id="socket-stage-control-hangs"
        ),
        pytest.param(publish, "stage", "assess", id="overseer-stage"),
        pytest.param(without_control(publish), "release", "harbour", id="overseer-control-hangs"),
        pytest.param(post, "organisation", "local", id="api-organisation"),
        pytest.param(hand_over, "principal", None, id="socket-principal"),
        pytest.param(without_control(publish), "key", None, id="overseer-key-control-hangs"),
    ],
)
def test_an_order_cuts_every_open_stream_within_a_second(
    deployment: Deployment,
    upstream: ScriptedUpstream,
    request: pytest.FixtureRequest,
    deliver: Deliver,
    kind: str,
    name: str | None,
) -> None:
    hands, label = Hands(deployment), request.node.callspec.id
    if name is None:
        name = whoami(deployment, hands)[kind]
    streams = open_streams(deployment)
    # Who stops less than a stage may say for how long; the others are re-opened by certificate.
    lasts = kind not in {"release", "stage"}
    until = time.time_ns() // 1_000_000 + 6000 if lasts else None
    by = "overseer" if "overseer" in label else "stop"
    envelope = hands.order(by, kind, name, until=until)
    try:
        began = time.monotonic()
        deliver(deployment, envelope)
        judge(streams, began, BOUND_S, label)
        before = [b for b in list(upstream.bodies) if b.get("stream")]
        refusals = {(403, "stopped")}
        if "control-hangs" in label:
            # On a slow machine the status lapses before control goes on: that refuses as well.
            refusals.add((503, "status_lapsed"))
        for _ in range(2 * WORKERS):
            assert refused(deployment) in refusals
        if not lasts:
            wait_for(lambda: refused(deployment) == (403, "stopped"))
        assert len([b for b in list(upstream.bodies) if b.get("stream")]) == len(before)
    finally:
        if not lasts:
            reopen(deployment)


def refused(deployment: Deployment) -> tuple[int, str]:
    answer = deployment.chat(stream=True)
    assert answer.status_code != 200
    return answer.status_code, str(answer.json()["error"]["code"])


@pytest.mark.parametrize("change", ["endpoints", "ends"])
def test_a_grant_that_is_taken_back_cuts_its_streams_within_a_second(
    deployment: Deployment, change: str
) -> None:
    """Admissions signs the grant anew: without the endpoint, or as ending now."""
    hands = Hands(deployment)
    api_key, envelope = hands.make_grant("p-taken-back", "admissions")
    grant = opened(envelope)["predicate"]
    log_grant(deployment, envelope)
    deployment.wait_known(api_key)
    deployment.wait_serving()
    ours = [Stream(deployment, key=api_key, max_tokens=1024) for _ in range(STREAMS)]
    others = [Stream(deployment, max_tokens=400) for _ in range(4)]
    wait_for(lambda: all(s.text.count(b"data:") > 5 for s in [*ours, *others]), seconds=15)
    at = time.time_ns() // 1_000_000 + 500
    changed = {"endpoints": ["models"]} if change == "endpoints" else {"not_after": at}
    taken = statement("grant", {**grant, **changed}, hands.fingerprint, hands.key("admissions"))
    log_grant(deployment, taken)
    began = time.monotonic()
    if change == "ends":
        began = time.monotonic() - time.time() + at / 1000
    judge(ours, began, BOUND_S, f"grant signed anew ({change})")
    for _ in range(2 * WORKERS):
        answer = deployment.chat(key=api_key)
        assert answer.status_code in {401, 403}, answer.text
    assert all(s.is_alive() for s in others), "a stop of one takes no other with it"
    for stream in others:
        stream.join(40)
    assert all(b"[DONE]" in s.text for s in others)


def log_grant(deployment: Deployment, envelope: bytes) -> None:
    token = (deployment.folder / "keys/submitter.token").read_text().strip()
    response = httpx.post(
        f"{deployment.admin_url}/admin/v1/entries",
        json={"kind": "grant", "envelope": envelope.decode()},
        headers={"authorization": f"Bearer {token}"},
        timeout=10,
    )
    assert response.status_code == 201, response.text


def test_what_is_not_signed_by_who_may_stop_is_refused_at_the_socket_with_its_reason(
    deployment: Deployment,
) -> None:
    hands = Hands(deployment)
    order = hands.order("evaluator", "release", "harbour")
    deployment.wait_serving()
    answer = at_socket(deployment, order)
    assert (answer["accepted"], answer["code"]) == (False, "role_not_allowed"), answer
    forged = json.loads(hands.order("stop", "release", "harbour"))
    forged["signatures"][0]["sig"] = base64.b64encode(b"x" * 64).decode()
    assert at_socket(deployment, json.dumps(forged).encode())["accepted"] is False
    publish(deployment, order)
    publish(deployment, b"not an order")
    asked = ORDERS[0].asked
    wait_for(lambda: ORDERS[0].asked > asked + 1)
    assert deployment.chat().status_code == 200


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_without_control_the_gateway_closes_within_the_ttl(
    deployment: Deployment, how: signal.Signals
) -> None:
    deployment.wait_control()
    streams = open_streams(deployment)
    freeze(deployment)
    (pid,) = deployment.processes("control")
    try:
        began = time.monotonic()
        os.kill(pid, how)
        judge(streams, began, TTL_S + 0.5, f"control {how.name}")
        for _ in range(2 * WORKERS):
            answer = deployment.chat()
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "status_lapsed")
    finally:
        if how is signal.SIGSTOP:
            os.kill(pid, signal.SIGCONT)
        thaw(deployment)
    deployment.wait_control()
    deployment.wait_serving()


def test_the_commands_reach_the_socket_and_the_overseers_list(
    deployment: Deployment, tmp_path: Path
) -> None:
    order = ["halt", "--reason", "drill", "--principal", "nobody", "--for", "5s", "--json"]
    stop, overseer = ("--key", deployment.key("stop")), ("--key", deployment.key("overseer"))
    said = Said(gatelift(*order, *stop, "--socket", deployment.folder)).must()
    assert said["accepted"] is True

    def held(digest: str) -> bool:
        return any(o["digest"] == digest for o in deployment.admin("/state").json()["orders"])

    wait_for(lambda: held(said["digest"]))
    refused = Said(
        gatelift(*order, "--key", deployment.key("evaluator"), "--socket", deployment.folder)
    )
    assert (refused.code, refused.error["code"]) == (1, "role_not_allowed")
    path = tmp_path / "orders.txt"
    told = [
        Said(gatelift(*order, *overseer, "--release", "harbour", "--list", path)).must()
        for _ in range(2)
    ]
    assert len(path.read_bytes().splitlines()) == 2
    ORDERS[0].text += path.read_bytes()
    wait_for(lambda: all(held(each["digest"]) for each in told))
    signed = tmp_path / "signed.json"
    said = Said(gatelift(*order, *stop, "--release", "harbour", "--out", signed)).must()
    said = Said(gatelift("submit", signed, "--socket", deployment.folder, "--json")).must()
    wait_for(lambda: held(said["digest"]))
