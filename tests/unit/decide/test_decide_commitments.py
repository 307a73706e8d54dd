"""Promises on the log without a result there, and own calls: sealed, owed, disclosed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gatelift.decide import AdmitError, Commitment, open_commitments
from gatelift.encoding import Digest, encode_base64, sha256_digest
from gatelift.messages import EntryKind, Revocation
from gatelift.trust import Announcement, Disclosure
from tests.support.own_grants import API_KEY, inner, own_grant, seed
from tests.support.world import HOUR
from tests.unit.decide.build import Story
from tests.unit.decide.test_decide_copies import close, register, story

VERA = "overseer:vera"
OTHER_KEY = "gl_fedcba9876543210_" + "t" * 48


def owed(told: Story, later_ms: int = 0) -> list[tuple[str, bool]]:
    return [(each.kind, each.overdue) for each in found(told, later_ms)]


def found(told: Story, later_ms: int = 0) -> tuple[Commitment, ...]:
    return open_commitments(told.state, told.now + later_ms)


def seal(told: Story, api_key: str = API_KEY, name: str = "grant_own", **changes: Any) -> Digest:
    grant = inner(told.world, api_key, id=name, not_after=told.now + HOUR)
    return told.log(EntryKind.OWN_GRANT, own_grant(grant, api_key, **changes), VERA)


def disclose(told: Story, digest: Digest, *signers: str, **changes: Any) -> None:
    value = Disclosure(
        release="aurora",
        own_grant=digest,
        seed=encode_base64(seed()),
        calls=1,
        results=(),
        note="",
    )
    value = msgspec.structs.replace(value, **changes)
    told.log(EntryKind.DISCLOSURE, value, *(signers or (VERA,)))


def refused(make: Any) -> str:
    with pytest.raises(AdmitError) as caught:
        make()
    return caught.value.code


def test_an_empty_log_owes_nothing() -> None:
    assert owed(Story().adopt()) == []


def test_a_commit_is_owed_until_its_result_and_for_ever_past_its_time() -> None:
    told = Story().adopt()
    kept, buried = told.commit(), told.commit()
    assert owed(told) == [("commit", False), ("commit", False)]
    told.result(kept)
    (left,) = found(told, 2 * HOUR)
    assert (left.id, left.overdue) == (buried, True)
    assert left.settled_by.startswith("nothing")
    assert left.age_ms == told.now + 2 * HOUR - left.at


def test_a_result_that_was_revoked_keeps_no_promise() -> None:
    told = Story().adopt()
    result = told.assess()
    assert owed(told) == []
    told.log(EntryKind.REVOCATION, Revocation(body=result, reason="wrong"), "evaluator:eve")
    (left,) = found(told)
    assert "revoked" in left.settled_by


def test_a_copy_is_owed_until_it_is_closed() -> None:
    told = story()
    copy = register(told)
    assert owed(told) == [("export", False)]
    assert owed(told, HOUR) == [("export", True)]
    close(told, copy)
    assert owed(told) == []


def test_an_announcement_is_owed_until_its_stage_is_certified() -> None:
    told = Story().adopt().enrol().probe()
    stage = told.world.plan.stages[0]
    said = Announcement(
        id="announcement_1",
        release="aurora",
        stage=stage.name,
        fingerprint=told.world.fingerprint,
        plan=told.world.plan_digest,
        envelope=stage.envelope,
        clears=(),
        reason="",
    )
    told.log(EntryKind.ANNOUNCEMENT, said, "operator:olga")
    assert owed(told) == [("announcement", False)]
    told.certify(stage.name)
    assert owed(told) == []
    other = msgspec.structs.replace(said, id="announcement_2")
    told.log(EntryKind.ANNOUNCEMENT, other, "operator:olga")
    assert owed(told) == [("announcement", False)], "a certificate before it keeps no promise"


def test_own_calls_are_owed_until_they_are_disclosed() -> None:
    told = Story().adopt()
    digest = seal(told)
    assert owed(told) == [("own_grant", False)]
    assert owed(told, 3 * HOUR) == [("own_grant", True)]
    disclose(told.later(5 * HOUR), digest)  # late is not refused
    assert owed(told) == []


def test_promises_come_in_the_order_of_the_log() -> None:
    told = story()
    told.commit()
    seal(told)
    register(told)
    told.commit()
    assert [each.kind for each in found(told)] == ["commit", "own_grant", "export", "commit"]
    assert [each.index for each in found(told)] == sorted(each.index for each in found(told))


def test_own_grants_stay_inside_the_roots_bound() -> None:
    told = Story().adopt()
    seal(told, requests_per_day=15)
    again = {"api_key": OTHER_KEY, "name": "grant_two"}
    assert refused(lambda: seal(told, **again, requests_per_day=6)) == "own_calls_spent"
    seal(told, **again, requests_per_day=5)


def test_an_own_grant_takes_nobodys_id_or_key_and_is_not_over() -> None:
    told = Story().adopt()
    seal(told)
    assert refused(lambda: seal(told, OTHER_KEY)) == "id_taken"
    assert refused(lambda: seal(told, API_KEY, "grant_two")) == "id_taken"
    late = own_grant(inner(told.world, OTHER_KEY, id="grant_three"), OTHER_KEY)
    told.later(2 * HOUR)
    assert refused(lambda: told.log(EntryKind.OWN_GRANT, late, VERA)) == "grant_expired"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"own_grant": sha256_digest(b"x")}, "unknown_digest", id="of nothing"),
        pytest.param({"seed": encode_base64(bytes(32))}, "seed_opens_nothing", id="another seed"),
        pytest.param({"calls": -1}, "bad_disclosure", id="fewer than none"),
        pytest.param({"release": "other"}, "wrong_release", id="another release"),
    ],
)
def test_a_disclosure_opens_what_it_names(changes: dict[str, Any], code: str) -> None:
    told = Story().adopt()
    digest = seal(told)
    assert refused(lambda: disclose(told, digest, **changes)) == code
    assert owed(told) == [("own_grant", False)]


def test_a_disclosure_comes_once() -> None:
    told = Story().adopt()
    digest = seal(told)
    disclose(told, digest)
    assert refused(lambda: disclose(told, digest)) == "already_disclosed"
