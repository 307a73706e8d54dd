"""LiteLLM's config.yaml: what is taken, what is left, and that no secret comes through."""

from __future__ import annotations

import msgspec
import pytest

from gatelift.arrivals import (
    ArrivalError,
    Choice,
    Pseudonyms,
    Why,
    carry_litellm,
    model_of,
    parse_config,
    render_report,
    report_value,
)

NOW = 1_790_000_000_000
SECRETS = (
    "sk-master-PLANTED-1",
    "sk-provider-PLANTED-2",
    "pw-database-PLANTED-3",
    "env-PLANTED-4",
    "user-PLANTED-5",
    "query-PLANTED-6",
    "header-PLANTED-7",
    "aws-PLANTED-8",
)
CONFIG = b"""\
model_list:
  - model_name: aurora
    litellm_params:
      model: hosted_vllm/aurora-2
      api_base: http://10.0.0.7:8000/v1
      api_key: os.environ/VLLM_KEY
      rpm: 600
      temperature: 0.2
  - model_name: aurora
    litellm_params: &second
      model: openai/aurora-2b
      api_base: https://models.example:8443/aurora/v1/
      api_key: sk-provider-PLANTED-2
      extra_headers: {x-auth: header-PLANTED-7}
      rpm: 300
      max_parallel_requests: 40
  - model_name: aurora
    litellm_params:
      <<: *second
      api_base: https://user-PLANTED-5@models.example/v1
  - model_name: aurora
    litellm_params: {model: openai/x, api_base: "https://models.example/v1?key=query-PLANTED-6"}
  - model_name: aurora
    litellm_params: {model: bedrock/claude, aws_secret_access_key: aws-PLANTED-8}
  - model_name: gpt-4o
    litellm_params: {model: openai/gpt-4o, api_key: sk-provider-PLANTED-2}
litellm_settings:
  callbacks: [langfuse]
  max_budget: 100
  budget_duration: 30d
general_settings:
  master_key: sk-master-PLANTED-1
  database_url: postgresql://l:pw-database-PLANTED-3@db/litellm
  max_parallel_requests: 10
  global_max_parallel_requests: 100
router_settings:
  fallbacks: [{aurora: [gpt-4o]}]
environment_variables: {SOME_KEY: env-PLANTED-4}
"""


def test_placements_are_servers_that_speak_the_api_at_an_address_that_is_written_down() -> None:
    found = carry(CONFIG)
    assert [(p.name, p.base_url, p.model) for p in found.placements] == [
        ("p1", "http://10.0.0.7:8000", "aurora-2"),
        ("p2", "https://models.example:8443/aurora", "aurora-2b"),
    ]
    assert "VLLM_KEY" in found.placements[0].credential
    assert "line 9" in found.placements[1].credential


def test_everything_else_is_named_with_its_line_and_reason() -> None:
    left = {(each.line, each.why): each.what for each in carry(CONFIG).left}
    assert left[8, Why.MODEL_PARAMETER] == "model aurora: temperature"
    assert left[14, Why.MODEL_PARAMETER] == "model aurora: extra_headers"
    assert left[17, Why.NO_ADDRESS] == "model aurora"
    assert left[21, Why.NO_ADDRESS] == "model aurora"
    assert left[23, Why.OTHER_API] == "model aurora"
    assert left[24, Why.CREDENTIAL] == "model aurora: aws_secret_access_key"
    assert left[25, Why.OTHER_MODEL] == "model gpt-4o"
    assert left[28, Why.LOGGING] == "litellm_settings.callbacks"
    assert left[32, Why.CREDENTIAL] == "general_settings.master_key"
    assert left[33, Why.CREDENTIAL] == "general_settings.database_url"
    assert left[37, Why.ROUTING] == "router_settings.fallbacks"
    assert left[38, Why.CREDENTIAL] == "environment_variables"
    assert left[None, Why.MONEY] == "litellm_settings: max_budget"


def test_no_planted_secret_reaches_any_output() -> None:
    found = carry(CONFIG)
    shown = render_report(found) + msgspec.json.encode(report_value(found)).decode()
    shown += repr(found) + repr(parse_config(CONFIG))
    assert not [secret for secret in SECRETS if secret in shown]
    assert "PLANTED" not in shown


def test_limits_of_the_whole_proxy_and_of_a_server_become_caps_of_the_stage() -> None:
    caps = {cap.key: cap.limit for cap in carry(CONFIG).caps.caps}
    assert caps == {"stage.parallel/none": 40, "stage.requests/min": 300}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (b"model_list: [\n", 2, "expected YAML"),
        (b"model_list:\n  - model_name: a\n", 2, "litellm_params"),
        (b"model_list: {}\n", 1, "expected a list"),
        (b"model_list:\n- model_name: a\n  litellm_params: {rpm: x, model: m}\n", 3, "rpm"),
        (b"general_settings:\n  master_key: a\n  master_key: b\n", 3, "twice"),
        (b"include: [other.yaml]\n", 1, "include"),
        (b"model_list: &a [*a]\n", 1, "contain itself"),
        (b"- a\n", 1, "mapping at the top"),
        (b"\xff", 1, "UTF-8"),
        (b"apiVersion: v1\n", None, "no LiteLLM config"),
        (b"model_list: " + b"[" * 2_000, None, "moderate depth"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(text: bytes, line: int | None, words: str) -> None:
    with pytest.raises(ArrivalError, match=words) as caught:
        parse_config(text)
    assert caught.value.line == line


def test_an_error_does_not_quote_the_file() -> None:
    for text in (
        b"general_settings:\n  master_key: sk-PLANTED\n bad",
        b"model_list:\n- model_name: a\n  litellm_params: {model: m, rpm: sk-PLANTED}\n",
        b"general_settings: {master_key: [sk-PLANTED\n",
        b"environment_variables: {X: *sk-PLANTED}\n",
    ):
        with pytest.raises(ArrivalError) as caught:
            parse_config(text)
        assert "PLANTED" not in str(caught.value)
        assert caught.value.__cause__ is None


def test_the_model_is_asked_for_where_there_are_several() -> None:
    config = parse_config(CONFIG)
    assert model_of(config, None, "aurora") == "aurora"
    with pytest.raises(ArrivalError, match="aurora"):
        model_of(config, None, None)
    only = parse_config(b"model_list: [{model_name: a, litellm_params: {model: m}}]\n")
    assert model_of(only, None, None) == "a"


def carry(text: bytes):  # type: ignore[no-untyped-def]
    return carry_litellm(
        parse_config(text),
        None,
        model="aurora",
        plan_caps=(),
        plan_prices=None,
        choice=Choice.SMALLEST,
        prices=None,
        names=Pseudonyms(b"salt"),
        now_ms=NOW,
    )
