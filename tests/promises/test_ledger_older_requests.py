"""A backup of a node's requests log laid over the newer one: the keeper refuses before it signs.

Attacked here: the log of some answers ago, with the memory of heads beside it and journals that go
further. Went on from, it would be another history at sizes that were signed before. With the newest
log back, the node serves again and its log extends what was published.

Seen to fail: with `ledger.requests` opening a log without asking the memory of heads (red: the keeper
led on).
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from tests.promises.outside import Deployment, wait_for
from tests.support.upstream import ScriptedUpstream


def size_of(log: Path) -> int:
    return int((log / "checkpoint").read_text().split("\n")[1])


def test_an_older_requests_log_is_refused_and_the_newest_goes_on(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(["word "] * 3, delay_s=0, key="upstream-key-of-older-logs")
    deployment = Deployment(tmp_path / "d", upstream=upstream.url, upstream_key=upstream.key)
    logs = deployment.folder / "logs" / "requests"
    try:
        assert deployment.chat().status_code == 200
        log = wait_for(lambda: next((p for p in logs.iterdir() if (p / "checkpoint").exists()), 0))
        time.sleep(1)
        shutil.copytree(logs, tmp_path / "older")
        old = size_of(log)
        assert deployment.chat().status_code == 200
        wait_for(lambda: size_of(log) > old)
        deployment.stop()
        shutil.copytree(logs, tmp_path / "newest")
        newest = size_of(log)

        shutil.rmtree(logs)
        shutil.copytree(tmp_path / "older", logs)
        said = deployment.folder / "run" / "keeper.log"
        said.unlink()
        began = time.monotonic()
        with pytest.raises(AssertionError, match="node_closed") as caught:
            deployment.start()
        assert "rolled_back" in str(caught.value)
        assert time.monotonic() - began < 60, "it does not wait for what will not come"
        assert "node closed (rolled_back)" in said.read_text()
        assert size_of(log) == old, "nothing was signed upon it"

        shutil.rmtree(logs)
        shutil.copytree(tmp_path / "newest", logs)
        deployment.start()
        deployment.wait_serving()
        assert deployment.chat().status_code == 200
        wait_for(lambda: size_of(log) > newest)
    finally:
        deployment.stop()
        upstream.close()
