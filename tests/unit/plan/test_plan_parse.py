"""Reading a plan: what is read, and every way to be refused with a place and a remedy."""

from __future__ import annotations

import pathlib
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatelift.plan import BreachAction, Plan, PlanError, RefusalForm, parse_plan
from gatelift.plan.problems import MAX_PROBLEMS
from gatelift.terms import (
    Assurance,
    Band,
    Category,
    Posture,
    Prices,
    Retention,
    Sealing,
    Tier,
    WatchRole,
)

ANNOTATED = pathlib.Path(__file__).parents[3] / "docs" / "plan" / "annotated.yaml"
TEXT = ANNOTATED.read_text(encoding="utf-8")


def problems_of(text: str | bytes):
    data = text if isinstance(text, bytes) else text.encode("utf-8")
    with pytest.raises(PlanError) as caught:
        parse_plan(data)
    assert caught.value.code == "bad_plan"
    return caught.value.problems


def swap(*pairs: tuple[str, str]) -> str:
    text = TEXT
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


def test_the_annotated_example_is_read_field_by_field():
    plan = parse_plan(TEXT.encode())
    assert plan.name == "aurora"
    assert plan.candidate.system_prompt_file == "prompt.txt"
    assert plan.candidate.sampling.temperature == Decimal("0.7")
    assert plan.trust.quorum == ("safety", "security", "overseer")
    assert (plan.trust.status_ttl_ms, plan.session_window_ms) == (10_000, 3_600_000)
    assert (plan.drift.probes, plan.drift.every_ms) == (16, 5_000)
    threshold = plan.thresholds[0]
    assert threshold.evidence.max_age_ms == 14 * 86_400_000
    assert threshold.unless_ruled_out.audience.tier is Tier.PARTNERS
    assert threshold.unless_ruled_out.safeguards[Category.LEAK] is Posture.CUT
    assert threshold.unless_ruled_out.evidence[0].below == Decimal("0.05")
    assert {metric.name: metric.harmful_when.band for metric in plan.metrics} == {
        "leak_rate": None,
        "prohibited_rate": Band.PROHIBITED,
        "probing_rate": None,
    }
    assess, internal, partners = plan.stages
    assert {cap.key: cap.limit for cap in assess.envelope.caps} == {
        "principal.requests/min": 60,
        "principal.requests/d": 5_000,
        "principal.input_tokens/d": 2_000_000,
        "principal.output_tokens/d": 500_000,
        "principal.bytes_out/d": 100_000_000,
        "principal.cost/h": 2_000_000,
        "principal.cost/d": 10_000_000,
        "principal.parallel/none": 4,
        "principal.coverage/none": 20_000,
        "organisation.requests/min": 600,
        "audience.requests/h": 10_000,
        "stage.output_tokens/d": 1_000_000,
    }
    assert plan.prices == Prices(currency="EUR", input_micros=2_500_000, output_micros=10_000_000)
    assert assess.envelope.scope.tools == ("run_tests", "search")
    assert internal.envelope.scope.tools == ()
    assert assess.envelope.retention == Retention(content_days=0, training=False)
    assert partners.envelope.retention.content_days == 30
    assert (internal.watch[0].rescope_to, internal.watch[0].role) == ("assess", WatchRole.GUARDRAIL)
    assert internal.watch[1].on_breach is BreachAction.HOLD
    assert internal.events[0].count == 5
    assert partners.quorum == plan.trust.quorum
    assert (partners.gate.soak.from_stage, partners.gate.soak.time_ms) == ("internal", 604_800_000)
    assert partners.gate.clear[0].limit == Decimal("0.02")
    assert (partners.assurance, partners.sealing) == (Assurance.OVERSEEN, Sealing.DECLARED)
    assert [stage.refusal for stage in plan.stages] == [
        RefusalForm.ERROR,
        RefusalForm.ERROR,  # left out
        RefusalForm.COMPLETION,
    ]
    assert plan.exposures[0].startswith("a copy of the weights")


def test_optional_fields_take_the_defaults_of_the_model():
    text = swap(
        ("  notice: 0s", "  # no notice"),
        ("  status_ttl: 10s", "  # no ttl"),
        ("  durability: node", "  # none"),
        ("  probes: 16", "  # none"),
        ("  weights: sha256", "  # sha256"),
    )
    plan = parse_plan(text.encode())
    assert (plan.trust.notice_ms, plan.trust.status_ttl_ms) == (0, 10_000)
    assert plan.drift.probes == 16
    assert plan.candidate.weights is None


