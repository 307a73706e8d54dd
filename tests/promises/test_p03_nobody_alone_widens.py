"""Promise 3: anyone authorised may stop, nobody alone may widen.

Attacked here: each stop role signs an order alone and without an admin token, and it must act; each
person tries to certify alone, or twice; signatures are forged and bodies altered. Then the control
plane is stolen outright: its process is replaced by one of ours that holds `control.key` and the
admin token, sits on its socket and answers every nonce with a status of its own. It signs a grant, a
certificate, a bundle and a roster, and hides a standing stop. Last, control is dead and an order
arrives as a file.

The stolen control is honest first and must be able to keep the gateway serving, so that its
failures later are not for want of a voice.

Seen to fail: with `trust.grant.verify_grant` taking control's signature the forged key was served
(red); with `ledger.following` neither asking a status for logged orders nor handing them to a new
worker the hidden stop was lifted (red; either alone stayed green, the other held); with
`trust.quorum.verify_quorum` returning at once every lone signer certified (red).
"""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.promises.hands import Hands, StolenControl, digest_of, freeze, now_ms, statement, thaw
from tests.promises.outside import (
    PLANS,
    PYTHON,
    Deployment,
    free_ports,
    gatelift,
    say,
    wait_for,
)
from tests.support.upstream import ScriptedUpstream

STOP_ROLES = ("operator", "safety", "security", "overseer", "admissions", "stop", "control")
TTL_S = 2.0


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    found = ScriptedUpstream(key="upstream-key-of-promise-three")
    yield found
    found.close()


