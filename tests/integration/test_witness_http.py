"""A witness as a process of its own: every answer, restarts, kills and races, over HTTP."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatelift.tlog import (
    EMPTY_ROOT,
    Checkpoint,
    CosignatureSigner,
    MemoryTree,
    NoteSigner,
    add_signatures,
    parse_note,
    parse_signatures,
    parse_vkey,
    sign_checkpoint,
    sign_note,
    verify_checkpoint,
    verify_cosignatures,
)

ORIGIN = "example.com/releases"
LOG_KEY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
LOG = NoteSigner(ORIGIN, LOG_KEY)
SECOND_LOG = NoteSigner("example.com/requests", Ed25519PrivateKey.from_private_bytes(b"\x02" * 32))
STRANGER = NoteSigner(ORIGIN, Ed25519PrivateKey.from_private_bytes(b"\x03" * 32))
SEED = b"\x09" * 32
NAME = "witness.example/w1"
WITNESS_KEY = CosignatureSigner(NAME, Ed25519PrivateKey.from_private_bytes(SEED)).key
ID = hashlib.sha256(ORIGIN.encode()).hexdigest()
TREE = MemoryTree(b"entry %d" % i for i in range(64))
FORK = MemoryTree(b"other %d" % i for i in range(64))
START_TIMEOUT_S = 20
PROGRAM = """
import sys
from pathlib import Path
from gatelift.witness import serve
folder, name, key, port, *vkeys = sys.argv[1:]
serve(Path(folder), name=name, signing_key_path=Path(key), log_vkeys=vkeys,
      host="127.0.0.1", port=int(port))
print("returned", flush=True)
"""


class Running:
    """A witness process on a free port, which can be stopped, killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "witness"
        self.key = folder / "witness.key"
        self.key.write_text(base64.b64encode(SEED).decode() + "\n")
        self.key.chmod(0o600)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=20)
        self.process: subprocess.Popen[str] | None = None

    def spawn(self) -> subprocess.Popen[str]:
        arguments = [str(self.folder), NAME, str(self.key), str(self.port)]
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments, LOG.vkey, SECOND_LOG.vkey],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def start(self) -> None:
        self.process = self.spawn()
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                self.client.get("/")
            except httpx.TransportError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(self.process.communicate(timeout=5)) from None
                time.sleep(0.05)
            else:
                return

    def stop(self, how: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        assert self.process is not None
        self.process.send_signal(how)
        output, errors = self.process.communicate(timeout=START_TIMEOUT_S)
        code, self.process = self.process.returncode, None
        return code, output, errors

    def add(self, body: bytes) -> httpx.Response:
        return self.client.post("/add-checkpoint", content=body)

    def close(self) -> None:
        self.client.close()
        if self.process is not None:
            self.stop(signal.SIGKILL)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("witness"))
    running.start()
    yield running
    running.close()


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path)
    running.start()
    yield running
    running.close()


def note_of(size: int, *, tree: MemoryTree = TREE, log: NoteSigner = LOG) -> bytes:
    return sign_checkpoint(Checkpoint(origin=log.name, size=size, root=tree.root(size)), log)


def body_of(old: int, note: bytes, proof: tuple[bytes, ...] = ()) -> bytes:
    lines = [f"old {old}", *(base64.b64encode(hash_).decode() for hash_ in proof)]
    return "\n".join(lines).encode() + b"\n\n" + note


def growth(old: int, new: int, *, tree: MemoryTree = TREE, log: NoteSigner = LOG) -> bytes:
    return body_of(old, note_of(new, tree=tree, log=log), tree.consistency_proof(old, new))


def cosigned(note: bytes, answer: httpx.Response) -> int:
    """Check that the answer is our witness's cosignature on `note`, and return its time."""
    assert answer.status_code == 200, answer.text
    full = parse_note(add_signatures(note, parse_signatures(answer.content)))
    (cosignature,) = verify_cosignatures(full, [WITNESS_KEY])
    return cosignature.time_s


