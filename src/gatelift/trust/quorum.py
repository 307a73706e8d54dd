"""Counting a quorum: distinct roles, distinct people, distinct keys.

Invariants
- Each role that the plan names is filled by its own person; nobody fills two roles.
- Signatures are told apart by the bytes of the key that verified, never by a name in a file.
- Every way to fail has its own code, so that a refusal says what would mend it.

Counts after TUF (unique keys), with people and roles on top: TUF counts keys only.
"""

from __future__ import annotations

from itertools import product

from gatelift.errors import CallerError
from gatelift.trust.root import Root, Signer

__all__ = ["QuorumError", "verify_any_of", "verify_quorum"]


class QuorumError(CallerError):
    """The signatures do not make the quorum."""

    code = "quorum_unmet"


def verify_quorum(root: Root, signers: tuple[Signer, ...], roles: tuple[str, ...]) -> None:
    """Return if every role is filled by distinct people, as many as its threshold asks.

    Raises `QuorumError` with code `overseer_missing`, `quorum_unmet` or `person_twice`.
    """
    choices: list[list[str]] = []
    for name in roles:
        people = sorted({s.person for s in signers if s.role == name})
        threshold = root.roles[name].threshold if name in root.roles else 1
        if len(people) < threshold:
            raise QuorumError(
                f"role {name}: expected {threshold} signature(s) by distinct people, "
                f"got {len(people)}; ask the {name} to sign",
                code="overseer_missing" if name == "overseer" else "quorum_unmet",
            )
        choices.extend([people] * threshold)
    if not any(len(set(pick)) == len(pick) for pick in product(*choices)):
        raise QuorumError(
            f"one person fills two of the roles {list(roles)}: each role needs its own person",
            code="person_twice",
        )


def verify_any_of(signers: tuple[Signer, ...], roles: frozenset[str], what: str) -> Signer:
    """Return the first signer whose role may sign `what` alone; raises `QuorumError`."""
    for signer in signers:
        if signer.role in roles:
            return signer
    raise QuorumError(
        f"{what} takes a signature of one of {sorted(roles)}, "
        f"got {sorted({s.role for s in signers})}",
        code="role_not_allowed",
    )
