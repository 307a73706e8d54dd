"""The ceremony: people, keys, root of trust, tokens. How a deployment comes to be.

Invariants
- Every role has its own key and every key one role; nobody who operates also oversees.
- The root is signed by two people of two organisations, one of them the overseer's.
- Nothing is claimed about anybody's identity: without evidence proofs read `unproven`, and every
  certificate under this root says assurance `dev`.
- Private bytes go to files of mode 0600 and nowhere else; an existing key is never overwritten.

Entropy and time are arguments of `make_root`; `hold_ceremony` draws keys and writes files.

Follows TUF 1.0.33 section 6.1 (key distinctness), C2SP tlog-policy.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from gatelift.cli.cast import KEY_ROLES, Cast
from gatelift.cli.errors import InputError
from gatelift.cli.layout import Deployment
from gatelift.encoding import Digest, encode_json, sha256_digest
from gatelift.messages import releases_policy
from gatelift.tlog import CosignatureSigner, NoteSigner, format_policy
from gatelift.trust import (
    BEACON,
    ROOT_TYPE,
    Key,
    KeyId,
    Node,
    Person,
    Role,
    Root,
    Scheme,
    SigningKey,
    Witness,
    key_id,
    parse_public_key,
    parse_root,
    sign_envelope,
)
from gatelift.wire.files import FileStore
from gatelift.wire.keyfiles import create_signing_key, load_private_key, save_secret_text
from gatelift.wire.sealing import create_upstream_ca

__all__ = [
    "ROOT_LIFE_MS",
    "TOKEN_ROLES",
    "hold_ceremony",
    "make_root",
    "root_name",
    "witness_name",
]

ROOT_LIFE_MS = 365 * 24 * 3_600_000
TOKEN_ROLES = ("reader", "overseer", "submitter")


def root_name(release: str) -> str:
    """Return the name of a release's root; its logs' origins begin with it."""
    return f"{release}.gatelift.local"


def witness_name(cast: Cast) -> str:
    """Return the name under which the witness signs."""
    return f"{cast.witness_organisation}/w1"


def make_root(
    *,
    name: str,
    cast: Cast,
    people_keys: Mapping[str, SigningKey],
    releases_vkey: str,
    witness_vkey: str,
    node: Node,
    now_ms: int,
    order_urls: tuple[str, ...] = (),
) -> Root:
    """Return the first root. `people_keys` are by key name; raises `RootError` if inconsistent."""
    roles: dict[str, list[str]] = {}
    for key_name, role in KEY_ROLES.items():
        roles.setdefault(role, []).append(key_name)
    beacon_keys = _beacon_keys(cast, people_keys)
    root = Root(
        name=name,
        version=1,
        issued_at=now_ms,
        expires_at=now_ms + ROOT_LIFE_MS,
        people=tuple(
            Person(id=member.person, organisation=member.organisation, proof=member.proof)
            for member in cast.people()
        ),
        keys={
            key.id: Key(
                scheme=Scheme.ED25519, public=key.public_text, person=cast.members[key_name].person
            )
            for key_name, key in people_keys.items()
            if key_name in KEY_ROLES
        }
        | beacon_keys,
        roles={
            role: Role(keys=tuple(people_keys[each].id for each in names), threshold=len(names))
            for role, names in roles.items()
        }
        | _beacon_role(cast, beacon_keys),
        releases_vkey=releases_vkey,
        nodes=(node,),
        witnesses=(
            Witness(
                name="w1",
                vkey=witness_vkey,
                organisation=cast.witness_organisation,
                # On one machine with the operator it proves nothing to a stranger, and says so.
                independent=False,
            ),
            *cast.witnesses,
        ),
        witness_quorum=cast.witness_quorum,
        order_urls=order_urls,
        beacon_urls=tuple(seat.url for seat in cast.beacons),
        own_calls_per_day=cast.own_calls_per_day,
    )
    return parse_root(encode_json(root))


def _beacon_keys(cast: Cast, drawn: Mapping[str, SigningKey]) -> dict[KeyId, Key]:
    found = {}
    for (name, member), seat in zip(cast.beacon_members.items(), cast.beacons, strict=True):
        public = seat.public if seat.public is not None else drawn[name].public_text
        found[key_id(parse_public_key(public))] = Key(
            scheme=Scheme.ED25519, public=public, person=member.person
        )
    return found


def _beacon_role(cast: Cast, keys: Mapping[KeyId, Key]) -> dict[str, Role]:
    if not keys:
        return {}
    threshold = cast.beacon_threshold
    if threshold is None:
        threshold = len({seat.organisation for seat in cast.beacons}) // 2 + 1
    return {BEACON: Role(keys=tuple(keys), threshold=threshold)}


def _drawn_here(cast: Cast) -> tuple[str, ...]:
    seats = zip(cast.beacon_members, cast.beacons, strict=True)
    return (*KEY_ROLES, *(name for name, seat in seats if seat.public is None))


def hold_ceremony(
    deployment: Deployment,
    *,
    release: str,
    cast: Cast,
    node: str,
    now_ms: int,
    order_urls: tuple[str, ...] = (),
) -> Digest:
    """Draw all keys, write root, pinned digest, policy and tokens; return the root's digest.

    Refuses a folder in which a ceremony was held already.
    """
    if deployment.exists:
        raise InputError(
            f"{deployment.directory} holds a root already: use it, or choose an empty folder",
            code="deployment_exists",
        )
    deployment.make_folders()
    name = root_name(release)
    people = {each: create_signing_key(deployment.key(each)) for each in _drawn_here(cast)}
    batch = create_signing_key(deployment.key(f"node-{node}-batch"))
    requests = create_signing_key(deployment.key(f"node-{node}-requests"))
    create_upstream_ca(deployment.directory, node, now_ms)
    create_signing_key(deployment.key("releases-log"))
    create_signing_key(deployment.key("witness"))
    log = NoteSigner(f"{name}/releases", load_private_key(deployment.key("releases-log")))
    witness = CosignatureSigner(witness_name(cast), load_private_key(deployment.key("witness")))
    root = make_root(
        name=name,
        cast=cast,
        people_keys=people,
        releases_vkey=log.vkey,
        witness_vkey=witness.vkey,
        node=Node(name=node, batch_key=batch.public_text, requests_key=requests.public_text),
        now_ms=now_ms,
        order_urls=order_urls,
    )
    envelope = sign_envelope(encode_json(root), ROOT_TYPE, [people["root-1"], people["root-2"]])
    FileStore(deployment.path("files")).put(envelope)
    _write_tokens(deployment)
    deployment.write("root.json", envelope)
    deployment.write("tlog-policy", format_policy(releases_policy(root)))
    digest = sha256_digest(envelope)
    # Last: a folder with a pinned digest is a whole deployment.
    deployment.write("root.sha256", f"{digest}\n".encode("ascii"))
    return digest


def _write_tokens(deployment: Deployment) -> None:
    digests = {}
    for role in TOKEN_ROLES:
        token = f"glat_{role}_{secrets.token_urlsafe(32).replace('_', '-')}"
        save_secret_text(deployment.token(role), token)
        digests[role] = sha256_digest(token.encode("utf-8"))
    deployment.write("keys/admin-tokens.json", encode_json(digests), mode=0o600)
