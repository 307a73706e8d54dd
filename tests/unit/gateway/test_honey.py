"""The list of bait, and the tag that stands for a source."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatelift.errors import GateliftError
from gatelift.gateway.honey import HoneyList, load_honey, source_tag

SECRET = b"s" * 32


def test_no_file_is_no_bait_and_a_bad_one_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "honey.json"
    assert load_honey(path) == HoneyList()
    path.touch(mode=0o600)
    path.write_text('{"keys": ["a"], "models": ["m"]}\n')
    assert load_honey(path) == HoneyList(keys=frozenset({"a"}), models=frozenset({"m"}))
    path.write_text('{"keyz": ["a"]}')
    with pytest.raises(GateliftError):
        load_honey(path)
    path.write_text('{"keys": ["a"]}')
    path.chmod(0o644)
    with pytest.raises(GateliftError):
        load_honey(path)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("203.0.113.7:1", "203.0.113.250:65000", True),
        ("203.0.113.7:1", "203.0.114.7:1", False),
        ("2001:db8:1:2::3:443", "2001:db8:1:ffff::4:443", True),
        ("2001:db8:1::3:443", "2001:db8:2::3:443", False),
        ("unix", "", True),
    ],
)
def test_a_tag_stands_for_a_prefix(one: str, other: str, same: bool) -> None:
    assert (source_tag(one, SECRET) == source_tag(other, SECRET)) is same
    assert source_tag(one, SECRET) != source_tag(one, b"t" * 32)
