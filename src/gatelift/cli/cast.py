"""Who takes part in a ceremony: one person for each key, in an organisation, with or without proof.

    {"people": {"operator": {"person": "olga", "organisation": "lab.example", "identity": "o.txt"}},
     "witness_organisation": "witness.example",
     "witnesses": [{"name": "uni/w1", "vkey": "...", "organisation": "uni.example",
                    "independent": true, "url": "https://witness.uni.example"}],
     "witness_quorum": 2,
     "beacons": [{"organisation": "oversight.example", "url": "https://beacon.oversight.example",
                  "public": "..."}],
     "beacon_threshold": 1,
     "own_calls_per_day": 200}

Invariants
- Every key of `KEY_ROLES` has a holder; a people file may name any of them, the rest follow from
  operator and overseer.
- `proof` is `unproven` or the digest of identity evidence; it says that evidence exists and was
  looked at by who signed the root, not what it is worth.
- One pseudonym is one person: in one organisation, with one proof.
- `witnesses` are those of others, beside the one that runs here; `witness_quorum` counts organisations.
- `beacons` are organisations without whose signatures no status counts; `beacon_threshold` of them, more
  than half unless it is said. One without its own `public` key gets a key file here.
- `own_calls_per_day` is how many calls of its own each overseer organisation may make; 0: none.

Does not check organisations against roles: `parse_root` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from gatelift.cli.errors import InputError
from gatelift.cli.layout import read_bytes
from gatelift.encoding import decode_json, parse_digest, sha256_digest
from gatelift.trust import UNPROVEN, Witness

__all__ = ["KEY_ROLES", "BeaconSeat", "Cast", "Member", "default_cast", "read_cast"]

OWN_CALLS_PER_DAY: Final = 200
"""What a new root gives each overseer organisation: own calls come with the role."""
KEY_ROLES: Final[Mapping[str, str]] = {
    "root-1": "root",
    "root-2": "root",
    "operator": "operator",
    "safety": "safety",
    "security": "security",
    "overseer": "overseer",
    "admissions": "admissions",
    "evaluator": "evaluator",
    "control": "control",
    "stop": "stop",
}
"""The role of each key file."""


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One person by pseudonym, in one organisation."""

    person: str
    organisation: str
    proof: str = UNPROVEN


class BeaconSeat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An organisation of the beacon: where control asks it, and its public key in base64 if it has one."""

    organisation: str
    url: str
    public: str | None = None


class Cast(msgspec.Struct, frozen=True, kw_only=True):
    """The holder of each key, whose the witness here is, and which others there are."""

    members: dict[str, Member]
    witness_organisation: str
    witnesses: tuple[Witness, ...] = ()
    witness_quorum: int = 1
    beacons: tuple[BeaconSeat, ...] = ()
    beacon_threshold: int | None = None
    own_calls_per_day: int = OWN_CALLS_PER_DAY

    @property
    def beacon_members(self) -> dict[str, Member]:
        """The machines that speak for the beacon's organisations, by key name."""
        return {
            f"beacon-{n}": Member(person=f"beacon-{n}", organisation=seat.organisation)
            for n, seat in enumerate(self.beacons, start=1)
        }

    def people(self) -> tuple[Member, ...]:
        """Return each person once, by pseudonym; raises `InputError` for one that is two."""
        found: dict[str, Member] = {}
        for member in (*self.members.values(), *self.beacon_members.values()):
            if found.setdefault(member.person, member) != member:
                raise InputError(
                    f"{member.person!r} stands in two organisations or with two proofs: "
                    "give each person one pseudonym"
                )
        return tuple(found[name] for name in sorted(found))

    @property
    def is_proven(self) -> bool:
        """Whether every person comes with a proof of identity."""
        return all(member.proof != UNPROVEN for member in self.members.values())


class _Listed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    person: str
    organisation: str
    identity: str | None = None
    proof: str | None = None


class _PeopleFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    people: dict[str, _Listed]
    witness_organisation: str = "witness.example"
    witnesses: tuple[Witness, ...] = ()
    witness_quorum: int = 1
    beacons: tuple[BeaconSeat, ...] = ()
    beacon_threshold: int | None = None
    own_calls_per_day: int = OWN_CALLS_PER_DAY


def default_cast(operator: Member, overseer: Member) -> Cast:
    """Return a cast in which all but operator and overseer are pseudonyms of offices."""
    lab = operator.organisation
    safety = Member(person="safety-lead", organisation=lab)
    return Cast(
        members={
            "root-1": operator,
            "root-2": overseer,
            "operator": operator,
            "safety": safety,
            "security": Member(person="security-lead", organisation=lab),
            "overseer": overseer,
            "admissions": Member(person="admissions-desk", organisation=lab),
            "evaluator": Member(person="evaluator", organisation="evaluator.example"),
            "control": Member(person="control-plane", organisation=lab),
            "stop": safety,
        },
        witness_organisation="witness.example",
    )


def read_cast(path: Path, base: Cast) -> Cast:
    """Return the cast of a people file; whom it does not name comes from `base` or from it.

    `identity` is a file beside the people file: its digest becomes the proof. Raises `InputError`.
    """
    listed = decode_json(read_bytes(path), _PeopleFile)
    unknown = sorted(set(listed.people) - set(KEY_ROLES))
    if unknown:
        raise InputError(f"expected people for {list(KEY_ROLES)}, got {unknown[0]!r} in {path}")
    named = {key: _member(each, path) for key, each in listed.people.items()}
    operator = named.get("operator", base.members["operator"])
    overseer = named.get("overseer", base.members["overseer"])
    members = default_cast(operator, overseer).members | named
    if "safety" in named and "stop" not in named:
        members["stop"] = named["safety"]
    return Cast(
        members=members,
        witness_organisation=listed.witness_organisation,
        witnesses=listed.witnesses,
        witness_quorum=listed.witness_quorum,
        beacons=listed.beacons,
        beacon_threshold=listed.beacon_threshold,
        own_calls_per_day=listed.own_calls_per_day,
    )


def _member(listed: _Listed, path: Path) -> Member:
    proof = UNPROVEN
    if listed.identity is not None:
        proof = sha256_digest(read_bytes(path.parent / listed.identity))
    elif listed.proof is not None:
        proof = parse_digest(listed.proof)
    return Member(person=listed.person, organisation=listed.organisation, proof=proof)
