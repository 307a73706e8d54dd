"""Promise 4 with a beacon: the silence of organisations outside the operator stops service.

Three organisations run a beacon each, two of them must sign every status. Attacked here: beacons are
hung one after the other, told to be silent and to speak again; control is stolen with its key and
goes on signing by itself; a beacon is asked to sign what hides a stop, serves from a certificate that
no log holds, is somebody else's, or is a second status of one number.

Seen to fail: with `trust.beacon` asking for nothing service went on through every silence and the thief
kept it alive (red); with keys counted in place of organisations the second key of one was enough
(`tests/unit/trust/test_trust_beacon.py`); without `check_status` in `beacon.beacon` a status that hid an
order was signed (red).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.promises.hands import STATUS, Hands, StolenControl, seal
from tests.promises.outside import PLANS, Deployment, gatelift, say, wait_for
from tests.support.upstream import ScriptedUpstream

TTL_S = 2.0
SLACK_S = 1.0
ORGANISATIONS = ("oversight.example", "uni.example", "press.example")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Beacons:
    """A deployment that two of three beacons keep alive."""

    def __init__(self, folder: Path, upstream: ScriptedUpstream) -> None:
        self.urls = [f"http://127.0.0.1:{free_port()}" for _ in ORGANISATIONS]
        more: list[str] = []
        for organisation, url in zip(ORGANISATIONS, self.urls, strict=True):
            more += ["--beacon", f"{organisation}={url}"]
        self.deployment = Deployment(
            folder,
            upstream=upstream.url,
            upstream_key=upstream.key,
            plan=PLANS / "harbour.yaml",
            workers=2,
            more=tuple(more),
        )

    def folder(self, number: int) -> Path:
        return self.deployment.folder / f"beacon-{number + 1}"

    def pid(self, number: int) -> int:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes().decode().split("\0")
                except OSError:
                    continue
                if "beacon" in words and str(self.folder(number)) in words:
                    return int(entry.name)
        raise AssertionError(f"beacon {number} does not run")

    @contextmanager
    def hung(self, number: int) -> Iterator[None]:
        pid = self.pid(number)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    @contextmanager
    def paused(self, number: int) -> Iterator[None]:
        assert gatelift("beacon", "pause", "--folder", self.folder(number)).returncode == 0
        try:
            yield
        finally:
            assert gatelift("beacon", "resume", "--folder", self.folder(number)).returncode == 0

    def ask(self, number: int, value: dict[str, Any], key: str = "control") -> httpx.Response:
        envelope = seal(json.dumps(value).encode(), STATUS, Hands(self.deployment).key(key))
        return httpx.post(f"{self.urls[number]}/sign", content=envelope, timeout=10)

    def is_served(self) -> bool:
        return self.deployment.chat().status_code == 200

    def closes_within(self, seconds: float) -> float:
        """See that after `seconds` nobody is served, for a while; return when the last one was.

        Each worker closes when its own status lapses, so that one serves on for a moment longer.
        """
        began = last = time.monotonic()
        while time.monotonic() < began + seconds + 1.5:
            found = self.deployment.chat()
            if found.status_code == 200:
                last = time.monotonic()
                assert last - began <= seconds, found.text
            else:
                assert found.status_code == 503, found.text
                assert found.json()["error"]["code"] == "status_lapsed"
            time.sleep(0.05)
        return last - began


@pytest.fixture(scope="module")
def beacons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beacons]:
    upstream = ScriptedUpstream(["word "] * 3, delay_s=0, key="upstream-key-of-beacons")
    found = Beacons(tmp_path_factory.mktemp("p04-beacons") / "d", upstream)
    yield found
    found.deployment.stop()
    upstream.close()


def test_one_of_three_may_hang_and_two_stop_service(beacons: Beacons) -> None:
    assert beacons.is_served()
    with beacons.hung(0):
        until = time.monotonic() + TTL_S + SLACK_S + 1
        while time.monotonic() < until:
            assert beacons.is_served(), "two of three are enough"
            time.sleep(0.1)
        with beacons.hung(1):
            took = beacons.closes_within(TTL_S + SLACK_S)
            say(f"two of three beacons hung: closed after {took:.2f} s at a ttl of {TTL_S:g} s")
        beacons.deployment.wait_serving()
    assert beacons.is_served()


def test_beacons_told_to_be_silent_stop_service(beacons: Beacons) -> None:
    beacons.deployment.wait_serving()
    with ExitStack() as silent:
        silent.enter_context(beacons.paused(1))
        silent.enter_context(beacons.paused(2))
        beacons.closes_within(TTL_S + SLACK_S)
        shown = beacons.deployment.admin("/state").json()["beacons"]
        assert ["paused" in (each["problem"] or "") for each in shown] == [False, True, True]
    beacons.deployment.wait_serving()


def test_a_stolen_control_keeps_nothing_alive_by_itself(beacons: Beacons) -> None:
    beacons.deployment.wait_serving()
    with StolenControl(Hands(beacons.deployment)) as control:
        beacons.closes_within(TTL_S + SLACK_S)
        wait_for(lambda: control.answered > 2)
        assert not beacons.is_served()
    beacons.deployment.wait_serving()


def test_a_beacon_signs_no_status_that_hides_or_forges(beacons: Beacons) -> None:
    deployment = beacons.deployment
    hands = Hands(deployment)
    deployment.wait_serving()
    order = hands.order("stop", "principal", "nobody-here")
    posted = httpx.post(
        f"{deployment.admin_url}/admin/v1/orders", json={"envelope": order.decode()}, timeout=10
    )
    assert posted.status_code == 201, posted.text
    digest = posted.json()["digest"]
    wait_for(lambda: digest in whole(beacons)["orders"])
    wait_for(lambda: beacons.ask(0, whole(beacons)).status_code == 200)

    def refused(value: dict[str, Any], key: str = "control") -> str:
        answer = beacons.ask(0, value, key)
        assert answer.status_code in (403, 503), answer.text
        return answer.text.split(":")[0]

    assert refused({**whole(beacons), "orders": []}) == "incomplete_status"
    assert refused({**whole(beacons), "certificates": ["sha256:" + "0" * 64]}) == "not_logged"
    assert refused(whole(beacons), "evaluator") == "role_not_allowed"
    assert refused({**whole(beacons), "number": 0}) == "went_back"
    twice = whole(beacons)
    if beacons.ask(0, twice).status_code == 200:
        assert refused({**twice, "nonces": ["another"]}) in {"two_statuses", "went_back"}
    with beacons.paused(0):
        assert refused(whole(beacons)) == "paused"


def whole(beacons: Beacons) -> dict[str, Any]:
    """Return an honest status, one after the last that the first beacon signed."""
    said = httpx.get(beacons.urls[0]).json()
    status = StolenControl(Hands(beacons.deployment)).status
    return {**status, "number": said["number"] + 1, "nonces": []}
