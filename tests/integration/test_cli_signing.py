"""Signing from the command line: SSH keys and agents, machines without a network, paper, next roots."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gatelift.encoding import sha256_digest
from gatelift.trust import (
    SigningKey,
    parse_envelope,
    parse_root,
    verify_root,
)
from gatelift.wire.files import FileStore
from tests.support.world import World, key, seed

SRC = str(Path(__file__).parents[2] / "src")
NEEDS_SSH = pytest.mark.skipif(
    shutil.which("ssh-keygen") is None or shutil.which("ssh-agent") is None,
    reason="OpenSSH is not installed",
)


def run(*arguments: str | Path, typed: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": SRC, "COLUMNS": "80"} | more
    return subprocess.run(
        [sys.executable, "-m", "gatelift", *map(str, arguments)],
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        check=False,
    )


def said(*arguments: str | Path, **more: str) -> dict[str, Any]:
    done = run(*arguments, "--json", **more)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def code_of(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode != 0
    return done.stderr.strip().rpartition("[")[2].rstrip("]\n")


def key_file(folder: Path, name: str) -> Path:
    path = folder / (name.replace(":", "-") + ".key")
    path.write_text(base64.b64encode(seed(name)).decode() + "\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An agent that holds the key of `held.pub`; the private file is gone."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "held", "-f", str(tmp_path / "held")],
        check=True,
    )
    socket = tmp_path / "a.sock"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        environment = {"SSH_AUTH_SOCK": str(socket)}
        for _ in range(100):
            if socket.exists():
                break
            subprocess.run(["sleep", "0.05"], check=True)
        subprocess.run(
            ["ssh-add", "-q", str(tmp_path / "held")],
            check=True,
            env={**os.environ, **environment},
        )
        (tmp_path / "held").unlink()
        yield environment
    finally:
        process.terminate()
        process.wait(timeout=10)


def root_with(folder: Path, public: Path, **more: str) -> Path:
    """A draft in which an SSH key is Olga's in the root role."""
    (folder / "root.json").write_bytes(World().root_envelope)
    said("keys", "show", public, "--person", "olga", "--organisation", "lab.example",
         "--out", folder / "olga.json")  # fmt: skip
    (folder / "vera.json").write_text(
        json.dumps(said("keys", "show", key_file(folder, "root:vera"))
                   | {"person": "vera", "organisation": "oversight.example"})
    )  # fmt: skip
    said("root", "next", folder / "root.json", "--out", folder / "draft.json",
         "--role", f"root={folder / 'olga.json'}", "--role", f"root={folder / 'vera.json'}",
         **more)  # fmt: skip
    return folder / "draft.json"


@NEEDS_SSH
def test_an_agents_key_signs_a_root_that_verifies(tmp_path: Path, agent: dict[str, str]) -> None:
    draft = root_with(tmp_path, tmp_path / "held.pub")
    out = tmp_path / "root-2.json"
    for name in ("root:olga", "root:vera"):
        signer = key_file(tmp_path, name)
        said("sign", draft if not out.exists() else out, "--yes", "--out", out, "--key", signer)
    previous = World().root
    assert (
        code_of(run("root", "check", out, "--previous", tmp_path / "root.json")) == "quorum_unmet"
    )
    said("sign", out, "--yes", "--ssh-key", tmp_path / "held.pub", **agent)
    made = verify_root(out.read_bytes(), previous.issued_at, previous)
    assert made.version == 2
    assert {k.scheme.value for k in made.keys.values() if k.person == "olga"} == {
        "ed25519",
        "sshsig",
    }


@NEEDS_SSH
def test_without_its_agent_an_ssh_key_signs_nothing(tmp_path: Path, agent: dict[str, str]) -> None:
    draft = root_with(tmp_path, tmp_path / "held.pub")
    done = run("sign", draft, "--yes", "--out", tmp_path / "o", "--key", tmp_path / "held.pub")
    assert code_of(done) == "ssh_not_signed"
    assert done.returncode == 4
    assert not (tmp_path / "o").exists()


