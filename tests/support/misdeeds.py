"""What a deployment can do wrong and sign: every byte is genuine, and an audit still finds it.

docs/reference/tamperings.md is drawn from these rows too. `gatelift_verify.py` judges less of what is
signed than the package does: a row says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from gatelift.encoding import encode_base64, sha256_digest
from gatelift.messages import EntryKind, Probe, Revocation, Tick
from gatelift.terms import (
    Assurance,
    Cap,
    CapUnit,
    Endpoint,
    Envelope,
    Scope,
    Sealing,
    Subject,
    Window,
)
from gatelift.tlog import MemoryTree
from gatelift.trust import After, Order, Target, TargetKind
from tests.integration.dossier_deployment import SECOND, Deployment
from tests.support import misdeeds_own as own
from tests.support import misdeeds_reviews as reviews
from tests.support import misdeeds_roots as roots
from tests.support import misdeeds_weights as weights
from tests.support.erased import erase_less, erase_under_hold, erase_with_a_lie
from tests.support.world import HOUR

Scene = Callable[[Deployment], object]


@dataclass(frozen=True)
class Misdeed:
    """One wrong that was signed. `only` is said of what `gatelift_verify.py` does not judge.

    `file_code` is its own code where that is another.
    """

    what: str
    scene: Scene
    code: str
    only: bool = False
    file_code: str = ""

    @property
    def by_file(self) -> str:
        """The code by which `gatelift_verify.py` finds it; empty if it does not judge it."""
        return "" if self.only else self.file_code or self.code


def opened(deployment: Deployment) -> Deployment:
    deployment.begin()
    deployment.certify()
    deployment.grant()
    return deployment


def closed(deployment: Deployment) -> None:
    if deployment.pending:
        deployment.commit()
    deployment.head()


def with_scene(scene: Scene) -> Scene:
    def told(deployment: Deployment) -> None:
        opened(deployment)
        scene(deployment)
        closed(deployment)

    return told


def after_stop(deployment: Deployment) -> None:
    deployment.order()
    deployment.now += 12 * SECOND
    deployment.served()


def outlived(deployment: Deployment) -> None:
    start = deployment.start()
    deployment.order()
    deployment.now += 30 * SECOND
    deployment.finish(start)


def stopped_by_lower_ceiling(deployment: Deployment) -> None:
    deployment.order(ceiling=Envelope(scope=Scope(output_tokens=10)))
    deployment.now += 12 * SECOND
    deployment.served()


def lower_cap_by_order(deployment: Deployment) -> None:
    cap = Cap(subject=Subject.PRINCIPAL, unit=CapUnit.REQUESTS, window=Window.MINUTE, limit=2)
    deployment.order(ceiling=Envelope(caps=(cap,)))
    deployment.now += 60 * SECOND
    for _ in range(3):
        deployment.served()


def twice_finished(deployment: Deployment) -> None:
    start = deployment.start()
    deployment.finish(start)
    deployment.finish(start)


def omitted(deployment: Deployment) -> None:
    deployment.served()
    deployment.commit()
    deployment.seqs["w0", "r0"] += 2
    deployment.served()


def repeated_numbers(deployment: Deployment) -> None:
    deployment.served()
    deployment.commit()
    deployment.seqs["w0", "r0"] -= 1
    deployment.beat()


def finished_as_another(deployment: Deployment) -> None:
    deployment.finish(deployment.start(), organisation="other.example")


def closed_by_another(deployment: Deployment) -> None:
    start = deployment.start()
    deployment.commit()
    deployment.finish(start, run=("w1", "r9"))
    deployment.commit(("w1", "r9"))


def spent_more(deployment: Deployment) -> None:
    start = deployment.start()
    spent = tuple(msgspec.structs.replace(c, amount=33) for c in start.reserved)
    deployment.finish(start, spent=spent)


def charged_less(deployment: Deployment) -> None:
    start = deployment.start()
    spent = tuple(msgspec.structs.replace(c, amount=0) for c in start.reserved)
    deployment.finish(start, spent=spent)


def charged_to_another(deployment: Deployment) -> None:
    start = deployment.start()
    reserved = tuple(
        msgspec.structs.replace(c, counter=c.counter.replace("principal-g1", "principal-g2"))
        for c in start.reserved
    )
    deployment.pending["w0", "r0"][-1] = start = msgspec.structs.replace(start, reserved=reserved)
    deployment.finish(start)


def charged_to_past(deployment: Deployment) -> None:
    start = deployment.start()
    reserved = tuple(
        msgspec.structs.replace(c, window=c.window - 86_400_000) for c in start.reserved
    )
    deployment.pending["w0", "r0"][-1] = start = msgspec.structs.replace(start, reserved=reserved)
    deployment.finish(start)


def expired(deployment: Deployment) -> None:
    deployment.now += 2 * HOUR
    deployment.served()


def inflated(deployment: Deployment) -> None:
    deployment.served()
    deployment.commit()
    # More units seen than there were: a gate would open sooner.
    seen = deployment.counter.observations()[0]
    counted = tuple(msgspec.structs.replace(c, n=c.n + 9) for c in seen.organisations)
    deployment.observe(n=seen.n + 9, units=seen.units + 9, organisations=counted)


def observed_beyond(deployment: Deployment) -> None:
    deployment.served()
    deployment.commit()
    seen = deployment.counter.observations()[0]
    far = tuple(msgspec.structs.replace(r, last=r.last + 50) for r in seen.ranges)
    deployment.observe(ranges=far)


def forged_decision(deployment: Deployment) -> None:
    deployment.log(EntryKind.TICK, Tick(release="aurora"), "control:machine")
    deployment.settle(stage=None, figures=())


def other_history(deployment: Deployment) -> None:
    deployment.served()
    deployment.commit()
    deployment.head(note=deployment.requests_note([b"another batch"]))


def longer_history(deployment: Deployment) -> None:
    deployment.served()
    deployment.commit()
    more = [*deployment.batches, b"more"]
    deployment.head(note=deployment.requests_note(more))


def traversal(deployment: Deployment) -> None:
    deployment.served()
    deployment.commit()
    deployment.head(origin="test.example/requests/../../2026-09")


def past_order(deployment: Deployment) -> None:
    deployment.order()
    deployment.certify(admit=False, clears=())


def one_signer(deployment: Deployment) -> None:
    deployment.certify("operator:olga", admit=False)


def too_wide(deployment: Deployment) -> None:
    deployment.certify(admit=False, envelope=Envelope())


def after_nothing(deployment: Deployment) -> None:
    root = encode_base64(MemoryTree([b"another log"]).root())
    deployment.certify(after=After(origin="test.example/releases", size=1, root=root))


def other_roles(deployment: Deployment) -> None:
    deployment.certify("security:sue", "overseer:vera", admit=False)


def too_long(deployment: Deployment) -> None:
    deployment.certify(admit=False, not_after=deployment.now + 2 * HOUR)


def outlives_root(deployment: Deployment) -> None:
    deployment.rotate(expires_at=deployment.now + HOUR // 2)
    deployment.certify(admit=False)


def overstated(deployment: Deployment) -> None:
    levels = msgspec.structs.replace(
        deployment.world.certificate("assess").levels, assurance=Assurance.SELF
    )
    deployment.certify(admit=False, levels=levels)


def id_taken(deployment: Deployment) -> None:
    """Log a narrowing that hurts nobody, and later a stop of the same id, which is not obeyed."""
    taken = f"order_{len(deployment.headers):026d}"
    deployment.order(ceiling=Envelope(scope=Scope(output_tokens=64)))
    value = Order(
        id=taken,
        release="aurora",
        target=Target(kind=TargetKind.STAGE, name="assess"),
        ceiling=None,
        reasons=("because",),
        at=deployment.now,
    )
    deployment.log(EntryKind.ORDER, value, "stop:sam", admit=False)
    deployment.settle()
    deployment.now += 12 * SECOND
    deployment.served()


def spoiled(old: bytes, new: bytes) -> Scene:
    """Commit one exchange whose records hold other bytes than a writer's."""

    def scene(deployment: Deployment) -> None:
        deployment.spoil = lambda data: data.replace(old, new, 1)
        deployment.served()
        deployment.commit()
        deployment.spoil = bytes

    return scene


