"""The one-file verifier takes and refuses what the package takes and refuses, piece by piece."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st

from gatelift.encoding import encode_base64, parse_base64, parse_digest, parse_json
from gatelift.errors import GateliftError
from gatelift.tlog import (
    Checkpoint,
    CosignatureSigner,
    MemoryTree,
    add_signatures,
    check_public_key,
    parse_checkpoint,
    parse_note,
    parse_policy,
    parse_vkey,
    sign_checkpoint,
    verify_log_signature,
    verify_witnessed,
)
from gatelift.tlog.ed25519 import _SMALL_ORDER_YS
from gatelift.trust import (
    Key,
    KeyId,
    Node,
    Person,
    Role,
    Scheme,
    SignatureError,
    Signer,
    VerifyingKey,
    Witness,
    verify_quorum,
    verify_root,
    verify_signature,
)
from gatelift.trust.keys import check_verifying_key
from tests.support.verifiers import load_file
from tests.support.world import HOUR, NOW, World, key, seed
from tests.unit.trust import test_trust_schemes as schemes

VECTORS = Path(__file__).parents[2] / "vectors/tlog"
WORLD = World()
REFUSED = object()


def by_package(parse: Callable[[Any], Any], value: Any) -> Any:
    try:
        return parse(value)
    except GateliftError:
        return REFUSED


def by_file(parse: Callable[[Any], Any], value: Any) -> Any:
    try:
        return parse(value)
    except load_file().BrokenError:
        return REFUSED


def code_of(parse: Callable[[Any], Any], value: Any) -> str | None:
    """Return the code by which a value is refused, by either."""
    try:
        parse(value)
    except (GateliftError, load_file().BrokenError) as error:
        return str(error.code)
    return None


def edited(text: str, pieces: tuple[str, ...], chance: random.Random, times: int) -> str:
    for _ in range(times):
        at = chance.randrange(len(text) + 1)
        text = text[:at] + chance.choice(pieces) + text[at + chance.choice((0, 0, 1, 3)) :]
    return text


EDITS = st.tuples(st.integers(0, 2**32), st.integers(0, 3))


# -- JSON, base64, digests, keys ------------------------------------------------------------------

JSON_PIECES = (
    *'{}[],:"\\ \n\t0123456789.-+eE', "NaN", "Infinity", "-0", "1e999", "9007199254740993", "null", "true",
    "\\u0061", "\\ud800", "\\udc00", "\x00", "\x7f", "é", "\ufeff", "\u2028", '"a":', '"a":1,"a":2', "[" * 70,
)  # fmt: skip
JSON_TEXT = (
    '{"v":1,"at":1790000000000,"kind":"order","actor":["stop:sam"],"more":{"a":[1.5,null,true]}}'
)


@settings(max_examples=1500, deadline=None)
@given(edits=EDITS)
def test_json_is_taken_and_refused_alike(edits: tuple[int, int]) -> None:
    text = edited(JSON_TEXT, JSON_PIECES, random.Random(edits[0]), edits[1])
    data = text.encode()
    ours, theirs = by_package(parse_json, data), by_file(load_file().read_json, data)
    assert (ours is REFUSED) == (theirs is REFUSED), text
    assert ours == theirs


@pytest.mark.parametrize(
    "data",
    [
        b"\xff{}",
        b'{"a":"\\ud83d"}',
        b'{"a":"\\ud83d\\ude00"}',
        b"[" * 64 + b"]" * 64,
        b"[" * 65 + b"]" * 65,
        b"[" * 100_000,
        b"9007199254740991",
        b"9007199254740992",
        b"-9007199254740992",
        b"1e309",
        b"",
        b"{} {}",
    ],
)
def test_json_at_its_limits_is_taken_and_refused_alike(data: bytes) -> None:
    ours, theirs = by_package(parse_json, data), by_file(load_file().read_json, data)
    assert (ours is REFUSED) == (theirs is REFUSED)


@given(
    text=st.one_of(st.text(alphabet="ABab01+/=-_ \n", max_size=12), st.binary().map(encode_base64))
)
def test_base64_and_digests_are_taken_and_refused_alike(text: str) -> None:
    file = load_file()
    assert by_package(parse_base64, text) == by_file(file.read_base64, text)
    digest = f"sha256:{text}"
    assert by_package(parse_digest, digest) == by_file(file.check_digest, digest)


@pytest.mark.parametrize("text", ["sha256:" + "a" * 64, "sha256:" + "A" * 64, "sha256:" + "a" * 63])
def test_a_digest_has_one_spelling(text: str) -> None:
    assert by_package(parse_digest, text) == by_file(load_file().check_digest, text)


def odd_keys() -> list[bytes]:
    found = [y.to_bytes(32, "little") for y in sorted(_SMALL_ORDER_YS)]
    found += [raw[:31] + bytes([raw[31] | 0x80]) for raw in found]
    prime = 2**255 - 19
    found += [(prime + n).to_bytes(32, "little") for n in (0, 1, 3, 18)]
    found += [bytes([n]) + bytes(31) for n in range(2, 40)]  # about half are on the curve
    return [*found, bytes(31), bytes(33), key("any").public]


def test_public_keys_are_taken_and_refused_alike() -> None:
    said = [by_package(check_public_key, raw) for raw in odd_keys()]
    assert said == [by_file(load_file().check_public_key, raw) for raw in odd_keys()]
    assert 10 < sum(each is not REFUSED for each in said) < len(said)


# -- notes, vkeys, policies -----------------------------------------------------------------------


def test_published_notes_are_read_alike() -> None:
    file = load_file()
    for path in VECTORS.glob("*.txt"):
        data = path.read_bytes()
        ours, theirs = by_package(parse_note, data), by_file(file.read_note, data)
        assert (ours is REFUSED) == (theirs is REFUSED), path.name
        if ours is not REFUSED:
            assert ours.text == theirs.text
            assert [(s.name, s.key_id, s.signature) for s in ours.signatures] == theirs.lines


def told_note() -> bytes:
    tree = MemoryTree([b"a", b"b"])
    note = sign_checkpoint(Checkpoint(origin=WORLD.log.name, size=2, root=tree.root()), WORLD.log)
    return add_signatures(note, [WORLD.witness.sign(parse_note(note).text, NOW // 1000)])


NOTE_PIECES = (
    *"\n ABab0129+/=—",
    "\n\n",
    "— ",
    "00",
    "\x00",
    "\t",
    "é",
    "— test.example/releases AAAAAAA=\n",
)


@settings(max_examples=1200, deadline=None)
@given(edits=EDITS)
def test_checkpoints_are_verified_and_refused_alike(edits: tuple[int, int]) -> None:
    file = load_file()
    data = edited(told_note().decode(), NOTE_PIECES, random.Random(edits[0]), edits[1]).encode()
    ours = by_package(lambda d: parse_checkpoint(parse_note(d).text), data)
    theirs = by_file(lambda d: file.read_checkpoint(file.read_note(d)), data)
    assert (ours is REFUSED) == (theirs is REFUSED), data
    if ours is not REFUSED:
        assert (ours.origin, ours.size, ours.root) == (theirs.origin, theirs.size, theirs.root)
    vkey = file.read_vkey(WORLD.log.vkey, 1)
    signed = by_package(lambda d: verify_log_signature(parse_note(d), [WORLD.log.key]), data)
    there = by_file(lambda d: file.verify_log_key(file.read_note(d), [vkey]), data)
    assert (signed is REFUSED) == (there is REFUSED), data
    policy = f"log {WORLD.log.vkey}\nwitness w {WORLD.witness.vkey}\nquorum w\n".encode()
    met = by_package(lambda d: verify_witnessed(d, parse_policy(policy)), data)
    there = by_file(lambda d: file.read_policy(policy).verify(file.read_note(d), 2**62), data)
    assert (met is REFUSED) == (there is REFUSED), data


VKEYS = [WORLD.log.vkey, WORLD.witness.vkey]


@settings(max_examples=600, deadline=None)
@given(edits=EDITS, index=st.integers(0, 1))
def test_vkeys_are_taken_and_refused_alike(edits: tuple[int, int], index: int) -> None:
    text = edited(VKEYS[index], (*"+ABab01=/ .", "\n"), random.Random(edits[0]), edits[1])
    kind = 1 if index == 0 else 4
    ours = by_package(parse_vkey, text)
    theirs = by_file(lambda t: load_file().read_vkey(t, kind), text)
    taken = ours is not REFUSED and ours.kind == kind
    assert taken == (theirs is not REFUSED), text


POLICY = f"""\
# comment
log {WORLD.log.vkey} https://log.example/
witness w1 {WORLD.witness.vkey}
group g 1 w1
quorum g
"""
POLICY_PIECES = (
    "\n", " ", "\t", "#", "quorum none\n", "quorum w1\n", "group h any g\n", "group h all w1\n", "group g 2 w1\n",
    "witness w1 x\n", f"witness w2 {WORLD.witness.vkey}\n", f"log {WORLD.log.vkey}\n", "none", "w1", "g", "0", "\r",
    "\x00", "\udcff", "any", "all", "2", "group n 1 none\n", "group e any\n", "group d 1 w1 w1\n",
)  # fmt: skip


@settings(max_examples=1200, deadline=None)
@given(edits=EDITS)
def test_policies_are_taken_and_refused_alike(edits: tuple[int, int]) -> None:
    text = edited(POLICY, POLICY_PIECES, random.Random(edits[0]), edits[1])
    data = text.encode("utf-8", "surrogateescape")
    ours, theirs = by_package(parse_policy, data), by_file(load_file().read_policy, data)
    assert (ours is REFUSED) == (theirs is REFUSED), text
    if ours is not REFUSED:
        assert ours.quorum == theirs.quorum
        assert [log.key.vkey for log in ours.logs] == [log.text for log in theirs.logs]
        assert {g.name: (g.threshold, list(g.members)) for g in ours.groups} == theirs.groups


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
    return {"roles": {n: r for n, r in WORLD.root.roles.items() if n != name}}


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
    "no operator": without("operator"),
    "no overseer": without("overseer"),
    "no control": without("control"),
    "overseer of the operator": person("vera", organisation="lab.example"),
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
        for name in ("none", "witnesses", "a b", "", "w\n", "organisation:x")
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
        person("vera", organisation="elsewhere.example"),
        person("vera", proof="sha256:" + "1" * 64),
        person("sam", proof="sha256:" + "1" * 64),
        without("overseer"),
        {"name": "other.example"},
        {"version": 3},
    ],
    ids=range(8),
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
        return root

    assert (ours is REFUSED) == (by_file(follow, second) is REFUSED)


# -- the four schemes -----------------------------------------------------------------------------


def there(held: VerifyingKey) -> Any:
    return load_file().PublicKey(held.scheme.value, held.public, held.rp_id)


def taken(held: VerifyingKey, signature: bytes, message: bytes) -> bool:
    """Ask both; they must agree."""
    try:
        verify_signature(held, signature, message)
        ours = True
    except SignatureError:
        ours = False
    theirs = by_file(lambda given: there(held).verify(given, message), signature) is not REFUSED
    assert ours == theirs, (held.scheme, signature)
    return ours


def test_published_signatures_of_each_scheme_hold_by_both() -> None:
    golden, blob = schemes.golden_ssh()
    assert taken(golden, blob, schemes.MESSAGE)
    for vector in schemes.WEBAUTHN:
        held = VerifyingKey(
            scheme=Scheme.WEBAUTHN, public=bytes.fromhex(vector["public"]), rp_id=vector["rp_id"]
        )
        signature = json.dumps(vector["response"]).encode()
        assert taken(held, signature, bytes.fromhex(vector["message"]))
    for vector in schemes.CURVES["ecdsa-p256"]:
        held, r, s, message = schemes.p256(vector)
        assert taken(held, encode_dss_signature(r, s), message)


@pytest.mark.parametrize("name", schemes.BENT_DER)
def test_a_bent_p256_signature_is_refused_by_both(name: str) -> None:
    held, r, s, message = schemes.p256(schemes.CURVES["ecdsa-p256"][0])
    assert not taken(held, schemes.BENT_DER[name](r, s), message)


@pytest.mark.parametrize("application", [None, "ssh:"])
@pytest.mark.parametrize("name", ["nothing", *schemes.BENT_SSH])
def test_a_bent_ssh_signature_is_refused_by_both(name: str, application: str | None) -> None:
    made = schemes.Ssh(application)
    for field, value in schemes.BENT_SSH.get(name, {}).items():
        setattr(made, field, value)
    assert taken(made.pinned(), made.blob(), schemes.MESSAGE) == (name == "nothing")


@pytest.mark.parametrize("name", [*schemes.GOOD_ASSERTIONS, *schemes.BENT_ASSERTIONS])
def test_an_assertion_is_taken_and_refused_alike(name: str) -> None:
    made = schemes.Assertion()
    {**schemes.GOOD_ASSERTIONS, **schemes.BENT_ASSERTIONS}[name](made)
    good = name in schemes.GOOD_ASSERTIONS
    assert taken(made.pinned(), made.signature(), schemes.MESSAGE) == good


@settings(max_examples=600, deadline=None)
@given(data=st.data())
def test_bent_signatures_of_every_scheme_are_taken_and_refused_alike(data: st.DataObject) -> None:
    held, good = data.draw(st.sampled_from(schemes._pairs()))
    at = data.draw(st.integers(0, len(good)))
    put = data.draw(st.binary(max_size=4))
    cut = data.draw(st.integers(0, 4))
    taken(held, good[:at] + put + good[at + cut :], schemes.MESSAGE)


@given(
    scheme=st.sampled_from(list(Scheme)),
    rp_id=st.one_of(st.none(), st.text("aZ.:/ \n\u00e9", max_size=5), st.just("x" * 254)),
    long=st.booleans(),
)
def test_a_key_suits_its_scheme_by_both(scheme: Scheme, rp_id: str | None, long: bool) -> None:
    p256 = schemes.p256(schemes.CURVES["ecdsa-p256"][0])[0].public
    held = VerifyingKey(scheme=scheme, public=p256 if long else key("a").public, rp_id=rp_id)
    ours = by_package(check_verifying_key, held)
    theirs = by_file(lambda given: there(given).check(), held)
    assert (ours is REFUSED) == (theirs is REFUSED)


@pytest.mark.parametrize("name", schemes._points())
def test_a_point_has_one_spelling_by_both(name: str) -> None:
    held = VerifyingKey(scheme=Scheme.ECDSA_P256, public=schemes._points()[name])
    assert by_file(lambda given: there(given).check(), held) is REFUSED
