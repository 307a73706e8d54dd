"""Own calls of overseers: what is sealed, by whom, and which of it was disclosed.

Invariants
- An own grant is logged within the root's bound, under an id that is no other's, before its end.
- It is disclosed once, by the organisation that sealed it, with a seed that opens it.
- A disclosure late is a disclosure: it is never refused for its time.

What is sealed is not judged here: nobody can read it before it is disclosed. Workers hold each opened
grant against plan, certificate and orders before they serve it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from gatelift.decide.admit_error import AdmitError, refuse, require_release
from gatelift.decide.state import OwnGrantEntry, State
from gatelift.encoding import Digest, parse_base64
from gatelift.errors import CallerError
from gatelift.messages import Body, EntryHeader
from gatelift.trust import (
    Disclosure,
    OwnGrant,
    Signer,
    StandingOwnGrant,
    check_room,
    open_own_grant,
)

__all__ = [
    "check_disclosure",
    "check_own_grant",
    "fold_disclosure",
    "fold_own_grant",
]

_MAX_NOTE: Final = 2000
_MAX_RESULTS: Final = 64


def check_own_grant(state: State, body: Body, value: OwnGrant, digest: Digest, now_ms: int) -> None:
    """Refuse an own grant that is over, has another's id, or goes past the root's bound."""
    require_release(state, value.release)
    if value.not_after <= now_ms:
        refuse("grant_expired", f"own grant {value.id} ended at {value.not_after}, now is {now_ms}")
    taken = [held for held in state.own_grants.values() if held.standing.own_grant.id == value.id]
    same = [
        held
        for held in state.own_grants.values()
        if held.standing.own_grant.locator == value.locator
    ]
    if value.id in state.grants or taken or same:
        refuse("id_taken", f"own grant {value.id}: its id or key is in use: sign a new one")
    asked = _standing(state, body, value, digest)
    try:
        check_room([held.standing for held in state.own_grants.values()], asked)
    except CallerError as error:
        raise AdmitError(str(error), code=error.code) from error


def check_disclosure(state: State, body: Body, value: Disclosure) -> None:
    """Refuse a disclosure of what is not sealed, of another's, a second one, or with a wrong seed."""
    require_release(state, value.release)
    held = state.own_grants.get(value.own_grant)
    if held is None:
        refuse("unknown_digest", f"no own grant {value.own_grant} is on the log")
    if held.disclosure is not None:
        refuse("already_disclosed", f"own grant {held.standing.own_grant.id} is disclosed already")
    if _overseer(body).organisation != held.standing.organisation:
        refuse(
            "own_grant_of_another",
            f"an own grant is disclosed by {held.standing.organisation}, who sealed it",
        )
    if value.calls < 0 or len(value.note) > _MAX_NOTE or len(value.results) > _MAX_RESULTS:
        refuse(
            "bad_disclosure",
            f"expected 0 calls or more, at most {_MAX_RESULTS} results and {_MAX_NOTE} characters",
        )
    try:
        _ = open_own_grant(held.standing.own_grant, parse_base64(value.seed))
    except CallerError as error:
        raise AdmitError(str(error), code=error.code) from error


def _overseer(body: Body) -> Signer:
    return next(signer for signer in body.signers if signer.role == "overseer")


def _standing(state: State, body: Body, value: OwnGrant, digest: Digest) -> StandingOwnGrant:
    return StandingOwnGrant(
        own_grant=value,
        digest=digest,
        organisation=_overseer(body).organisation,
        per_day=0 if state.root is None else state.root.own_calls_per_day,
    )


def fold_own_grant(
    state: State, index: int, header: EntryHeader, body: Body, value: OwnGrant
) -> State:
    """Return the state with one more own grant, sealed."""
    entry = OwnGrantEntry(
        standing=_standing(state, body, value, header.body),
        index=index,
        at=header.at,
        by=header.actor,
    )
    return msgspec.structs.replace(state, own_grants={**state.own_grants, header.body: entry})


def fold_disclosure(state: State, index: int, value: Disclosure) -> State:
    """Return the state with an own grant disclosed."""
    held = state.own_grants.get(value.own_grant)
    if held is None or held.disclosure is not None:
        return state
    entry = msgspec.structs.replace(held, disclosure=value, disclosed_index=index)
    return msgspec.structs.replace(state, own_grants={**state.own_grants, value.own_grant: entry})
