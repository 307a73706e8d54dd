"""What a deployment can do wrong about its root, and sign: roots without the overseer.

One that was public for too short a time is not exported: the promise test of it has a crooked tool.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gatelift.encoding import Digest, encode_json, sha256_digest
from gatelift.messages import Body, EntryKind
from gatelift.tlog import (
    Checkpoint,
    MemoryTree,
    TlogProof,
    add_signatures,
    format_checkpoint,
    format_proof,
    sign_checkpoint,
)
from gatelift.trust import NoticedRoot, Objection, RootAnnouncement, parse_root
from tests.integration.dossier_deployment import Deployment

DAY_MS = 86_400_000


def announce(deployment: Deployment) -> tuple[bytes, Digest]:
    """Log an announcement of the next root; return the root's envelope and the entry's body."""
    root = deployment.world.root
    payload = deployment.world.root_payload(version=root.version + 1, issued_at=deployment.now)
    envelope = deployment.world.sign_root(payload)
    value = RootAnnouncement(
        root=sha256_digest(envelope), envelope=envelope.decode(), reason="it answers nobody"
    )
    body = deployment.log(EntryKind.ROOT_ANNOUNCEMENT, value, "operator:olga")
    deployment.settle()
    return envelope, body


def prove(deployment: Deployment, index: int, at_ms: int, leaves: list[bytes]) -> str:
    """Return the proof of an entry, under a head that the witness cosigned at a time."""
    world, tree = deployment.world, MemoryTree(leaves)
    head = Checkpoint(origin=world.log.name, size=tree.size, root=tree.root())
    line = world.witness.sign(format_checkpoint(head), at_ms // 1000)
    note = add_signatures(sign_checkpoint(head, world.log), [line])
    proof = TlogProof(index=index, hashes=tree.inclusion_proof(index), checkpoint_note=note)
    return format_proof(proof).decode()


def take_effect(
    deployment: Deployment,
    envelope: bytes,
    announcement: Digest,
    *,
    leaves: list[bytes] | None = None,
    **changes: Any,
) -> None:
    """Log the root with the proofs of its 30 days, whatever else is wrong."""
    index = next(i for i, h in enumerate(deployment.headers) if h.body == announcement)
    log = deployment.leaves() if leaves is None else leaves
    held = NoticedRoot(
        announcement=deployment.files[announcement].decode(),
        leaf=log[index].decode(),
        announced=prove(deployment, index, deployment.now, log),
        standing=prove(deployment, index, deployment.now + 30 * DAY_MS, log),
        objections=(),
    )
    data = encode_json(msgspec.structs.replace(held, **changes))
    root = parse_root(deployment.world.root_payload(version=2, issued_at=deployment.now))
    deployment.now += 10
    deployment._append(EntryKind.ROOT, Body(kind=EntryKind.ROOT, value=root, signers=()), data)
    deployment.settle()


def hiding_an_objection(deployment: Deployment) -> None:
    envelope, body = announce(deployment)
    value = Objection(id="objection_1", release="aurora", announcement=body, grounds="we do answer")
    deployment.log(EntryKind.OBJECTION, value, "overseer:vera")
    deployment.settle()
    take_effect(deployment, envelope, body)


def proved_by_another_log(deployment: Deployment) -> None:
    envelope, body = announce(deployment)
    leaves = [*deployment.leaves(), b"another"]
    take_effect(deployment, envelope, body, leaves=leaves)