@NEEDS_SSH
def test_a_private_key_of_ssh_is_not_taken(tmp_path: Path) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "k")], check=True
    )
    draft = root_with(tmp_path, tmp_path / "k.pub")
    done = run("sign", draft, "--yes", "--out", tmp_path / "o", "--key", tmp_path / "k")
    assert code_of(done) == "bad_key_file"
    assert "k.pub" in done.stderr


@NEEDS_SSH
def test_an_ssh_key_of_another_kind_is_refused_by_name(tmp_path: Path) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", str(tmp_path / "k")], check=True
    )
    done = run("keys", "show", tmp_path / "k.pub")
    assert code_of(done) == "bad_key_file"
    assert "ssh-ed25519" in done.stderr


# --- without a network -------------------------------------------------------------------------


def test_signatures_are_added_one_by_one_and_the_payload_stays(tmp_path: Path) -> None:
    world = World()
    first = world.signed_certificate("researchers", "safety:sam")
    path = tmp_path / "certificate.json"
    path.write_bytes(first)
    payload = parse_envelope(first).unverified_payload()
    for count, name in ((2, "security:sue"), (3, "overseer:vera"), (3, "overseer:vera")):
        found = said("sign", path, "--yes", "--key", key_file(tmp_path, name))
        assert len(found["signatures"]) == count
        assert found["kind"] == "certificate"
        assert parse_envelope(path.read_bytes()).unverified_payload() == payload
    assert set(found["signatures"]) == {
        key(name).id for name in ("safety:sam", "security:sue", "overseer:vera")
    }


def test_what_is_signed_is_shown_and_a_no_signs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "certificate.json"
    before = World().signed_certificate("researchers", "safety:sam")
    path.write_bytes(before)
    signer = key_file(tmp_path, "security:sue")
    done = run("sign", path, "--key", signer, typed="n\n")
    assert code_of(done) == "not_signed"
    assert '"stage":"researchers"' in done.stderr.replace("\n", "")
    assert path.read_bytes() == before
    assert run("sign", path, "--key", signer, typed="y\n").returncode == 0


def test_what_is_shown_cannot_turn_the_terminal_around(tmp_path: Path) -> None:
    world = World()
    path = tmp_path / "certificate.json"
    clears = ("order\u202e1", "order\u009b2")
    path.write_bytes(world.signed_certificate("researchers", "safety:sam", clears=clears))
    done = run("sign", path, "--yes", "--key", key_file(tmp_path, "security:sue"))
    assert done.returncode == 0
    assert done.stderr.isascii()
    assert "\\u202e" in done.stderr.replace("\n", "")


def test_a_draft_that_contradicts_itself_is_not_signed(tmp_path: Path) -> None:
    root = json.loads(World().root_payload())
    root["roles"]["root"]["threshold"] = 0
    (tmp_path / "draft.json").write_text(json.dumps(root))
    signer = key_file(tmp_path, "root:olga")
    arguments = ("sign", tmp_path / "draft.json", "--yes", "--out", tmp_path / "o", "--key", signer)
    assert code_of(run(*arguments)) == "bad_root"
    assert not (tmp_path / "o").exists()


# --- the next root -----------------------------------------------------------------------------


@pytest.fixture
def deployment(tmp_path: Path) -> Path:
    said("init", tmp_path / "d", "--yes")
    return tmp_path / "d"


def signed_next(deployment: Path, name: str, *more: str, signers: tuple[str, ...]) -> Path:
    out = deployment.parent / name
    draft = deployment.parent / f"{name}.draft"
    said("root", "next", deployment / "root.json", "--out", draft, *more)
    keys = [part for each in signers for part in ("--key", str(deployment / f"keys/{each}.key"))]
    said("sign", draft, "--yes", "--out", out, *keys)
    return out


