"""A wholly forged dossier is never authenticated, by whichever verifier and anchor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.forgeries import FORGERIES, Forgery
from tests.support.verifiers import Answer, by_file, by_package


@pytest.mark.parametrize("verify", [by_package, by_file], ids=["package", "file"])
@pytest.mark.parametrize("row", FORGERIES, ids=[row.what for row in FORGERIES])
def test_a_forged_dossier_is_never_authenticated(
    tmp_path: Path, row: Forgery, verify: Callable[..., Answer]
) -> None:
    shown = row.show(tmp_path)
    answer = verify(shown.path, root=shown.root, policy=shown.policy, now_ms=shown.now_ms)
    assert answer.exit_code == row.exit_code, answer.said
    if row.codes:
        assert set(row.codes) & (answer.errors | answer.warnings), answer.said
