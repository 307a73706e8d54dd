"""A card for each safeguard: what it sees, what it misses, what it costs, in plain words.

The texts are shown beside every posture in documents and pages. They claim no rate of detection:
none was measured on anybody's traffic, and a rate on one set of texts says little of another.
"""

from __future__ import annotations

import msgspec

from gatelift.safeguards.autonomy import AUTONOMY_IDS
from gatelift.safeguards.leak import CANARY_IDS, KEY_IDS, KEY_PATTERNS
from gatelift.safeguards.misuse import MISUSE_RULES
from gatelift.safeguards.probing import PROBING_RULES
from gatelift.terms import Category, Side

__all__ = ["BLOCK_RULES_CARD", "CARDS", "Card"]


class Card(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to know of a safeguard before relying on it."""

    name: str
    sides: tuple[Side, ...]
    sees: str
    misses: str
    stops_wrongly: str
    cost: str
    rules: tuple[str, ...]
    ids: tuple[str, ...]


def _unique(names: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


CARDS: dict[Category, Card] = {
    Category.LEAK: Card(
        name="Leak",
        sides=(Side.ANSWER,),
        sees=(
            "Planted canaries as their words in order, in any case, with up to three characters "
            "between words that are neither letter nor digit; and keys of published forms, by "
            "prefix, alphabet and length. In text, reasoning, refusals and tool calls, however "
            "the stream is cut into pieces."
        ),
        misses=(
            "Anything encoded, translated, spelled out, reversed or paraphrased; a part of a "
            "canary; a canary split by a JSON escape inside tool arguments or over two fields; "
            "keys that look like any random word; whatever leaves by a field that is not fed."
        ),
        stops_wrongly="Example keys in documentation that have the length of real ones.",
        cost=(
            "One pass over the answer. Text waits only while it could be the beginning of a "
            "match, never longer than the longest pattern."
        ),
        rules=_unique(["canary:<number>", *(pattern.id for pattern in KEY_PATTERNS)]),
        ids=_unique([*CANARY_IDS, *KEY_IDS]),
    ),
    Category.MISUSE: Card(
        name="Misuse",
        sides=(Side.PROMPT,),
        sees=(
            "English prompts that name a harmful deed and its object close together, also when "
            "disguised by accents, full-width letters, invisible characters or odd spacing."
        ),
        misses=(
            "Paraphrase, other languages, encodings, look-alike letters, requests spread over "
            "turns, harmful answers to harmless prompts, text in images, and text that the "
            "caller writes into the assistant's or a tool's part of the history."
        ),
        stops_wrongly=(
            "Teachers, novelists and defenders who use an attacker's words. A role claimed in "
            "the prompt changes nothing."
        ),
        cost="One pass over the prompt; more only where an object is named.",
        rules=tuple(rule.id for rule in MISUSE_RULES),
        ids=_unique([id_ for rule in MISUSE_RULES for id_ in rule.ids]),
    ),
    Category.AUTONOMY: Card(
        name="Autonomy",
        sides=(Side.PROMPT, Side.ANSWER),
        sees=(
            "Tools that are declared, were called or are about to be called and that the scope "
            "does not name; more agent steps than the scope allows."
        ),
        misses=(
            "What a tool does when it runs; tool calls written as plain text; steps that the "
            "caller left out of the history; several answers strung together outside."
        ),
        stops_wrongly="A client that declares tools it never uses.",
        cost="A look-up for each tool.",
        rules=("tool_not_in_scope", "agent_steps_exceeded", "arguments_without_name"),
        ids=AUTONOMY_IDS,
    ),
    Category.PROBING: Card(
        name="Probing",
        sides=(Side.PROMPT,),
        sees=(
            "English prompts that ask for hidden instructions or secrets, or tell the model to "
            "set its instructions aside."
        ),
        misses=(
            "Every such request in other words, other languages, encodings, images or role play."
        ),
        stops_wrongly=(
            "Harmless curiosity, and talk about passwords and prompts. Meant for the posture "
            "`observe`."
        ),
        cost="One pass over the prompt; more only where an object is named.",
        rules=tuple(rule.id for rule in PROBING_RULES),
        ids=_unique([id_ for rule in PROBING_RULES for id_ in rule.ids]),
    ),
    Category.HONEY: Card(
        name="Honey",
        sides=(Side.PROMPT,),
        sees="A key, a model's name or a path that the operator has listed as bait.",
        misses="Whoever takes something else; a path asked for without a granted key is only counted.",
        stops_wrongly="Whoever was handed the bait by mistake. It has no posture: it always refuses.",
        cost="One look into a set.",
        rules=("honey:key@<source>", "honey:model@<source>", "honey:path@<source>"),
        ids=("AML.T0012", "AML.T0040"),
    ),
}

BLOCK_RULES_CARD = Card(
    name="Block rules",
    sides=(Side.PROMPT,),
    sees=(
        "The literal phrases of a plan or an order, as whole words, in any part of a prompt, "
        "whatever their case, accents, invisible characters or spacing."
    ),
    misses="Every other way of saying the same, and text in images.",
    stops_wrongly="Whoever quotes the phrase. Always `block`.",
    cost="One search a rule and prompt.",
    rules=("block_rule:<id>",),
    ids=(),
)
