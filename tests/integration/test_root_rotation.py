"""A deployment that runs gets its next root: who is in it may stop, who is not may not any more."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.promises.outside import free_ports, wait_for
from tests.support.howto import HowTo
from tests.support.upstream import ScriptedUpstream

pytestmark = pytest.mark.skipif(
    shutil.which("ssh-keygen") is None, reason="OpenSSH is not installed"
)
SIGN = """
gatelift keys show stop.pub --person safety --organisation lab.example --out stop.json
gatelift root next d/root.json --out draft.json --role stop=stop.json
gatelift sign draft.json --yes --out root-2.json --key d/keys/root-1.key --key d/keys/root-2.key
"""


@pytest.fixture
def how(tmp_path: Path) -> Iterator[HowTo]:
    upstream = ScriptedUpstream(["hello "] * 3, key="k")
    first = free_ports()
    made = HowTo("key-ceremony.md", tmp_path, {"8080": str(first), "8081": str(first + 1)})
    (tmp_path / "up.key").write_text("k")
    (tmp_path / "up.key").chmod(0o600)
    made.put = {**made.put, "UPSTREAM": upstream.url}
    yield made
    made.stop()
    upstream.close()


UP = "--dir d --upstream UPSTREAM --model aurora --upstream-key-file up.key"


def asked(how: HowTo) -> int:
    key = (how.folder / "d/keys/developer-api.key").read_text().strip()
    answer = httpx.post(
        how.here("http://127.0.0.1:8080/v1/chat/completions"),
        headers={"authorization": f"Bearer {key}"},
        json={"model": "aurora", "messages": [{"role": "user", "content": "Say hello."}]},
    )
    return answer.status_code


def test_a_running_deployment_takes_the_next_root_and_its_ssh_stop_key(how: HowTo) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(how.folder / "stop")], check=True
    )
    how.up(UP)
    assert asked(how) == 200
    how.run(SIGN)
    how.run("cp d/root.json root-1.json")
    admin = "--admin http://127.0.0.1:8081 --token-file d/keys/submitter.token"
    how.run(f"gatelift submit root-2.json {admin}")
    second = f"sha256:{hashlib.sha256((how.folder / 'root-2.json').read_bytes()).hexdigest()}"
    pin = how.folder / "d/root.sha256"
    wait_for(lambda: pin.read_text().strip() == second, seconds=30)
    assert asked(how) == 200
    how.run(
        "gatelift root adopt root-2.json --dir d"
    )  # it is pinned already, and may be adopted again
    with pytest.raises(AssertionError, match="not_successor"):
        how.run("gatelift root adopt root-1.json --dir d")
    assert asked(how) == 200
    with pytest.raises(AssertionError, match="unknown_signers"):
        how.run("gatelift halt --reason drill --release dev --key d/keys/stop.key --socket d")
    assert asked(how) == 200
    how.run("gatelift halt --reason drill --release dev --ssh-key stop.pub --socket d")
    wait_for(lambda: asked(how) != 200, seconds=5)
