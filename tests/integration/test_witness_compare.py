"""What a log shows, held against what its witnesses saw: real witness processes, forged logs."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatelift.ledger.tile_files import places_for_growth, publish_checkpoint, write_tiles
from gatelift.tlog import (
    Checkpoint,
    CosignatureSigner,
    MemoryTree,
    NoteSigner,
    add_signatures,
    parse_note,
    parse_signatures,
    sign_checkpoint,
)
from tests.promises.outside import free_ports
from tests.support.world import seed

ORIGIN = "example.com/releases"
LOG = NoteSigner(ORIGIN, Ed25519PrivateKey.from_private_bytes(b"\x01" * 32))
FORGER = NoteSigner(ORIGIN, Ed25519PrivateKey.from_private_bytes(b"\x02" * 32))
TRUE = [b"entry %d" % i for i in range(40)]
FORK = [*TRUE[:5], *(b"other %d" % i for i in range(5, 40))]
NAMES = ("uni/w1", "ngo/w1")


def signer(name: str) -> CosignatureSigner:
    return CosignatureSigner(name, Ed25519PrivateKey.from_private_bytes(seed(name)))


def head(entries: Sequence[bytes], log: NoteSigner = LOG) -> bytes:
    tree = MemoryTree(entries)
    checkpoint = Checkpoint(origin=ORIGIN, size=len(entries), root=tree.root(len(entries)))
    return sign_checkpoint(checkpoint, log)


class Two:
    """Two witness processes of two organisations, asked through the command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        first = free_ports()
        self.ports = dict(zip(NAMES, (first, first + 1), strict=True))
        self.processes = {}
        for name, port in self.ports.items():
            key = folder / f"{port}.key"
            key.write_text(base64.b64encode(seed(name)).decode() + "\n")
            key.chmod(0o600)
            self.processes[name] = subprocess.Popen(
                [
                    *(sys.executable, "-m", "gatelift", "witness", "serve", "--name", name),
                    *("--folder", str(folder / f"w{port}"), "--key", str(key)),
                    *("--port", str(port), "--log-vkey", LOG.vkey),
                ],
                stderr=subprocess.DEVNULL,
            )
        lines = [f"log {LOG.vkey}"]
        lines += [f"witness {n} {signer(n).vkey} {self.url(n)}" for n in NAMES]
        lines += [f"group both 2 {' '.join(NAMES)}", "quorum both"]
        self.policy = folder / "policy"
        self.policy.write_text("\n".join(lines) + "\n")
        for name in NAMES:
            self._wait(name)

    def _wait(self, name: str) -> None:
        for _ in range(400):
            try:
                httpx.get(self.url(name))
            except httpx.TransportError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError(f"{name} does not answer")

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    def cosign(self, entries: Sequence[bytes], old: int, *names: str) -> bytes:
        """Have these witnesses, by default both, cosign the head of `entries`; they stand at `old`."""
        note = head(entries)
        proof = MemoryTree(entries).consistency_proof(old, len(entries))
        lines = [f"old {old}", *(base64.b64encode(hash_).decode() for hash_ in proof)]
        body = "\n".join(lines).encode() + b"\n\n" + note
        for name in names or NAMES:
            answer = httpx.post(f"{self.url(name)}/add-checkpoint", content=body)
            assert answer.status_code == 200, answer.text
            note = add_signatures(note, parse_signatures(answer.content))
        return note

    def cosign_untruly(self, note: bytes, at_s: float, *names: str) -> bytes:
        """Sign as witnesses that a forger has made his own would."""
        text = parse_note(note).text
        return add_signatures(note, [signer(n).sign(text, int(at_s)) for n in names or NAMES])

    def publish(self, entries: Sequence[bytes], note: bytes) -> Path:
        folder = self.folder / f"log-{time.monotonic_ns()}"
        tree = MemoryTree(entries)

        def hashes(level: int, first: int, stop: int) -> list[bytes]:
            return [tree.hash_at(level, index) for index in range(first, stop)]

        folder.mkdir()
        write_tiles(
            folder, places_for_growth(0, len(entries)), hashes, lambda a, b: list(entries[a:b])
        )
        publish_checkpoint(folder, note)
        return folder

    def compare(self, log: Path, *more: str) -> tuple[int, dict[str, str], Any]:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "gatelift", "witness", "compare", str(log)),
                *("--policy", str(self.policy), "--json", *more),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        found = json.loads(done.stdout)
        outcomes = found["compared"]["outcomes"] if "compared" in found else []
        return done.returncode, {o["witness"]: o["code"] for o in outcomes}, found

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait(10)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    found = Two(tmp_path)
    yield found
    found.close()


def test_an_honest_log_agrees_and_may_be_ahead_or_a_moment_behind(two: Two) -> None:
    at_5 = two.cosign(TRUE[:5], 0)
    assert two.compare(two.publish(TRUE[:5], at_5))[:2] == (0, dict.fromkeys(NAMES, "agrees"))
    at_9 = two.cosign_untruly(two.cosign(TRUE[:9], 5, NAMES[0]), time.time(), NAMES[1])
    code, found, _ = two.compare(two.publish(TRUE[:9], at_9))
    assert (code, found) == (0, {NAMES[0]: "agrees", NAMES[1]: "ahead"})
    # Not published yet is no rollback.
    code, found, _ = two.compare(two.publish(TRUE[:5], at_5))
    assert (code, found) == (0, {NAMES[0]: "behind", NAMES[1]: "agrees"})


