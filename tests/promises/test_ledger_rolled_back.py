"""A second writer, and a backup laid over the log: refused before anything is signed.

Attacked here: two control processes on one folder; a second one on a store that was moved under the
first; the store of an hour ago with what was published since, with the memory of heads, with both
lost and only a witness left; the same while the witness is away, so that control begins. Each time
control must end by itself with words that say what to do, no head may be signed, and with the newest
store back everything that was acknowledged must be there.

Seen to fail: without the memory of heads and the question to the witness, control led on the older
store in all cases but those that the published checkpoint still caught (six of ten red).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.promises.leader import Leader, Nursery

PARTS = ("store", "heads", "logs")
CHECKPOINT = Path("logs", "releases", "checkpoint")


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    found = Nursery()
    yield found
    found.close()


@pytest.fixture(scope="module")
def leader(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Leader]:
    """A log of which `old` and `new` copies lie beside it; control is down, the witness up."""
    found = Leader(tmp_path_factory.mktemp("rolled") / "d", nursery)
    try:
        found.start_witness()
        found.lead()
        found.adopt()
        append(found)
        keep(found, "old")
        found.lead()
        append(found)
        keep(found, "new")
        yield found
    finally:
        found.close()


def append(leader: Leader) -> None:
    """Append, wait for the cosigned head over it, and stop control."""
    index = leader.append()
    assert index is not None
    leader.wait_published(index + 1)
    assert leader.stop() == 0
    leader.take_heads()


def keep(leader: Leader, name: str) -> None:
    for part in PARTS:
        shutil.copytree(leader.folder / part, leader.folder.parent / name / part)


def lay(leader: Leader, **copies: str) -> None:
    """Lay a copy, `old` or `new`, over each part; `gone` removes it."""
    for part, name in copies.items():
        shutil.rmtree(leader.folder / part)
        if name != "gone":
            shutil.copytree(leader.folder.parent / name / part, leader.folder / part)


@pytest.fixture(autouse=True)
def whole(leader: Leader) -> Iterator[None]:
    """Afterwards the newest is back; all that was acknowledged is there and control leads."""
    before = dict(leader.acknowledged)
    yield
    if leader.control:
        _ = leader.kill()
    leader.acknowledged = before
    lay(leader, store="new", heads="new", logs="new")
    if not leader.witness:
        leader.start_witness()
    leader.check()


def signed(leader: Leader) -> dict[str, object]:
    """Return what was signed, as far as control keeps it."""
    with closing(leader.database()) as store:
        newest = store.execute("SELECT max(size) FROM checkpoints").fetchone()
    found: dict[str, object] = {"stored": newest}
    for path in (Path("heads", "releases"), CHECKPOINT):
        whole = leader.folder / path
        found[str(path)] = whole.read_bytes() if whole.exists() else None
    return found


def test_a_second_control_is_refused_and_the_first_goes_on(leader: Leader) -> None:
    leader.lead()
    said = leader.refused()
    assert "store_locked" in said
    assert "stop it first" in said
    code, told = leader.fsck("--repair")
    assert (code, told["error"]["code"]) == (4, "store_locked")
    assert leader.append() is not None


def test_a_store_moved_under_a_running_control_does_not_let_a_second_one_sign(
    leader: Leader,
) -> None:
    """The lock inside the store went away with it; the one beside the memory of heads did not."""
    leader.lead()
    (leader.folder / "store").rename(leader.folder / "aside")
    shutil.copytree(leader.folder.parent / "old" / "store", leader.folder / "store")
    try:
        said = leader.refused()
        assert "store_locked" in said
        assert "signs the heads" in said
        for _ in range(3):
            if leader.append() is None:
                break
        _ = leader.kill()
        leader.take_heads()
    finally:
        shutil.rmtree(leader.folder / "aside")


OLDER = {
    "what was published since": {"store": "old", "heads": "gone", "logs": "new"},
    "the memory of heads": {"store": "old", "heads": "new", "logs": "gone"},
    "the memory, and an old publication": {"store": "old", "heads": "new", "logs": "old"},
    "only the witness": {"store": "old", "heads": "old", "logs": "old"},
    "only the witness, the rest lost": {"store": "old", "heads": "gone", "logs": "gone"},
}


@pytest.mark.parametrize("memory", OLDER)
def test_an_older_store_is_refused_by(leader: Leader, memory: str) -> None:
    lay(leader, **OLDER[memory])
    before = signed(leader)
    said = leader.refused()
    assert "rolled_back" in said
    assert "Restore the newest store" in said
    if OLDER[memory]["heads"] == "gone":
        # What the store says of itself may be remembered again; no more.
        before.pop("heads/releases")
    assert signed(leader).items() >= before.items()
    leader.take_heads()


def test_a_lost_store_is_no_new_log(leader: Leader) -> None:
    lay(leader, store="gone")
    assert "rolled_back" in leader.refused()
    code, said = leader.fsck("--repair")
    assert (code, said["faults"][0]["code"]) == (1, "rolled_back")


def test_nothing_is_signed_while_the_witness_was_not_asked(leader: Leader) -> None:
    """It is away when control begins on the old store, with nothing else left that knows better."""
    lay(leader, store="old", heads="gone", logs="gone")
    leader.stop_witness()
    leader.lead()
    leader.wait_published(1)  # again, what was signed before
    before = signed(leader)
    leader.acknowledged = {}
    assert leader.append() is not None, "what is not signed can still be taken"
    assert signed(leader) == before
    leader.start_witness()
    assert leader.ended() == 4
    assert "rolled_back" in leader.out.read_text()
    assert signed(leader) == before
    leader.take_heads()


def test_fsck_says_of_an_older_store_what_to_do(leader: Leader) -> None:
    lay(leader, store="old")
    code, said = leader.fsck("--repair")
    assert code == 1
    (memory, published) = said["faults"]
    assert {memory["code"], published["code"]} == {"rolled_back"}
    assert "restore the newest store" in memory["do"]
    assert said["repaired"] == []
