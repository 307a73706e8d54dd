"""Promise 1: no certificate, no service.

Attacked here: every route is asked before anything is certified, with keys that admissions did
grant; a certificate is let expire with a stream open while a stolen control plane goes on naming
it; a grant names a stage that has none; and a worker with our pinned root is put among the live
keeper, control and certificate of another deployment of the same release, plan and candidate.

Seen to fail: with the window of a certificate unchecked in `trust.permission._pick` the stream
went on for 3 s, until the stolen status lapsed (red); with the root taken from the bundle instead
of the pin in `messages.bundle.verify_bundle` the other deployment's certificate served (red).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.promises.hands import Hands, StolenControl, digest_of, opened
from tests.promises.outside import (
    PLANS,
    PYTHON,
    Deployment,
    Stream,
    free_ports,
    gatelift,
    say,
    wait_for,
)
from tests.support.upstream import ScriptedUpstream

PLAN = PLANS / "harbour.yaml"


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    found = ScriptedUpstream(["word "] * 1024, delay_s=0.02, key="upstream-key-of-promise-one")
    yield found
    found.close()


@pytest.fixture(scope="module")
def bare(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """A deployment that runs, with plan, placement and a grant, and no certificate."""
    home = tmp_path_factory.mktemp("p01")
    port = free_ports()
    said = gatelift(
        *["init", home / "bare", "--yes", "--plan", PLAN, "--upstream", upstream.url],
        *["--port", str(port), "--json"],
    )
    assert said.returncode == 0, said.stdout + said.stderr
    found = Deployment(
        home / "bare",
        upstream=upstream.url,
        upstream_key=upstream.key,
        bootstrap=False,
    )
    yield found
    found.stop()


def ask_everything(base_url: str, api_key: str) -> dict[str, int]:
    """Return the status of every route by its name."""
    with httpx.Client(headers={"authorization": f"Bearer {api_key}"}, timeout=10) as client:
        body = {"model": "mock", "messages": [{"role": "user", "content": "a question"}]}
        chat = f"{base_url}/chat/completions"
        return {
            "chat": client.post(chat, json=body).status_code,
            "stream": client.post(chat, json={**body, "stream": True}).status_code,
            "models": client.get(f"{base_url}/models").status_code,
            "completions": client.post(f"{base_url}/completions", json={}).status_code,
            "embeddings": client.post(f"{base_url}/embeddings", json={}).status_code,
            "messages": client.post(f"{base_url}/messages", json=body).status_code,
        }


def asked_of(upstream: ScriptedUpstream, text: str) -> int:
    return sum(text in json.dumps(body["messages"]) for body in list(upstream.bodies))


def test_before_certification_every_route_refuses(
    bare: Deployment, upstream: ScriptedUpstream
) -> None:
    steps = [
        ("nothing at all", None),
        ("a plan", lambda: bare.cli("plan", "adopt", bare.folder / "plan.yaml", who=("operator",))),
        (
            "a placement",
            lambda: bare.cli(
                *["placement", "enrol", "--name", "p1", "--base-url", upstream.url],
                *["--model", "mock", "--upstream-key-file", bare.key("upstream")],
                who=("operator",),
            ),
        ),
    ]
    for name, step in steps:
        if step is not None:
            step().must()
        found = ask_everything(bare.base_url, "gl_0123456789abcdef_" + "0" * 64)
        assert all(400 <= status < 600 for status in found.values()), (name, found)
    api_key = bare.grant("early")
    bare.api_key = api_key
    found = ask_everything(bare.base_url, api_key)
    assert all(400 <= status < 600 for status in found.values()), found
    answer = bare.chat("a question")
    assert answer.json()["error"]["code"] == "no_certificate"
    assert asked_of(upstream, "a question") == 0


def test_a_worker_serves_under_the_root_that_its_host_pins_and_no_other(
    bare: Deployment, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """The other deployment has the same release, plan bytes and candidate; only its root differs.

    A worker is started with our pin, and everything else is theirs: keeper, control, bundle,
    roster, certificate, keys, all live and genuine.
    """
    other = Deployment(
        tmp_path / "other", upstream=upstream.url, upstream_key=upstream.key, plan=PLAN
    )
    ours = Path(tempfile.mkdtemp(prefix="p01-"))
    port = free_ports()
    worker = None
    try:
        theirs = Hands(other)
        assert theirs.fingerprint == Hands(bare).fingerprint
        assert opened(theirs.file(theirs.served("bundle")))["certificates"], "they are certified"
        for name in ("files", "journal", "keys", "deployment.json"):
            (ours / name).symlink_to(other.folder / name)
        (ours / "run").mkdir(mode=0o700)
        (ours / "run/keeper.sock").symlink_to(other.folder / "run/keeper.sock")
        pin = (bare.folder / "root.sha256").read_bytes()
        (ours / "root.sha256").write_bytes(pin)
        theirs.keep((bare.folder / "root.json").read_bytes())
        assert digest_of((bare.folder / "root.json").read_bytes()) == pin.decode().strip()
        words = ["worker", "--dir", str(ours), "--name", "pinned", "--port", str(port)]
        worker = subprocess.Popen(
            [PYTHON, "-m", "gatelift", *words], stderr=subprocess.DEVNULL, start_new_session=True
        )
        wait_for(lambda: answers(port), seconds=20)
        other.wait_serving()
        assert other.chat("their own question", max_tokens=4).status_code == 200
        until = time.monotonic() + 3
        while time.monotonic() < until:
            found = ask_everything(f"http://127.0.0.1:{port}/v1", other.api_key)
            assert all(status >= 400 for status in found.values()), found
            time.sleep(0.3)
        assert asked_of(upstream, "a question") == 0
    finally:
        if worker is not None:
            worker.terminate()
            worker.wait(20)
        other.stop()
        shutil.rmtree(ours)


def answers(port: int) -> bool:
    try:
        httpx.get(f"http://127.0.0.1:{port}/healthz")
    except httpx.TransportError:
        return False
    return True


def test_an_expired_certificate_serves_no_more_and_cuts_what_is_open(
    bare: Deployment, upstream: ScriptedUpstream
) -> None:
    wait_for(lambda: any(p["probe"]["up"] for p in bare.admin("/state").json()["probes"]))
    said = bare.cli("certify", "--stage", "assess", "--for", "7s", who=("operator", "safety"))
    ends_at = said.must()["not_after"] / 1000
    bare.wait_serving()
    # A control plane that goes on naming the certificate after its end must not help.
    with StolenControl(Hands(bare)) as control:
        wait_for(lambda: control.answered > 1)
        outlive(bare, upstream, ends_at)
        assert control.answered > 5


def outlive(bare: Deployment, upstream: ScriptedUpstream, ends_at: float) -> None:
    assert bare.chat("in time", max_tokens=4).status_code == 200
    stream = Stream(bare, max_tokens=1024)
    stream.join(30)
    assert stream.text, "the stream never began"
    late = stream.last_s - time.monotonic() + time.time() - ends_at
    say(f"last byte {late:.3f} s after expiry")
    assert late < 1.5
    assert b"[DONE]" not in stream.text
    assert stream.broken
    time.sleep(max(0.0, ends_at - time.time()))
    for _ in range(5):
        assert bare.chat("too late").json()["error"]["code"] == "no_certificate"
    assert asked_of(upstream, "too late") == 0


def test_a_stage_without_certificate_does_not_borrow_the_certificate_of_another(
    bare: Deployment, upstream: ScriptedUpstream
) -> None:
    api_key = bare.grant("eager", stage="internal")
    assert bare.chat("x", key=api_key).json()["error"]["code"] == "no_certificate"
    wait_for(lambda: bare.cli("certify", "--stage", "assess", who=("operator", "safety")).code == 0)
    bare.wait_serving()
    assert bare.chat("an evaluator's", max_tokens=4).headers["gatelift-stage"] == "assess"
    # What falls back is met with the grant, and assess admits evaluators only.
    for _ in range(5):
        answer = bare.chat("not an evaluator's", key=api_key, max_tokens=4)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "outside_audience")
    assert asked_of(upstream, "not an evaluator's") == 0
