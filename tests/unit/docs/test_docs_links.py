"""What the documents point to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
CODE_PATH = re.compile(r"`((?:src|tests|docs|examples|tools)/[\w./-]+|(?:[a-z_]+/)+[a-z_]+\.py)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    links = [link for link in LINK.findall(page.read_text()) if "://" not in link]
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_that_is_named_exists(page: Path) -> None:
    missing = []
    for path in CODE_PATH.findall(page.read_text()):
        homes = (ROOT, ROOT / "src" / "gatelift")
        if not any((home / path).exists() or any(home.glob(path)) for home in homes):
            missing.append(path)
    assert not missing


def test_each_of_the_ten_promises_names_its_test() -> None:
    rows = re.findall(
        r"^\| (\d+) \| \*\*.*\]\((tests/promises/[\w.]+)\)", PAGES[0].read_text(), re.MULTILINE
    )
    assert [number for number, _ in rows] == [str(n) for n in range(1, 11)]
    for number, path in rows:
        assert Path(path).name.startswith(f"test_p{int(number):02d}_")
