"""The root of trust: who may sign what, and which logs, nodes and witnesses count.

Invariants
- A root that is returned does not contradict itself (`root_checks`).
- Root N is signed by the root role of N-1 and by its own; versions rise by one. Nothing else takes
  the place of a root: not an older one, not another of the same version, not a later one.
- What changes the overseer, the beacon or the witnesses is signed by somebody of the overseer's
  organisation too, or was public for 30 days (`root_notice`). Witnesses are among it, for they measure
  those days: a root that replaced them would be followed by one that they date as it likes.
- A root expires; an expired root verifies nothing. One that expired on the way from N to a later one
  still names its successor, as TUF has it: it is no root that anybody uses.

Nothing here remembers. Who uses a root pins its digest, and puts its successor there only through
`verify_root` or `verify_root_chain`: that memory is what a freeze or a rollback fails against.

Follows TUF 1.0.33 sections 5.3 (root rotation) and 6.1 (key distinctness), counted by key bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

from gatelift.encoding import decode_json
from gatelift.terms import Assurance
from gatelift.trust.dsse import parse_envelope, verify_envelope
from gatelift.trust.errors import RootError
from gatelift.trust.keys import KeyId
from gatelift.trust.root_checks import check_root
from gatelift.trust.root_notice import (
    RootAnnouncement,
    announced_envelope,
    check_root_notice,
    check_witnessed,
    open_root,
)
from gatelift.trust.root_shape import (
    UNPROVEN,
    Key,
    Node,
    Person,
    Role,
    Root,
    Signer,
)
from gatelift.trust.witnesses import same_organisation

__all__ = [
    "ROOT_TYPE",
    "UNPROVEN",
    "Key",
    "Node",
    "Person",
    "Role",
    "Root",
    "Signer",
    "assurance_of",
    "parse_root",
    "unverified_root",
    "verify_announced_root",
    "verify_root",
    "verify_root_chain",
    "verify_signers",
]

ROOT_TYPE = "application/vnd.gatelift.root+json"


def parse_root(payload: bytes) -> Root:
    """Return a consistent root from payload bytes; says nothing about who signed it."""
    return check_root(decode_json(payload, Root))


def unverified_root(data: bytes) -> Root:
    """Return the consistent root in a root's file; says nothing about who signed it, or for how long."""
    return parse_root(parse_envelope(open_root(data)[0]).unverified_payload())


def _check_root_role(root: Root, signers: tuple[KeyId, ...], which: str) -> None:
    role = root.roles["root"]
    people = {root.keys[kid].person for kid in signers if kid in role.keys}
    if len(people) < role.threshold:
        raise RootError(
            f"{which} asks for {role.threshold} distinct people of the root role, "
            f"{len(people)} signed",
            code="quorum_unmet",
        )


def _oversight(root: Root) -> object:
    def held(name: str) -> object:
        role = root.roles.get(name)
        keys = {kid: root.keys[kid] for kid in role.keys} if role else {}
        people = {key.person: root.person(key.person) for key in keys.values()}
        return role and role.threshold, keys, people

    measure = {(witness.vkey, witness.organisation) for witness in root.witnesses}
    witnessing = root.releases_vkey, root.witness_quorum, measure
    return held("overseer"), held("beacon"), root.order_urls, root.own_calls_per_day, witnessing


def _check_overseer(previous: Root, root: Root, signers: tuple[KeyId, ...]) -> None:
    role = previous.roles.get("overseer")
    if role is None or _oversight(previous) == _oversight(root):
        return

    def organisation(kid: KeyId) -> str:
        return previous.person(previous.keys[kid].person).organisation

    if not {organisation(kid) for kid in role.keys} & {organisation(kid) for kid in signers}:
        raise RootError(
            f"root {root.version} changes the overseer or the witnesses, and nobody of the overseer's "
            f"organisation signed it with a key of root {previous.version}: ask the overseer to sign, "
            "or announce it 30 public days ahead",
            code="overseer_missing",
        )


