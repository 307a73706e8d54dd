"""The candidate's bytes and fingerprint, and the traffic that gates need."""

from __future__ import annotations

import hashlib
import json
import math
import pathlib
from decimal import Decimal

import msgspec
import pytest

from gatelift.encoding import EncodingError
from gatelift.plan import (
    CandidateError,
    encode_candidate,
    fingerprint,
    make_candidate,
    parse_candidate,
    parse_plan,
    units_needed,
)

TEXT = (pathlib.Path(__file__).parents[3] / "docs" / "plan" / "annotated.yaml").read_text()
PLAN = parse_plan(TEXT.encode())
PROMPT = "You are Aurora.\nDas Wort heißt „Tau“.\n"


def plan_with(*pairs):
    text = TEXT
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new, 1)
    return parse_plan(text.encode())


def test_the_bytes_hold_every_part_in_fixed_order():
    data = encode_candidate(make_candidate(PLAN, PROMPT))
    stored = json.loads(data)
    assert list(stored) == ["v", "model_part", "serving_part"]
    assert stored["v"] == 1
    assert stored["model_part"] == {
        "model": "aurora-2",
        "weights": "sha256:0f3c6f6a9b1d2e4c5a7b8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c",
        "adapters": None,
        "tokenizer": None,
        "chat_template": None,
        "quantisation": None,
        "system_prompt": PROMPT,
        "system_prompt_digest": "sha256:" + hashlib.sha256(PROMPT.encode()).hexdigest(),
        "canaries": [],
    }
    assert stored["serving_part"] == {
        "dialect": "openai",
        "engine": "llama.cpp b6700",
        "engine_flags": None,
        "sampling": {"temperature": "0.7", "top_p": "0.95"},
        "max_context_tokens": 8192,
        "max_output_tokens": 2048,
        "tools": ["run_tests", "search"],
    }


def test_the_fingerprint_is_the_digest_of_the_stored_bytes():
    data = encode_candidate(make_candidate(PLAN, PROMPT))
    assert fingerprint(data) == "sha256:" + hashlib.sha256(data).hexdigest()
    assert parse_candidate(data) == make_candidate(PLAN, PROMPT)


@pytest.mark.parametrize(
    "change",
    [
        ("temperature: 0.7", "temperature: 0.8"),
        ("model: aurora-2", "model: aurora-3"),
        ("b6700", "b6701"),
        ("output_tokens: 2048", "output_tokens: 4096"),
        ("tools: [search, run_tests]", "tools: none"),
    ],
    ids=["sampling", "model", "engine", "limit", "tools"],
)
def test_another_part_is_another_fingerprint(change):
    one = encode_candidate(make_candidate(PLAN, PROMPT))
    assert fingerprint(one) != fingerprint(
        encode_candidate(make_candidate(plan_with(change), PROMPT))
    )


def test_another_prompt_is_another_fingerprint():
    one, two = (encode_candidate(make_candidate(PLAN, p)) for p in (PROMPT, PROMPT + " "))
    assert fingerprint(one) != fingerprint(two)


def test_what_does_not_change_the_answer_does_not_change_the_fingerprint():
    other = plan_with(
        ("temperature: 0.7 #", "temperature: 0.700 #"), ("max_age: 14d", "max_age: 15d")
    )
    assert encode_candidate(make_candidate(other, PROMPT)) == encode_candidate(
        make_candidate(PLAN, PROMPT)
    )


def test_unknown_parts_are_null_and_listed():
    candidate = make_candidate(PLAN, PROMPT)
    assert candidate.unknown_parts() == (
        "model_part.adapters",
        "model_part.tokenizer",
        "model_part.chat_template",
        "model_part.quantisation",
        "serving_part.engine_flags",
    )
    bare = plan_with(
        ("  weights: sha256", "  # weights"), ("engine: llama.cpp b6700", "engine: null")
    )
    unknown = make_candidate(bare, PROMPT).unknown_parts()
    assert unknown[0] == "model_part.weights"
    assert "serving_part.engine" in unknown