def test_a_host_takes_a_root_only_after_the_one_that_it_has_pinned(deployment: Path) -> None:
    first = (deployment / "root.json").read_bytes()
    both = ("root-1", "root-2")
    second = signed_next(deployment, "second", signers=both)
    alone = signed_next(deployment, "alone", signers=("root-1",))
    assert code_of(run("root", "adopt", alone, "--dir", deployment)) == "quorum_unmet"
    found = said("root", "adopt", second, "--dir", deployment)
    assert (deployment / "root.sha256").read_text().strip() == found["digest"]
    assert FileStore(deployment / "files").get(found["digest"]) == second.read_bytes()
    # Rollback, and the same version with other bytes.
    (deployment.parent / "first").write_bytes(first)
    assert code_of(run("root", "adopt", deployment.parent / "first", "--dir", deployment)) == (
        "not_successor"
    )
    (deployment / "root.json").write_bytes(first)
    other = signed_next(deployment, "other", "--lasts", "30d", signers=both)
    assert code_of(run("root", "adopt", other, "--dir", deployment)) == "not_successor"
    assert (deployment / "root.sha256").read_text().strip() == found["digest"]


def test_a_removed_key_leaves_the_root_with_its_person(deployment: Path) -> None:
    before = parse_root(
        parse_envelope((deployment / "root.json").read_bytes()).unverified_payload()
    )
    gone = before.roles["evaluator"].keys[0]
    path = signed_next(deployment, "n", "--remove", gone, signers=("root-1", "root-2"))
    after = verify_root(path.read_bytes(), before.issued_at, before)
    assert gone not in after.keys
    assert "evaluator" not in after.roles
    assert before.keys[gone].person not in {person.id for person in after.people}


def test_a_draft_never_moves_a_person_to_another_organisation(deployment: Path) -> None:
    entry = said("keys", "show", key_file(deployment.parent, "x"))
    entry |= {"person": "overseer", "organisation": "lab.example"}
    path = deployment.parent / "entry.json"
    path.write_text(json.dumps(entry))
    done = run("root", "next", deployment / "root.json", "--out", deployment.parent / "o",
               "--role", f"safety={path}")  # fmt: skip
    assert code_of(done) == "unreadable_input"
    assert "one organisation" in done.stderr.replace("\n", " ")


# --- paper -------------------------------------------------------------------------------------


def test_a_key_goes_to_paper_and_back_in_80_columns(tmp_path: Path) -> None:
    signer = key_file(tmp_path, "stop:sam")
    paper = run("keys", "paper", signer)
    assert paper.returncode == 0
    lines = paper.stdout.splitlines()
    assert all(len(line) <= 80 for line in lines + paper.stderr.splitlines())
    assert lines[1] == key("stop:sam").id
    typed = "\n".join(lines[3:]).lower().replace("-", " ").replace("0", "o").replace("1", "l")
    done = run("keys", "from-paper", tmp_path / "again.key", typed=typed)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "again.key").read_text() == signer.read_text()
    assert (tmp_path / "again.key").stat().st_mode & 0o777 == 0o600


def test_a_wrong_character_on_paper_is_found_and_not_quoted(tmp_path: Path) -> None:
    lines = run("keys", "paper", key_file(tmp_path, "stop:sam")).stdout.splitlines()[3:]
    text = "".join(lines)
    wrong = ("3" if text[7] != "3" else "4").join((text[:7], text[8:]))
    for typed in (wrong, text[:-1], text + "0", "", text.replace(text[0], "U", 1)):
        done = run("keys", "from-paper", tmp_path / "again.key", typed=typed)
        assert code_of(done) == "bad_paper_key"
        assert done.returncode == 2
        assert not typed or typed[:4] not in done.stderr + done.stdout
    assert not (tmp_path / "again.key").exists()


def test_the_digest_to_be_pinned_is_that_of_the_file(deployment: Path) -> None:
    found = said("root", "check", deployment / "root.json")
    assert found["digest"] == sha256_digest((deployment / "root.json").read_bytes())
    assert SigningKey(seed("x")).id not in str(found)
