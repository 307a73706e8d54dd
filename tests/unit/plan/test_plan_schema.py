"""The annotated example, the schema and the field tables say the same."""

from __future__ import annotations

import json
import pathlib
import re
from io import StringIO

import pytest
from ruamel.yaml import YAML

from gatelift.plan import parse_plan, plan_json_schema
from gatelift.plan.fields import PLAN
from gatelift.plan.kinds import Nullable, OrWord
from gatelift.plan.problems import Report
from gatelift.plan.shapes import ListOf, MapOf, Record
from gatelift.plan.yaml_nodes import ListNode, MapNode, load

DOCS = pathlib.Path(__file__).parents[3] / "docs" / "plan"
TEXT = (DOCS / "annotated.yaml").read_text(encoding="utf-8")
REGENERATE = (
    'write it again: python -c "import json, gatelift.plan as p; print(json.dumps('
    'p.plan_json_schema(), indent=2, ensure_ascii=False))" > docs/plan/schema.json'
)


def known_keys(kind):
    """Every (record, key) of the tables."""
    match kind:
        case Record():
            for each in kind.fields:
                yield (kind.title, each.name)
                yield from known_keys(each.kind)
        case ListOf() | MapOf() | OrWord() | Nullable():
            yield from known_keys(kind.kind)


def used_keys(kind, node):
    """Every (record, key) that a file uses."""
    match kind, node:
        case Record(), MapNode():
            fields = {each.name: each for each in kind.fields}
            for key, value in node.pairs:
                yield (kind.title, key.text)
                yield from used_keys(fields[key.text].kind, value)
        case MapOf(), MapNode():
            for _, value in node.pairs:
                yield from used_keys(kind.kind, value)
        case ListOf(), ListNode():
            for item in node.items:
                yield from used_keys(kind.kind, item)
        case ((OrWord() | Nullable()), _):
            yield from used_keys(kind.kind, node)


def test_every_known_key_stands_in_the_annotated_example():
    used = set(used_keys(PLAN, load(TEXT.encode(), Report())))
    missing = set(known_keys(PLAN)) - used
    assert not missing, f"explain these in docs/plan/annotated.yaml: {sorted(missing)}"


def test_every_key_of_the_example_has_a_comment_where_it_first_stands():
    seen, bare, above = set(), [], False
    for line in TEXT.splitlines():
        match = re.match(r"\s*(?:- )?([a-z_A-Z]+):", line)
        if match and match[1] not in seen:
            seen.add(match[1])
            if "#" not in line and not above and not match[1].endswith("_rate"):
                bare.append(line)
        above = line.lstrip().startswith("#")
    assert not bare


def test_the_schema_file_is_the_schema_of_the_tables():
    stored = json.loads((DOCS / "schema.json").read_text(encoding="utf-8"))
    assert stored == plan_json_schema(), REGENERATE


TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}
KNOWN_WORDS = {
    *("$schema", "title", "description", "type", "enum", "const", "pattern", "anyOf"),
    *("minimum", "maximum", "exclusiveMaximum", "properties", "required", "items"),
    *("additionalProperties", "propertyNames", "maxProperties", "minItems", "maxItems"),
    "uniqueItems",
}


def is_of_type(value, name) -> bool:
    if isinstance(value, bool) and name != "boolean":
        return False
    return isinstance(value, TYPES[name])


def is_valid(value, schema) -> bool:
    """A small validator for exactly the words that the schema uses."""
    assert set(schema) <= KNOWN_WORDS, set(schema) - KNOWN_WORDS
    if "type" in schema and not is_of_type(value, schema["type"]):
        return False
    checks = [
        "enum" not in schema or value in schema["enum"],
        "const" not in schema or value == schema["const"],
        "pattern" not in schema
        or (isinstance(value, str) and re.search(schema["pattern"], value) is not None),
        "anyOf" not in schema or any(is_valid(value, each) for each in schema["anyOf"]),
        "minimum" not in schema or value >= schema["minimum"],
        "maximum" not in schema or value <= schema["maximum"],
        "exclusiveMaximum" not in schema or value < schema["exclusiveMaximum"],
    ]
    if isinstance(value, list) and "items" in schema:
        checks += [is_valid(item, schema["items"]) for item in value]
        checks.append(schema.get("minItems", 0) <= len(value) <= schema["maxItems"])
        checks.append(not schema.get("uniqueItems") or len({*map(str, value)}) == len(value))
    if isinstance(value, dict):
        properties, extra = schema.get("properties", {}), schema["additionalProperties"]
        checks += [name in value for name in schema.get("required", ())]
        for name, each in value.items():
            inner = properties.get(name, extra)
            checks.append(inner is not False and is_valid(each, inner))
            if "propertyNames" in schema:
                checks.append(is_valid(name, schema["propertyNames"]))
    return all(checks)


def loaded(text: str):
    return YAML(typ="safe", pure=True).load(StringIO(text))


def test_the_annotated_example_fits_the_schema():
    assert is_valid(loaded(TEXT), plan_json_schema())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("kind: Release", "kind: Deploy"),
        ("false_alarm: 0.05", "false_alarm: '0.05'"),
        ("stretch: 100", "stretch: 0"),
        ("tier: evaluators #", "tier: nobody #"),
        ("      leak: cut", "      leak: redact"),
        ("input_tokens: 2M/d", "input_tokens: 2M"),
        ("parallel: 4 #", "parallel: 4/d #"),
        ("status_ttl: 10s", "status_ttl: 10"),
        ("logprobs: false", "logprobs: 'false'"),
        ("unlocked: [dual_use, defensive]", "unlocked: [prohibited]"),
        ("    gate: {}", ""),
        ("exposures:", "packs: []\nexposures:"),
        ("limit: 0.01, role", "limit: 1, role"),
    ],
)
def test_what_the_schema_refuses_the_parser_refuses(old, new):
    assert old in TEXT
    text = TEXT.replace(old, new, 1)
    assert not is_valid(loaded(text), plan_json_schema())
    with pytest.raises(Exception, match="problem"):
        parse_plan(text.encode())


def test_every_key_of_the_schema_says_what_it_means():
    def described(schema):
        for each in schema.get("properties", {}).values():
            yield each.get("description")
            yield from described(each)
        for inner in (
            *schema.get("anyOf", ()),
            schema.get("items"),
            schema.get("additionalProperties"),
        ):
            if isinstance(inner, dict):
                yield from described(inner)

    assert all(described(plan_json_schema()))
