r"""The seed of a run: drawn by the log after the commit, so that nobody could choose the questions.

seed = hex of SHA-256("gatelift/seed/v1\n" || text of the first cosigned checkpoint whose size is
greater than the index of the commit's entry), text without signature lines.

Invariants
- A seed comes only from a note that the policy's witnesses cosigned and that covers the commit.
- Whoever holds the log can find the checkpoint again: size and root are all that a text says.

What it does not rule out: that somebody chose among heads. `seed_of` takes any cosigned head after
the commit, not provably the first; and a log operator may append entries of no meaning until a head
suits. `verify_seed` returns which head it was, so an auditor sees how many lay between, and every
attempt made under another seed stands in the requests log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec

from gatelift.errors import CallerError
from gatelift.tlog import Checkpoint, Policy, format_checkpoint, parse_note, verify_witnessed

__all__ = ["RunSeed", "SeedError", "seed_of", "seed_of_text", "verify_seed"]

_PREFIX = b"gatelift/seed/v1\n"


class SeedError(CallerError):
    """A seed does not follow from the log. Codes: `commit_not_covered`, `wrong_seed`."""

    code = "bad_seed"


class RunSeed(msgspec.Struct, frozen=True, kw_only=True):
    """A seed in hex, and the size of the log that it was drawn from."""

    seed: str
    size: int


def seed_of_text(text: bytes) -> str:
    """Return the seed that a checkpoint's text gives."""
    return hashlib.sha256(_PREFIX + text).hexdigest()


def seed_of(note: bytes, *, commit_index: int, policy: Policy) -> RunSeed:
    """Return the seed from a cosigned checkpoint note.

    Raises `SeedError` if it does not cover the commit, and the errors of `verify_witnessed`.
    """
    checkpoint = verify_witnessed(note, policy).checkpoint
    if checkpoint.size <= commit_index:
        raise SeedError(
            f"expected a checkpoint of more than {commit_index} entries, got {checkpoint.size}: "
            "wait until the commit is published and cosigned",
            code="commit_not_covered",
        )
    return RunSeed(seed=seed_of_text(parse_note(note).text), size=checkpoint.size)


def verify_seed(
    seed: str,
    *,
    origin: str,
    commit_index: int,
    evidence_index: int,
    root_at: Callable[[int], bytes],
) -> int:
    """Return the size of the log whose checkpoint gave `seed`; raises `SeedError` if none did.

    `root_at` returns the Merkle root of the first so many entries. Only heads after the commit and
    before the evidence can have given it.
    """
    for size in range(commit_index + 1, evidence_index + 1):
        text = format_checkpoint(Checkpoint(origin=origin, size=size, root=root_at(size)))
        if seed_of_text(text) == seed:
            return size
    raise SeedError(
        f"expected a seed from a head of {origin} of {commit_index + 1} to {evidence_index} "
        "entries, and none gives it: the items were chosen otherwise",
        code="wrong_seed",
    )