def test_a_log_grows_through_the_witness_and_every_refusal_has_its_status(
    witness: Running,
) -> None:
    assert witness.client.get(f"/{ID}/checkpoint").status_code == 404
    before = int(time.time())
    assert before <= cosigned(note_of(5), witness.add(growth(0, 5))) <= time.time()
    assert cosigned(note_of(5), witness.add(body_of(5, note_of(5)))) >= before
    assert cosigned(note_of(9), witness.add(growth(5, 9))) >= before

    stored = witness.client.get(f"/{ID}/checkpoint")
    assert stored.status_code == 200
    assert stored.headers["content-type"].startswith("text/plain")
    assert verify_checkpoint(stored.content, LOG.key).size == 9
    assert verify_cosignatures(parse_note(stored.content), [WITNESS_KEY])

    for old in (0, 5, 8):
        stale = witness.add(growth(old, 9))
        assert (stale.status_code, stale.text) == (409, "9\n")
        assert stale.headers["content-type"] == "text/x.tlog.size"
    assert witness.add(body_of(9, note_of(8))).status_code == 400
    assert witness.add(body_of(9, note_of(12), TREE.consistency_proof(8, 12))).status_code == 422
    assert witness.add(body_of(9, note_of(12))).status_code == 422
    proof = TREE.consistency_proof(9, 12)
    assert witness.add(body_of(9, note_of(12), (*proof, EMPTY_ROOT))).status_code == 422
    assert witness.add(body_of(9, note_of(9), (EMPTY_ROOT,))).status_code == 422
    assert witness.add(growth(9, 12, tree=FORK)).status_code == 422
    assert cosigned(note_of(12), witness.add(growth(9, 12))) >= before


def test_two_logs_are_followed_apart(witness: Running) -> None:
    cosigned(note_of(5), witness.add(growth(0, 5)))
    empty = note_of(0, log=SECOND_LOG)
    cosigned(empty, witness.add(body_of(0, empty)))
    cosigned(note_of(3, log=SECOND_LOG), witness.add(growth(0, 3, log=SECOND_LOG)))
    cosigned(note_of(6), witness.add(growth(5, 6)))


def test_an_empty_tree_has_one_root(shared: Running) -> None:
    bad = sign_checkpoint(Checkpoint(origin=SECOND_LOG.name, size=0, root=b"\x05" * 32), SECOND_LOG)
    answer = shared.add(body_of(0, bad))
    assert (answer.status_code, answer.text.split(":")[0]) == (422, "bad_proof")


def test_unknown_origins_and_keys_are_refused(shared: Running) -> None:
    unknown = NoteSigner("example.com/unknown", LOG_KEY)
    assert shared.add(growth(0, 5, log=unknown)).status_code == 404
    assert shared.add(growth(0, 5, log=STRANGER)).status_code == 403
    both = sign_note(parse_note(note_of(5)).text, [STRANGER, SECOND_LOG])
    assert shared.add(body_of(0, both)).status_code == 403
    forged = note_of(5).replace(b"\n5\n", b"\n6\n")
    assert shared.add(body_of(0, forged)).status_code == 403
    for path in ("/checkpoint", f"/{ID[:-1]}/checkpoint", "/..%2f..%2fwitness.key/checkpoint"):
        assert shared.client.get(path).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"old 0\n",
        b"old 0\n\n",
        b"old 0" + note_of(5),
        note_of(5),
        b"old 00\n\n" + note_of(5),
        b"old -1\n\n" + note_of(5),
        b"old  0\n\n" + note_of(5),
        b"Old 0\n\n" + note_of(5),
        b"old 0\r\n\r\n" + note_of(5),
        b"old 99999999999999999999\n\n" + note_of(5),
        b"old 0\nAAAA\n\n" + note_of(5),
        b"old 0\n\n" + note_of(5)[:-1],
        b"old 0\n\n" + b"\xff" + note_of(5),
        body_of(0, note_of(5), (EMPTY_ROOT,) * 64),
        body_of(0, sign_note(b"not a checkpoint\n", [LOG])),
    ],
    ids=range(16),
)
def test_malformed_requests_get_400_and_say_why(shared: Running, body: bytes) -> None:
    answer = shared.add(body)
    assert (answer.status_code, answer.text.split(":")[0]) == (400, "malformed")
    assert "expected" in answer.text


def test_what_is_too_large_or_of_another_method_is_refused(shared: Running) -> None:
    assert shared.add(b"x" * 131_073).status_code == 413
    assert shared.client.get("/add-checkpoint").status_code == 405
    assert shared.client.get("/nothing/here").status_code == 404


def test_it_says_who_it_is(shared: Running) -> None:
    lines = shared.client.get("/").text.splitlines()
    assert parse_vkey(lines[0].removeprefix("witness ")) == WITNESS_KEY
    assert lines[1:] == [f"log {LOG.vkey}", f"log {SECOND_LOG.vkey}"]


