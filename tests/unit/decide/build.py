"""A release told entry by entry: every body signed with real keys, verified, admitted, folded.

`Story` does what control does: it groups entries into transactions, decides once after each, records
what changed, and gives the orders and incidents that follow. Its groups are what a replay reads.
"""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import msgspec

from gatelift.decide import (
    AdmitError,
    State,
    changed,
    check_entry,
    clears_for,
    decide,
    examine,
    fold,
    incidents_due,
    next_sequence,
    under_words,
)
from gatelift.encoding import Digest, sha256_digest
from gatelift.messages import (
    Body,
    Commit,
    Decision,
    EntryHeader,
    EntryKind,
    EventCount,
    Evidence,
    IncidentChange,
    IncidentOpening,
    Observation,
    OrganisationCount,
    PlacementEnrolment,
    PlanAdoption,
    Probe,
    Review,
    Tick,
    Visibility,
    verify_body,
)
from gatelift.terms import Category, Sealing, Severity, Side
from gatelift.trust import After, Order, Target, TargetKind, demanded_envelope
from tests.support.world import HOUR, NOW, PEOPLE, World

PLAN = Path(__file__).with_name("plan.yaml").read_bytes()
PROVEN = "sha256:" + "a" * 64
SECOND = 1_000
ANSWERS = sha256_digest(b"answers")
Entry = tuple[EntryHeader, Body]


