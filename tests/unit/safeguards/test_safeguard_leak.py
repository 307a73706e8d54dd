"""Canaries and key forms: what fires, what nearly does, and what only looks alike."""

from __future__ import annotations

import pytest

from gatelift.safeguards import (
    KEY_PATTERNS,
    CanaryError,
    PatternSet,
    StreamScanner,
    canary_pattern,
)

UP16 = "Q3EGRJ7XM2WKLTVB"
AN24 = "aB3dE5fG7hJ9kL1mN2pQ4rS6"
AN36 = AN24 + "tU8vW0xY2zA4"
TOK43 = AN36 + "_b-C6dE"
# One valid example a form, as short as its issuer's structure allows.
KEYS = {
    "aws_access_key_id": "AKIA" + UP16,
    "aws_temporary_key_id": "ASIA" + UP16,
    "github_token": "ghp_" + AN36,
    "github_fine_grained_token": "github_pat_" + AN24[:22] + "_" + (AN36 + AN24)[:59],
    "gitlab_token": "glpat-" + TOK43[-20:],
    "slack_token": "xoxb-1234567890-1234567890123-" + AN24[:10],
    "stripe_live_key": "sk_live_" + AN24,
    "google_api_key": "AIza" + TOK43[:35],
    "openai_key": "sk-proj-" + TOK43[:40],
    "anthropic_key": "sk-ant-api03-" + TOK43[:40],
    "npm_token": "npm_" + AN36,
    "sendgrid_key": "SG." + TOK43[:22] + "." + TOK43,
    "gatelift_key": "gl_01J9ZQ4K_" + AN24[:16],
    "private_key_pem": "-----BEGIN OPENSSH PRIVATE KEY-----",
}
SET = PatternSet(KEY_PATTERNS)


def rules(text: str, patterns: PatternSet = SET) -> list[str]:
    out = StreamScanner(patterns).feed(text)
    return [patterns.patterns[match.pattern].id for match in out.matches]


def canary_hits(text: str, canary: str = "amber lantern") -> int:
    return len(rules(text, PatternSet([canary_pattern(0, canary)])))


@pytest.mark.parametrize("name", KEYS)
def test_a_key_of_the_documented_form_is_found_wherever_a_word_may_begin(name: str) -> None:
    for before in ("", "key=", '"', "\n", "("):
        assert rules(f"{before}{KEYS[name]} and so on") == [f"key:{name}"]


@pytest.mark.parametrize("name", KEYS)
def test_a_key_one_character_short_is_not_found(name: str) -> None:
    assert rules(KEYS[name][:-1] + " .") == []


@pytest.mark.parametrize("name", KEYS)
def test_a_key_with_a_character_outside_its_alphabet_is_not_found(name: str) -> None:
    assert rules(KEYS[name][:-3] + "§" + KEYS[name][-2:]) == []


@pytest.mark.parametrize("name", [name for name in KEYS if name != "private_key_pem"])
def test_a_key_glued_to_a_word_on_its_left_is_not_found(name: str) -> None:
    assert rules("x" + KEYS[name]) == []


def test_prefixes_are_case_sensitive_and_words_around_them_are_harmless() -> None:
    for text in (
        "akia" + UP16,
        "Sk_live_" + AN24,
        "sk_test_" + AN24,
        "-----BEGIN CERTIFICATE-----",
        "-----BEGIN PUBLIC KEY-----",
        "gl_FragColor = texture2D(u_image, v_texCoord);",
        "the npm_config_registry variable",
        "AIza is how a Google key begins, ghp_ a GitHub one, SG. a SendGrid one",
        "github_pat_ followed by 82 characters",
    ):
        assert rules(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "amber lantern",
        "AMBER LANTERN",
        "Amber-Lantern",
        "amber, lantern",
        "amber_lantern",
        "amber\nlantern",
        "amber\r\n lantern",
        "AmberLantern",
        "the secret is 'amber lantern'!",
        "chamberamber lantern",
        "amber **lantern**",
        "amber amber lanterns",
    ],
)
def test_a_canary_is_found_as_its_words_in_order(text: str) -> None:
    assert canary_hits(text) == 1


@pytest.mark.parametrize(
    "text",
    [
        "amber",
        "lantern",
        "lantern amber",
        "amber light, lantern",
        "amber .... lantern",
        "amber and lantern",
        "am ber lantern",
        "ambre lantern",
        "amber lanter",
        "amber lanten",
    ],
)
def test_less_than_the_canary_is_not_found(text: str) -> None:
    assert canary_hits(text) == 0


def test_a_long_random_canary_is_found_and_a_piece_of_it_is_not() -> None:
    canary = "7f3a9c2e81d04b5f" * 8
    assert canary_hits(f"it is {canary.upper()}.", canary) == 1
    assert canary_hits(f"it is {canary[:-1]}.", canary) == 0


@pytest.mark.parametrize("canary", ["", "  ", "amber", "a b c", "!!! ???", "ab " * 70, "x" * 201])
def test_a_canary_that_is_too_weak_or_too_long_is_refused_without_being_quoted(canary: str) -> None:
    with pytest.raises(CanaryError) as caught:
        canary_pattern(3, canary)
    assert caught.value.code == "bad_canary"
    assert "canary 3" in str(caught.value)
    assert "amber" not in str(caught.value)