PRICES = TEXT[TEXT.index("prices:\n") : TEXT.index("# Who must sign")]
# (what is changed, the line of which text, path, words of the message or remedy)
MISUSE_OBSERVED = "safeguards: {leak: cut, misuse: block, autonomy: block, probing: observe}"
BROKEN = {
    "alias": (
        [("requires: [] ", "requires: &x [] "), ("unlocked: []", "unlocked: *x")],
        "unlocked: *x",
        "stages[1].scope.unlocked",
        "expected no alias",
    ),
    "tag": ([("name: aurora", "name: !!str aurora")], "!!str", "metadata.name", "expected no tag"),
    "merge-key": (
        [("    gate: {}", "    gate: {<<: {}}")],
        "<<",
        "stages[0].gate",
        "merge key",
    ),
    "duplicate-key": (
        [("kind: Release", "kind: Release\nkind: Release")],
        "kind: Release # the only",
        "",
        "duplicate key 'kind'",
    ),
    "unknown-key-with-the-nearest": (
        [("status_ttl: 10s", "staus_ttl: 10s")],
        "staus_ttl",
        "trust.staus_ttl",
        "write status_ttl",
    ),
    "missing-key": (
        [("false_alarm: 0.05", "")],
        "apiVersion",
        "false_alarm",
        "expected the key false_alarm",
    ),
    "missing-gate": ([("    gate: {}", "")], "  - name: assess", "stages[0].gate", "key gate"),
    "wrong-type": (
        [("stretch: 100", "stretch: [100]")],
        "stretch: [100]",
        "stretch",
        "got a list",
    ),
    "text-that-is-no-text": (
        [("model: aurora-2", "model: no")],
        "model: no",
        "candidate.model",
        'write "no"',
    ),
    "quoted-number": (
        [("false_alarm: 0.05", "false_alarm: '0.05'")],
        "false_alarm",
        "false_alarm",
        "without quotes",
    ),
    "beyond-bounds": (
        [("certificate: 14d", "certificate: 60d")],
        "certificate: 60d",
        "stages[2].certificate",
        "from 1s to 31d",
    ),
    "prompt-outside-of-the-plan": (
        [("prompt.txt", "../prompt.txt")],
        "../prompt.txt",
        "candidate.system_prompt",
        "without ..",
    ),
    "limit-of-one": (
        [("limit: 0.01, role", "limit: 1, role")],
        "limit: 1, role",
        "stages[2].watch[1].limit",
        "below 1",
    ),
    "cap-without-window": (
        [("input_tokens: 2M/d", "input_tokens: 2M")],
        "input_tokens: 2M",
        "stages[0].caps.principal.input_tokens",
        "in a window",
    ),
    "cap-twice": (
        [("[60/min, 5k/d]", "[60/min, 50/min]")],
        "[60/min",
        "stages[0].caps.principal.requests",
        "stands twice",
    ),
    "posture-not-enforced": (
        [("      leak: cut", "      leak: redact")],
        "leak: redact",
        "stages[0].safeguards.leak",
        "does not enforce redact",
    ),
    "cost-without-a-currency": (
        [("{requests: 600/min}", "{cost: 5/d}")],
        "{cost",
        "stages[0].caps.organisation.cost",
        "write 50 EUR/d",
    ),
    "cost-without-a-window": (
        [("{requests: 600/min}", "{cost: 5 EUR}")],
        "{cost",
        "stages[0].caps.organisation.cost",
        "in a window",
    ),
    "cost-finer-than-a-micro-unit": (
        [("10 EUR/d]", "0.0000001 EUR/d]")],
        "[2 EUR/h",
        "stages[0].caps.principal.cost",
        "0.000001",
    ),
    "cost-in-another-currency": (
        [("[2 EUR/h, 10 EUR/d]", "[2 EUR/h, 10 USD/d]")],
        "[2 EUR/h",
        "stages[0].caps.principal.cost",
        "prices are in EUR, got USD; write it in EUR",
    ),
    "cost-without-prices": (
        [(PRICES, "")],
        "[2 EUR/h",
        "stages[0].caps.principal.cost",
        "write prices: {currency: EUR",
    ),
    "cost-at-prices-of-nothing": (
        [("input: 2.5", "input: 0"), ("output: 10 ", "output: 0 ")],
        "currency: EUR",
        "prices",
        "at prices of 0",
    ),
    "price-finer-than-a-micro-unit": (
        [("input: 2.5", "input: 2.5000001")],
        "input: 2.5000001",
        "prices.input",
        "an amount of money",
    ),
    "coverage-with-a-window": (
        [("coverage: 20k", "coverage: 20k/d")],
        "coverage: 20k/d",
        "stages[0].caps.principal.coverage",
        "without a window",
    ),
    "packs-not-enforced": (
        [("exposures:", "packs: []\nexposures:")],
        "packs",
        "packs",
        "does not enforce packs",
    ),
    "business-days": (
        [("max_age: 30d", "max_age: 30bd")],
        "30bd",
        "thresholds[0].unless_ruled_out.evidence[0].max_age",
        "business days",
    ),
    "refusal-in-no-known-form": (
        [("refusal: completion", "refusal: silence")],
        "refusal: silence",
        "stages[2].refusal",
        "write error or completion",
    ),
    "stage-twice": (
        [("  - name: partners", "  - name: internal")],
        "  - name: internal\n    audience: {tier: partners",
        "stages[2].name",
        "stands twice",
    ),
    "stages-out-of-order": (
        [("tier: partners, max", "tier: evaluators, max")],
        "tier: evaluators, max",
        "stages[2].audience.tier",
        "order of exposure",
    ),
    "first-stage-too-wide": (
        [("tier: evaluators #", "tier: internal #")],
        "tier: internal #",
        "stages[0].audience.tier",
        "write evaluators",
    ),
    "first-stage-without-hard-cap": (
        [("stage: {output_tokens: 1M/d}", "stage: {bytes_out: 1M/d}")],
        "principal: # each",
        "stages[0].caps",
        "no hard cap",
    ),
    "first-stage-too-long": (
        [("certificate: 8h", "certificate: 7d")],
        "certificate: 7d",
        "stages[0].certificate",
        "1d or less",
    ),
    "first-stage-without-safety": (
        [("quorum: [operator, safety] # of", "quorum: [operator, security] # of")],
        "quorum: [operator, security] # of",
        "stages[0].quorum",
        "operator and safety",
    ),
    "soak-from-a-later-stage": (
        [("from: internal #", "from: partners #")],
        "from: partners #",
        "stages[2].gate.soak.from",
        "not an earlier stage",
    ),
    "clear-from-no-stage": (
        [("limit: 0.02, from: internal}", "limit: 0.02, from: inland}")],
        "from: inland}",
        "stages[2].gate.clear[0].from",
        "no stage of this plan",
    ),
    "clear-of-no-metric": (
        [("- {metric: leak_rate, limit: 0.02, from", "- {metric: leak, limit: 0.02, from")],
        "- {metric: leak, limit",
        "stages[2].gate.clear[0].metric",
        "leak is no metric",
    ),
    "threshold-not-defined": (
        [("thresholds: [cyber_uplift] # ruled", "thresholds: [cyber_uplift, bio] # ruled")],
        "cyber_uplift, bio",
        "stages[1].gate.thresholds[1]",
        "bio is no threshold",
    ),
    "soak-that-cannot-clear": (
        [("sessions: 250", "sessions: 163")],
        "sessions: 163",
        "stages[2].gate.soak.sessions",
        "write 164 or more",
    ),
    "soak-of-more-organisations-than-admitted": (
        [("organisations: 5 #", "organisations: 11 #")],
        "organisations: 11 #",
        "stages[2].gate.soak.organisations",
        "could never open",
    ),
    "attempts-that-rule-nothing-out": (
        [("attempts: 300 #", "attempts: 35 #")],
        "attempts: 35 #",
        "thresholds[0].evidence.attempts",
        "write 36 or more",
    ),
    "guardrail-without-action": (
        [("        on_breach: rescope #", "        #"), ("        to: assess", "        #")],
        "metric: leak_rate\n        limit",
        "stages[1].watch[0]",
        "a guardrail says what a breach does",
    ),
    "signal-that-narrows": (
        [("role: signal}", "role: signal, on_breach: halt}")],
        "role: signal, on",
        "stages[1].watch[1].on_breach",
        "a signal may only hold",
    ),
    "rescope-without-stage": (
        [("rescope, to: internal}", "rescope}")],
        "{metric: prohibited_rate",
        "stages[2].watch[1]",
        "to: the earlier stage",
    ),
    "rescope-forward": (
        [("rescope, to: internal}", "rescope, to: partners}")],
        "to: partners}",
        "stages[2].watch[1].to",
        "not an earlier stage",
    ),
    "two-limits-of-one-guardrail": (
        [("limit: 0.02, role: guardrail", "limit: 0.03, role: guardrail")],
        "limit: 0.03",
        "stages[2].watch[0].limit",
        "over all stages",
    ),
    "metric-nobody-labels-there": (
        [("autonomy: block, probing: observe} # leak", "autonomy: block} # leak")],
        "{metric: probing_rate",
        "stages[1].watch[1].metric",
        "probing has no posture in stage internal",
    ),
    "condition-no-verdict-meets": (
        [("safeguard: leak, side: answer", "safeguard: leak, side: prompt")],
        "safeguard: leak, side",
        "metrics.leak_rate.harmful_when.side",
        "never speaks about the prompt",
    ),
    "posture-missing": (
        [(MISUSE_OBSERVED, "safeguards: {leak: cut, misuse: block, probing: observe}")],
        "{leak: cut, misuse: block, probing",
        "stages[1].safeguards.autonomy",
        "every stage after the first",
    ),
    "gate-without-reviews": (
        [("      reviews: {roles: [safety, security], max_age: 14d}\n", "")],
        "      thresholds: [cyber_uplift]\n",
        "stages[2].gate.reviews",
        "asks for reviews",
    ),
    "gate-without-thresholds": (
        [("      thresholds: [cyber_uplift]\n", "")],
        "      reviews: {roles: [safety, sec",
        "stages[2].gate.thresholds",
        "asks for thresholds",
    ),
    "public-without-overseer": (
        [
            ("tier: partners, max_organisations: 50", "tier: public, max_organisations: none"),
            ("assurance: overseen", "assurance: self"),
        ],
        "assurance: self\n    sealing: declared",
        "stages[2].assurance",
        "overseen or witnessed",
    ),
    "limitless-audience-below-public": (
        [("max_organisations: 50", "max_organisations: none")],
        "max_organisations: none,",
        "stages[2].audience.max_organisations",
        "only public",
    ),
    "open-upstream-above-internal": (
        [("sealing: declared", "sealing: open")],
        "sealing: open\n    certificate: 14d",
        "stages[2].sealing",
        "write declared",
    ),
    "machine-in-the-quorum": (
        [("quorum: [safety, security, overseer]", "quorum: [safety, control, overseer]")],
        "quorum: [safety, control",
        "trust.quorum[1]",
        "the role control may not sign here",
    ),
    "quorum-of-one": (
        [("quorum: [safety, security, overseer]", "quorum: [overseer]")],
        "quorum: [overseer]",
        "trust.quorum",
        "at least two distinct roles",
    ),
    "role-twice": (
        [("quorum: [safety, security, overseer]", "quorum: [safety, security, safety]")],
        "quorum: [safety, security, safety]",
        "trust.quorum[2]",
        "stands twice",
    ),
    "prohibited-unlocked": (
        [("[dual_use, defensive]", "[prohibited]")],
        "[prohibited]",
        "stages[0].scope.unlocked[0]",
        "never unlocked",
    ),
    "measures-that-switch-nothing-on": (
        [
            (TEXT[TEXT.index("    unless_ruled_out:") : TEXT.index("# Rates over")], ""),
            (
                "max_age: 14d # older evidence is no evidence",
                "max_age: 14d\n    unless_ruled_out: {}\n",
            ),
        ],
        "unless_ruled_out: {}",
        "thresholds[0].unless_ruled_out",
        "switches nothing on",
    ),
}