def test_it_has_a_file_for_the_well_known_place_of_its_organisation(shared: Running) -> None:
    answer = shared.client.get("/.well-known/gatelift-witness.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "name": NAME,
        "vkey": WITNESS_KEY.vkey,
        "logs": [
            {"origin": ORIGIN, "vkeys": [LOG.vkey]},
            {"origin": SECOND_LOG.name, "vkeys": [SECOND_LOG.vkey]},
        ],
    }


def test_both_halves_of_a_split_view_are_kept_as_evidence(witness: Running) -> None:
    cosigned(note_of(7), witness.add(growth(0, 7)))
    answer = witness.add(body_of(7, note_of(7, tree=FORK)))
    assert (answer.status_code, answer.text.split(":")[0]) == (422, "split_view")
    assert witness.add(growth(0, 7, tree=FORK)).status_code == 409
    kept = sorted((witness.folder / "forks" / ID).iterdir())
    assert [path.name.rsplit("-", 1)[0] for path in kept] == ["split_view-7"] * 2
    roots = {verify_checkpoint(path.read_bytes(), LOG.key).root for path in kept}
    assert roots == {TREE.root(7), FORK.root(7)}

    names = witness.client.get(f"/{ID}/forks").text.splitlines()
    assert names == [path.name for path in kept]
    for path in kept:
        assert witness.client.get(f"/{ID}/forks/{path.name}").content == path.read_bytes()
    for wrong in ("other", "..%2F..%2Flock", "..%2F..%2F..%2Fwitness.key"):
        assert witness.client.get(f"/{ID}/forks/{wrong}").status_code == 404
    assert witness.client.get(f"/{'0' * 64}/forks").status_code == 404

    def listed(*vkeys: str) -> tuple[int, list[str]]:
        words = [w for vkey in vkeys for w in ("--log-vkey", vkey)]
        done = subprocess.run(
            [
                *(sys.executable, "-m", "gatelift", "witness", "forks"),
                *("--folder", str(witness.folder), "--json", *words),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, [each["name"] for each in json.loads(done.stdout)["kept"]]

    assert listed(LOG.vkey, SECOND_LOG.vkey) == (1, names)
    assert listed(SECOND_LOG.vkey) == (0, [])


def test_an_unproven_checkpoint_is_kept_until_it_is_proved(witness: Running) -> None:
    cosigned(note_of(7), witness.add(growth(0, 7)))
    for _ in range(2):
        assert witness.add(body_of(7, note_of(8))).status_code == 422
        assert witness.add(growth(7, 8, tree=FORK)).status_code == 422
    folder = witness.folder / "forks" / ID
    kept = sorted(folder.iterdir())
    assert {verify_checkpoint(path.read_bytes(), LOG.key).root for path in kept} == {
        TREE.root(8),
        FORK.root(8),
    }
    assert all(path.name.startswith("unproven-8-") for path in kept)
    cosigned(note_of(8), witness.add(growth(7, 8)))
    (left,) = folder.iterdir()
    assert verify_checkpoint(left.read_bytes(), LOG.key).root == FORK.root(8)


def test_a_stranger_can_leave_nothing_on_the_disk(witness: Running) -> None:
    witness.add(growth(0, 5, log=STRANGER))
    witness.add(growth(0, 5, log=NoteSigner("example.com/unknown", LOG_KEY)))
    witness.add(b"old 0\n\nnonsense")
    assert not list((witness.folder / "forks").iterdir())
    assert not list((witness.folder / "checkpoints").iterdir())


def test_sigterm_ends_it_and_a_restart_remembers(witness: Running) -> None:
    cosigned(note_of(5), witness.add(growth(0, 5)))
    before = witness.client.get(f"/{ID}/checkpoint").content
    code, output, errors = witness.stop()
    assert (code, output, errors) == (0, "returned\n", "")
    witness.start()
    assert witness.client.get(f"/{ID}/checkpoint").content == before
    assert (witness.add(growth(0, 6)).status_code, witness.add(growth(0, 6)).text) == (409, "5\n")
    assert witness.add(body_of(5, note_of(5, tree=FORK))).status_code == 422
    cosigned(note_of(6), witness.add(growth(5, 6)))


def test_kill_9_between_and_during_requests_forgets_nothing_that_was_answered(
    witness: Running,
) -> None:
    size = 0
    for round_ in range(3):
        answered = [size]
        killer = threading.Timer(0.15 + 0.05 * round_, kill_hard, [witness])
        killer.start()
        try:
            for new in range(size + 1, 64):
                cosigned(note_of(new), witness.add(growth(new - 1, new)))
                answered.append(new)
        except httpx.TransportError:
            pass
        killer.join()
        witness.stop(signal.SIGKILL)
        witness.start()
        stored = witness.client.get(f"/{ID}/checkpoint")
        size = verify_checkpoint(stored.content, LOG.key).size if stored.is_success else 0
        # The one under way may have been stored without its answer getting out; never less.
        assert answered[-1] <= size <= answered[-1] + 1
        if size:
            fork = witness.add(body_of(size, note_of(size, tree=FORK)))
            assert fork.status_code == 422
        if size == 63:
            break
    assert size > 0


def kill_hard(running: Running) -> None:
    assert running.process is not None
    os.kill(running.process.pid, signal.SIGKILL)


def test_posts_at_a_barrier_have_one_winner_and_one_history(witness: Running) -> None:
    cosigned(note_of(10), witness.add(growth(0, 10)))
    bodies = [growth(10, 11 + i, tree=tree) for i in range(6) for tree in (TREE, mixed(11 + i))]
    answers = at_once([partial(witness.add, body) for body in bodies])
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200] + [409] * 11
    winner = bodies[[answer.status_code for answer in answers].index(200)]
    head = verify_checkpoint(winner.partition(b"\n\n")[2], LOG.key)
    stored = witness.client.get(f"/{ID}/checkpoint").content
    assert verify_checkpoint(stored, LOG.key) == head
    assert {answer.text for answer in answers if answer.status_code == 409} == {f"{head.size}\n"}


def mixed(size: int) -> MemoryTree:
    """A second tree that also extends the first ten entries."""
    return MemoryTree(
        b"entry %d" % i if i < 10 else b"rival %d of %d" % (i, size) for i in range(size)
    )


def at_once(calls: list[Callable[[], httpx.Response]]) -> list[httpx.Response]:
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], httpx.Response]) -> httpx.Response:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def test_it_stops_and_signs_nothing_once_the_disk_has_failed(witness: Running) -> None:
    cosigned(note_of(5), witness.add(growth(0, 5)))
    heads = witness.folder / "checkpoints"
    heads.rename(witness.folder / "moved")
    failed = witness.add(growth(5, 6))
    assert (failed.status_code, failed.text.split(":")[0]) == (503, "witness_disk")
    assert witness.process is not None
    _, errors = witness.process.communicate(timeout=START_TIMEOUT_S)
    assert witness.process.returncode == 1
    assert "its disk failed" in errors
    (witness.folder / "moved").rename(heads)
    witness.start()
    cosigned(note_of(6), witness.add(growth(5, 6)))