@pytest.fixture(scope="module")
def deployment(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    found = Deployment(
        tmp_path_factory.mktemp("p03") / "d",
        upstream=upstream.url,
        upstream_key=upstream.key,
        plan=PLANS / "harbour.yaml",
    )
    yield found
    found.stop()


@pytest.fixture(scope="module")
def hands(deployment: Deployment) -> Hands:
    return Hands(deployment)


def deliver(deployment: Deployment, envelope: bytes) -> httpx.Response:
    """Post an order as a stranger would: without a token."""
    url = f"{deployment.admin_url}/admin/v1/orders"
    return httpx.post(url, json={"envelope": envelope.decode()}, timeout=10)


def submit(deployment: Deployment, kind: str, envelope: bytes) -> httpx.Response:
    """Submit an entry with the stolen admin token."""
    token = (deployment.folder / "keys/submitter.token").read_text().strip()
    return httpx.post(
        f"{deployment.admin_url}/admin/v1/entries",
        json={"kind": kind, "envelope": envelope.decode()},
        headers={"authorization": f"Bearer {token}"},
        timeout=10,
    )


def logged_of(deployment: Deployment, *envelopes: bytes) -> set[str]:
    """Return which of these bodies the releases log holds."""
    bodies: set[str] = set()
    while True:
        page = deployment.admin(f"/entries?start={len(bodies)}&limit=256").json()
        before = len(bodies)
        bodies |= {each["header"]["body"] for each in page["entries"]}
        if len(bodies) == before:
            return bodies & {digest_of(envelope) for envelope in envelopes}


def code_of(response: httpx.Response) -> str:
    if response.status_code == 200:
        return "served"
    return str(response.json()["error"]["code"])


@pytest.mark.parametrize("role", STOP_ROLES)
def test_one_signature_of_each_stop_role_stops(
    deployment: Deployment, hands: Hands, role: str
) -> None:
    api_key, grant = hands.make_grant(f"stopped-by-{role}", "admissions", organisation=role)
    assert submit(deployment, "grant", grant).status_code == 201
    deployment.wait_known(api_key)
    assert code_of(deployment.chat(key=api_key)) == "served"
    answer = deliver(deployment, hands.order(role, "organisation", role))
    assert answer.status_code == 201, answer.text
    assert code_of(deployment.chat(key=api_key)) == "stopped"
    assert code_of(deployment.chat()) == "served"


@pytest.mark.parametrize("role", ["evaluator", "root-1"])
def test_who_may_not_stop_does_not(deployment: Deployment, hands: Hands, role: str) -> None:
    answer = deliver(deployment, hands.order(role, "release", hands.release))
    assert answer.status_code == 400, answer.text
    assert code_of(deployment.chat()) == "served"


@pytest.mark.parametrize(
    ("who", "code"),
    [
        (("operator",), "quorum_unmet"),
        (("safety",), "quorum_unmet"),
        (("operator", "operator"), "quorum_unmet"),
        (("overseer", "security"), "quorum_unmet"),
        (("operator", "root-1"), "quorum_unmet"),
        (("safety", "stop"), "quorum_unmet"),
    ],
)
def test_nobody_alone_certifies(
    deployment: Deployment, hands: Hands, who: tuple[str, ...], code: str
) -> None:
    held = hands.last_certificate()[1]
    said = deployment.cli("certify", "--stage", "assess", who=who)
    assert (said.code, said.error["code"]) == (1, code), said.text
    assert hands.last_certificate()[1] == held


def test_a_person_who_holds_two_roles_is_one_person(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """Operator and safety are the same person here: the deployment must not even open stage zero."""
    people = tmp_path / "people.json"
    one = {"person": "ann", "organisation": "lab.example"}
    people.write_text(json.dumps({"people": {"operator": one, "safety": one, "root-1": one}}))
    home = tmp_path / "d"
    said = gatelift(
        *["init", home, "--yes", "--plan", PLANS / "harbour.yaml", "--upstream", upstream.url],
        *["--people", people, "--port", str(free_ports()), "--json"],
    )
    assert said.returncode == 0, said.stdout + said.stderr
    with pytest.raises(AssertionError, match="person_twice"):
        Deployment(home, upstream=upstream.url, upstream_key=upstream.key).stop()


def _flipped(envelope: bytes) -> bytes:
    value = json.loads(envelope)
    raw = bytearray(base64.b64decode(value["signatures"][0]["sig"]))
    raw[7] ^= 1
    value["signatures"][0]["sig"] = base64.b64encode(bytes(raw)).decode()
    return json.dumps(value).encode()


def _altered(envelope: bytes) -> bytes:
    value = json.loads(envelope)
    payload = base64.b64decode(value["payload"]).replace(b"nobody-knows-them", b"nobody-knows-whom")
    value["payload"] = base64.b64encode(payload).decode()
    return json.dumps(value).encode()


def _renamed(envelope: bytes, hands: Hands) -> bytes:
    """Claim the admissions key's id over a signature of control's."""
    value = json.loads(envelope)
    genuine = json.loads(hands.make_grant("x", "admissions")[1])
    value["signatures"][0]["keyid"] = genuine["signatures"][0]["keyid"]
    return json.dumps(value).encode()


def test_forged_envelopes_are_refused(deployment: Deployment, hands: Hands) -> None:
    _, good = hands.make_grant("nobody-knows-them", "admissions")
    _, own = hands.make_grant("nobody-knows-them", "control")
    forged = (_flipped(good), _altered(good), own, _renamed(own, hands))
    for envelope in forged:
        answer = submit(deployment, "grant", envelope)
        assert 400 <= answer.status_code < 500, answer.text
    # The grant's own signature, shown for another kind of statement.
    assert 400 <= submit(deployment, "clear", good).status_code < 500
    assert not logged_of(deployment, *forged, good)


def test_a_stolen_admin_token_and_control_key_log_nothing_that_widens(
    deployment: Deployment, hands: Hands
) -> None:
    certificate = hands.last_certificate()[0]
    wider = certificate | {"sequence": certificate["sequence"] + 1, "stage": "internal"}
    longer = certificate | {
        "sequence": certificate["sequence"] + 1,
        "not_after": certificate["not_after"] + 3_600_000,
    }
    control, fingerprint = hands.key("control"), hands.fingerprint
    plan = {"release": hands.release, "plan": hands.plan, "candidate": fingerprint}
    clear = {"release": hands.release, "orders": [], "at": now_ms()}
    forged = [
        ("certificate", statement("certificate", wider, fingerprint, control)),
        ("certificate", statement("certificate", longer, fingerprint, control)),
        ("grant", hands.make_grant("thief", "control")[1]),
        ("plan", statement("plan", plan, fingerprint, control)),
        ("clear", statement("clear", clear, fingerprint, control)),
        ("decision", statement("decision", {}, fingerprint, control)),
    ]
    for kind, envelope in forged:
        answer = submit(deployment, kind, envelope)
        assert 400 <= answer.status_code < 500, (kind, answer.text)
    assert not logged_of(deployment, *(envelope for _, envelope in forged))


def test_a_stolen_control_plane_keeps_serving_what_was_granted_and_nothing_more(
    deployment: Deployment, hands: Hands, upstream: ScriptedUpstream
) -> None:
    insider, grant = hands.make_grant("insider", "admissions", stage="internal")
    assert submit(deployment, "grant", grant).status_code == 201
    deployment.wait_known(insider)
    forged_key, forged_grant = hands.make_grant("thief", "control")
    with StolenControl(hands) as control:
        # Honest first: it must be able to keep the gateway alive by itself.
        wait_for(lambda: control.answered > 1)
        time.sleep(TTL_S + 0.5)
        assert code_of(deployment.chat()) == "served"

        honest = dict(control.status)
        control.sign_roster(forged_grant)
        wait_for(lambda: _roster_number(deployment) == control.status["roster_number"])
        # The keeper passes on no status with a grant that no log holds: all are shut out, not in.
        for _ in range(4):
            status = deployment.chat("for a thief", key=forged_key).status_code
            assert status in {401, 503}
        wait_for(lambda: code_of(deployment.chat()) == "status_lapsed")
        control.status = dict(honest)
        wait_for(lambda: code_of(deployment.chat()) == "served")

        held, envelope = hands.last_certificate()
        by = (hands.key("control"), hands.key("operator"))
        for change in (
            {"stage": "internal"},
            {"stage": "internal", "thresholds": {"cyber_uplift": "ruled_out"}},
            {"envelope": _opened_wide(held["envelope"])},
        ):
            value = held | {"sequence": held["sequence"] + 1} | change
            forged = hands.keep(statement("certificate", value, hands.fingerprint, *by))
            control.sign_bundle(partial(_add, digest=forged))
            # A status of genuine certificates beside that bundle: the workers leave out the forged.
            control.status["certificates"] = honest["certificates"]
            time.sleep(0.6)
            assert code_of(deployment.chat("for an insider", key=insider)) != "served"
            found = httpx.get(
                f"{deployment.base_url}/access",
                headers={"authorization": f"Bearer {deployment.api_key}"},
            ).json()
            assert found["certificate"] == digest_of(envelope), found
        # A status that names the forged one is not even passed on.
        control.status["certificates"] = [*honest["certificates"], forged]
        wait_for(lambda: code_of(deployment.chat()) == "status_lapsed")
    assert not any("for a thief" in json.dumps(body) for body in list(upstream.bodies))
    assert not any("for an insider" in json.dumps(body) for body in list(upstream.bodies))
    deployment.wait_serving()


def _roster_number(deployment: Deployment) -> int:
    return int(json.loads((deployment.folder / "run/roster").read_text())["number"])


def _opened_wide(envelope: dict[str, Any]) -> dict[str, Any]:
    return {**envelope, "caps": {}, "safeguards": {**envelope["safeguards"], "postures": {}}}


def _add(bundle: dict[str, Any], digest: str) -> None:
    genuine = bundle["certificates"][0]
    leaf = json.loads(genuine["leaf"]) | {"body": digest}
    bundle["certificates"].append({**genuine, "envelope": digest, "leaf": json.dumps(leaf)})


def test_a_stolen_control_plane_cannot_hide_a_stop(
    deployment: Deployment, hands: Hands, upstream: ScriptedUpstream
) -> None:
    answer = deliver(deployment, hands.order("overseer", "release", hands.release))
    assert answer.status_code == 201
    assert code_of(deployment.chat()) == "stopped"
    wait_for(lambda: _is_logged(deployment, answer.json()["digest"]))
    with StolenControl(hands) as control:
        control.status["orders"] = []
        wait_for(lambda: control.answered > 1)
        for _ in range(10):
            assert code_of(deployment.chat("behind the stop")) in {"stopped", "status_lapsed"}
        # A worker that was not there when the order came must not learn of a world without it.
        deployment.kill("worker")
        # At a port of its own: the supervisor, which is frozen, holds the gateway's.
        port = free_ports()
        words = [
            "worker",
            "--dir",
            str(deployment.folder),
            "--name",
            "latecomer",
            "--port",
            str(port),
        ]
        late = subprocess.Popen(
            [PYTHON, "-m", "gatelift", *words], stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            late_url = f"http://127.0.0.1:{port}/v1"
            wait_for(lambda: _answers(late_url), seconds=20)
            until = time.monotonic() + TTL_S + 1
            while time.monotonic() < until:
                found = deployment.chat("behind the stop", base_url=late_url)
                assert found.status_code >= 400, found.text
                time.sleep(0.1)
        finally:
            late.terminate()
            late.wait(20)
    assert not any("behind the stop" in json.dumps(body) for body in list(upstream.bodies))
    reopen(deployment)


def _answers(base_url: str) -> bool:
    try:
        httpx.get(f"{base_url}/models")
    except httpx.TransportError:
        return False
    return True


def _is_logged(deployment: Deployment, digest: str) -> bool:
    state = deployment.admin("/state").json()
    return digest in [o["digest"] for o in state["orders"]] and (
        state["checkpoint"]["size"] == state["size"]
    )


def reopen(deployment: Deployment) -> None:
    """Have the quorum re-open stage zero, clearing the orders that it saw."""
    wait_for(
        lambda: (
            deployment.cli("certify", "--stage", "assess", who=("operator", "safety")).code == 0
        ),
        seconds=30,
    )
    deployment.wait_serving()


def test_an_order_dropped_as_a_file_stops_without_control(
    deployment: Deployment, hands: Hands
) -> None:
    assert code_of(deployment.chat()) == "served"
    freeze(deployment)
    try:
        deployment.kill("control")
        said = deployment.cli(
            *["halt", "--reason", "control is gone", "--drop", deployment.folder], who=("stop",)
        )
        assert said.must()["dropped"]
        began = time.monotonic()
        wait_for(lambda: code_of(deployment.chat()) in {"stopped", "status_lapsed"}, every=0.01)
        say(f"refused {time.monotonic() - began:.3f} s after the file was dropped")
        assert code_of(deployment.chat()) == "stopped", "stopped by the order, before any lapse"
    finally:
        thaw(deployment)
    # When control is back it must learn of the order, not forget it.
    wait_for(lambda: _orders_of(deployment) and code_of(deployment.chat()) == "stopped", seconds=15)


def _orders_of(deployment: Deployment) -> bool:
    try:
        state = deployment.admin("/state").json()
    except httpx.TransportError:
        return False
    return "control is gone" in json.dumps(state["orders"])
