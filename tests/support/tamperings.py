"""What can be done to the bytes of a dossier, and by which code each of it is found.

Somebody who holds no key changes, drops, swaps and adds bytes; somebody who holds the keys of the log and
of its witness, and of nobody else, writes the log anew (`relaid`). docs/reference/tamperings.md is drawn
from these rows, and both verifiers are run over each of them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from gatelift.encoding import encode_base64, encode_json, sha256_digest
from gatelift.messages import EntryKind
from gatelift.tlog import Checkpoint, MemoryTree, add_signatures, format_checkpoint, sign_checkpoint
from gatelift.trust import STATEMENT_TYPE, sign_envelope
from tests.integration.dossier_deployment import Deployment, put, put_log
from tests.support.world import key

RECORDS = "records/n1-2026-09.jsonl"
REQUESTS = "requests/n1-2026-09"
Change = Callable[[Path, Deployment], object]


@dataclass(frozen=True)
class Tampering:
    """One way of altering a dossier. `code` is found by both verifiers; none stands for any."""

    what: str
    change: Change
    code: str | None
    exit_code: int = 1
    why_not: str = ""
    """Why it is not found, where nobody can; then the exit code is that of a good dossier."""


# -- without any key ------------------------------------------------------------------------------


def edit(path: Path, change: Callable[[bytes], bytes]) -> None:
    before = path.read_bytes()
    after = change(before)
    assert after != before
    path.write_bytes(after)


def edited(name: str, change: Callable[[bytes], bytes]) -> Change:
    return lambda path, _: edit(path / name, change)


def replaced(name: str, old: bytes, new: bytes) -> Change:
    return edited(name, lambda data: data.replace(old, new, 1))


def flipped(name: str, at: int = -1) -> Change:
    def change(data: bytes) -> bytes:
        place = at % len(data)
        return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]

    return edited(name, change)


def removed(name: str) -> Change:
    def change(path: Path, _: Deployment) -> None:
        found = path / name
        shutil.rmtree(found) if found.is_dir() else found.unlink()

    return change


def rows(change: Callable[[list[bytes]], list[bytes]]) -> Change:
    return edited(RECORDS, lambda data: b"\n".join(change(data.split(b"\n"))))


def body_with(marker: bytes, change: Change | None = None) -> Change:
    """Change (by default: remove) the first file by digest that holds a marker."""

    def apply(path: Path, deployment: Deployment) -> None:
        for found in sorted((path / "files/sha256").iterdir()):
            if marker in found.read_bytes():
                return change(found, deployment) if change else found.unlink()
        raise AssertionError(marker)

    return apply


def swap_batches(lines: list[bytes]) -> list[bytes]:
    # Two beats of one record each change places, and say so rightly.
    one, two = json.loads(lines[40]), json.loads(lines[41])
    one["batch"], two["batch"] = two["batch"], one["batch"]
    lines[40], lines[41] = json.dumps(two).encode(), json.dumps(one).encode()
    return lines


def change_salt(lines: list[bytes]) -> list[bytes]:
    row = json.loads(lines[0])
    row["salt"] = "A" * 43 + "="
    return [json.dumps(row).encode(), *lines[1:]]


def twice_in_a_line(lines: list[bytes]) -> list[bytes]:
    # The last of both is right: who keeps the last key sees nothing.
    return [b'{"record":"{}",' + lines[0][1:], *lines[1:]]


def manifest(**changes: object) -> Change:
    return edited("dossier.json", lambda data: json.dumps({**json.loads(data), **changes}).encode())


def linked(name: str, target: str) -> Change:
    def change(path: Path, deployment: Deployment) -> None:
        removed(name)(path, deployment)
        (path / name).symlink_to(target)

    return change


def link_a_body(path: Path, deployment: Deployment) -> None:
    def link(found: Path, _: Deployment) -> None:
        found.unlink()
        found.symlink_to("/etc/hostname")

    body_with(b"model_part", link)(path, deployment)


def without_witness(data: bytes) -> bytes:
    kept = [line for line in data.splitlines(keepends=True) if b"witness.example" not in line]
    return b"".join(kept)


def other_root(data: bytes) -> bytes:
    """Return a checkpoint that names another root, in base64 as it must be."""
    lines = data.split(b"\n")
    lines[2] = base64.b64encode(hashlib.sha256(lines[2]).digest())
    return b"\n".join(lines)


def other_bytes(path: Path, deployment: Deployment) -> None:
    """Put one body's bytes under the name of another."""
    one, two = (deployment.headers[index].body.removeprefix("sha256:") for index in (1, 2))
    (path / "files/sha256" / one).write_bytes((path / "files/sha256" / two).read_bytes())


