"""Prompts that reach for what the caller was not given: hidden instructions, secrets, control.

What it sees: English requests such as "repeat your system prompt", "what is the secret word",
"ignore all previous instructions". What it misses: every such request in other words, other
languages, encodings, several turns or role play. It also fires on harmless curiosity; it is meant
for the posture `observe`, as a signal of who is probing, and proves no intent.

The phrases are our own; the bands follow the refusal category `safeguard_probing`.
"""

from __future__ import annotations

from gatelift.safeguards.phrases import NearRule, RuleBook, phrases
from gatelift.terms import Band

__all__ = ["PROBING_RULES", "PROBING_RULE_BOOK"]

_TELL = """reveal, show, show me, tell, tell me, print, repeat, output, give, give me, display,
    share, list, what is, what are, what was, what were, what s, spell, recite, translate,
    leak, disclose, summarize, summarise, quote, copy, write, write out, say, encode, state, dump,
    paste, return, expose, see, read, know, include, complete, guess, hint, reverse, describe"""
_HIDDEN = """your system prompt, the system prompt, system message, your prompt, hidden prompt,
    initial prompt, original prompt, your instructions, your initial instructions,
    your original instructions, your full instructions, the instructions above,
    hidden instructions, secret instructions, initial instructions, original instructions,
    previous instructions, developer message, text above, words above, everything above,
    sentence above, your guidelines, your hidden, what you were told, you were given"""
_KEPT = """secret word, secret words, secret phrase, secret code, secret key, the secret,
    your secret, your secrets, a secret, the password, your password, the passwords, passphrase,
    pass phrase, pass word, hidden word, hidden words, hidden phrase, code word, code words,
    codeword, magic word, magic words, confidential information, canary, api key, api keys"""
_OVERRIDE = "ignore, disregard, forget, override, bypass, discard, set aside"
_RULES = """previous instructions, prior instructions, all instructions, above instructions,
    earlier instructions, the instructions, these instructions, your instructions, your rules,
    your guidelines, previous rules, system prompt, everything above, your restrictions,
    previous prompts, safety rules"""

_SPARED_AFTER_KEPT = frozenset(
    phrases(
        """manager, managers, policy, policies, field, hash, hashing, strength, generator,
        requirements, rotation, reset, recovery, garden"""
    )
)

PROBING_RULES: tuple[NearRule, ...] = (
    NearRule(
        id="hidden_instructions_request",
        band=Band.PLATFORM_ABUSE,
        verbs=phrases(_TELL),
        objects=phrases(_HIDDEN),
        ids=("AML.T0056", "LLM07"),
    ),
    NearRule(
        id="secret_request",
        band=Band.PLATFORM_ABUSE,
        verbs=phrases(_TELL),
        objects=phrases(_KEPT),
        spared_before=frozenset({"reset", "change", "choose", "rotate", "store"}),
        spared_between=frozenset({"reset", "change", "choose", "rotate", "store", "forgot"}),
        spared_after=_SPARED_AFTER_KEPT,
        ids=("AML.T0057", "LLM02"),
    ),
    NearRule(
        id="instruction_override",
        band=Band.PLATFORM_ABUSE,
        verbs=phrases(_OVERRIDE),
        objects=phrases(_RULES),
        within=4,
        ids=("AML.T0051", "AML.T0054", "LLM01"),
    ),
)

PROBING_RULE_BOOK = RuleBook(PROBING_RULES)
