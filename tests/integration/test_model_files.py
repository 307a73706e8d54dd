"""Held files of a model: what is seen of a change, by one `stat` a path."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gatelift.encoding import sha256_digest
from gatelift.wire.model_files import ModelFilesError, compare_files, hold_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.bin").write_bytes(b"a" * 100_000)
    (folder / "sub" / "b.bin").write_bytes(b"b")
    return folder


def written_with_its_time_put_back(model: Path) -> None:
    path = model / "a.bin"
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"x")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def swapped_and_put_back(model: Path) -> None:
    (model / "a.bin").rename(model.parent / "aside")
    (model / "a.bin").write_bytes(b"x" * 100_000)
    (model.parent / "aside").replace(model / "a.bin")


def folder_swapped_and_put_back(model: Path) -> None:
    model.rename(model.parent / "aside")
    shutil.copytree(model.parent / "aside", model)
    shutil.rmtree(model)
    (model.parent / "aside").rename(model)


def linked_over(model: Path) -> None:
    (model / "sub" / "b.bin").unlink()
    (model / "sub" / "b.bin").symlink_to("/etc/hostname")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(written_with_its_time_put_back, id="written in place, its time put back"),
        pytest.param(swapped_and_put_back, id="swapped and put back"),
        pytest.param(folder_swapped_and_put_back, id="the folder swapped and put back"),
        pytest.param(linked_over, id="a link in its place"),
        pytest.param(lambda m: (m / "sub" / "c").write_bytes(b""), id="one more file"),
        pytest.param(lambda m: (m / "a.bin").unlink(), id="one file less"),
        pytest.param(shutil.rmtree, id="all gone"),
        pytest.param(
            lambda m: shutil.copy(m / "a.bin", m / "n") and (m / "n").replace(m / "a.bin"),
            id="another file of the same bytes",
        ),
    ],
)
def test_a_change_is_seen(model: Path, change: Callable[[Path], object]) -> None:
    with hold_model(model) as held:
        assert held.changes() == ()
        change(model)
        assert held.changes()


def test_reading_and_what_is_left_out_change_nothing(model: Path) -> None:
    (model / "cache").mkdir()
    with hold_model(model, ["cache"]) as held:
        (model / "a.bin").read_bytes()
        (model / "cache" / "x").write_bytes(b"x")
        assert held.changes() == ()
        assert held.rehash() == ()
        assert set(held.files) == {"a.bin", "sub/b.bin"}
        assert held.files["sub/b.bin"] == sha256_digest(b"b")


def test_other_bytes_are_found_when_all_is_read_again(model: Path) -> None:
    with hold_model(model) as held:
        written_with_its_time_put_back(model)
        assert held.rehash() == ("a.bin",)


def test_what_differs_from_the_sealed_files_is_named(model: Path) -> None:
    with hold_model(model) as held:
        sealed = {**held.files, "gone.bin": sha256_digest(b"")}
        sealed["a.bin"] = sha256_digest(b"other")
        del sealed["sub/b.bin"]
        with pytest.raises(ModelFilesError) as caught:
            compare_files(held.files, sealed)
    for words in ("altered: a.bin", "missing: gone.bin", "not sealed: sub/b.bin"):
        assert words in str(caught.value)


def test_held_files_are_closed(model: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    hold_model(model).close()
    with pytest.raises(ModelFilesError):
        hold_model(model / "nowhere")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
