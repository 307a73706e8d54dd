"""Root, quorum, orders, grants, status: who may say what."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatelift.encoding import encode_json
from gatelift.errors import CallerError
from gatelift.terms import Audience, BlockRule, Endpoint, Envelope, Scope, Tier, is_within
from gatelift.trust import (
    Clear,
    Grant,
    GrantKey,
    Order,
    Permission,
    Person,
    Refusal,
    Role,
    StandingOrder,
    Status,
    Target,
    TargetKind,
    assurance_of,
    check_grant_within,
    key_digest,
    matches_key,
    parse_root,
    permit,
    sign_status,
    split_api_key,
    verify_certificate,
    verify_clear,
    verify_grant,
    verify_order,
    verify_quorum,
    verify_root,
    verify_signers,
    verify_status,
)
from gatelift.trust.dsse import STATEMENT_TYPE
from tests.support.world import HOUR, NOW, World, digest_of, key


@functools.cache
def shared_world() -> World:
    return World()


@pytest.fixture(scope="module")
def world() -> World:
    return shared_world()


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(CallerError) as caught:
        call()
    return caught.value.code


# --- root -------------------------------------------------------------------------------------


def test_a_root_signed_by_its_own_role_holds(world: World) -> None:
    assert verify_root(world.root_envelope, NOW).name == "test.example"


def test_an_expired_root_verifies_nothing(world: World) -> None:
    assert code_of(lambda: verify_root(world.root_envelope, NOW + 2000 * HOUR)) == "expired"


def test_one_person_of_the_root_role_is_not_two(world: World) -> None:
    data = world.sign_root(world.root_payload(), "root:olga")
    assert code_of(lambda: verify_root(data, NOW)) == "quorum_unmet"


def test_one_key_in_two_roles_is_refused(world: World) -> None:
    roles = dict(world.root.roles)
    roles["security"] = roles["safety"]
    assert code_of(lambda: parse_root(world.root_payload(roles=roles))) == "key_in_two_roles"


def test_an_overseer_of_the_operators_organisation_is_refused(world: World) -> None:
    people = tuple(Person(id=p.id, organisation="lab.example") for p in world.root.people)
    assert code_of(lambda: parse_root(world.root_payload(people=people))) == "overseer_inside"


def test_a_threshold_beyond_the_people_is_refused(world: World) -> None:
    roles = dict(world.root.roles)
    roles["safety"] = Role(keys=roles["safety"].keys, threshold=2)
    assert code_of(lambda: parse_root(world.root_payload(roles=roles))) == "bad_root"


def test_a_successor_is_signed_by_both_roots(world: World) -> None:
    second = world.sign_root(world.root_payload(version=2))
    assert verify_root(second, NOW, world.root).version == 2
    third = world.sign_root(world.root_payload(version=3))
    assert code_of(lambda: verify_root(third, NOW, world.root)) == "not_successor"


def test_a_weak_public_key_is_refused(world: World) -> None:
    keys = dict(world.root.keys)
    kid, held = next(iter(keys.items()))
    keys[kid] = msgspec.structs.replace(held, public="AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
    with pytest.raises(CallerError):
        parse_root(world.root_payload(keys=keys))


def test_assurance_is_said_by_who_signed(world: World) -> None:
    proven = World(proof=digest_of("passport"))
    data = proven.signed_certificate("researchers")
    _, signers = verify_signers(data, STATEMENT_TYPE, proven.root)
    assert assurance_of(proven.root, signers).value == "overseen"
    assert assurance_of(proven.root, signers[:2]).value == "self"
    assert assurance_of(proven.root, ()).value == "dev"
    _, signers = verify_signers(world.signed_certificate(), STATEMENT_TYPE, world.root)
    assert assurance_of(world.root, signers).value == "dev"


def test_one_person_cannot_fill_two_roles(world: World) -> None:
    people = {**{p.id: p for p in world.root.people}}
    keys = {
        kid: msgspec.structs.replace(k, person="sam") if k.person == "sue" else k
        for kid, k in world.root.keys.items()
    }
    root = msgspec.structs.replace(world.root, keys=keys, people=tuple(people.values()))
    _, signers = verify_signers(world.signed_certificate("researchers"), STATEMENT_TYPE, root)
    assert code_of(lambda: verify_quorum(root, signers, ("safety", "security"))) == "person_twice"


# --- orders ------------------------------------------------------------------------------------


def order(world: World, number: int = 1, **changes: Any) -> Order:
    made = Order(
        id=f"order_{number}",
        release=world.plan.name,
        target=Target(kind=TargetKind.RELEASE, name=world.plan.name),
        ceiling=None,
        reasons=("harm",),
        at=NOW,
    )
    return msgspec.structs.replace(made, **changes)


STOPPERS = ["operator:olga", "safety:sam", "overseer:vera", "stop:sam", "control:machine"]


@pytest.mark.parametrize("name", STOPPERS)
def test_anyone_authorised_stops_alone(world: World, name: str) -> None:
    assert verify_order(world.sign("order", order(world), name), world.root).by.person


def test_an_evaluator_may_not_stop(world: World) -> None:
    data = world.sign("order", order(world), "evaluator:eve")
    assert code_of(lambda: verify_order(data, world.root)) == "role_not_allowed"


def test_an_order_is_never_read_as_something_else(world: World) -> None:
    data = world.sign("review", order(world), "safety:sam")
    assert code_of(lambda: verify_order(data, world.root)) == "wrong_type"


def test_a_stop_of_a_release_never_times_out(world: World) -> None:
    data = world.sign("order", order(world, until=NOW + 1), "safety:sam")
    assert code_of(lambda: verify_order(data, world.root)) == "bad_order"


def test_a_clear_takes_admissions_and_another_person(world: World) -> None:
    clear = Clear(release=world.plan.name, orders=("order_1",), at=NOW)
    alone = world.sign("clear", clear, "admissions:ada")
    assert code_of(lambda: verify_clear(alone, world.root)) == "quorum_unmet"
    other = world.sign("clear", clear, "safety:sam", "operator:olga")
    assert code_of(lambda: verify_clear(other, world.root)) == "quorum_unmet"
    assert verify_clear(world.sign("clear", clear, "admissions:ada", "safety:sam"), world.root)


# --- grants ------------------------------------------------------------------------------------

API_KEY = "gl_abc123_supersecretsupersecret"


def grant(world: World, **changes: Any) -> Grant:
    made = Grant(
        id="grant_1",
        release=world.plan.name,
        stage="internal",
        principal="p1",
        organisation="o1",
        project="x",
        tier=Tier.INTERNAL,
        endpoints=(Endpoint.CHAT,),
        proofs=("engagement", "identity", "terms@1"),
        vetting=None,
        keys=(GrantKey(public_id="abc123", digest=key_digest(API_KEY)),),
        not_before=NOW - HOUR,
        not_after=NOW + HOUR,
    )
    return msgspec.structs.replace(made, **changes)


def test_only_admissions_admits(world: World) -> None:
    assert verify_grant(world.sign("grant", grant(world), "admissions:ada"), world.root)
    data = world.sign("grant", grant(world), "operator:olga")
    assert code_of(lambda: verify_grant(data, world.root)) == "role_not_allowed"


GRANT_CASES: dict[str, tuple[dict[str, Any], str]] = {
    "wider tier": ({"tier": Tier.PUBLIC}, "grant_too_wide"),
    "a proof missing": ({"proofs": ()}, "grant_lacks_proof"),
    "another stage": ({"stage": "partners"}, "wrong_stage"),
}


@pytest.mark.parametrize("name", GRANT_CASES)
def test_a_grant_outside_its_stage_is_refused(world: World, name: str) -> None:
    changes, code = GRANT_CASES[name]
    envelope = world.certificate("internal").envelope
    made = grant(world, **changes)
    assert code_of(lambda: check_grant_within(made, "internal", envelope)) == code


def test_an_endpoint_outside_the_stage_is_refused(world: World) -> None:
    narrow = Envelope(scope=Scope(endpoints=(Endpoint.MODELS,)))
    made = grant(world)
    assert code_of(lambda: check_grant_within(made, "internal", narrow)) == "grant_too_wide"


def test_a_key_is_matched_whole() -> None:
    held = GrantKey(public_id="abc123", digest=key_digest(API_KEY))
    assert matches_key(API_KEY, held)
    assert not matches_key(API_KEY + "x", held)


@pytest.mark.parametrize("text", ["", "gl_", "gl__x", "gl_a_b_c", "sk-x", "gl_a_" + "b" * 300])
def test_a_malformed_key_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(CallerError) as caught:
        split_api_key(text)
    assert caught.value.code == "malformed_key"
    assert not text or text[3:] not in str(caught.value) or len(text) < 5


# --- status ------------------------------------------------------------------------------------


def status(world: World, **changes: Any) -> Status:
    made = Status(
        release=world.plan.name,
        certificates=(),
        orders=(),
        bundle=digest_of("bundle"),
        roster_number=1,
        roster=digest_of("roster"),
        checkpoint="",
        number=5,
        nonces=("n1",),
        epoch=2,
        signed_at=NOW,
        ttl_ms=10_000,
    )
    return msgspec.structs.replace(made, **changes)


def test_a_status_answers_our_nonce_or_is_nothing(world: World) -> None:
    data = sign_status(status(world), world.keys["control:machine"])
    assert verify_status(data, world.root, nonce="n1").number == 5
    assert code_of(lambda: verify_status(data, world.root, nonce="n2")) == "not_answered"


def test_a_status_never_goes_back(world: World) -> None:
    data = sign_status(status(world), world.keys["control:machine"])
    later = status(world, number=6)
    assert code_of(lambda: verify_status(data, world.root, last=later)) == "went_back"
    assert verify_status(data, world.root, last=status(world, number=4)).number == 5


def test_only_control_signs_status(world: World) -> None:
    data = sign_status(status(world), world.keys["operator:olga"])
    assert code_of(lambda: verify_status(data, world.root, nonce="n1")) == "role_not_allowed"


# --- permission ---------------------------------------------------------------------------------


def standing(world: World, made: Order) -> StandingOrder:
    return verify_order(world.sign("order", made, "safety:sam"), world.root)


def ask(
    world: World, orders: tuple[StandingOrder, ...], clears: tuple[str, ...] = ()
) -> Permission | Refusal:
    held = verify_certificate(
        world.signed_certificate(clears=clears),
        root=world.root,
        plan=world.plan,
        plan_digest=world.plan_digest,
        fingerprint=world.fingerprint,
        now_ms=NOW,
    )
    return permit(world.plan, {"internal": held}, orders, grant(world), "abc123", NOW)


TARGETS = {
    "release": Target(kind=TargetKind.RELEASE, name="aurora"),
    "stage": Target(kind=TargetKind.STAGE, name="internal"),
    "organisation": Target(kind=TargetKind.ORGANISATION, name="o1"),
    "principal": Target(kind=TargetKind.PRINCIPAL, name="p1"),
    "key": Target(kind=TargetKind.KEY, name="abc123"),
}


@pytest.mark.parametrize("name", TARGETS)
def test_an_order_stops_its_target(world: World, name: str) -> None:
    made = standing(world, order(world, target=TARGETS[name]))
    answer = ask(world, (made,))
    assert isinstance(answer, Refusal)
    assert answer.code == "stopped"


def test_an_order_on_another_stage_stops_nothing_here(world: World) -> None:
    other = Target(kind=TargetKind.STAGE, name="partners")
    assert isinstance(ask(world, (standing(world, order(world, target=other)),)), Permission)


def test_only_a_certificate_that_names_the_order_lifts_it(world: World) -> None:
    made = standing(world, order(world))
    assert isinstance(ask(world, (made,), clears=("order_2",)), Refusal)
    assert isinstance(ask(world, (made,), clears=("order_1",)), Permission)


def test_a_lapsed_certificate_falls_back_to_an_earlier_stage(world: World) -> None:
    held = verify_certificate(
        world.signed_certificate(),
        root=world.root,
        plan=world.plan,
        plan_digest=world.plan_digest,
        fingerprint=world.fingerprint,
        now_ms=NOW,
    )
    made = grant(world, stage="researchers")
    answer = permit(world.plan, {"internal": held}, (), made, "abc123", NOW)
    assert isinstance(answer, Permission)
    assert answer.certificate.certificate.stage == "internal"
    nothing = permit(world.plan, {"researchers": held}, (), grant(world), "abc123", NOW)
    assert isinstance(nothing, Refusal)


_ceilings = st.one_of(
    st.none(),
    st.builds(
        lambda tokens, tier: Envelope(
            scope=Scope(output_tokens=tokens),
            audience=msgspec.structs.replace(Envelope().audience, tier=tier),
        ),
        st.integers(0, 100),
        st.sampled_from(list(Tier)),
    ),
)


@settings(max_examples=60, deadline=None)
@given(ceilings=st.lists(_ceilings, max_size=4), seed=st.randoms(use_true_random=False))
def test_more_orders_never_permit_more_and_their_order_does_not_matter(
    ceilings: list[Envelope | None], seed: Any
) -> None:
    world = shared_world()
    orders = [
        standing(
            world,
            order(
                world,
                number=n,
                ceiling=ceiling,
                block_rules=(BlockRule(id=f"r{n}", phrases=("some words",)),),
            ),
        )
        for n, ceiling in enumerate(ceilings)
    ]
    base = ask(world, ())
    assert isinstance(base, Permission)
    narrowed = ask(world, tuple(orders))
    shuffled = list(orders)
    seed.shuffle(shuffled)
    again = ask(world, tuple(shuffled))
    assert type(narrowed) is type(again)
    if isinstance(narrowed, Permission) and isinstance(again, Permission):
        assert is_within(narrowed.envelope, base.envelope)
        assert narrowed.envelope == again.envelope


def test_signing_keys_do_not_show_themselves() -> None:
    made = key("x")
    assert made.id in repr(made)
    assert len(repr(made)) < 100
    with pytest.raises(TypeError):
        encode_json(made)


def test_an_id_that_two_orders_bear_is_cleared_for_neither(world: World) -> None:
    real = standing(world, order(world))
    harmless = standing(world, order(world, ceiling=Envelope(), reasons=("decoy",)))
    assert isinstance(ask(world, (real, harmless), clears=("order_1",)), Refusal)
    assert isinstance(ask(world, (real,), clears=("order_1",)), Permission)


def test_a_stop_of_a_stage_outlives_the_stages_certificate(world: World) -> None:
    assess = verify_certificate(
        world.signed_certificate("assess"),
        root=world.root,
        plan=world.plan,
        plan_digest=world.plan_digest,
        fingerprint=world.fingerprint,
        now_ms=NOW,
    )
    held = {"assess": assess}
    stop = standing(world, order(world, target=TARGETS["stage"]))
    member = grant(world, tier=Tier.EVALUATORS)
    assert isinstance(permit(world.plan, held, (), member, "abc123", NOW), Permission)
    answer = permit(world.plan, held, (stop,), member, "abc123", NOW)
    assert isinstance(answer, Refusal)
    assert answer.code == "stopped"


def test_a_ceiling_of_no_organisations_admits_nobody(world: World) -> None:
    nobody = Envelope(audience=Audience(max_organisations=0))
    answer = ask(world, (standing(world, order(world, ceiling=nobody)),))
    assert isinstance(answer, Refusal)
    assert answer.code == "outside_audience"
