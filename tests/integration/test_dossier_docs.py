"""The page on dossiers names every finding, and its examples are read as it says."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

import gatelift.ledger.audit
from gatelift.encoding import decode_json
from gatelift.ledger.audit.report import Findings
from gatelift.ledger.story import Source, Story, verify_story
from gatelift.messages import BatchEntry, EntryHeader

PAGE = Path(__file__).parents[2] / "docs/reference/dossier.md"
LEDGER = PAGE.with_name("ledger.md")
AUDIT = Path(gatelift.ledger.audit.__file__).parent
CODE = re.compile(r'(?:error|warn|_error)\(\s*(?:exchange,\s*)?"([a-z_]+)"|code="([a-z_]+)"')


def test_every_code_of_the_audit_is_on_the_page() -> None:
    text = PAGE.read_text("utf-8")
    sources = [*AUDIT.glob("*.py"), AUDIT.parent / "verify.py", AUDIT.parent / "story.py"]
    found = {a or b for path in sources for a, b in CODE.findall(path.read_text("utf-8"))}
    assert len(found) > 50
    assert sorted(code for code in found if f"`{code}`" not in text) == []


def test_the_examples_of_the_page_have_the_shapes_they_show(tmp_path: Path) -> None:
    text = PAGE.read_text("utf-8")
    story = re.search(r"```json\n(.*?)```", text, re.DOTALL)
    assert story is not None
    told = decode_json(story[1].encode(), Story)
    assert told.figures
    header, batch = re.findall(r'```\n(\{"v":1.*?\})\n```', LEDGER.read_text("utf-8"))
    for shown, kind in ((header, EntryHeader), (batch, BatchEntry)):
        always = {each.encode_name for each in msgspec.structs.fields(kind) if each.required}
        assert set(re.findall(r'"(\w+)":', shown)) == always
    for field in ("entry", "records", "log", "spent"):
        assert field in Source.__struct_fields__
    # Without a dossier behind it nothing of the example is confirmed.
    assert [f.code for f in verify_story(story[1].encode(), tmp_path)] == ["not_confirmed"]


def test_a_parser_that_falls_over_is_a_finding() -> None:
    findings = Findings()
    for error in (RecursionError("deep"), AttributeError("x"), KeyError("y"), OSError("z")):
        with findings.reading("somewhere"):
            raise error
    assert [f.code for f in findings.kept()] == ["unreadable"] * 4