def _verify_signatures(envelope: bytes, previous: Root | None) -> tuple[Root, tuple[KeyId, ...]]:
    root = parse_root(parse_envelope(envelope).unverified_payload())
    _, own = verify_envelope(envelope, ROOT_TYPE, root.verifying_keys())
    _check_root_role(root, own, f"root {root.version}")
    if previous is None:
        return root, ()
    if root.version != previous.version + 1 or root.name != previous.name:
        raise RootError(
            f"expected root {previous.version + 1} of {previous.name!r}, "
            f"got {root.version} of {root.name!r}",
            code="not_successor",
        )
    _, old = verify_envelope(envelope, ROOT_TYPE, previous.verifying_keys())
    _check_root_role(previous, old, f"root {previous.version}")
    return root, old


def _verify_succession(data: bytes, previous: Root | None) -> Root:
    envelope, notice = open_root(data)
    root, old = _verify_signatures(envelope, previous)
    if previous is None:
        return root
    if notice is not None:
        check_root_notice(notice, previous)
    else:
        _check_overseer(previous, root, old)
    return root


def _check_expiry(root: Root, now_ms: int) -> Root:
    if now_ms >= root.expires_at:
        raise RootError(f"root {root.version} has expired: sign its successor", code="expired")
    return root


def verify_root(data: bytes, now_ms: int, previous: Root | None = None) -> Root:
    """Return the root in the envelope `data`, signed by its own root role and the previous one's.

    `data` may be the file of a root that rides on its announcement; a pinned root, which has no
    previous one, was judged when it was pinned. Raises `RootError` with code `expired`, `quorum_unmet`,
    `overseer_missing`, `not_successor`, `bad_root`, `bad_notice`, `notice_voided` or `notice_running`.
    """
    return _check_expiry(_verify_succession(data, previous), now_ms)


def verify_announced_root(value: RootAnnouncement, now_ms: int, previous: Root) -> Root:
    """Return the root that an announcement holds, signed by all that its effect takes but the overseer.

    Raises as `verify_root` does, and where nobody could say that it was public (`bad_notice`).
    """
    check_witnessed(previous)
    return _check_expiry(_verify_signatures(announced_envelope(value), previous)[0], now_ms)


def verify_root_chain(trusted: Root, successors: Sequence[bytes], now_ms: int) -> Root:
    """Return the last of `successors`, each signed by the one before; only the last must not be expired.

    With no successor the trusted root itself is judged. Raises as `verify_root` does.
    """
    root = trusted
    for data in successors:
        root = _verify_succession(data, root)
    return _check_expiry(root, now_ms)


def verify_signers(data: bytes, payload_type: str, root: Root) -> tuple[bytes, tuple[Signer, ...]]:
    """Return the payload of an envelope and who of this root signed it."""
    payload, keys = verify_envelope(data, payload_type, root.verifying_keys())
    signers = []
    for kid in keys:
        person = root.person(root.keys[kid].person)
        signers.append(
            Signer(
                key=kid,
                person=person.id,
                organisation=person.organisation,
                role=root.role_of(kid),
            )
        )
    return payload, tuple(signers)


def assurance_of(root: Root, signers: tuple[Signer, ...]) -> Assurance:
    """Return the level that these signers can give: said, never implied.

    `dev` while any signer's identity is unproven; `self` for people of the operator; `overseen`
    with a proven overseer from outside; `witnessed` where no quorum of witnesses is without an
    independent one, and independent ones alone can make it up.
    """
    if not signers or any(root.person(s.person).proof == UNPROVEN for s in signers):
        return Assurance.DEV
    if len({s.person for s in signers}) < 2:
        return Assurance.DEV
    if not any(s.role == "overseer" for s in signers):
        return Assurance.SELF
    # An organisation is as independent as the least of its witnesses, for any of them speaks for it.
    everybody = {same_organisation(w.organisation) for w in root.witnesses}
    inside = {same_organisation(w.organisation) for w in root.witnesses if not w.independent}
    if len(inside) < root.witness_quorum <= len(everybody - inside):
        return Assurance.WITNESSED
    return Assurance.OVERSEEN
