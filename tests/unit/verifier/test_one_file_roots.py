"""The one-file verifier holds roots, their signers, successors and quorums to the package's rules."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from gatelift.encoding import encode_base64
from gatelift.tlog import CosignatureSigner
from gatelift.trust import (
    Key,
    KeyId,
    Node,
    Person,
    Role,
    Scheme,
    Signer,
    Witness,
    assurance_of,
    verify_quorum,
    verify_root,
)
from tests.support.alike import REFUSED, by_file, by_package, code_of
from tests.support.verifiers import load_file
from tests.support.world import HOUR, NOW, World, key, seed

WORLD = World()


# -- roots ----------------------------------------------------------------------------------------


def moved(name: str, role: str) -> dict[str, Any]:
    roles = dict(WORLD.root.roles)
    kid = WORLD.keys[name].id
    roles[role] = Role(keys=(*roles[role].keys, kid), threshold=roles[role].threshold)
    return {"roles": roles}


def with_role(name: str, **changes: Any) -> dict[str, Any]:
    roles = dict(WORLD.root.roles)
    roles[name] = msgspec.structs.replace(roles[name], **changes)
    return {"roles": roles}


def without(name: str) -> dict[str, Any]:
    return {
        "roles": {n: r for n, r in WORLD.root.roles.items() if n != name},
        "own_calls_per_day": 0,
    }


def person(name: str, **changes: Any) -> dict[str, Any]:
    people = [
        msgspec.structs.replace(p, **changes) if p.id == name else p for p in WORLD.root.people
    ]
    return {"people": tuple(people)}


def one_key(**changes: Any) -> dict[str, Any]:
    keys = dict(WORLD.root.keys)
    kid = WORLD.keys["safety:sam"].id
    keys[kid] = msgspec.structs.replace(keys[kid], **changes)
    return {"keys": keys}


def node(name: str, of: str = "") -> Node:
    of = of or name
    return Node(
        name=name,
        batch_key=key(f"batch {of}").public_text,
        requests_key=key(f"requests {of}").public_text,
    )


def cosigner(number: int) -> CosignatureSigner:
    return CosignatureSigner(
        f"w{number}.example", Ed25519PrivateKey.from_private_bytes(seed(f"w{number}"))
    )


def overseers(first: str, second: str) -> dict[str, Any]:
    """Let two people oversee, of these organisations, both needed."""
    people = [p for p in WORLD.root.people if p.id != "vera"]
    people += [Person(id="vera", organisation=first), Person(id="otto", organisation=second)]
    mine = key("overseer:otto")
    roles = dict(WORLD.root.roles)
    roles["overseer"] = Role(keys=(*roles["overseer"].keys, mine.id), threshold=2)
    keys = {
        **WORLD.root.keys,
        mine.id: Key(scheme=Scheme.ED25519, public=mine.public_text, person="otto"),
    }
    return {"people": tuple(people), "roles": roles, "keys": keys}


WITNESS = WORLD.root.witnesses[0]
ROOTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "version 0": {"version": 0},
    "ends before it begins": {"expires_at": NOW - 2 * HOUR},
    "a key in two roles": moved("safety:sam", "security"),
    "a threshold beyond the people": with_role("safety", threshold=2),
    "a threshold of 0": with_role("safety", threshold=0),
    "a role without keys": with_role("safety", keys=()),
    "a role with an unknown key": with_role("safety", keys=("sha256:" + "0" * 64,)),
    "an unknown role": {"roles": {**WORLD.root.roles, "king": Role(keys=(), threshold=1)}},
    "an unknown role with a key of its own": {
        "roles": {
            **{n: r for n, r in WORLD.root.roles.items() if n != "stop"},
            "king": WORLD.root.roles["stop"],
        }
    },
    "no operator": without("operator"),
    "no overseer": without("overseer"),
    "no control": without("control"),
    "overseer of the operator": person("vera", organisation="lab.example"),
    "overseer of the operator, in capitals": person("vera", organisation="LAB.example"),
    "overseer of the operator, in wide letters": person("vera", organisation="ｌab.example"),
    "overseer of nobody": person("vera", organisation=" "),
    "two overseers of one organisation, in two spellings": overseers("o.example", "O.example"),
    "a person twice": {"people": (*WORLD.root.people, Person(id="sam", organisation="x"))},
    "a key of nobody": one_key(person="nobody"),
    "another scheme": one_key(scheme="ecdsa-p256"),
    "another key under its id": one_key(public=key("other").public_text),
    "a weak key": one_key(public="AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    "a quorum beyond the witnesses": {"witness_quorum": 2},
    "a quorum below 0": {"witness_quorum": -1},
    "a quorum of nobody": {"witness_quorum": 0},
    "a witness of the operator": {
        "witnesses": (msgspec.structs.replace(WITNESS, organisation="lab.example"),)
    },
    "no witness": {"witnesses": (), "witness_quorum": 0},
    "no nodes": {"nodes": ()},
    "a node with no keys": {"nodes": (Node(name="n2", batch_key="x", requests_key="y"),)},
    "two nodes": {"nodes": (*WORLD.root.nodes, node("n2"))},
    "a node twice": {"nodes": (*WORLD.root.nodes, node("n1", "other"))},
    "two nodes of one key": {"nodes": (node("n1"), node("n2", "n1"))},
    "a node with a person's key": {
        "nodes": (msgspec.structs.replace(node("n2"), batch_key=key("safety:sam").public_text),)
    },
    "the log's key for a node": {
        "nodes": (
            msgspec.structs.replace(
                node("n2"), requests_key=encode_base64(WORLD.log.key.public_key)
            ),
        )
    },
    "a key without a role": with_role("safety", keys=()) | without("safety"),
    "two overseers of one organisation": overseers("oversight.example", "oversight.example"),
    "two overseers of two": overseers("oversight.example", "other.example"),
    "a witness's word of a minute": {"witness_max_age_ms": 60_000},
    "a witness's word of less": {"witness_max_age_ms": 59_999},
    "a witness that cosigns as a log": {
        "witnesses": (msgspec.structs.replace(WITNESS, vkey=WORLD.log.vkey),)
    },
    "a log that cosigns as a witness": {"releases_vkey": WORLD.witness.vkey},
    **{
        f"a witness named {name!r}": {"witnesses": (msgspec.structs.replace(WITNESS, name=name),)}
        for name in ("none", "witnesses", "a b", "", "w\n", "organisation:x", "w\u200b")
    },
    **{
        f"a witness at {url!r}": {"witnesses": (msgspec.structs.replace(WITNESS, url=url),)}
        for url in ("https://witness.example/", "http://witness.example/", "x", "https://a b/")
    },
    **{
        f"two witnesses of {organisations} with a quorum of {quorum}": {
            "witnesses": tuple(
                Witness(
                    name=f"w{i}",
                    vkey=cosigner(i).vkey,
                    organisation=organisation,
                    independent=i == 0,
                )
                for i, organisation in enumerate(organisations)
            ),
            "witness_quorum": quorum,
        }
        for organisations in (
            ("a.example", "b.example"),
            ("a.example", "a.example"),
            ("a.example", "A.example"),
            ("a.example", " a.example"),
            ("a.example", ""),
            ("a.example", "LAB.example"),
            ("a/ b", "a/ b"),
        )
        for quorum in (1, 2)
    },
    **{
        f"order list {url}": {"order_urls": (url,)}
        for url in (
            "https://overseer.example/orders",
            "http://overseer.example/orders",
            "http://127.0.0.1:8080/orders",
            "http://[::1]:8080/orders",
            "https://user@overseer.example/",
            "https://overseer.example/#part",
            "https://overseer.example/a b",
            "https://overseer.example:0/",
            "https://overseer.example:99999/",
            "ftp://overseer.example/",
            "https:///orders",
            "https://[::1/",
            "https://é.example/",
            "",
        )
    },
    "nine order lists": {"order_urls": ("https://overseer.example/",) * 9},
    **{f"{many} own calls": {"own_calls_per_day": many} for many in (0, -1, 10**6, 10**6 + 1)},
    "own calls of nobody": {**without("overseer"), "own_calls_per_day": 1},
    "eight order lists": {"order_urls": ("https://overseer.example/",) * 8},
}


@pytest.mark.parametrize("what", ROOTS)
def test_a_root_is_taken_and_refused_alike(what: str) -> None:
    data = WORLD.sign_root(WORLD.root_payload(**ROOTS[what]))
    assert code_of(lambda d: verify_root(d, now_ms=0), data) == code_of(load_file().Root, data)


@pytest.mark.parametrize(
    "names",
    [
        ("root:olga",),
        ("root:vera", "root:olga"),
        ("root:olga", "root:olga"),
        ("operator:olga", "root:vera"),
    ],
    ids=" and ".join,
)
def test_who_signed_a_root_is_counted_alike(names: tuple[str, ...]) -> None:
    data = WORLD.sign_root(WORLD.root_payload(), *names)
    ours = by_package(lambda d: verify_root(d, now_ms=0), data)
    assert (ours is REFUSED) == (by_file(load_file().Root, data) is REFUSED)
    assert (ours is REFUSED) == (set(names) != {"root:olga", "root:vera"})


def altered_envelopes() -> dict[str, bytes]:
    value = json.loads(WORLD.root_envelope)
    first = value["signatures"][0]
    urlsafe = {**value, "payload": value["payload"].replace("+", "-").replace("/", "_")}
    return {
        "url-safe base64": json.dumps(urlsafe).encode(),
        "a field more": json.dumps({**value, "note": 1}).encode(),
        "no signatures": json.dumps({**value, "signatures": []}).encode(),
        "33 signatures": json.dumps({**value, "signatures": [first] * 33}).encode(),
        "32 of one": json.dumps(
            {**value, "signatures": [first] * 31 + value["signatures"][1:]}
        ).encode(),
        "no key id": json.dumps({**value, "signatures": [{"sig": first["sig"]}]}).encode(),
        "another type": json.dumps({**value, "payloadType": "application/json"}).encode(),
        "an unknown signature beside": json.dumps(
            {**value, "signatures": [*value["signatures"], {"keyid": "x", "sig": "AAAA"}]}
        ).encode(),
        "a type that is a number": json.dumps({**value, "payloadType": 1}).encode(),
    }


@pytest.mark.parametrize("what", altered_envelopes())
def test_an_envelope_is_taken_and_refused_alike(what: str) -> None:
    data = altered_envelopes()[what]
    ours = by_package(lambda d: verify_root(d, now_ms=0), data)
    assert (ours is REFUSED) == (by_file(load_file().Root, data) is REFUSED)


# -- assurance ------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    told=st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=4),
    quorum=st.integers(0, 3),
    people=st.lists(st.sampled_from(["safety:sam", "security:sue", "overseer:vera"]), unique=True),
    proof=st.sampled_from(["unproven", "sha256:" + "a" * 64]),
)
def test_assurance_is_the_same_by_both(
    told: list[tuple[str, bool]], quorum: int, people: list[str], proof: str
) -> None:
    world = World(proof=proof)
    witnesses = [
        Witness(name=f"w{i}", vkey=cosigner(i).vkey, organisation=o, independent=independent)
        for i, (o, independent) in enumerate(told)
    ]
    quorum = min(quorum, len({organisation for organisation, _ in told}))
    data = world.sign_root(world.root_payload(witnesses=tuple(witnesses), witness_quorum=quorum))
    root = verify_root(data, now_ms=0)
    signers = [
        Signer(
            key=world.keys[name].id,
            person=name.split(":")[1],
            organisation="any",
            role=name.split(":")[0],
        )
        for name in people
    ]
    file = load_file()
    theirs = [file.Signer(s.key, s.person, s.organisation, s.role) for s in signers]
    assert assurance_of(root, tuple(signers)).value == file.Root(data).assurance(theirs)


# -- quorum ---------------------------------------------------------------------------------------


ROLES = ("safety", "security", "overseer")
ORGANISATIONS = {"u": "one", "v": "one", "w": "two", "x": "three"}


@settings(max_examples=400, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.sampled_from(ROLES), st.sampled_from("uvwx")), max_size=8),
    thresholds=st.tuples(*(st.integers(1, 2) for _ in range(3))),
    roles=st.lists(st.sampled_from(ROLES), min_size=1, max_size=4),
)
def test_a_quorum_is_counted_alike(
    pairs: list[tuple[str, str]], thresholds: tuple[int, ...], roles: list[str]
) -> None:
    file = load_file()
    held = {n: Role(keys=(), threshold=t) for n, t in zip(ROLES, thresholds, strict=True)}
    root = msgspec.structs.replace(WORLD.root, roles=held)
    signers = tuple(
        Signer(key=KeyId(f"{role}:{who}"), person=who, organisation=ORGANISATIONS[who], role=role)
        for role, who in pairs
    )
    ours = by_package(lambda asked: verify_quorum(root, signers, tuple(asked)), roles)
    there = SimpleNamespace(roles={n: {"threshold": r.threshold} for n, r in held.items()})
    theirs = by_file(
        lambda asked: file.check_quorum(
            there, [file.Signer(s.key, s.person, s.organisation, s.role) for s in signers], asked
        ),
        roles,
    )
    assert (ours is REFUSED) == (theirs is REFUSED)


# -- the successor of a root ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"order_urls": ("https://overseer.example/",)},
        {"own_calls_per_day": 21},
        {"witnesses": (), "witness_quorum": 0},
        person("vera", organisation="elsewhere.example"),
        person("vera", proof="sha256:" + "1" * 64),
        person("sam", proof="sha256:" + "1" * 64),
        without("overseer"),
        {"name": "other.example"},
        {"version": 3},
    ],
    ids=range(10),
)
@pytest.mark.parametrize(
    "names", [("root:olga", "root:vera"), ("root:olga", "root:lea"), ("root:olga", "overseer:vera")]
)
def test_a_successor_is_taken_and_refused_alike(
    changes: dict[str, Any], names: tuple[str, ...]
) -> None:
    """The root role is olga, vera and lea, any two of them; vera oversees."""
    world = World()
    lea = key("root:lea")
    world.keys["root:lea"] = lea
    more = {
        "people": (*world.root.people, Person(id="lea", organisation="lab.example")),
        "keys": {
            **world.root.keys,
            lea.id: Key(scheme=Scheme.ED25519, public=lea.public_text, person="lea"),
        },
        "roles": {
            **world.root.roles,
            "root": Role(keys=(*world.root.roles["root"].keys, lea.id), threshold=2),
        },
    }
    first = world.sign_root(world.root_payload(**more))
    following = {**more, "version": 2, **changes}
    if "people" in changes:
        following["people"] = (*changes["people"], more["people"][-1])
    if "roles" in changes:
        gone = world.root.roles["overseer"].keys
        following["roles"] = {**changes["roles"], "root": more["roles"]["root"]}
        following["keys"] = {k: v for k, v in more["keys"].items() if k not in gone}
    second = world.sign_root(world.root_payload(**following), *names)
    before = verify_root(first, now_ms=0)
    ours = by_package(lambda data: verify_root(data, 0, before), second)
    file = load_file()

    def follow(data: bytes) -> Any:
        root, old = file.Root(data), file.Root(first)
        if (root.name, root.version) != (old.name, old.version + 1):
            raise file.BrokenError("not_successor", "")
        root.check_signed_by(old, data)
        root.check_overseen_by(old, data)
        return root

    assert (ours is REFUSED) == (by_file(follow, second) is REFUSED)
