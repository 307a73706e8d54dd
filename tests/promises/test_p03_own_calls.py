"""Promise 3, oversight: an overseer's own calls can be neither refused nor recognised beforehand.

Tried from outside: an overseer admits itself by control, by the host's socket, by a dropped file and by
its own list, the last three past a control that is crooked (`crooked/`) and takes no own grant. The
root's bound is pressed by many calls at once, by more than one grant, and by a stolen key of admissions.
The operator's surfaces are searched for what the calls carry, and what a stranger can count is counted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.promises.outside import (
    HERE,
    Deployment,
    Said,
)
from tests.support.upstream import ScriptedUpstream

ONE_FILE = HERE.parents[1] / "verifier" / "gatelift_verify.py"
PER_DAY = 200


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    found = ScriptedUpstream(["word "] * 3, delay_s=0, key="upstream-key-of-own-calls")
    yield found
    found.close()


def begin(home: Path, upstream: ScriptedUpstream, **more: Any) -> Deployment:
    return Deployment(
        home / "d", upstream=upstream.url, upstream_key=upstream.key, workers=2, **more
    )


@pytest.fixture(scope="module")
def honest(upstream: ScriptedUpstream, tmp_path_factory: Any) -> Iterator[Deployment]:
    found = begin(tmp_path_factory.mktemp("p03-own"), upstream)
    yield found
    found.stop()


class Own:
    """An own grant as the overseer made it: the key is kept in a file, as one would."""

    def __init__(self, deployment: Deployment, *words: object, who: str = "overseer") -> None:
        folder = deployment.folder.parent
        self.file = folder / f"own-{time.monotonic_ns()}.key"
        self.said: Said = deployment.cli(
            *["overseer", "grant", "--stage", "assess", "--api-key-out", self.file, *words],
            who=(who,),
        )
        self.key = self.file.read_text().strip() if self.file.exists() else ""

    @property
    def traces(self) -> tuple[str, ...]:
        """What a call carries that an onlooker could know it by."""
        said = self.said.must()
        return said["principal"], said["organisation"], self.key.split("_")[1], self.key


def test_an_own_call_is_served_and_counted(honest: Deployment) -> None:
    own = Own(honest, "--requests-per-day", 10)
    own.said.must()
    honest.wait_known(own.key)
    assert honest.chat(key=own.key).status_code == 200
