"""Counting a quorum: distinct roles, distinct people, distinct keys.

Invariants
- Each role that the plan names is filled by its own person; nobody fills two roles.
- Signatures are told apart by the bytes of the key that verified, never by a name in a file.
- Every way to fail has its own code, so that a refusal says what would mend it.

- Counting takes time bounded by the signatures, whoever wrote the root.

Counts after TUF (unique keys), with people and roles on top: TUF counts keys only.
"""

from __future__ import annotations

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
    places: list[list[str]] = []
    for name in roles:
        people = sorted({s.person for s in signers if s.role == name})
        threshold = root.roles[name].threshold if name in root.roles else 1
        if len(people) < threshold:
            raise QuorumError(
                f"role {name}: expected {threshold} signature(s) by distinct people, "
                f"got {len(people)}; ask the {name} to sign",
                code="overseer_missing" if name == "overseer" else "quorum_unmet",
            )
        places.extend([people] * threshold)
    if not _can_be_seated(places):
        raise QuorumError(
            f"one person fills two of the roles {list(roles)}: each role needs its own person",
            code="person_twice",
        )


def _can_be_seated(places: list[list[str]]) -> bool:
    """Return whether each place can be given a person of its own.

    A matching by augmenting paths (Kuhn): trying all ways of seating would take longer than anybody
    waits where a hostile root names many people.
    """
    seated: dict[str, int] = {}

    def seat(place: int, tried: set[str]) -> bool:
        for person in places[place]:
            if person in tried:
                continue
            tried.add(person)
            if person not in seated or seat(seated[person], tried):
                seated[person] = place
                return True
        return False

    return all(seat(place, set()) for place in range(len(places)))


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