@pytest.mark.parametrize(("changes", "where", "path", "words"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plan_says_where_and_what_to_write(changes, where, path, words):
    text = swap(*changes)
    found = problems_of(text)
    hits = [p for p in found if p.path == path and words in f"{p.message}; write {p.write_instead}"]
    assert len(hits) == 1, "\n".join(map(str, found))
    assert hits[0].line == line_of(text, where)
    # One mistake, one problem: nothing follows from it but what it breaks elsewhere.
    assert len(found) <= 2, "\n".join(map(str, found))


WHOLE_FILE = {
    "empty": (b"", "empty"),
    "only-a-comment": (b"# nothing", "empty"),
    "null": (b"---\n", "got nothing"),
    "not-a-mapping": (b"- a\n- b\n", "got a list"),
    "not-utf8": (b"a: \xff", "UTF-8"),
    "byte-order-mark": (b"\xef\xbb\xbfkind: Release", "byte order mark"),
    "nul": (b"a: \x00", "readable characters"),
    "surrogate-by-escape": (b'metadata: {name: "\\ud800"}', "readable characters"),
    "escape-beyond-unicode": (b'a: "\\UFFFFFFFF"', "expected YAML"),
    "two-documents": (b"a: 1\n---\nb: 2\n", "one plan a file"),
    "directive": (b"%YAML 1.1\n---\na: 1\n", "no % directive"),
    "python-tag": (b"!!python/object/apply:os.system [echo]", "expected no tag"),
    "deep": (b"[" * 5000, "at most 16 levels"),
    "deep-in-blocks": (b"- " * 40 + b"a", "at most 16 levels"),
    "wide": (b"[" + b"a," * 20_001 + b"]", "at most 20000 values"),
    "too-long": (b"#" * (256 * 1024 + 1), "at most 262144 bytes"),
    "list-as-key": (b"? [a]\n: 1\n", "got a list or mapping"),
    "unclosed": (b"kind: [Release", "expected YAML"),
}


@pytest.mark.parametrize(("data", "words"), WHOLE_FILE.values(), ids=WHOLE_FILE)
def test_what_is_no_plan_at_all_is_refused(data, words):
    assert any(words in str(problem) for problem in problems_of(data))


def test_all_problems_come_at_once_sorted_by_line():
    text = swap(
        ("kind: Release", "kind: Deploy"),
        ("temperature: 0.7", "temperature: 7"),
        ("stretch: 100", "stretch: 10"),
        ("to: assess", "to: partners"),
        ("sessions: 250", "sessions: 10"),
        ("sealing: declared", "sealing: attested"),
    )
    found = problems_of(text)
    assert [problem.path for problem in found] == [
        "kind",
        "candidate.sampling.temperature",
        "units_per_organisation",
        "stages[1].watch[0].to",
        "stages[2].sealing",
        "stages[2].gate.soak.sessions",
    ]
    assert [p.line for p in found] == sorted(p.line for p in found)


def test_a_typo_hides_nothing_else_in_the_same_stage():
    text = swap(("certificate: 14d", "certificate: 14 d"), ("sessions: 250", "sessions: 10"))
    assert [p.path for p in problems_of(text)] == [
        "stages[2].certificate",
        "stages[2].gate.soak.sessions",
    ]


def test_what_was_refused_itself_causes_no_second_problem():
    text = swap(("of: session\n", "of: request\n"), ("name: cyber_uplift", "name: Cyber_Uplift"))
    assert [p.path for p in problems_of(text)] == [
        "thresholds[0].name",
        "metrics.prohibited_rate.of",
    ]


def test_the_message_of_the_error_lists_every_problem_with_its_place():
    text = swap(("stretch: 100", "stretch: many"))
    with pytest.raises(PlanError, match=r"1 problem") as caught:
        parse_plan(text.encode())
    problem = caught.value.problems[0]
    assert f"line {problem.line}, column 10: stretch: expected a whole number" in str(caught.value)


def test_a_file_of_nonsense_is_refused_in_a_bounded_number_of_problems():
    data = "\n".join(f"keyword{number}: x" for number in range(300)).encode()
    assert len(problems_of(data)) == MAX_PROBLEMS


def parses_or_is_refused(data: bytes) -> None:
    try:
        found = parse_plan(data)
    except PlanError as error:
        found = error.problems
    if not isinstance(found, Plan):
        assert found
        assert all(problem.line >= 1 and problem.column >= 1 for problem in found)
        assert all(str(problem).encode("utf-8") for problem in found)


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=200)
    | st.text(alphabet="ab:-[]{}?&*!|>'\"%@`#,\n \t<~0.\\x\ufeff", max_size=60).map(str.encode)
)
def test_any_bytes_parse_or_are_refused(data):
    parses_or_is_refused(data)


PIECES = st.sampled_from(
    [" ", ":", "- ", "[", "]", "{", "}", "'", '"', "|", "\\", "\t", "\n", "\x07", "é", "\U0001f512"]
) | st.sampled_from(
    ["", "null", "none", "-1", "0", "1e9", "9" * 30, "&a ", "*a", "!t ", "<<: ", "{a: 1}", "[[]]"]
)


@settings(max_examples=8, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, len(TEXT)), st.integers(0, 40), PIECES), min_size=1, max_size=3
    )
)
def test_any_mutation_of_the_example_parses_or_is_refused(edits):
    text = TEXT
    for start, length, piece in edits:
        text = text[:start] + piece + text[start + length :]
    parses_or_is_refused(text.encode())


LINES = TEXT.splitlines(keepends=True)


@settings(max_examples=8, deadline=None)
@given(st.sets(st.integers(0, len(LINES) - 1), min_size=1, max_size=8))
def test_the_example_without_some_lines_parses_or_is_refused(dropped):
    parses_or_is_refused("".join(x for i, x in enumerate(LINES) if i not in dropped).encode())