@pytest.mark.parametrize("size", [9, 12], ids=["of the same size", "larger"])
def test_a_split_view_is_caught_by_the_witness_that_saw_the_other_half(two: Two, size: int) -> None:
    two.cosign(TRUE[:9], 0)
    # The log, and both witness keys, are the forger's: only what the witness itself says is not.
    forged = two.cosign_untruly(head(FORK[:size]), time.time())
    code, found, whole = two.compare(two.publish(FORK[:size], forged))
    assert (code, found) == (1, dict.fromkeys(NAMES, "split_view"))
    ours, theirs = whole["compared"]["note"], whole["compared"]["outcomes"][0]["note"]
    assert parse_note(ours.encode()).text == parse_note(head(FORK[:size])).text
    assert parse_note(theirs.encode()).text == parse_note(head(TRUE[:9])).text


def test_a_split_between_two_witnesses_is_caught_though_ours_is_neither(two: Two) -> None:
    at_5 = two.cosign(TRUE[:5], 0)
    two.cosign(TRUE[:9], 5, NAMES[0])
    two.cosign(FORK[:9], 5, NAMES[1])
    code, found, _ = two.compare(two.publish(TRUE[:5], at_5))
    assert (code, found) == (1, dict.fromkeys(NAMES, "split_view"))


def test_a_log_that_was_rolled_back_is_caught(two: Two) -> None:
    backup = two.publish(TRUE[:5], two.cosign(TRUE[:5], 0))
    two.cosign(TRUE[:9], 5)
    time.sleep(1.1)
    code, found, _ = two.compare(backup, "--slack", "1ms")
    assert (code, found) == (1, dict.fromkeys(NAMES, "rollback"))


def test_a_dossier_is_judged_as_of_its_export(two: Two) -> None:
    log = two.publish(TRUE[:5], two.cosign(TRUE[:5], 0))
    dossier = two.folder / "dossier"
    dossier.mkdir()
    shutil.copytree(log, dossier / "releases")
    manifest = {
        "v": 1,
        "release": "r",
        "exported_at": int(time.time() * 1000),
        "root": "sha256:" + "0" * 64,
        "releases": {"origin": ORIGIN, "size": 5},
        "requests": [],
        "records": 0,
        "files": 0,
        "missing": [],
    }
    (dossier / "dossier.json").write_text(json.dumps(manifest))
    time.sleep(1.1)
    two.cosign(TRUE[:9], 5)
    code, found, _ = two.compare(dossier, "--slack", "1ms")
    assert (code, found) == (0, dict.fromkeys(NAMES, "behind"))
    manifest["exported_at"] = int(time.time() * 1000) + 2000
    (dossier / "dossier.json").write_text(json.dumps(manifest))
    code, found, _ = two.compare(dossier, "--slack", "1ms")
    assert (code, found) == (1, dict.fromkeys(NAMES, "rollback"))


def test_a_log_that_stands_still_is_caught(two: Two) -> None:
    # Frozen two hours ago: signed and cosigned, but by nobody since.
    frozen = two.cosign_untruly(head(TRUE[:5]), time.time() - 7200)
    log = two.publish(TRUE[:5], frozen)
    two.cosign(TRUE[:5], 0)
    code, found, _ = two.compare(log)
    assert (code, found) == (1, {**dict.fromkeys(NAMES, "agrees"), "": "stale_head"})
    assert two.compare(log, "--max-age", "3h")[0] == 0
    # One fresh cosignature of the two that the policy asks for is not enough.
    half = two.cosign_untruly(
        two.cosign_untruly(head(TRUE[:5]), time.time(), NAMES[0]), 1, NAMES[1]
    )
    code, found, _ = two.compare(two.publish(TRUE[:5], half))
    assert (code, found[""]) == (1, "stale_head")


def test_too_few_answers_are_no_good_news(two: Two) -> None:
    log = two.publish(TRUE[:5], two.cosign(TRUE[:5], 0))
    two.processes[NAMES[1]].kill()
    two.processes[NAMES[1]].wait(10)
    code, found, _ = two.compare(log)
    assert (code, found) == (4, {NAMES[0]: "agrees", NAMES[1]: "not_compared"})
    # The first witness's answer under the second's name is not the second's.
    code, found, _ = two.compare(log, "--witness-url", f"{NAMES[1]}={two.url(NAMES[0])}")
    assert (code, found[NAMES[1]]) == (4, "not_compared")


def test_a_head_that_the_policy_does_not_believe_is_not_compared(two: Two) -> None:
    two.cosign(TRUE[:5], 0)
    for note in (
        two.cosign_untruly(head(TRUE[:5], FORGER), time.time()),
        two.cosign_untruly(head(TRUE[:5]), time.time(), NAMES[0]),
        two.cosign_untruly(head(TRUE[:5]), time.time() + 7200),
    ):
        code, found, whole = two.compare(two.publish(TRUE[:5], note))
        assert (code, found) == (1, {}), whole
    code, _, whole = two.compare(
        two.publish(TRUE[:5], two.cosign(TRUE[:5], 5)), "--witness-url", "who=https://x.example"
    )
    assert code == 2, whole
