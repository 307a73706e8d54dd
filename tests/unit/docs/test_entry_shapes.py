"""The page of shapes and the one-file verifier, which was written from it, say the same."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.verifiers import load_file

PAGE = (Path(__file__).parents[3] / "docs/reference/entries.md").read_text("utf-8")
ROW = re.compile(r"^\| (.+?) \| (.+?) \|(?: (.+?) \|)?$", re.MULTILINE)
LEAVES = {
    "proofs of a notice": "NoticeProofs",
    "a root with its notice": "NoticedRoot",
    "header of an entry": "header",
    "entry of a requests log": "batch",
    "record `start`": "start",
    "record `finish`": "finish",
    "record `beat`": "beat",
}


def as_written(fields: str) -> str:
    """Turn a cell of the page into the words that the verifier uses."""
    text = (
        fields.replace("`", "").replace("*", "").replace("…", "").replace("decimal text", "decimal")
    )
    text = re.sub(r"\{(\w+): (\w+)\}", r"{\1:\2}", text)
    return text.replace(" or null", "|null")


def rows_below(title: str) -> list[tuple[str, ...]]:
    part = PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]
    return [found for found in ROW.findall(part) if "---" not in found[0]][1:]


def test_bodies_have_the_roles_and_fields_of_the_page() -> None:
    file = load_file()
    rows = rows_below("Bodies of the releases log")
    assert len(rows) == len(file.WORDS["EntryKind"].split())
    for kind, roles, fields in rows:
        name = kind.strip("`")
        assert file.SHAPES[name] == as_written(fields), name
        if name != "root":
            assert file.MAY_SIGN[name] == set(roles.split(", ")), name


def test_leaves_shapes_and_words_are_those_of_the_page() -> None:
    file = load_file()
    for what, fields, _ in rows_below("Leaves and records"):
        assert file.SHAPES[LEAVES[what]] == as_written(fields), what
    shapes = {name.strip("*"): as_written(fields) for name, fields, _ in rows_below("Shapes")}
    assert len(shapes) > 20
    assert {name: text for name, text in file.SHAPES.items() if name in shapes} == shapes
    words = {
        name.strip("*"): text.replace("`", "").split(", ") for name, text, _ in rows_below("Words")
    }
    assert {name: text.split() for name, text in file.WORDS.items()} == words


def test_the_verifier_imports_nothing_but_the_standard_library_and_cryptography() -> None:
    import ast
    import sys

    tree = ast.parse(Path(load_file().__file__).read_text("utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    assert found - set(sys.stdlib_module_names) == {"cryptography"}