class Story:
    """One release from its root on. `now` moves on by 10 ms with each entry."""

    def __init__(self, plan: bytes | None = None, proof: str = PROVEN) -> None:
        self.world = World(proof=proof, plan_bytes=PLAN if plan is None else plan)
        self.now = NOW
        self.state = State()
        self.files = {
            self.world.plan_digest: self.world.plan_bytes,
            self.world.fingerprint: self.world.candidate_bytes,
        }
        self.groups: list[tuple[Entry, ...]] = []
        self.open: list[Entry] = []
        self.serial = 0
        self.decisions: list[Decision] = []
        body = Body(kind=EntryKind.ROOT, value=self.world.root, signers=())
        self._append(EntryKind.ROOT, body, self.world.root_envelope)
        self.settle()

    def read(self, digest: Digest) -> bytes:
        return self.files[digest]

    def fork(self) -> Story:
        other = copy.copy(self)
        other.groups, other.open = list(self.groups), list(self.open)
        other.decisions, other.files = list(self.decisions), dict(self.files)
        return other

    def id(self, kind: str) -> str:
        self.serial += 1
        return f"{kind}_{self.serial:026d}"

    def _append(self, kind: EntryKind, body: Body, data: bytes) -> Digest:
        header = EntryHeader(
            v=1,
            at=self.now,
            kind=kind,
            actor=(),
            body=sha256_digest(data),
            body_bytes=len(data),
            visibility=Visibility.PUBLIC,
            end=False,
        )
        self.state = fold(self.state, self.state.size, header, body, self.read)
        self.files[header.body] = data
        self.open.append((header, body))
        return header.body

    def log(
        self, kind: EntryKind, value: msgspec.Struct, *signers: str, admit: bool = True
    ) -> Digest:
        self.now += 10
        data = self.world.sign(kind.value, value, *signers)
        body = verify_body(kind, data, self.world.root, self.now)
        if admit:
            check_entry(self.state, kind, body, data, self.now, self.read)
        return self._append(kind, body, data)

    def settle(self) -> Decision:
        """End the transaction: decide, record what changed, act on it in the next one."""
        if not self.open or self.open[-1][0].at != self.now:
            self.log(EntryKind.TICK, Tick(release="aurora"), "control:machine", admit=False)
        decision, _ = decide(self.state, self.now)
        last = self.state.last_decision
        if changed(last.decision if last else None, decision):
            data = self.world.sign("decision", decision, "control:machine")
            body = verify_body(EntryKind.DECISION, data, self.world.root, self.now)
            self._append(EntryKind.DECISION, body, data)
            self.decisions.append(decision)
        self.groups.append(tuple(self.open))
        self.open = []
        return decision

    def act(self) -> Decision:
        """Settle, then order and open what follows, until nothing follows any more."""
        for _ in range(5):
            decision = self.settle()
            due = incidents_due(self.state)
            if not decision.narrow and not due:
                return decision
            for each in decision.narrow:
                order = Order(
                    id=self.id("order"),
                    release="aurora",
                    target=each.target,
                    ceiling=each.ceiling,
                    reasons=(each.reason,),
                    at=self.now,
                )
                self.log(EntryKind.ORDER, order, "control:machine")
            for draft in due:
                self.incident(draft.severity, draft.source, by="control:machine")
        raise AssertionError("control never comes to rest")

    def later(self, ms: int) -> Story:
        self.now += ms
        return self

    # -- entries ---------------------------------------------------------------------------------

    def adopt(self) -> Story:
        value = PlanAdoption(
            release="aurora", plan=self.world.plan_digest, candidate=self.world.fingerprint
        )
        self.log(EntryKind.PLAN, value, "operator:olga")
        return self

    def enrol(self, baseline: Digest | None = ANSWERS) -> Story:
        value = PlacementEnrolment(
            name="p1",
            base_url="http://127.0.0.1:1",
            model="m",
            fingerprint=self.world.fingerprint,
            baseline=baseline,
        )
        self.log(EntryKind.PLACEMENT, value, "operator:olga")
        return self

    def probe(self, **changes: Any) -> Story:
        value = Probe(
            node="n1",
            placement="p1",
            sealing=Sealing.DECLARED,
            changed=0,
            of=16,
            up=True,
            reason="",
        )
        self.log(EntryKind.PROBE, msgspec.structs.replace(value, **changes), "control:machine")
        return self

    def commit(self, measure: bool = False, **changes: Any) -> str:
        demand = self.world.plan.thresholds[0].evidence
        guard = self.world.plan.thresholds[0].unless_ruled_out.evidence[0]
        value = Commit(
            id=self.id("commit"),
            fingerprint=self.world.fingerprint,
            assessment=guard.assessment if measure else demand.assessment,
            metric=guard.metric if measure else demand.metric,
            comparator="below",
            limit=guard.below if measure else demand.limit,
            margin=type(demand.margin)(0) if measure else demand.margin,
            confidence=demand.confidence,
            attempts=guard.min_attempts if measure else demand.attempts,
            data_set=sha256_digest(b"rows"),
            deadline=self.now + HOUR,
        )
        value = msgspec.structs.replace(value, **changes)
        self.log(EntryKind.COMMIT, value, "evaluator:eve")
        return value.id

    def result(self, commit: str, s: int = 0, admit: bool = True, **changes: Any) -> Digest:
        promise = self.state.commits.get(commit)
        made = promise.commit if promise else None
        value = Evidence(
            id=self.id("evidence"),
            commit=commit,
            fingerprint=self.world.fingerprint,
            assessment=made.assessment if made else "cyber-proxy",
            metric=made.metric if made else "end_to_end_success",
            n=made.attempts if made else 60,
            s=s,
            undetermined=0,
            errors=0,
            tool="test",
            tool_version="1",
            seed="0",
            stage="assess",
            started=self.now,
            finished=self.now,
            results=sha256_digest(b"results"),
            under=(),
        )
        value = msgspec.structs.replace(value, **changes)
        return self.log(EntryKind.EVIDENCE, value, "evaluator:eve", admit=admit)

    def assess(self, s: int = 0) -> Digest:
        """Commit and complete one run for the plan's threshold."""
        return self.result(self.commit(), s)

    def prove_measure(self, s: int = 0) -> Digest:
        """Commit and complete one run for the threshold's measure, made under it."""
        postures = self.world.plan.thresholds[0].unless_ruled_out.safeguards
        return self.result(self.commit(measure=True), s, under=under_words(postures))

    def review(self, stage: str, *signers: str, **changes: Any) -> Digest:
        value = Review(
            id=self.id("review"),
            release="aurora",
            stage=stage,
            approves=True,
            plan=self.world.plan_digest,
            fingerprint=self.world.fingerprint,
            evidence=examine(self.state, stage, self.now).evidence,
            note="read",
        )
        value = msgspec.structs.replace(value, **changes)
        return self.log(EntryKind.REVIEW, value, *(signers or ("safety:sam",)))

    def review_all(self, stage: str) -> Story:
        demand = self.world.plan.stage(stage).gate.reviews
        for role in demand.roles if demand else ():
            self.review(stage, f"{role}:{PEOPLE[role][0]}")
        return self

    def certificate_value(self, stage: str, **changes: Any) -> Any:
        found = self.world.plan.stage(stage)
        looked = examine(self.state, stage, self.now)
        made = self.world.certificate(stage)
        levels = msgspec.structs.replace(made.levels, assurance=found.assurance)
        base = msgspec.structs.replace(
            made,
            thresholds=looked.verdicts,
            envelope=demanded_envelope(self.world.plan, found, looked.verdicts),
            evidence=looked.evidence,
            clears=clears_for(self.state, stage),
            sequence=next_sequence(self.state, stage),
            after=After(origin="test.example/releases", size=self.state.size, root="AA=="),
            levels=levels,
            not_before=self.now,
            not_after=self.now + found.certificate_ms,
        )
        return msgspec.structs.replace(base, **changes)

    def certify(self, stage: str, admit: bool = True, **changes: Any) -> Digest:
        value = self.certificate_value(stage, **changes)
        signers = self.world.quorum_of(stage)
        return self.log(EntryKind.CERTIFICATE, value, *signers, admit=admit)

    def order(self, kind: TargetKind, name: str, by: str = "stop:sam", **changes: Any) -> str:
        value = Order(
            id=self.id("order"),
            release="aurora",
            target=Target(kind=kind, name=name),
            ceiling=None,
            reasons=("because",),
            at=self.now,
        )
        value = msgspec.structs.replace(value, **changes)
        self.log(EntryKind.ORDER, value, by)
        return value.id

    def incident(
        self, severity: Severity = Severity.SEV_3, source: str = "person", by: str = "safety:sam"
    ) -> str:
        value = IncidentOpening(
            id=self.id("incident"),
            release="aurora",
            severity=severity,
            title="something",
            source=source,
            occurred_at=None,
            detected_at=self.now,
            aware_at=None,
            discovered_at=None,
            reasonable_belief_at=None,
            determined_at=None,
        )
        self.log(EntryKind.INCIDENT, value, by)
        return value.id

    def change(self, incident: str, *signers: str, **changes: Any) -> None:
        value = IncidentChange(
            id=incident,
            severity=None,
            aware_at=None,
            discovered_at=None,
            reasonable_belief_at=None,
            determined_at=None,
            contained_at=None,
            resolved_at=None,
            retrospective=None,
            note="",
        )
        value = msgspec.structs.replace(value, **changes)
        self.log(EntryKind.INCIDENT_CHANGE, value, *(signers or ("safety:sam",)))

    def resolve_all(self) -> Story:
        for incident in self.state.incidents.values():
            if incident.is_open:
                self.change(
                    incident.id,
                    contained_at=self.now,
                    resolved_at=self.now,
                    retrospective=sha256_digest(b"what we learnt"),
                )
        return self

    def traffic(
        self,
        stage: str,
        counts: dict[str, tuple[int, int]],
        metric: str = "leak_rate",
        stretch: int = 0,
        unlabelled: int = 0,
        certificate: Digest | None = None,
    ) -> None:
        """Log one observation: {organisation: (n, s)} under the newest certificate of the stage."""
        newest = self.state.newest_certificate(stage)
        assert newest is not None
        n = sum(n for n, _ in counts.values())
        value = Observation(
            release="aurora",
            metric=metric,
            stage=stage,
            certificate=certificate or newest.digest,
            stretch=stretch,
            n=n,
            s=sum(s for _, s in counts.values()),
            open=unlabelled,
            units=n,
            organisations=tuple(
                OrganisationCount(organisation=name, n=n, s=s, open=0)
                for name, (n, s) in sorted(counts.items())
            ),
            ranges=(),
        )
        self.log(EntryKind.OBSERVATION, value, "control:machine")

    def events(self, stage: str, count: int) -> None:
        value = EventCount(
            release="aurora",
            stage=stage,
            category=Category.LEAK,
            side=Side.ANSWER,
            count=count,
            ranges=(),
        )
        self.log(EntryKind.EVENT, value, "control:machine")

    # -- scenes ----------------------------------------------------------------------------------

    def serve_clean(self, stage: str, units: int = 60) -> Story:
        """Clean traffic of six organisations, and the soak time of the plan."""
        each = units // 6
        self.traffic(stage, {f"org{k}": (each, 0) for k in range(6)})
        return self.later(11 * SECOND)

    def open_stage(self, stage: str) -> Story:
        """Review and certify a stage whose evidence is there, and settle."""
        self.review_all(stage)
        self.certify(stage)
        self.settle()
        return self


@functools.cache
def _begun() -> Story:
    story = Story().adopt().enrol().probe()
    story.settle()
    return story


@functools.cache
def _assessed() -> Story:
    story = _begun().fork()
    story.open_stage("assess")
    story.assess()
    story.settle()
    return story


@functools.cache
def _at(stage: str) -> Story:
    names = [each.name for each in _assessed().world.plan.stages]
    before = names[names.index(stage) - 1]
    story = _assessed().fork() if before == "assess" else _at(before).fork()
    if before != "assess":
        story.serve_clean(before)
    story.open_stage(stage)
    return story


def begun() -> Story:
    """A plan, a placement that is up, nothing certified."""
    return _begun().fork()


def assessed() -> Story:
    """Stage zero certified, the threshold ruled out."""
    return _assessed().fork()


def at(stage: str) -> Story:
    """Every stage up to this one certified, each on clean traffic."""
    return _at(stage).fork()


def codes(reasons: Any) -> set[str]:
    return {each.code for each in reasons}


def refusal(call: Any, *args: Any, **kwargs: Any) -> str:
    """Return the code with which something is not admitted."""
    try:
        call(*args, **kwargs)
    except AdmitError as error:
        return error.code
    raise AssertionError("expected a refusal, it was admitted")
