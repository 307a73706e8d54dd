"""Counting a quorum: distinct roles, distinct people, distinct keys.

Invariants
- Each role that the plan names is filled by its own person; nobody fills two roles.
- In the overseer's role organisations are counted: two people of one are one voice.
- Signatures are told apart by the bytes of the key that verified, never by a name in a file.
- Every way to fail has its own code, so that a refusal says what would mend it.

Counts after TUF (unique keys), with people and roles on top: TUF counts keys only.
"""

from __future__ import annotations

from typing import Final

from gatelift.errors import CallerError
from gatelift.trust.root import Root, Signer

__all__ = ["QuorumError", "verify_any_of", "verify_quorum"]

_OVERSEER: Final = "overseer"


class QuorumError(CallerError):
    """The signatures do not make the quorum."""

    code = "quorum_unmet"


class _Seating:
    """Who fills which place: a matching of places to distinct people, grown one place at a time.

    Kuhn's augmenting paths. A place that was filled stays filled when another is added, so adding
    them one by one finds as many as can be filled at all.
    """

    def __init__(self) -> None:
        self._held: dict[str, tuple[str, ...]] = {}

    def add(self, able: tuple[str, ...]) -> bool:
        """Return whether one more place, which any of `able` may fill, can be filled."""
        return self._fill(able, set())

    def _fill(self, able: tuple[str, ...], asked: set[str]) -> bool:
        for person in able:
            if person in asked:
                continue
            asked.add(person)
            held = self._held.get(person)
            if held is None or self._fill(held, asked):
                self._held[person] = able
                return True
        return False


def _voices(signers: tuple[Signer, ...], role: str) -> dict[str, tuple[str, ...]]:
    # What is counted in a role, with the people who can speak for it.
    found: dict[str, tuple[str, ...]] = {}
    for signer in signers:
        if signer.role == role:
            voice = signer.organisation if role == _OVERSEER else signer.person
            found[voice] = (*found.get(voice, ()), signer.person)
    return found


def verify_quorum(root: Root, signers: tuple[Signer, ...], roles: tuple[str, ...]) -> None:
    """Return if every role is filled by distinct people, as many as its threshold asks.

    Raises `QuorumError` with code `overseer_missing`, `quorum_unmet` or `person_twice`.
    """
    seating = _Seating()
    filled = True
    for name in sorted(roles, key=lambda each: each == _OVERSEER):
        threshold = root.roles[name].threshold if name in root.roles else 1
        voices = _voices(signers, name)
        if len(voices) < threshold:
            unit = "organisations" if name == _OVERSEER else "people"
            raise QuorumError(
                f"role {name}: expected {threshold} signature(s) by distinct {unit}, "
                f"got {len(voices)}; ask the {name} to sign",
                code="overseer_missing" if name == _OVERSEER else "quorum_unmet",
            )
        if name == _OVERSEER:
            # One place for each organisation, and enough of them filled.
            filled &= sum(seating.add(people) for people in voices.values()) >= threshold
        else:
            everyone = tuple(voices)
            filled &= all(seating.add(everyone) for _ in range(threshold))
    if not filled:
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
