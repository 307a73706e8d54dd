"""The beacon: organisations are counted over control's bytes, and the overseer keeps it in the root."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from gatelift.encoding import encode_json
from gatelift.errors import CallerError
from gatelift.trust import (
    ROOT_TYPE,
    STATUS_TYPE,
    Key,
    Person,
    Role,
    Root,
    Scheme,
    SigningKey,
    Status,
    add_signature,
    parse_root,
    sign_envelope,
    sign_status,
    verify_proposal,
    verify_root,
    verify_status,
)
from tests.support.world import NOW, World, digest_of, key

SEATS = {
    "bea": "uni.example",
    "ben": "uni.example",
    "cat": "press.example",
    "dot": "oversight.example",
}


@functools.cache
def world() -> World:
    return World()


def seat(person: str) -> SigningKey:
    return key(f"beacon:{person}")


def with_beacon(*people: str, threshold: int = 2, **changes: Any) -> bytes:
    base = world().root
    keys = {
        seat(p).id: Key(scheme=Scheme.ED25519, public=seat(p).public_text, person=p) for p in people
    }
    role = Role(keys=tuple(keys), threshold=threshold)
    made = msgspec.structs.replace(
        base,
        people=(*base.people, *(Person(id=p, organisation=SEATS[p]) for p in people)),
        keys=base.keys | keys,
        roles=base.roles | {"beacon": role},
    )
    return encode_json(msgspec.structs.replace(made, **changes))


def outcome(call: Callable[[], object]) -> str | None:
    try:
        call()
    except CallerError as error:
        return error.code
    return None


def status(**changes: Any) -> Status:
    made = Status(
        release=world().plan.name,
        certificates=(),
        orders=(),
        bundle=digest_of("bundle"),
        roster_number=1,
        roster=digest_of("roster"),
        checkpoint="",
        number=5,
        nonces=("n1",),
        epoch=2,
        signed_at=NOW,
        ttl_ms=10_000,
    )
    return msgspec.structs.replace(made, **changes)


def proposal(**changes: Any) -> bytes:
    return sign_status(status(**changes), world().keys["control:machine"])


def endorsed(*people: str) -> bytes:
    return functools.reduce(lambda data, p: add_signature(data, seat(p)), people, proposal())


@pytest.mark.parametrize(
    ("people", "code"),
    [
        ((), "beacon_silent"),
        (("bea",), "beacon_silent"),
        (("bea", "ben"), "beacon_silent"),
        (("bea", "cat"), None),
        (("bea", "ben", "cat", "dot"), None),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, tuple) else str(value),
)
def test_so_many_organisations_sign_as_the_root_asks(people: tuple[str, ...], code: str) -> None:
    root = parse_root(with_beacon(*SEATS))
    assert outcome(lambda: verify_status(endorsed(*people), root, nonce="n1")) == code


def test_a_beacon_alone_says_nothing() -> None:
    root = parse_root(with_beacon(*SEATS))
    alone = sign_envelope(msgspec.json.encode(status()), STATUS_TYPE, [seat("bea"), seat("cat")])
    assert outcome(lambda: verify_status(alone, root)) == "role_not_allowed"


def test_a_signature_over_other_bytes_spoils_the_status() -> None:
    root = parse_root(with_beacon(*SEATS))
    other = add_signature(proposal(number=6), seat("cat"))
    moved = msgspec.json.decode(other)["signatures"][-1]
    joined = msgspec.json.decode(endorsed("bea"))
    joined["signatures"].append(moved)
    assert outcome(lambda: verify_status(msgspec.json.encode(joined), root)) == "forged"


def test_a_stranger_to_the_root_is_not_counted() -> None:
    root = parse_root(with_beacon("bea", "cat"))
    assert outcome(lambda: verify_status(endorsed("bea", "dot"), root)) == "beacon_silent"


def test_a_root_without_a_beacon_asks_for_nothing() -> None:
    assert verify_status(proposal(), world().root, nonce="n1").number == 5


def test_a_proposal_is_what_control_signed() -> None:
    root = parse_root(with_beacon(*SEATS))
    assert verify_proposal(proposal(), root).number == 5
    assert outcome(lambda: verify_proposal(proposal(), root, last=status(number=6))) == "went_back"


ROOTS: dict[str, tuple[Callable[[], bytes], str | None]] = {
    "two organisations of three": (lambda: with_beacon(*SEATS), None),
    "more organisations than there are": (lambda: with_beacon("bea", "ben"), "bad_root"),
    "of the operator": (
        lambda: with_beacon(
            "bea",
            threshold=1,
            people=(*world().root.people, Person(id="bea", organisation="lab.example")),
        ),
        "beacon_inside",
    ),
    "asked at an address in the clear": (
        lambda: with_beacon("bea", threshold=1, beacon_urls=("http://uni.example/",)),
        "bad_root",
    ),
    "asked at more addresses than eight": (
        lambda: with_beacon("bea", threshold=1, beacon_urls=("https://uni.example/",) * 9),
        "bad_root",
    ),
}


@pytest.mark.parametrize("name", ROOTS)
def test_a_root_says_who_may_be_a_beacon(name: str) -> None:
    made, code = ROOTS[name]
    assert outcome(lambda: parse_root(made())) == code


def test_a_beacon_stands_only_beside_an_overseer() -> None:
    value = msgspec.json.decode(with_beacon("bea", threshold=1))
    (overseer,) = value["roles"].pop("overseer")["keys"]
    del value["keys"][overseer]
    assert outcome(lambda: parse_root(encode_json(value))) == "bad_root"


CHANGES: dict[str, Callable[[], bytes]] = {
    "taken out": lambda: encode_json(msgspec.structs.replace(world().root, version=2)),
    "fewer of them": lambda: with_beacon("bea", "cat", threshold=1, version=2),
    "another in its place": lambda: with_beacon("bea", "dot", version=2),
}


@pytest.mark.parametrize("name", CHANGES)
def test_who_changes_the_beacon_needs_the_overseer(name: str) -> None:
    # A root role without her, so that she is missed.
    fresh = key("root:olaf")
    vera = key("root:vera")

    def without_vera(payload: bytes) -> Root:
        value: Root = msgspec.json.decode(payload, type=Root)
        keys = {kid: held for kid, held in value.keys.items() if kid != vera.id}
        keys[fresh.id] = Key(scheme=Scheme.ED25519, public=fresh.public_text, person="olaf")
        role = msgspec.structs.replace(value.roles["root"], keys=(key("root:olga").id, fresh.id))
        people = (*value.people, Person(id="olaf", organisation="lab.example"))
        return msgspec.structs.replace(
            value, keys=keys, people=people, roles=value.roles | {"root": role}
        )

    before = parse_root(encode_json(without_vera(with_beacon("bea", "cat"))))
    after = encode_json(without_vera(CHANGES[name]()))

    def by(*keys: SigningKey) -> str | None:
        data = sign_envelope(after, ROOT_TYPE, keys)
        return outcome(lambda: verify_root(data, NOW, before))

    assert by(key("root:olga"), fresh) == "overseer_missing"
    assert by(key("root:olga"), fresh, key("overseer:vera")) is None