def another_place(deployment: Deployment) -> None:
    deployment.finish(deployment.start(), seq=7)


def another_node(deployment: Deployment) -> None:
    deployment.served()
    deployment.commit()
    deployment.batches[-1] = deployment.batches[-1].replace(b'"node":"n1"', b'"node":"n2"')


def head_goes_back(deployment: Deployment) -> None:
    deployment.served()
    deployment.commit()
    before = deployment.requests_note()
    deployment.served()
    deployment.commit()
    deployment.head()
    deployment.head(note=before)
    deployment.beat()


def after_its_root(deployment: Deployment) -> None:
    deployment.now += 1001 * HOUR
    deployment.log(EntryKind.TICK, Tick(release="aurora"), "control:machine")
    deployment.settle()


def shut_gate(deployment: Deployment) -> None:
    # Signed and logged although the gate of stage zero is shut: no placement is up any more.
    probe = Probe(
        node="n1", placement="p1", sealing=Sealing.DECLARED, changed=0, of=16, up=False, reason="x"
    )
    deployment.log(EntryKind.PROBE, probe, "control:machine")
    deployment.settle()
    deployment.certify(admit=False)


def unknown_revocation(deployment: Deployment) -> None:
    value = Revocation(body=sha256_digest(b"nothing"), reason="x")
    deployment.log(EntryKind.REVOCATION, value, "safety:sam", admit=False)
    deployment.settle()


