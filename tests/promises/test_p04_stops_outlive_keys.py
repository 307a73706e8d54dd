"""Promise 4 over a change of keys: what was stopped stays stopped, and what was lifted stays lifted.

Attacked here: a principal is stopped by a key that may stop, another one too and lifted again; the
root that follows names neither the key that stopped nor one that lifted; then keeper and workers are
killed, and all is started anew. Who was stopped may not be served by anybody's restart, and a key that
is gone may not close the node for everybody else.

Seen to fail: with orders judged by the newest root alone, the keeper did not start again (red).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.promises.outside import Deployment, gatelift, wait_for
from tests.promises.test_p01_root_rotation import ROOTS, draft, entry_of, rotate
from tests.support.upstream import ScriptedUpstream


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    upstream = ScriptedUpstream(["word "] * 3, delay_s=0, key="upstream-key-of-stops")
    found = Deployment(tmp_path / "d", upstream=upstream.url, upstream_key=upstream.key, workers=2)
    yield found
    found.stop()
    upstream.close()


def codes(deployment: Deployment, key: str) -> set[str]:
    """What any worker says to a caller: each connection is one's by chance."""
    answers = [deployment.chat(key=key, max_tokens=2) for _ in range(12)]
    return {"" if each.status_code == 200 else each.json()["error"]["code"] for each in answers}


def replaced(deployment: Deployment, role: str) -> list[str]:
    """Make another key for a role; return the words of `root next` that put it in the old one's place."""
    name, held = f"{role}-2", deployment.root()
    assert gatelift("keys", "new", deployment.key(name)).returncode == 0
    (old,) = held["roles"][role]["keys"]
    entry, _ = entry_of(deployment, name, held["keys"][old]["person"])
    return ["--role", f"{role}={entry}"]


def test_a_stop_outlives_the_key_that_gave_it(deployment: Deployment) -> None:
    suspended = deployment.grant("suspended")
    lifted = deployment.grant("lifted")
    reason = ["--reason", "drill", "--principal"]
    deployment.cli("halt", *reason, "suspended", who=("stop",)).must()
    order = deployment.cli("halt", *reason, "lifted", who=("stop",)).must()
    wait_for(lambda: codes(deployment, lifted) == {"stopped"})
    deployment.cli("clear", order["id"], who=("admissions", "security")).must()
    wait_for(lambda: codes(deployment, lifted) == {""})
    words = [*replaced(deployment, "stop"), *replaced(deployment, "security")]
    rotate(deployment, draft(deployment, "root-2.json", *words, keys=ROOTS))
    seen = {name: codes(deployment, key) for name, key in (("s", suspended), ("l", lifted))}
    assert seen == {"s": {"stopped"}, "l": {""}}
    for name in ("worker", "keeper"):
        deployment.kill(name)
    deployment.stop()
    deployment.start()
    deployment.wait_serving()
    assert codes(deployment, suspended) == {"stopped"}
    wait_for(lambda: codes(deployment, lifted) == {""})
    # And by a new key it is stopped as by the old one.
    deployment.cli("halt", *reason, "lifted", who=("stop-2",)).must()
    wait_for(lambda: codes(deployment, lifted) == {"stopped"})
