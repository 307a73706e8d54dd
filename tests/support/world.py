"""A whole ceremony in memory: people, keys, root, plan and candidate, for tests of what is signed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatelift.encoding import Digest, encode_json, sha256_digest
from gatelift.plan import Plan, encode_candidate, fingerprint, make_candidate, parse_plan
from gatelift.terms import Assurance, Binding, Durability, Sealing, ThresholdVerdict
from gatelift.tlog import CosignatureSigner, NoteSigner
from gatelift.trust import (
    ROOT_TYPE,
    STATEMENT_TYPE,
    After,
    Certificate,
    Key,
    Levels,
    Node,
    Person,
    Role,
    Root,
    Scheme,
    SigningKey,
    Subject,
    Witness,
    demanded_envelope,
    encode_statement,
    parse_root,
    sign_envelope,
)

PLAN_FILE = Path(__file__).with_name("plan.yaml")
PROMPT = "You are a helpful assistant. Be brief."
NOW = 1_790_000_000_000
HOUR = 3_600_000


def seed(name: str) -> bytes:
    return hashlib.sha256(f"test key {name}".encode()).digest()


def key(name: str) -> SigningKey:
    return SigningKey(seed(name))


PEOPLE = {
    "root": ["olga", "vera"],
    "operator": ["olga"],
    "safety": ["sam"],
    "security": ["sue"],
    "overseer": ["vera"],
    "admissions": ["ada"],
    "evaluator": ["eve"],
    "control": ["machine"],
    "stop": ["sam"],
}
ORGANISATIONS = {"vera": "oversight.example", "eve": "evals.example"}


@dataclass
class World:
    proof: str = "unproven"
    now: int = NOW
    plan_bytes: bytes = field(default_factory=PLAN_FILE.read_bytes)
    order_urls: tuple[str, ...] = ()
    own_calls_per_day: int = 20
    keys: dict[str, SigningKey] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for role, people in PEOPLE.items():
            for person in people:
                self.keys[f"{role}:{person}"] = key(f"{role}:{person}")
        self.log = NoteSigner(
            "test.example/releases", Ed25519PrivateKey.from_private_bytes(seed("log"))
        )
        self.witness = CosignatureSigner(
            "witness.example", Ed25519PrivateKey.from_private_bytes(seed("witness"))
        )
        self.plan: Plan = parse_plan(self.plan_bytes)
        self.plan_digest = sha256_digest(self.plan_bytes)
        prompt = PROMPT if self.plan.candidate.system_prompt_file else None
        self.candidate_bytes = encode_candidate(make_candidate(self.plan, prompt))
        self.fingerprint = fingerprint(self.candidate_bytes)
        self.root: Root = parse_root(self.root_payload())
        self.root_envelope = self.sign_root(self.root_payload())
        self.root_digest = sha256_digest(self.root_envelope)

    def root_payload(self, **changes: Any) -> bytes:
        people = sorted({p for names in PEOPLE.values() for p in names})
        root = Root(
            name="test.example",
            version=1,
            issued_at=self.now - HOUR,
            expires_at=self.now + 1000 * HOUR,
            people=tuple(
                Person(
                    id=p,
                    organisation=ORGANISATIONS.get(p, "lab.example"),
                    proof=self.proof,
                )
                for p in people
            ),
            keys={
                k.id: Key(scheme=Scheme.ED25519, public=k.public_text, person=name.split(":")[1])
                for name, k in self.keys.items()
            },
            roles={
                role: Role(
                    keys=tuple(self.keys[f"{role}:{p}"].id for p in names),
                    threshold=2 if role == "root" else 1,
                )
                for role, names in PEOPLE.items()
            },
            releases_vkey=self.log.vkey,
            nodes=(
                Node(
                    name="n1",
                    batch_key=key("batch").public_text,
                    requests_key=key("requests").public_text,
                ),
            ),
            witnesses=(
                Witness(
                    name="w1",
                    vkey=self.witness.vkey,
                    organisation="witness.example",
                    independent=False,
                ),
            ),
            witness_quorum=1,
            order_urls=self.order_urls,
            own_calls_per_day=self.own_calls_per_day,
        )
        return encode_json(msgspec.structs.replace(root, **changes))

    def sign_root(self, payload: bytes, *names: str) -> bytes:
        signers = names or ("root:olga", "root:vera")
        return sign_envelope(payload, ROOT_TYPE, [self.keys[n] for n in signers])

    def sign(self, kind: str, predicate: msgspec.Struct, *names: str) -> bytes:
        payload = encode_statement(
            kind, (Subject(name="candidate", digest=self.fingerprint),), predicate
        )
        return sign_envelope(payload, STATEMENT_TYPE, [self.keys[n] for n in names])

    def certificate(self, stage: str = "internal", **changes: Any) -> Certificate:
        found = self.plan.stage(stage)
        verdicts = dict.fromkeys(found.gate.thresholds, ThresholdVerdict.CANNOT_RULE_OUT)
        made = Certificate(
            release=self.plan.name,
            stage=stage,
            fingerprint=self.fingerprint,
            plan=self.plan_digest,
            root_version=1,
            envelope=demanded_envelope(self.plan, found, verdicts),
            thresholds=verdicts,
            evidence=(),
            clears=(),
            after=After(origin=self.log.name, size=1, root="AA=="),
            levels=Levels(
                assurance=Assurance.DEV,
                sealing=Sealing.DECLARED,
                binding=Binding.CLAIMED,
                durability=Durability.NODE,
            ),
            status_ttl_ms=self.plan.trust.status_ttl_ms,
            sequence=1,
            not_before=self.now - 1,
            not_after=self.now - 1 + found.certificate_ms,
        )
        return msgspec.structs.replace(made, **changes)

    def quorum_of(self, stage: str) -> tuple[str, ...]:
        return tuple(f"{role}:{PEOPLE[role][0]}" for role in self.plan.stage(stage).quorum)

    def signed_certificate(self, stage: str = "internal", *names: str, **changes: Any) -> bytes:
        signers = names or self.quorum_of(stage)
        return self.sign("certificate", self.certificate(stage, **changes), *signers)


def digest_of(text: str) -> Digest:
    return sha256_digest(text.encode())