# -- with the keys of the log and its witness, and nobody else's -----------------------------------


def relaid(
    path: Path, deployment: Deployment, leaves: list[bytes], time_s: int | None = None
) -> None:
    """Write the releases log anew over these leaves, signed by log and witness as if it were theirs."""
    shutil.rmtree(path / "releases")
    world, tree = deployment.world, MemoryTree(leaves)
    head = Checkpoint(origin=world.log.name, size=tree.size, root=tree.root())
    at = deployment.now // 1000 if time_s is None else time_s
    line = world.witness.sign(format_checkpoint(head), at)
    put_log(path / "releases", leaves, add_signatures(sign_checkpoint(head, world.log), [line]))
    sizes = {"releases": {"origin": head.origin, "size": head.size}}
    manifest_path = path / "dossier.json"
    manifest_path.write_bytes(encode_json({**json.loads(manifest_path.read_bytes()), **sizes}))


def with_leaves(change: Callable[[list[bytes]], list[bytes]]) -> Change:
    return lambda path, d: relaid(path, d, change(d.leaves()))


def index_of(deployment: Deployment, kind: EntryKind) -> int:
    return next(i for i, header in enumerate(deployment.headers) if header.kind is kind)


def with_body(kind: EntryKind, make: Callable[[bytes], bytes], **header: object) -> Change:
    """Give the first entry of a kind another body, and write the log anew with its digest."""

    def change(path: Path, deployment: Deployment) -> None:
        index = index_of(deployment, kind)
        data = make(deployment.files[deployment.headers[index].body])
        put(path / "files/sha256" / sha256_digest(data).removeprefix("sha256:"), data)
        leaves = deployment.leaves()
        leaves[index] = encode_json(
            msgspec.structs.replace(
                deployment.headers[index],
                body=sha256_digest(data),
                body_bytes=len(data),
                **header,
            )
        )
        relaid(path, deployment, leaves)

    return change


def certified(stage: str, *names: str, **changes: object) -> Change:
    """Put another certificate in the place of the first: of this stage, signed by these."""

    def change(path: Path, deployment: Deployment) -> None:
        value = deployment.world.certificate(stage, **changes)
        data = deployment.world.sign("certificate", value, *names)
        actor = tuple(sorted(names))
        with_body(EntryKind.CERTIFICATE, lambda _: data, actor=actor)(path, deployment)

    return change


def signed_anew(kind: EntryKind, change: Callable[[dict[str, Any]], object], *names: str) -> Change:
    """Change the payload of the first entry of a kind, and sign it by these."""

    def make(data: bytes) -> bytes:
        value = json.loads(payload_of(data))
        change(value)
        return sign_envelope(encode_json(value), STATEMENT_TYPE, [key(name) for name in names])

    return with_body(kind, make, actor=tuple(sorted(names)))


def payload_of(data: bytes) -> bytes:
    return base64.b64decode(json.loads(data)["payload"])


def signed_again(*names: str) -> Callable[[bytes], bytes]:
    return lambda data: sign_envelope(payload_of(data), STATEMENT_TYPE, [key(n) for n in names])


