"""A DPoP proof counts once, and what is remembered is bounded."""

from __future__ import annotations

import pytest

from gatelift.gateway.bindings import ProofMemory
from gatelift.trust import WINDOW_MS, BindingError


def test_a_proof_counts_once_for_as_long_as_it_could_verify() -> None:
    memory = ProofMemory()
    memory.use("k", "a", 0)
    memory.use("other", "a", 0)
    for now in (0, 1, 2 * WINDOW_MS - 1):
        with pytest.raises(BindingError, match="before"):
            memory.use("k", "a", now)
    memory.use("k", "a", 2 * WINDOW_MS)


def test_one_key_fills_its_own_share_and_is_refused_not_forgotten() -> None:
    memory = ProofMemory(max_proofs=10, max_proofs_a_key=3)
    for number in range(3):
        memory.use("k", str(number), 0)
    with pytest.raises(BindingError, match="too many"):
        memory.use("k", "3", 1)
    with pytest.raises(BindingError, match="before"):
        memory.use("k", "0", 1)
    memory.use("other", "0", 1)
    memory.use("k", "3", 2 * WINDOW_MS)


def test_all_keys_together_are_bounded_and_room_comes_back() -> None:
    memory = ProofMemory(max_proofs=4, max_proofs_a_key=3)
    for number in range(4):
        memory.use(f"k{number}", "a", 0)
    with pytest.raises(BindingError, match="too many"):
        memory.use("k4", "a", 1)
    for number in range(4):
        memory.use(f"n{number}", "a", 2 * WINDOW_MS)
    assert memory._count == 4
    assert set(memory._until_ms) <= {f"n{n}" for n in range(4)} | {"k4"}
