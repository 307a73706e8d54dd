"""Sealing a model: read by the OpenSSF tool and reading what that wrote; what is refused."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SRC = str(Path(__file__).parents[2] / "src")


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": SRC, "COLUMNS": "100"}
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=False,
    )


def gatelift(*arguments: str | Path) -> tuple[int, dict[str, Any]]:
    done = run("gatelift", *arguments, "--json")
    return done.returncode, json.loads(done.stdout or done.stderr)


def openssf(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run("model_signing", *arguments)


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    private, public = tmp_path / "seal.pem", tmp_path / "seal.pub.pem"
    made = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(private)]
    subprocess.run(made, check=True, capture_output=True)
    private.chmod(0o600)
    shown = ["openssl", "ec", "-in", str(private), "-pubout", "-out", str(public)]
    subprocess.run(shown, check=True, capture_output=True)
    return private, public


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "aurora"
    (folder / "sub").mkdir(parents=True)
    # Names whose order differs between whole paths and segments, and one that is hidden.
    for name in ("model.gguf", "sub/a.json", "sub-b", ".hidden"):
        (folder / name).write_bytes(os.urandom(5_000) + name.encode())
    return folder


def test_the_openssf_tool_verifies_what_was_sealed_here(
    model: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    private, public = keys
    manifest = tmp_path / "model.sig"
    code, sealed = gatelift("candidate", "seal", model, "--key", private, "-o", manifest)
    assert (code, sealed["files"], sealed["ignored"]) == (0, 4, [])
    theirs = ("verify", "key", model, "--signature", manifest, "--public_key", public)
    assert openssf(*theirs).returncode == 0
    (model / "model.gguf").write_bytes(b"other")
    assert openssf(*theirs).returncode != 0


def test_what_the_openssf_tool_sealed_is_read_here_with_the_same_digest(
    model: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    private, public = keys
    theirs, ours = tmp_path / "theirs.sig", tmp_path / "ours.sig"
    made = openssf("sign", "key", model, "--private_key", private, "--signature", theirs)
    assert made.returncode == 0, made.stderr
    code, read = gatelift("candidate", "check", model, "--manifest", theirs, "--signer", public)
    assert code == 0
    _, sealed = gatelift("candidate", "seal", model, "--key", private, "-o", ours)
    assert read["weights"] == sealed["weights"]
    (model / "sub-b").unlink()
    code, refused = gatelift("candidate", "check", model, "--manifest", theirs, "--signer", public)
    assert (code, refused["error"]["code"]) == (1, "model_differs")


def test_what_is_left_out_is_left_out_by_both(
    model: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    private, public = keys
    manifest = tmp_path / "model.sig"
    (model / "sub" / "link").symlink_to("/etc/passwd")
    code, sealed = gatelift(
        "candidate", "seal", model, "--key", private, "-o", manifest, "--ignore", "sub"
    )
    assert (code, sealed["files"], sealed["ignored"]) == (0, 3, ["sub"])
    (model / "sub" / "link").unlink()
    checked = openssf("verify", "key", model, "--signature", manifest, "--public_key", public)
    assert checked.returncode == 0, checked.stderr


def _link(model: Path) -> None:
    (model / "more").symlink_to(model / "model.gguf")


def _linked_folder(model: Path) -> None:
    (model / "more").symlink_to(model / "sub", target_is_directory=True)


def _pipe(model: Path) -> None:
    os.mkfifo(model / "more")


def _odd_name(model: Path) -> None:
    (model / "a\nb").write_bytes(b"x")


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        pytest.param(_link, "model_symlink", id="a link to a file inside"),
        pytest.param(_linked_folder, "model_symlink", id="a link to a folder inside"),
        pytest.param(_pipe, "model_symlink", id="a pipe"),
        pytest.param(_odd_name, "bad_path", id="a name of two lines"),
    ],
)
def test_a_folder_with_what_is_no_plain_file_is_not_sealed(
    model: Path, keys: tuple[Path, Path], tmp_path: Path, spoil: Any, code: str
) -> None:
    spoil(model)
    manifest = tmp_path / "model.sig"
    status, refused = gatelift("candidate", "seal", model, "--key", keys[0], "-o", manifest)
    assert (status, refused["error"]["code"]) == (1, code)
    assert not manifest.exists()


def test_a_manifest_is_not_written_into_the_folder_that_it_describes(
    model: Path, keys: tuple[Path, Path]
) -> None:
    inside = model / "model.sig"
    status, refused = gatelift("candidate", "seal", model, "--key", keys[0], "-o", inside)
    assert (status, refused["error"]["code"], inside.exists()) == (2, "unreadable_input", False)


def test_a_model_of_more_files_than_a_process_may_open_by_habit_is_sealed(
    model: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    for number in range(1_500):
        (model / "sub" / f"{number}.bin").write_bytes(b"x")
    manifest = tmp_path / "model.sig"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        code, sealed = gatelift("candidate", "seal", model, "--key", keys[0], "-o", manifest)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (code, sealed["files"]) == (0, 1_504)
    theirs = ("verify", "key", model, "--signature", manifest, "--public_key", keys[1])
    assert openssf(*theirs).returncode == 0


def test_a_private_key_that_others_may_read_seals_nothing(
    model: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    keys[0].chmod(0o644)
    manifest = tmp_path / "model.sig"
    _, refused = gatelift("candidate", "seal", model, "--key", keys[0], "-o", manifest)
    assert refused["error"]["code"] == "key_file_mode"