def key_twice(data: bytes) -> bytes:
    """Say an order's release twice, signed by the right key: who keeps the last reads the old one."""
    payload = payload_of(data).replace(b'"predicate":{', b'"predicate":{"release":"other",', 1)
    return sign_envelope(payload, STATEMENT_TYPE, [key("stop:sam")])


def signature_twice(data: bytes) -> bytes:
    """Count one signature of a certificate twice, under the id of the other signer as well."""
    value = json.loads(data)
    first, second = value["signatures"][:2]
    value["signatures"] = [first, {**second, "sig": first["sig"]}]
    return encode_json(value)


def one_signature(data: bytes) -> bytes:
    value = json.loads(data)
    value["signatures"] = [value["signatures"][0], value["signatures"][0]]
    return encode_json(value)


def body_of_another_kind(path: Path, deployment: Deployment) -> None:
    grant = deployment.files[deployment.headers[index_of(deployment, EntryKind.GRANT)].body]
    with_body(EntryKind.ORDER, lambda _: grant, actor=("admissions:ada",))(path, deployment)


def extra_leaf(path: Path, deployment: Deployment) -> None:
    """Add an order once more under the old checkpoint: in the bundle, and in the tile."""
    leaves = deployment.leaves()
    again = leaves[index_of(deployment, EntryKind.ORDER)]
    size = len(leaves)
    note = (path / "releases/checkpoint").read_bytes()
    shutil.rmtree(path / "releases")
    put_log(path / "releases", [*leaves, again], note)
    for folder in ("tile/entries", "tile/0"):
        (path / "releases" / folder / f"000.p/{size + 1}").rename(
            path / "releases" / folder / f"000.p/{size}"
        )


def older_cosignature(path: Path, deployment: Deployment) -> None:
    """Put the witness's word for an earlier, shorter log under the newest checkpoint."""
    tree = MemoryTree(deployment.leaves()[:-2])
    world = deployment.world
    head = Checkpoint(origin=world.log.name, size=tree.size, root=tree.root())
    line = world.witness.sign(format_checkpoint(head), deployment.now // 1000 - 60)
    note = without_witness((path / "releases/checkpoint").read_bytes())
    (path / "releases/checkpoint").write_bytes(add_signatures(note, [line]))


def earlier_end(path: Path, deployment: Deployment) -> None:
    """Cut the log at an earlier head that log and witness signed then, to hide what came after."""
    end = next(
        index + 1
        for index, header in enumerate(deployment.headers)
        if header.end and index > index_of(deployment, EntryKind.HEAD)
    )
    relaid(path, deployment, deployment.leaves()[:end])


def unlisted_files(path: Path, deployment: Deployment) -> None:
    put(path / "releases/tile/entries/000.p/26", b"\x00\x02{}")
    data = b"what nobody asked for"
    put(path / "files/sha256" / sha256_digest(data).removeprefix("sha256:"), data)
    count = len(list((path / "files/sha256").iterdir()))
    manifest(files=count)(path, deployment)


def beyond_the_end(path: Path, deployment: Deployment) -> None:
    """Write the node's log anew, without its key, with one batch more."""
    note = deployment.requests_note()
    shutil.rmtree(path / REQUESTS)
    put_log(path / REQUESTS, [*deployment.batches, deployment.batches[0]], note)


def resigned_requests(path: Path, deployment: Deployment) -> None:
    """Sign the node's log by another key than the root has for it."""
    name, _, encoded = (path / REQUESTS / "checkpoint").read_bytes().rpartition(b" ")
    raw = base64.b64decode(encoded.strip())
    text = name.rpartition(b"\n\n")[0] + b"\n"
    forged = raw[:4] + key("stop:sam").sign(text)
    (path / REQUESTS / "checkpoint").write_bytes(
        name + b" " + encode_base64(forged).encode() + b"\n"
    )


BUNDLE = "releases/tile/entries/000.p/25"
SIZE = b"\n25\n"
