"""What a root must not say: every way in which it could contradict itself.

Invariants
- Every key stands once, in one role, and belongs to one person. Logs, witnesses and nodes have keys
  of their own, each used for one thing only.
- A person is one pseudonym in one organisation, whose name is spelled in one way wherever people of it
  stand: nobody is outside by how a name is written.
- A threshold asks for at least one and at most as many people as can fill it; in the roles of overseer
  and beacon organisations are counted. So they are in the quorum of witnesses (`witnesses`).
- The overseer's, the beacon's and the witnesses' organisation is never the operator's, and a root with
  a beacon has an overseer, without whom it cannot be taken out.

Follows TUF 1.0.33 section 6.1 (key distinctness), counted by key bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

from gatelift.tlog import VkeyError, parse_vkey
from gatelift.trust.errors import RootError
from gatelift.trust.keys import KeyId, check_verifying_key, key_id, parse_public_key
from gatelift.trust.root_shape import Root
from gatelift.trust.witnesses import check_url, check_witnesses, same_organisation

__all__ = ["KNOWN_ROLES", "check_root", "machine_keys"]

_MAX_URLS = 8
_MIN_WITNESS_MAX_AGE_MS = 60_000
_MAX_OWN_CALLS = 1_000_000
KNOWN_ROLES = frozenset(
    {
        "root",
        "operator",
        "safety",
        "security",
        "overseer",
        "admissions",
        "evaluator",
        "control",
        "stop",
        "beacon",
    }
)
_BY_ORGANISATION = frozenset({"overseer", "beacon"})


def check_root(root: Root) -> Root:
    """Return a root that does not contradict itself; raises `RootError`."""
    if root.version < 1 or root.expires_at <= root.issued_at:
        raise RootError("expected a version of 1 or more and an expiry after the issue")
    _check_people(root)
    _check_keys(root)
    _check_roles(root)
    _check_machines(root)
    _check_organisations(root)
    _check_urls(root)
    return root


def _check_people(root: Root) -> None:
    if len({person.id for person in root.people}) != len(root.people):
        raise RootError("a person stands twice: give each person one pseudonym")
    spellings: dict[str, str] = {}
    for person in root.people:
        known = spellings.setdefault(same_organisation(person.organisation), person.organisation)
        if known != person.organisation:
            raise RootError(
                f"person {person.id!r}: the organisation {person.organisation!r} stands as "
                f"{known!r} already: spell it in one way",
                code="organisation_spelling",
            )
    if "" in spellings:
        raise RootError("expected the organisation of each person, found one without")


def _check_keys(root: Root) -> None:
    people = {person.id for person in root.people}
    for kid, key in root.keys.items():
        if key_id(check_verifying_key(key.verifying()).public) != kid:
            raise RootError(f"key {kid[:24]} is not the digest of its own bytes")
        if key.person not in people:
            raise RootError(f"key {kid[:24]} belongs to {key.person!r}, who is not in the root")


def _check_roles(root: Root) -> None:
    seen: dict[KeyId, str] = {}
    for name, role in root.roles.items():
        if name not in KNOWN_ROLES:
            raise RootError(f"expected one of the roles {sorted(KNOWN_ROLES)}, got {name!r}")
        for kid in role.keys:
            if kid not in root.keys:
                raise RootError(f"role {name}: key {kid[:24]} is not in the root")
            if kid in seen:
                raise RootError(
                    f"key {kid[:24]} stands in two roles, {seen[kid]} and {name}: one key, one role",
                    code="key_in_two_roles",
                )
            seen[kid] = name
        people = {root.keys[kid].person for kid in role.keys}
        counted, unit = len(people), "people"
        if name in _BY_ORGANISATION:
            counted = len({root.person(person).organisation for person in people})
            unit = "organisations"
        if not 1 <= role.threshold <= counted:
            raise RootError(
                f"role {name}: threshold {role.threshold} asks for more than its "
                f"{counted} distinct {unit}, or for none"
            )
    for kid in root.keys.keys() - seen.keys():
        raise RootError(f"key {kid[:24]} has no role: give it one, or leave it out")
    for name in ("root", "operator", "control"):
        if name not in root.roles:
            raise RootError(f"expected a role {name!r}, found none")


def machine_keys(root: Root) -> Iterator[tuple[str, bytes]]:
    """Yield what each key of a log, node or witness is for, and its bytes."""
    yield "the releases log", parse_vkey(root.releases_vkey).public_key
    for node in root.nodes:
        yield f"batches of node {node.name!r}", parse_public_key(node.batch_key)
        yield f"requests logs of node {node.name!r}", parse_public_key(node.requests_key)
    for witness in root.witnesses:
        try:
            vkey = parse_vkey(witness.vkey)
        except VkeyError as error:
            raise RootError(f"witness {witness.name!r}: {error}") from error
        yield f"witness {witness.name!r}", vkey.public_key


def _check_machines(root: Root) -> None:
    used = {kid: f"role {name}" for name, role in root.roles.items() for kid in role.keys}
    for what, public in machine_keys(root):
        kid = key_id(public)
        if kid in used:
            raise RootError(
                f"one key serves {used[kid]} and {what}: each thing has a key of its own",
                code="key_in_two_roles",
            )
        used[kid] = what
    if len({node.name for node in root.nodes}) != len(root.nodes):
        raise RootError("a node stands twice: give each node its own name")


def _check_organisations(root: Root) -> None:
    def organisations(role: str) -> set[str]:
        held = root.roles.get(role)
        keys = held.keys if held else ()
        return {root.person(root.keys[kid].person).organisation for kid in keys}

    operator = organisations("operator")
    if organisations("overseer") & operator:
        raise RootError(
            "the overseer's organisation is the operator's: name an overseer from outside",
            code="overseer_inside",
        )
    if organisations("beacon") & operator:
        raise RootError(
            "the beacon's organisation is the operator's: its silence would be the operator's own",
            code="beacon_inside",
        )
    if "beacon" in root.roles and "overseer" not in root.roles:
        raise RootError("expected an overseer beside the beacon: whoever else could take it out?")
    most = _MAX_OWN_CALLS if "overseer" in root.roles else 0
    if not 0 <= root.own_calls_per_day <= most:
        raise RootError(
            f"expected own_calls_per_day of 0 to {most} (0 without an overseer), "
            f"got {root.own_calls_per_day}"
        )
    if root.witness_max_age_ms < _MIN_WITNESS_MAX_AGE_MS:
        raise RootError(
            f"expected a witness_max_age_ms of {_MIN_WITNESS_MAX_AGE_MS} or more, "
            f"got {root.witness_max_age_ms}: witnesses must have time to answer"
        )
    check_witnesses(root.releases_vkey, root.witnesses, root.witness_quorum, operator)


def _check_urls(root: Root) -> None:
    for name, urls in (("order_urls", root.order_urls), ("beacon_urls", root.beacon_urls)):
        if len(urls) > _MAX_URLS:
            raise RootError(f"expected at most {_MAX_URLS} {name}")
        for url in urls:
            check_url(url, name)