def header_change(index: int, **changes: object) -> Scene:
    def scene(deployment: Deployment) -> None:
        opened(deployment)
        deployment.headers[index] = msgspec.structs.replace(deployment.headers[index], **changes)

    return scene


MISDEEDS = (
    Misdeed("served after a stop", with_scene(after_stop), "served_under_stop"),
    Misdeed("a stream outlived a stop", with_scene(outlived), "outlived_stop"),
    Misdeed("served above a lowered ceiling", with_scene(stopped_by_lower_ceiling), "outside_envelope", only=True),
    Misdeed("over a cap lowered by an order", with_scene(lower_cap_by_order), "cap_exceeded", only=True),
    Misdeed("finished twice", with_scene(twice_finished), "finish_without_start"),
    Misdeed("records omitted", with_scene(omitted), "sequence_gap"),
    Misdeed("numbers used twice", with_scene(repeated_numbers), "sequence_overlap"),
    Misdeed("finish of another organisation", with_scene(finished_as_another), "finish_differs"),
    Misdeed("closed by another worker", with_scene(closed_by_another), "foreign_finish"),
    Misdeed("spent above reserve", with_scene(spent_more), "spent_above_reserved", only=True),
    Misdeed("charged too little", with_scene(charged_less), "charged_too_little", only=True),
    Misdeed("charged to another principal", with_scene(charged_to_another), "bad_charge", only=True),
    Misdeed("charged to another window", with_scene(charged_to_past), "bad_charge", only=True),
    Misdeed("cap not charged", with_scene(lambda d: d.finish(d.start(reserved=()))), "cap_not_charged", only=True),
    Misdeed("served without certificate", with_scene(lambda d: d.finish(d.start(certificate=None))), "no_certificate"),
    Misdeed("served under a certificate never logged", with_scene(
        lambda d: d.finish(d.start(certificate=sha256_digest(b"secret deal")))
    ), "no_certificate"),
    Misdeed("served from another candidate", with_scene(
        lambda d: d.finish(d.start(fingerprint=sha256_digest(b"other weights")))
    ), "wrong_certificate"),
    Misdeed("served after the certificate expired", with_scene(expired), "outside_window"),
    Misdeed("an answer longer than the stage allows", with_scene(lambda d: d.served(output_tokens=65)), "outside_envelope", only=True),
    Misdeed("served without a grant", with_scene(lambda d: d.finish(d.start(grant="g9"))), "no_grant"),
    Misdeed("served at an endpoint that no grant names", with_scene(
        lambda d: d.finish(d.start(endpoint=Endpoint.RESPONSES))
    ), "outside_grant"),
    Misdeed("observation inflated", with_scene(inflated), "observation_differs", only=True),
    Misdeed("observation of records to come", with_scene(observed_beyond), "not_recounted", only=True),
    Misdeed("decision altered", with_scene(forged_decision), "decision_differs", only=True),
    Misdeed("another history anchored", with_scene(other_history), "split_view"),
    Misdeed("end of the log withheld", with_scene(longer_history), "log_truncated"),
    Misdeed("a head that climbs out of its folder", with_scene(traversal), "bad_name"),
    Misdeed("certificate past an order", with_scene(past_order), "granted_over_order"),
    Misdeed("certificate by one person", with_scene(one_signer), "quorum_unmet"),
    Misdeed("certificate by people of other roles", with_scene(other_roles), "quorum_unmet"),
    Misdeed("certificate too wide", with_scene(too_wide), "envelope_too_wide", only=True),
    Misdeed("certificate for longer than the stage's", with_scene(too_long), "window_too_long"),
    Misdeed("certificate that outlives its root", with_scene(outlives_root), "outlives_root"),
    Misdeed("certificate with a higher assurance than its signers give", with_scene(overstated), "assurance_overstated"),
    Misdeed("certificate that outlives an approval", with_scene(reviews.beyond_an_approval), "outlives_approval"),
    Misdeed("certificate wider than an approval's condition", with_scene(reviews.beyond_a_condition), "exceeds_condition"),
    Misdeed("certificate beyond an approval that another person withdrew", with_scene(
        reviews.withdrawn_by_another
    ), "outlives_approval"),
    Misdeed("certificate after another log", with_scene(after_nothing), "wrong_after"),
    Misdeed("certificate through a shut gate", with_scene(shut_gate), "not_admissible", only=True),
    Misdeed("a harmless order under a stop's id", with_scene(id_taken), "not_admissible", file_code="id_taken"),
    Misdeed("revocation of nothing", with_scene(unknown_revocation), "not_admissible", only=True),
    Misdeed("records erased under a hold", with_scene(erase_under_hold), "erased_under_hold"),
    Misdeed("an erasure that halves what was spent, before it is carried out", with_scene(erase_with_a_lie), "tombstones_differ"),
    Misdeed("an erasure that replaces one it does not cover", with_scene(erase_less), "not_superseded"),
    Misdeed("own grants for more calls than the root leaves room for", with_scene(own.past_the_root), "own_calls_spent"),
    Misdeed("more own calls in a day than the own grant says", with_scene(own.past_its_day), "own_calls_exceeded"),
    Misdeed("an own call after the own grant's end", with_scene(own.past_its_end), "no_grant"),
    Misdeed("an own call that is not counted by day", with_scene(own.off_its_cap), "cap_not_charged"),
    Misdeed("a call under an own grant by another than it sealed", with_scene(own.under_another_name), "no_grant"),
    Misdeed("an own grant disclosed with another seed", with_scene(own.opened_with_a_lie), "seed_opens_nothing"),
    Misdeed("an own grant disclosed twice", with_scene(own.opened_twice), "unknown_digest"),
    Misdeed("a copy of the weights registered by one person", with_scene(weights.exported_alone), "quorum_unmet"),
    Misdeed("a copy of the weights to where the plan says none goes", with_scene(
        weights.exported_elsewhere
    ), "not_admissible", file_code="exposure_undeclared"),
    Misdeed("a sidecar enrolled by one person", with_scene(
        weights.enrolled_alone
    ), "not_admissible", file_code="quorum_unmet"),
    Misdeed("weights called measured by nobody", with_scene(
        weights.measured_by_nobody
    ), "not_admissible", file_code="not_measured"),
    Misdeed("weights measured by another key than the sidecar's", with_scene(
        weights.measured_by_another_key
    ), "not_admissible", file_code="unknown_signers"),
    Misdeed("weights measured for another placement", with_scene(
        weights.measured_elsewhere
    ), "not_admissible", file_code="other_measurement"),
    Misdeed("a root that leaves out an objection", with_scene(roots.hiding_an_objection), "objection_hidden"),
    Misdeed("a root whose 30 days another log proves", with_scene(roots.proved_by_another_log), "bad_notice"),
    Misdeed("a record that says it stands elsewhere", with_scene(another_place), "record_place"),
    Misdeed("a batch of another node", with_scene(another_node), "bad_batch"),
    Misdeed("a record with a key twice", with_scene(spoiled(b'"status":200', b'"status":500,"status":200')), "duplicate_key"),
    Misdeed("a record with a field more", with_scene(spoiled(b'"status":200', b'"status":200,"note":1')), "bad_record"),
    Misdeed("a record with a number beyond 2^53", with_scene(spoiled(b'"status":200', b'"status":9007199254740993')), "big_integer"),
    Misdeed("a record that is no JSON", with_scene(spoiled(b'"status":200', b'"status":200,,')), "bad_record", file_code="not_json"),
    Misdeed("an anchored head that goes back", with_scene(head_goes_back), "rolled_back"),
    Misdeed("an entry after its root expired", with_scene(after_its_root), "root_expired"),
    Misdeed("time went back", header_change(3, at=1), "time_went_back"),
    Misdeed("other signers named", header_change(3, actor=("overseer:vera",)), "actor_mismatch"),
    Misdeed("size of a body", header_change(3, body_bytes=1), "body_size"),
    Misdeed("transaction left open", header_change(-1, end=False), "group_open"),
)  # fmt: skip
"""By a deployment that signs with its own keys."""
