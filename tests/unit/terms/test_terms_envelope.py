"""The permission algebra: `meet` only subtracts, and `<=` is the partial order that it defines."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatelift.terms import (
    Audience,
    Band,
    BlockRule,
    Cap,
    CapUnit,
    Category,
    Comparison,
    Endpoint,
    Envelope,
    EnvelopeError,
    Posture,
    Retention,
    SafeguardTerms,
    Scope,
    Subject,
    Tier,
    Window,
    compare,
    is_within,
    meet,
)

# Small ranges, so that two drawn envelopes are often comparable.
LIMITS = st.none() | st.integers(0, 3)
CAP_KEYS = [
    (Subject.PRINCIPAL, CapUnit.REQUESTS, Window.MINUTE),
    (Subject.STAGE, CapUnit.OUTPUT_TOKENS, Window.DAY),
    (Subject.PRINCIPAL, CapUnit.PARALLEL, Window.NONE),
    (Subject.STAGE, CapUnit.COVERAGE, Window.NONE),
]
RULES = [
    BlockRule(id="a", phrases=("first phrase", "other phrase")),
    BlockRule(id="a", phrases=("first phrase",)),
    BlockRule(id="b", phrases=("second phrase",)),
]


def some(values):
    return st.none() | st.lists(st.sampled_from(values), unique=True).map(tuple)


@st.composite
def caps(draw):
    keys = draw(st.lists(st.sampled_from(CAP_KEYS), unique=True))
    return tuple(
        Cap(subject=subject, unit=unit, window=window, limit=draw(st.integers(0, 3)))
        for subject, unit, window in keys
    )


SAFEGUARDS = st.builds(
    SafeguardTerms,
    postures=st.dictionaries(st.sampled_from(list(Category)[:3]), st.sampled_from(list(Posture))),
    block_rules=st.lists(st.sampled_from(RULES)).map(tuple),
)
ENVELOPES = st.builds(
    Envelope,
    audience=st.builds(
        Audience,
        tier=st.sampled_from(Tier),
        max_organisations=LIMITS,
        requires=st.lists(st.sampled_from(["identity", "terms@3"])).map(tuple),
        safety_identifier=st.booleans(),
    ),
    scope=st.builds(
        Scope,
        endpoints=some(list(Endpoint)),
        tools=some(["search", "shell"]),
        agent_steps=LIMITS,
        context_tokens=LIMITS,
        output_tokens=LIMITS,
        logprobs=st.booleans(),
        images=st.booleans(),
        unlocked=some(list(Band)[1:4]),
    ),
    caps=caps(),
    safeguards=SAFEGUARDS,
    retention=st.builds(Retention, content_days=LIMITS, training=st.booleans()),
)
law = settings(max_examples=40, deadline=None)


@law
@given(ENVELOPES, ENVELOPES)
def test_meet_is_commutative_down_to_the_bytes(a, b):
    assert msgspec.json.encode(meet(a, b)) == msgspec.json.encode(meet(b, a))


@law
@given(ENVELOPES, ENVELOPES, ENVELOPES)
def test_meet_is_associative(a, b, c):
    assert meet(meet(a, b), c) == meet(a, meet(b, c))


@law
@given(ENVELOPES)
def test_meet_is_idempotent_and_everything_is_its_identity(a):
    assert meet(a, a) == a
    assert meet(a, Envelope()) == a
    assert is_within(a, Envelope())


@law
@given(ENVELOPES, ENVELOPES)
def test_the_order_is_reflexive_and_antisymmetric(a, b):
    assert is_within(a, a)
    if is_within(a, b) and is_within(b, a):
        assert a == b


@law
@given(ENVELOPES, ENVELOPES, ENVELOPES)
def test_the_order_is_transitive(a, b, c):
    low, middle = meet(meet(a, b), c), meet(a, b)
    assert is_within(low, middle)
    assert is_within(middle, a)
    assert is_within(low, a)
    if is_within(a, b) and is_within(b, c):
        assert is_within(a, c)


@law
@given(ENVELOPES, ENVELOPES, ENVELOPES)
def test_meet_is_the_greatest_lower_bound(a, b, c):
    both = meet(a, b)
    assert is_within(both, a)
    assert is_within(both, b)
    below = meet(c, both)
    assert is_within(below, a)
    assert is_within(below, b)
    if is_within(c, a) and is_within(c, b):
        assert is_within(c, both)


@law
@given(ENVELOPES, ENVELOPES)
def test_compare_says_what_the_order_says(a, b):
    expected = {
        (True, True): Comparison.EQUAL,
        (True, False): Comparison.TIGHTER,
        (False, True): Comparison.LOOSER,
        (False, False): Comparison.INCOMPARABLE,
    }
    assert compare(a, b) is expected[is_within(a, b), is_within(b, a)]


@law
@given(ENVELOPES)
def test_an_envelope_survives_its_bytes(a):
    assert msgspec.json.decode(msgspec.json.encode(a), type=Envelope) == a


def a_cap(limit: int, unit: CapUnit = CapUnit.REQUESTS) -> Cap:
    return Cap(subject=Subject.STAGE, unit=unit, window=Window.DAY, limit=limit)


def test_a_meet_written_out_by_hand():
    left = Envelope(
        audience=Audience(tier=Tier.PARTNERS, max_organisations=5, requires=("identity",)),
        scope=Scope(
            endpoints=(Endpoint.CHAT, Endpoint.MODELS),
            tools=("search", "shell"),
            agent_steps=3,
            context_tokens=None,
            output_tokens=100,
            logprobs=True,
            images=True,
            unlocked=(Band.DUAL_USE, Band.DEFENSIVE),
        ),
        caps=(a_cap(10), a_cap(7, CapUnit.BYTES_OUT)),
        safeguards=SafeguardTerms(postures={Category.LEAK: Posture.CUT}),
        retention=Retention(content_days=30, training=True),
    )
    right = Envelope(
        audience=Audience(tier=Tier.VERIFIED, max_organisations=9, requires=("terms@3",)),
        scope=Scope(
            endpoints=(Endpoint.CHAT,),
            tools=("shell",),
            agent_steps=8,
            context_tokens=2048,
            output_tokens=64,
            logprobs=False,
            images=False,
            unlocked=(Band.DUAL_USE,),
        ),
        caps=(a_cap(4),),
        safeguards=SafeguardTerms(
            postures={Category.LEAK: Posture.REROUTE, Category.PROBING: Posture.OBSERVE},
            block_rules=(RULES[2],),
        ),
        retention=Retention(content_days=0, training=False),
    )
    assert meet(left, right) == Envelope(
        audience=Audience(
            tier=Tier.VERIFIED, max_organisations=5, requires=("identity", "terms@3")
        ),
        scope=Scope(
            endpoints=(Endpoint.CHAT,),
            tools=("shell",),
            agent_steps=3,
            context_tokens=2048,
            output_tokens=64,
            logprobs=False,
            images=False,
            unlocked=(Band.DUAL_USE,),
        ),
        caps=(a_cap(4), a_cap(7, CapUnit.BYTES_OUT)),
        safeguards=SafeguardTerms(
            postures={Category.LEAK: Posture.BLOCK, Category.PROBING: Posture.OBSERVE},
            block_rules=(RULES[2],),
        ),
        retention=Retention(content_days=0, training=False),
    )


def allows(envelope: Envelope, request: dict) -> bool:
    """What an envelope lets through, told without `meet`."""
    scope, ladder = envelope.scope, list(Tier)
    return (
        ladder.index(request["tier"]) <= ladder.index(envelope.audience.tier)
        and set(envelope.audience.requires) <= request["proofs"]
        and (scope.endpoints is None or request["endpoint"] in scope.endpoints)
        and (scope.tools is None or request["tool"] in scope.tools)
        and (scope.output_tokens is None or request["tokens"] <= scope.output_tokens)
        and (scope.logprobs or not request["logprobs"])
        and (scope.images or not request["images"])
        and all(request["used"] <= cap.limit for cap in envelope.caps)
    )


REQUESTS = st.fixed_dictionaries(
    {
        "tier": st.sampled_from(Tier),
        "proofs": st.sets(st.sampled_from(["identity", "terms@3"])),
        "endpoint": st.sampled_from(Endpoint),
        "tool": st.sampled_from(["search", "shell"]),
        "tokens": st.integers(0, 4),
        "logprobs": st.booleans(),
        "images": st.booleans(),
        "used": st.integers(0, 4),
    }
)


@law
@given(ENVELOPES, ENVELOPES, REQUESTS)
def test_a_meet_allows_a_request_exactly_when_both_sides_do(a, b, request_):
    assert allows(meet(a, b), request_) == (allows(a, request_) and allows(b, request_))


TIGHTENINGS = [
    pytest.param(Envelope(audience=Audience(tier=Tier.VERIFIED)), id="narrower-tier"),
    pytest.param(Envelope(audience=Audience(requires=("identity",))), id="more-proofs"),
    pytest.param(Envelope(audience=Audience(max_organisations=5)), id="a-limit-where-none-was"),
    pytest.param(Envelope(audience=Audience(safety_identifier=True)), id="end-user-asked-for"),
    pytest.param(Envelope(scope=Scope(endpoints=(Endpoint.CHAT,))), id="fewer-endpoints"),
    pytest.param(Envelope(scope=Scope(tools=())), id="no-tools"),
    pytest.param(Envelope(scope=Scope(output_tokens=0)), id="no-tokens"),
    pytest.param(Envelope(scope=Scope(logprobs=False)), id="no-logprobs"),
    pytest.param(Envelope(scope=Scope(images=False)), id="no-images"),
    pytest.param(Envelope(scope=Scope(unlocked=())), id="no-bands"),
    pytest.param(
        Envelope(
            caps=(
                Cap(subject=Subject.STAGE, unit=CapUnit.REQUESTS, window=Window.DAY, limit=10**15),
            )
        ),
        id="another-cap",
    ),
    pytest.param(
        Envelope(safeguards=SafeguardTerms(postures={Category.LEAK: Posture.OBSERVE})),
        id="another-safeguard",
    ),
    pytest.param(Envelope(safeguards=SafeguardTerms(block_rules=(RULES[0],))), id="a-block-rule"),
    pytest.param(Envelope(retention=Retention(content_days=30)), id="shorter-retention"),
    pytest.param(Envelope(retention=Retention(training=False)), id="no-training"),
]


@pytest.mark.parametrize("tighter", TIGHTENINGS)
def test_each_part_alone_can_tighten(tighter):
    assert compare(tighter, Envelope()) is Comparison.TIGHTER
    assert compare(Envelope(), tighter) is Comparison.LOOSER


def test_parts_that_tighten_in_different_ways_are_incomparable():
    parts = [param.values[0] for param in TIGHTENINGS]
    for left, right in itertools.combinations(parts, 2):
        assert compare(left, right) is Comparison.INCOMPARABLE


def test_equal_permissions_written_in_another_order_are_equal_values():
    one = Envelope(
        scope=Scope(endpoints=(Endpoint.MODELS, Endpoint.CHAT, Endpoint.CHAT)),
        safeguards=SafeguardTerms(
            postures={Category.MISUSE: Posture.BLOCK, Category.LEAK: Posture.CUT},
            block_rules=(RULES[2], BlockRule(id="a", phrases=("other phrase", "first phrase"))),
        ),
    )
    two = Envelope(
        scope=Scope(endpoints=(Endpoint.CHAT, Endpoint.MODELS)),
        safeguards=SafeguardTerms(
            postures={Category.LEAK: Posture.CUT, Category.MISUSE: Posture.BLOCK},
            block_rules=(RULES[0], RULES[2], RULES[2]),
        ),
    )
    assert one == two
    assert msgspec.json.encode(one) == msgspec.json.encode(two)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Audience(max_organisations=-1),
        lambda: Scope(agent_steps=-1),
        lambda: Scope(context_tokens=-1),
        lambda: Scope(output_tokens=-1),
        lambda: Retention(content_days=-1),
    ],
    ids=["organisations", "steps", "context", "output", "days"],
)
def test_a_negative_limit_is_no_permission(make):
    with pytest.raises(EnvelopeError, match="0 or more"):
        make()
