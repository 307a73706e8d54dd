"""The releases log under fire: kill -9 at any moment, each system call failing in turn, a full disk.

Attacked here: control, alone with its witness, while three callers append over its admin API. It is
killed again and again, at its start too; then, traced from its first breath, the Nth call of each of
its threads to write, pwrite64, fsync, fdatasync, rename and openat fails with EIO, once or for ever;
then its file system is filled to the last byte. After each, with control down: every entry that was
acknowledged is at its index with its body, `gatelift ledger fsck` computes all logs again and finds
nothing wrong, and of all heads that lie anywhere (store, memory, publication, witness, and the file
as readers saw it meanwhile) no two of one size have different roots. Then control leads again, and
appends.

Seen to fail: with control's writer answering before the commit, the first kill lost an entry that was
acknowledged (red); with a disk's error swallowed by the append, so did the third call to pwrite64, and
an index was given twice (red); with the checkpoint published before its tiles, fsck found them missing
after a failed fsync (red). A sync that is left out altogether shows in none of these: the machine
lives on, and its cache with it.

The short version runs with the other promises; `make test-slow` kills 200 times and lets every single
call fail until no thread makes so many.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.promises.leader import Leader, Load, Nursery, need_strace, traced
from tests.promises.outside import say

SYSCALLS = ("write", "pwrite64", "fsync", "fdatasync", "rename", "openat")
SHORT = {
    # By syscall the calls that fail; which of them a thread makes at its start or for an entry
    # changes with the code, so that the slow version has them all.
    "write": ("2",),
    "pwrite64": ("3", "30+"),
    "fsync": ("3", "9"),
    "fdatasync": ("1", "6"),
    "rename": ("2", "5"),
    "openat": ("12",),
}
MOST_CALLS = 1000


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    found = Nursery()
    yield found
    found.close()


@pytest.fixture(scope="module")
def leader(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Leader]:
    """One log that lives through all of it; control is down between the tests."""
    found = Leader(tmp_path_factory.mktemp("fire") / "d", nursery)
    try:
        found.start_witness()
        found.lead()
        found.adopt()
        _ = found.kill()
        yield found
    finally:
        found.close()


def leads_again(leader: Leader) -> None:
    leader.lead()
    assert leader.append() is not None
    _ = leader.kill()


@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_nothing_acknowledged_is_lost_and_no_size_is_signed_twice_through_kills(
    leader: Leader, kills: int
) -> None:
    seed = time.time_ns()
    say(f"seed {seed}")
    chance = random.Random(seed)
    for number in range(kills):
        load = Load(leader)
        _ = leader.start()
        # Each third at its start, whose length depends on the machine; the others under load.
        if number % 3:
            leader.wait_acknowledged(1)
        time.sleep(chance.uniform(0, 0.4))
        _ = leader.kill()
        load.stop()
        leader.check()
    say(f"{kills} kills: {len(leader.acknowledged)} acknowledged, {len(leader.seen)} heads")
    assert len(leader.acknowledged) > kills
    leads_again(leader)


def fail_once(leader: Leader, syscall: str, when: str, out: Path) -> int:
    """Lead while a call fails, append, and check; return how many calls failed."""
    out.unlink(missing_ok=True)
    pid = leader.start(held=True)
    with traced(pid, (syscall,), when, out, "EIO"):
        until = time.monotonic() + 60
        while time.monotonic() < until and leader.is_alive() and not leader.answers():
            time.sleep(0.01)
        for _ in range(3):
            if leader.is_alive() and leader.append() is None:
                break
        if leader.is_alive():
            time.sleep(0.2)  # the head over them is signed, cosigned and published
        leader.take_heads()
        _ = leader.kill()
    leader.check()
    return out.read_text().count("(INJECTED)")


@pytest.mark.parametrize("syscall", SYSCALLS)
def test_a_call_that_fails_loses_nothing_and_signs_no_size_twice(
    leader: Leader, tmp_path: Path, syscall: str
) -> None:
    need_strace()
    failed = {when: fail_once(leader, syscall, when, tmp_path / "trace") for when in SHORT[syscall]}
    say(f"{syscall}: {failed} failed, {len(leader.acknowledged)} acknowledged")
    assert sum(failed.values()) > 0
    leads_again(leader)


@pytest.mark.slow
@pytest.mark.parametrize("error", ["once", "for ever"])
@pytest.mark.parametrize("syscall", SYSCALLS)
def test_every_call_that_fails_loses_nothing_and_signs_no_size_twice(
    leader: Leader, tmp_path: Path, syscall: str, error: str
) -> None:
    need_strace()
    leader.stop_witness()
    before = tmp_path.name
    leader.keep(before)
    failed = 0
    for number in range(1, MOST_CALLS):
        when = f"{number}+" if error == "for ever" else str(number)
        leader.start_witness()
        found = fail_once(leader, syscall, when, tmp_path / "trace")
        leader.stop_witness()
        # From the same beginning each time: a longer log makes more calls.
        leader.go_back(before)
        if not found:
            break
        failed += found
    else:
        pytest.fail(f"a thread makes {MOST_CALLS} calls or more to {syscall}")
    leader.start_witness()
    say(f"{syscall} {error}: {number - 1} calls of a thread, {failed} failed")
    assert failed > 3
    leads_again(leader)


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system is mounted by root only")
def test_a_disk_that_is_full_to_the_last_byte(nursery: Nursery, tmp_path: Path) -> None:
    home = tmp_path / "small"
    home.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", home], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no tmpfs here: {done.stderr.decode().strip()}")
    try:
        _fill_and_free(Leader(home / "d", nursery), home / "somebody-else")
    finally:
        subprocess.run(["umount", home], check=True)


def _fill_and_free(leader: Leader, filler: Path) -> None:
    try:
        leader.start_witness()
        leader.lead()
        leader.adopt()
        for _ in range(2):
            load = Load(leader)
            leader.wait_acknowledged(3)
            _fill(filler)
            assert leader.ended() != 0
            load.stop()
            filler.unlink()
            leader.check()
            # The witness shares the disk, and stops too when it cannot store.
            leader.stop_witness()
            leader.start_witness()
            leader.lead()
        assert leader.append() is not None
        say(f"full twice: {len(leader.acknowledged)} acknowledged, {len(leader.seen)} heads")
    finally:
        leader.close()


def _fill(filler: Path) -> None:
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            return
