"""Control before many witnesses: enough of them, and neither the slow nor the dead, say when."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatelift.messages import releases_policy
from gatelift.tlog import NoteSigner, verify_witnessed
from tests.integration.control_house import NAME, Deployment, running, seed_of, wait_for
from tests.support.witnesses import PlayedWitness

LOG = NoteSigner(f"{NAME}/releases", Ed25519PrivateKey.from_private_bytes(seed_of("log")))
OTHER = NoteSigner("other/releases", Ed25519PrivateKey.from_private_bytes(seed_of("other")))


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Any]:
    made: list[PlayedWitness] = []

    def one(name: str, organisation: str, log: NoteSigner = LOG) -> PlayedWitness:
        made.append(PlayedWitness(tmp_path / "witnesses", name, organisation, log.vkey))
        return made[-1]

    yield one
    for each in made:
        each.close()


def named(*played: PlayedWitness) -> tuple[Any, ...]:
    return tuple(each.named() for each in played)


def witnesses_of(it: Deployment, note: bytes) -> set[str]:
    return set(verify_witnessed(note, releases_policy(it.root)).witnesses)


def is_cosigned(it: Deployment) -> bool:
    now = it.state()
    return now["checkpoint"] is not None and now["checkpoint"]["size"] == now["size"]


def test_a_head_is_shown_once_enough_cosigned_it_and_later_ones_are_added(
    tmp_path: Path, play: Any
) -> None:
    first, second = play("a/1", "a.example"), play("b/1", "b.example")
    silent, stranger = play("c/1", "c.example"), play("d/1", "d.example", OTHER)
    away = play("e/1", "e.example")
    silent.silent.set()
    away.go_away()
    everybody = named(silent, away, first, stranger, second)
    with running(tmp_path, witnesses=everybody, quorum=2) as it:
        for number in range(4):
            begin = time.monotonic()
            answer = it.submit_commit(f"commit_{number}")
            assert answer is not None
            assert answer.status_code == 201, answer.text
            wait_for(lambda: is_cosigned(it), 4)
            # Well inside the deadline of the one that says nothing.
            assert time.monotonic() - begin < 3
        wait_for(lambda: all(w["problem"] for w in it.state()["witnesses"][:2]), 15)
        state = it.state()
        assert state["witness_problem"] is None
        found = {w["name"]: w for w in state["witnesses"]}
        assert list(found) == ["c/1", "e/1", "a/1", "d/1", "b/1"]
        assert "did not answer within 5 s" in found["c/1"]["problem"]
        assert "ConnectError" in found["e/1"]["problem"]
        assert "404" in found["d/1"]["problem"]
        for name in ("a/1", "b/1"):
            assert found[name]["problem"] is None
            assert found[name]["size"] == state["size"]
            assert abs(found[name]["cosigned_at"] - time.time() * 1000) < 60_000
        assert witnesses_of(it, state["checkpoint"]["note"].encode()) == {"a/1", "b/1"}

        silent.silent.clear()
        away.come_back()
        wait_for(
            lambda: (
                witnesses_of(it, it.state()["checkpoint"]["note"].encode())
                == {"a/1", "b/1", "c/1", "e/1"}
            )
        )
        file = it.folder / "logs" / "releases" / "checkpoint"
        wait_for(lambda: len(witnesses_of(it, file.read_bytes())) == 4)
        assert it.state()["size"] == state["size"]


def test_two_witnesses_of_one_organisation_are_not_two(tmp_path: Path, play: Any) -> None:
    one, two, other = play("a/1", "a.example"), play("a/2", "a.example"), play("b/1", "b.example")
    with running(tmp_path, witnesses=named(one, two, other), quorum=2) as it:
        wait_for(lambda: is_cosigned(it))
        other.go_away()
        held = it.state()
        assert it.submit_commit("commit_a") is not None
        grown = it.state()["size"]
        wait_for(
            lambda: (
                [w["size"] for w in it.state()["witnesses"][:2]] == [grown, grown]
                and it.state()["witness_problem"]
            )
        )
        assert it.state()["checkpoint"]["size"] == held["checkpoint"]["size"]
        file = it.folder / "logs" / "releases" / "checkpoint"
        assert f"\n{held['checkpoint']['size']}\n" in file.read_text()
        assert "b/1" in it.state()["witness_problem"]
        assert "a/1" not in it.state()["witness_problem"]
        other.come_back()
        wait_for(lambda: is_cosigned(it))
        assert it.state()["witness_problem"] is None


def test_witnesses_of_different_speed_cosign_the_same_heads_while_the_log_grows(
    tmp_path: Path, play: Any
) -> None:
    one, two = play("a/1", "a.example"), play("b/1", "b.example")
    with running(tmp_path, witnesses=named(one, two), quorum=2) as it:
        wait_for(lambda: is_cosigned(it))
        # Each alone would be asked for a head that the other is not asked for.
        one.delay_s, two.delay_s = 0.6, 0.95
        sizes: list[int] = []
        end = time.monotonic() + 7
        while time.monotonic() < end:
            it.submit_commit(f"commit_{time.monotonic_ns()}")
            sizes.append(it.state()["checkpoint"]["size"])
        assert len(set(sizes)) >= 5
        wait_for(lambda: is_cosigned(it))


def test_control_does_not_lead_where_the_known_addresses_make_no_quorum(
    tmp_path: Path, play: Any
) -> None:
    one, two, other = play("a/1", "a.example"), play("a/2", "a.example"), play("b/1", "b.example")
    hidden = list(named(one, two, other))
    hidden[2] = type(hidden[2])(
        name="b/1", vkey=hidden[2].vkey, organisation="b.example", independent=True
    )
    it = Deployment(tmp_path, witnesses=tuple(hidden), quorum=2)
    process: subprocess.Popen[str] = it.spawn()
    output, _ = process.communicate(timeout=30)
    it.client.close()
    assert (process.returncode, output) == (3, "no_witness\n")


def test_a_log_in_which_nothing_happens_is_confirmed_again_before_it_looks_frozen(
    tmp_path: Path, play: Any
) -> None:
    one, two = play("a/1", "a.example"), play("b/1", "b.example")
    with running(tmp_path, witnesses=named(one, two), quorum=2, max_age_ms=60_000) as it:
        wait_for(lambda: is_cosigned(it))
        held = it.state()["checkpoint"]
        assert held["fresh_until"] == held["confirmed_at"] + 60_000
        asked = one.asked
        wait_for(lambda: it.state()["checkpoint"]["confirmed_at"] > held["confirmed_at"], 20)
        now = it.state()["checkpoint"]
        assert now["size"] == held["size"]
        file = it.folder / "logs" / "releases" / "checkpoint"
        wait_for(lambda: file.read_bytes() == it.state()["checkpoint"]["note"].encode(), 5)
        # Once, not without end.
        assert one.asked <= asked + 2