def test_a_second_process_on_the_same_directory_refuses_to_start(witness: Running) -> None:
    second = witness.spawn()
    _, errors = second.communicate(timeout=START_TIMEOUT_S)
    assert second.returncode == 1
    assert "another witness holds it" in errors


def test_it_refuses_to_start_on_a_head_that_it_did_not_cosign(witness: Running) -> None:
    cosigned(note_of(5), witness.add(growth(0, 5)))
    witness.stop()
    for content in (note_of(4), b"", b"garbage"):
        (witness.folder / "checkpoints" / ID).write_bytes(content)
        process = witness.spawn()
        _, errors = process.communicate(timeout=START_TIMEOUT_S)
        assert process.returncode == 1
        assert "start anew with a new key" in errors


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [
        (base64.b64encode(SEED).decode() + "\n", 0o644, "chmod 600"),
        (base64.b64encode(SEED[:31]).decode() + "\n", 0o600, "a seed of 32 bytes"),
        ("c2VjcmV0c2VjcmV0!\n", 0o600, "base64 of a 32 byte seed"),
    ],
)
def test_a_key_file_that_is_open_or_damaged_stops_the_start_and_is_not_shown(
    tmp_path: Path, content: str, mode: int, says: str
) -> None:
    running = Running(tmp_path)
    running.key.write_text(content)
    running.key.chmod(mode)
    process = running.spawn()
    _, errors = process.communicate(timeout=START_TIMEOUT_S)
    running.close()
    assert process.returncode == 1
    assert says in errors
    assert content.strip()[:8] not in errors
