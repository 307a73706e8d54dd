"""Data sets: assessments as data, and the items that a seed draws from them.

A specification is a JSON file of this package, of our own writing: word lists, templates, and for
each kind of item a scorer. Its digest is the *data set* that a commit names; the seed is known only
after the commit, so nobody knows the items before.

Invariants
- Pure: the same specification, seed and number of attempts give the same items.
- Item i is of kind `slots[i mod len(slots)]`; within a kind, templates and words are dealt from
  shuffled decks, so that none comes again before all have come.
- `generator` names the meaning of templates, draws and rewrites; a specification for another
  generator is refused, because the same file would give other items.
- Prompts ask in one generic line and hold no operational detail.

A template has `{field}` or `{field|rewrite}`; a field names a word list; one field is one word
an item, fields of one list are different words.
"""

from __future__ import annotations

import re
from importlib import resources
from typing import Annotated

import msgspec

from gatelift.assess.draws import permutation
from gatelift.assess.rewrites import REWRITES
from gatelift.assess.scorers import Scorer
from gatelift.encoding import Digest, decode_json, sha256_digest
from gatelift.errors import CallerError

__all__ = [
    "ASSESSMENTS",
    "GENERATOR",
    "Assessment",
    "DataSetError",
    "Item",
    "load_assessment",
    "parse_assessment",
]

GENERATOR = "gatelift.assess/1"
ASSESSMENTS = ("cyber-proxy", "decoding-proxy", "safeguard-red-team")
"""The assessments of this version, by name."""

MAX_ATTEMPTS = 10_000
_FIELD = re.compile(r"\{([a-z_]+)(?:\|([a-z_0-9]+))?\}")
_Names = Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]


class DataSetError(CallerError):
    """A specification cannot be drawn from, or an assessment is not known here."""

    code = "bad_data_set"


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt: what is asked, within how many tokens, and how the answer is scored."""

    id: str
    kind: str
    prompt: str
    max_tokens: int
    scorer: Scorer
    expected: str
    distractors: tuple[str, ...]


class Kind(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Items of one kind. `fields` name a word list each; `note` says what the kind is."""

    note: str
    scorer: Scorer
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=1024)]
    templates: _Names
    fields: dict[str, str] = {}
    expected: str = ""
    distractors: tuple[str, ...] = ()


class Assessment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole specification."""

    v: int
    generator: str
    name: str
    metric: str
    says: str
    does_not_say: str
    slots: _Names
    words: dict[str, _Names]
    kinds: dict[str, Kind]

    def __post_init__(self) -> None:
        if self.v != 1 or self.generator != GENERATOR:
            raise DataSetError(f"expected v 1 for {GENERATOR}, got {self.v} for {self.generator!r}")
        if set(self.slots) != set(self.kinds):
            raise DataSetError("expected every kind in slots, and no other name")
        for name, kind in self.kinds.items():
            _check_kind(name, kind, self.words)

    @property
    def max_tokens(self) -> int:
        """The most that any item asks for."""
        return max(kind.max_tokens for kind in self.kinds.values())

    @property
    def needs_canaries(self) -> bool:
        """Whether some items can be scored only by who knows the candidate's planted strings."""
        return any(kind.scorer is Scorer.CANARY_VISIBLE for kind in self.kinds.values())

    def items(self, seed: str, attempts: int) -> list[Item]:
        """Return the items of a run; raises `DataSetError` for an unreasonable number."""
        if not 1 <= attempts <= MAX_ATTEMPTS:
            raise DataSetError(f"expected 1 to {MAX_ATTEMPTS} attempts, got {attempts}")
        dealt = dict.fromkeys(self.kinds, 0)
        items = []
        for number in range(attempts):
            name = self.slots[number % len(self.slots)]
            items.append(self._item(seed, number, name, dealt[name]))
            dealt[name] += 1
        return items

    def _item(self, seed: str, number: int, name: str, nth: int) -> Item:
        kind = self.kinds[name]
        values: dict[str, str] = {}
        for listed in dict.fromkeys(kind.fields.values()):
            fields = [field for field, of in kind.fields.items() if of == listed]
            values |= dict(
                zip(fields, self._deal(seed, name, listed, nth, len(fields)), strict=True)
            )
        deck = len(kind.templates)
        order = permutation(seed, f"{name}/templates/{nth // deck}", deck)
        return Item(
            id=f"{number:04d}-{name}",
            kind=name,
            prompt=_fill(kind.templates[order[nth % deck]], values),
            max_tokens=kind.max_tokens,
            scorer=kind.scorer,
            expected=_fill(kind.expected, values),
            distractors=tuple(_fill(text, values) for text in kind.distractors),
        )

    def _deal(self, seed: str, name: str, listed: str, nth: int, count: int) -> list[str]:
        words = self.words[listed]
        hands = len(words) // count
        order = permutation(seed, f"{name}/words/{listed}/{nth // hands}", len(words))
        first = (nth % hands) * count
        return [words[at] for at in order[first : first + count]]


def _check_kind(name: str, kind: Kind, words: dict[str, tuple[str, ...]]) -> None:
    for listed in kind.fields.values():
        wanted = list(kind.fields.values()).count(listed)
        if len(set(words.get(listed, ()))) < wanted or len(set(words[listed])) != len(
            words[listed]
        ):
            raise DataSetError(
                f"{name}: expected a list {listed!r} of at least {wanted} different words"
            )
    for text in (*kind.templates, kind.expected, *kind.distractors):
        for field, rewrite in _FIELD.findall(text):
            if field not in kind.fields or (rewrite and rewrite not in REWRITES):
                raise DataSetError(f"{name}: {{{field}|{rewrite}}} is no field or rewrite")
    if kind.scorer in (Scorer.EXACT, Scorer.CONTAINS) and not kind.expected:
        raise DataSetError(f"{name}: scorer {kind.scorer.value} needs an expected answer")


def _fill(template: str, values: dict[str, str]) -> str:
    def put(match: re.Match[str]) -> str:
        value = values[match[1]]
        return REWRITES[match[2]](value) if match[2] else value

    return _FIELD.sub(put, template)


class DataSet(msgspec.Struct, frozen=True, kw_only=True):
    """An assessment with the digest of the file it was read from."""

    assessment: Assessment
    digest: Digest


def parse_assessment(data: bytes) -> DataSet:
    """Return the assessment in a specification file; raises `EncodingError` or `DataSetError`."""
    return DataSet(assessment=decode_json(data, Assessment), digest=sha256_digest(data))


def load_assessment(name: str) -> DataSet:
    """Return an assessment of this package by name; raises `DataSetError`."""
    if name not in ASSESSMENTS:
        raise DataSetError(
            f"expected one of the assessments {list(ASSESSMENTS)}, got {name[:60]!r}",
            code="unknown_assessment",
        )
    file = resources.files("gatelift.assess").joinpath(f"{name}.json")
    return parse_assessment(file.read_bytes())