def test_a_candidate_without_prompt_says_so_and_not_that_it_is_unknown():
    bare = plan_with(("system_prompt: prompt.txt", "system_prompt: null"))
    candidate = make_candidate(bare, None)
    assert candidate.model_part.system_prompt is None
    assert candidate.model_part.system_prompt_digest is None
    assert "model_part.system_prompt" not in candidate.unknown_parts()


@pytest.mark.parametrize(
    ("plan", "prompt"),
    [
        (PLAN, None),
        (plan_with(("system_prompt: prompt.txt", "system_prompt: null")), "text"),
        (PLAN, " \n"),
        (PLAN, "\ud800"),
        (PLAN, "x" * (256 * 1024 + 1)),
    ],
    ids=["named-not-given", "given-not-named", "blank", "surrogate", "too-long"],
)
def test_a_prompt_that_the_plan_does_not_mean_is_refused(plan, prompt):
    with pytest.raises(CandidateError):
        make_candidate(plan, prompt)


def test_stored_bytes_whose_prompt_was_exchanged_are_refused():
    data = encode_candidate(make_candidate(PLAN, PROMPT))
    with pytest.raises(CandidateError, match="digest of the system prompt"):
        parse_candidate(data.replace(b"You are Aurora", b"You are Boreas"))
    with pytest.raises(CandidateError, match="version 1"):
        parse_candidate(data.replace(b'"v":1', b'"v":2'))
    with pytest.raises(EncodingError):
        parse_candidate(data.replace(b'"adapters":null', b'"adapters":"x"'))
    with pytest.raises(EncodingError):
        parse_candidate(data.replace(b'"v":1', b'"v":1,"w":1'))


def clean_units(limit: float, alpha: float) -> int:
    """The rule without peeking: fewer clean units than this can never show less than the limit."""
    return math.ceil(math.log(alpha) / math.log(1 - limit))


def test_a_gate_says_what_traffic_it_needs():
    need = units_needed(PLAN, PLAN.stage("partners"))
    assert (need.stage, need.soak.sessions, need.soak.organisations) == ("partners", 250, 5)
    clear = need.clear[0]
    assert (clear.metric, clear.from_stage, clear.alpha) == (
        "leak_rate",
        "internal",
        Decimal("0.05"),
    )
    # Looking at any time costs about a tenth more than one look (reference/statistics.md, 4b).
    least = clean_units(0.02, 0.05)
    assert least < clear.clean_sessions < 1.2 * least
    # 100 sessions make a stretch in which 20 of an organisation count.
    assert clear.organisations == 5


def test_false_assurance_is_shared_by_the_gates_that_clear():
    clear = "      clear: [{metric: leak_rate, limit: 0.1, from: assess}]\n"
    two = plan_with(("      incidents: #", clear + "      incidents: #"))
    need = units_needed(two, two.stage("internal")).clear[0]
    assert need.alpha == Decimal("0.025")
    assert clean_units(0.1, 0.025) < need.clean_sessions < 1.2 * clean_units(0.1, 0.025)
    assert need.organisations == 2


def test_a_gate_without_traffic_needs_none():
    need = units_needed(PLAN, PLAN.stages[0])
    assert (need.soak, need.clear) == (None, ())


def test_guardrails_share_the_false_alarms_and_never_more_than_all():
    assert PLAN.metric_weight() == Decimal("0.5")
    watch = PLAN.stages[1].watch[0]
    for count in (3, 6, 7, 11):
        watches = tuple(msgspec.structs.replace(watch, metric=f"m{i}") for i in range(count))
        stage = msgspec.structs.replace(PLAN.stages[0], watch=watches)
        plan = msgspec.structs.replace(PLAN, stages=(stage,))
        assert Decimal("0.999") < plan.metric_weight() * count <= 1


def test_marked_canaries_are_listed_and_the_marks_are_not_sent() -> None:
    text = "Be kind. The words are [[canary: amber lantern]]. Keep [[canary: quiet harbour]]."
    candidate = make_candidate(PLAN, text)
    assert candidate.model_part.canaries == ("amber lantern", "quiet harbour")
    sent = candidate.model_part.system_prompt
    assert sent == "Be kind. The words are amber lantern. Keep quiet harbour."
    assert parse_candidate(encode_candidate(candidate)) == candidate
