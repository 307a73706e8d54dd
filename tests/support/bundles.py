"""Bundles and rosters of a `World`: a small releases log in memory, cosigned, with proofs."""

from __future__ import annotations

import msgspec

from gatelift.encoding import Digest, encode_json, sha256_digest
from gatelift.messages import (
    Bundle,
    EntryHeader,
    EntryKind,
    LoggedCertificate,
    Placement,
    Roster,
    Visibility,
    sign_bundle,
    sign_roster,
)
from gatelift.tlog import (
    Checkpoint,
    MemoryTree,
    TlogProof,
    add_signatures,
    format_proof,
    parse_note,
    sign_checkpoint,
)
from tests.support.world import World


class Shelf:
    """Files by digest, and the log that their certificates are in."""

    def __init__(self, world: World, *, cosigned: bool = True) -> None:
        self.world = world
        self.cosigned = cosigned
        self.files: dict[Digest, bytes] = {}
        self.tree = MemoryTree()
        self.leaves: list[tuple[Digest, bytes, int]] = []
        for data in (world.root_envelope, world.plan_bytes, world.candidate_bytes):
            self.put(data)

    def put(self, data: bytes) -> Digest:
        digest = sha256_digest(data)
        self.files[digest] = data
        return digest

    def read(self, digest: Digest) -> bytes:
        return self.files[digest]

    def log(self, kind: EntryKind, body: bytes) -> None:
        digest = self.put(body)
        header = EntryHeader(
            v=1,
            at=self.world.now,
            kind=kind,
            actor=(),
            body=digest,
            body_bytes=len(body),
            visibility=Visibility.PUBLIC,
            end=True,
        )
        leaf = encode_json(header)
        self.leaves.append((digest, leaf, self.tree.append(leaf)))

    def checkpoint(self) -> bytes:
        note = sign_checkpoint(
            Checkpoint(origin=self.world.log.name, size=self.tree.size, root=self.tree.root()),
            self.world.log,
        )
        if self.cosigned:
            text = parse_note(note).text
            note = add_signatures(note, [self.world.witness.sign(text, self.world.now // 1000)])
        return note

    def logged(self, index: int) -> LoggedCertificate:
        digest, leaf, number = self.leaves[index]
        proof = TlogProof(
            index=number,
            hashes=self.tree.inclusion_proof(number),
            checkpoint_note=self.checkpoint(),
        )
        return LoggedCertificate(
            envelope=digest, leaf=leaf.decode(), proof=format_proof(proof).decode()
        )

    def bundle(self, placements: tuple[Placement, ...] = (), **changes: object) -> bytes:
        certificates = tuple(
            self.logged(number)
            for number, (_, leaf, _) in enumerate(self.leaves)
            if b'"kind":"certificate"' in leaf
        )
        made = Bundle(
            release=self.world.plan.name,
            number=1,
            root=self.world.root_digest,
            plan=self.world.plan_digest,
            candidate=self.world.fingerprint,
            certificates=certificates,
            placements=placements,
        )
        made = msgspec.structs.replace(made, **changes)
        data = sign_bundle(made, self.world.keys["control:machine"])
        self.put(data)
        return data

    def roster(self, *grants: bytes, number: int = 1) -> bytes:
        made = Roster(
            release=self.world.plan.name,
            number=number,
            grants=tuple(grant.decode() for grant in grants),
        )
        data = sign_roster(made, self.world.keys["control:machine"])
        self.put(data)
        return data
