"""Overwriting records: the same length, the same place, whole after every crash."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gatelift.journal import (
    JournalError,
    LocatedRecord,
    Patch,
    RunFollower,
    Writer,
    find_records,
    finish_overwrite,
    overwrite,
    patch_of,
)
from gatelift.journal import erasing as module
from gatelift.messages import Beat, Tombstone, encode_tombstone
from gatelift.trust import SigningKey

NAMES = {"node": "node_1", "worker": "w0", "run": "run_1"}


def beat(seq: int) -> Beat:
    return Beat(v=1, **NAMES, seq=seq, at=7, refused={f"why_{seq}": seq})


@pytest.fixture
def journals(tmp_path: Path) -> Path:
    async def scenario() -> None:
        writer = Writer(tmp_path / "j/w0", **NAMES, key=SigningKey(bytes(range(32))))
        for _ in range(4):
            pendings = [writer.append(beat) for _ in range(3)]
            await pendings[-1].durable
        writer.close()

    asyncio.run(scenario())
    return tmp_path / "j"


def records(journals: Path) -> list[tuple[bytes, Tombstone | None]]:
    follower = RunFollower(journals / "w0", "run_1")
    batches = []
    while found := follower.poll():
        batches += found
    return [(stored.data, stored.gone) for batch in batches for stored in batch.records]


class Anything:
    """Holds every leaf."""

    def __contains__(self, _: object) -> bool:
        return True


def patches_for(journals: Path, *seqs: int) -> list[Patch]:
    found: list[LocatedRecord] = list(find_records(journals, Anything()))
    made = []
    for seq in seqs:
        record = found[seq]
        left = Tombstone(record.leaf, "e", record.payload[32:])
        made.append(patch_of(record, encode_tombstone(left, len(record.payload))))
    return made


def test_others_stand_where_they_stood_and_every_batch_hashes(
    journals: Path, tmp_path: Path
) -> None:
    before = records(journals)
    size = sum(path.stat().st_size for path in journals.rglob("*.seg"))
    overwrite(tmp_path / "redo", patches_for(journals, 1, 2, 7))
    after = records(journals)
    assert [data for data, _ in after] == [data for data, _ in before]
    assert [n for n, (_, gone) in enumerate(after) if gone is not None] == [1, 2, 7]
    assert sum(path.stat().st_size for path in journals.rglob("*.seg")) == size
    assert not (tmp_path / "redo").exists()


def test_a_crash_at_any_byte_of_the_overwriting_is_mended(
    journals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = records(journals)
    patches = patches_for(journals, 0, 5, 11)
    segment = next(journals.rglob("*.seg"))
    whole = segment.read_bytes()

    class CrashError(Exception):
        pass

    def crash(_: object) -> bool:
        raise CrashError

    with monkeypatch.context() as broken:
        broken.setattr(module, "finish_overwrite", crash)
        with pytest.raises(CrashError):
            overwrite(tmp_path / "redo", patches)
    redo = (tmp_path / "redo").read_bytes()
    for cut in range(0, len(patches[1].data), 7):
        half = bytearray(whole)
        first, second = patches[0], patches[1]
        half[first.offset : first.offset + len(first.data)] = first.data
        half[second.offset : second.offset + cut] = second.data[:cut]
        segment.write_bytes(half)
        (tmp_path / "redo").write_bytes(redo)
        assert finish_overwrite(tmp_path / "redo")
        after = records(journals)
        assert [data for data, _ in after] == [data for data, _ in before]
        assert [n for n, (_, gone) in enumerate(after) if gone is not None] == [0, 5, 11]
    assert not finish_overwrite(tmp_path / "redo")


def test_what_does_not_lie_in_a_segment_is_refused(journals: Path, tmp_path: Path) -> None:
    patch = patches_for(journals, 0)[0]
    beyond = Patch(path=patch.path, offset=10**6, data=patch.data)
    with pytest.raises(JournalError):
        overwrite(tmp_path / "redo", [beyond])
    (tmp_path / "redo").write_bytes(b"[{")
    with pytest.raises(JournalError, match="cannot be read"):
        finish_overwrite(tmp_path / "redo")


def test_a_tombstone_whose_leaf_is_another_does_not_hash_to_its_batch(
    journals: Path, tmp_path: Path
) -> None:
    record = next(iter(find_records(journals, Anything())))
    other = Tombstone(b"x" * 32, "e", record.payload[32:])
    overwrite(tmp_path / "redo", [patch_of(record, encode_tombstone(other, len(record.payload)))])
    with pytest.raises(JournalError) as caught:
        records(journals)
    assert caught.value.code == "journal_corrupt"
