"""Who counts as how many: the policy that a root's witnesses make up."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatelift.errors import CallerError
from gatelift.ledger.audit.manifest import dossier_policy
from gatelift.messages import releases_policy
from gatelift.tlog import (
    Checkpoint,
    CosignatureSigner,
    MemoryTree,
    PolicyError,
    add_signatures,
    format_policy,
    parse_note,
    sign_checkpoint,
    verify_witnessed,
)
from gatelift.trust import Root, Signer, Witness, assurance_of, parse_root
from tests.support.world import World, seed

LAB_ONE = ("lab/1", "lab.example")
LAB_TWO = ("lab/2", "lab.example")
UNI = ("uni/1", "uni.example")
NGO = ("ngo/1", "ngo.example")


def signer(name: str) -> CosignatureSigner:
    return CosignatureSigner(name, Ed25519PrivateKey.from_private_bytes(seed(name)))


def witness(name: str, organisation: str, **more: Any) -> Witness:
    made = Witness(name=name, vkey=signer(name).vkey, organisation=organisation, independent=True)
    return msgspec.structs.replace(made, **more)


@pytest.fixture(scope="module")
def world() -> World:
    # The operator of this one is not the lab that witnesses.
    return World()


def root_of(world: World, quorum: int, *named: tuple[str, str], **more: Any) -> Root:
    people = tuple(
        msgspec.structs.replace(person, organisation="maker.example")
        if person.organisation == "lab.example"
        else person
        for person in world.root.people
    )
    witnesses = tuple(witness(name, organisation, **more) for name, organisation in named)
    return parse_root(world.root_payload(people=people, witnesses=witnesses, witness_quorum=quorum))


def is_met(world: World, root: Root, *names: str) -> bool:
    tree = MemoryTree([b"entry"])
    note = sign_checkpoint(Checkpoint(origin=world.log.name, size=1, root=tree.root(1)), world.log)
    text = parse_note(note).text
    for name in names:
        note = add_signatures(note, [signer(name).sign(text, 1_790_000_000)])
    try:
        verify_witnessed(note, releases_policy(root))
    except PolicyError:
        return False
    return True


@pytest.mark.parametrize(
    ("cosigned_by", "met"),
    [
        ((), False),
        (("lab/1",), False),
        (("lab/1", "lab/2"), False),
        (("uni/1",), False),
        (("lab/1", "uni/1"), True),
        (("lab/2", "uni/1"), True),
        (("lab/1", "lab/2", "ngo/1"), True),
        (("uni/1", "ngo/1"), True),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, tuple) else str(value),
)
def test_two_of_three_organisations_must_cosign(
    world: World, cosigned_by: tuple[str, ...], met: bool
) -> None:
    root = root_of(world, 2, LAB_ONE, LAB_TWO, UNI, NGO)
    assert is_met(world, root, *cosigned_by) is met


def test_two_witnesses_of_one_organisation_cannot_make_up_a_quorum_of_two(world: World) -> None:
    with pytest.raises(CallerError, match="each counts once") as caught:
        root_of(world, 2, LAB_ONE, LAB_TWO)
    assert caught.value.code == "bad_root"


@pytest.mark.parametrize(
    "spelling", ["Lab.Example", " lab.example", "lab.example ", "ｌab.example"]
)
def test_one_organisation_in_two_spellings_is_refused(world: World, spelling: str) -> None:
    with pytest.raises(CallerError) as caught:
        root_of(world, 2, LAB_ONE, ("lab/2", spelling))
    assert caught.value.code == "witness_organisation"


def test_the_operator_in_another_spelling_is_still_the_operator(world: World) -> None:
    with pytest.raises(CallerError) as caught:
        root_of(world, 1, ("w", "Maker.Example"))
    assert caught.value.code == "witness_inside"


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "uni/1"},
        {"name": "witnesses"},
        {"name": "none"},
        {"name": ""},
        {"name": "a b"},
        {"name": "a\nquorum"},
        {"vkey": "no key"},
        {"vkey": f"{signer('ngo/1').vkey} https://elsewhere.example"},
        {"url": "http://far.example/"},
        {"url": "https://user@far.example/"},
        {"organisation": " "},
    ],
    ids=lambda changes: "-".join(f"{k} {v[:12]!r}" for k, v in changes.items()),
)
def test_a_witness_that_would_make_another_policy_is_refused(
    world: World, changes: dict[str, str]
) -> None:
    other = msgspec.structs.replace(witness(*NGO), **changes)
    with pytest.raises(CallerError) as caught:
        parse_root(world.root_payload(witnesses=(witness(*UNI), other), witness_quorum=1))
    assert caught.value.code == "bad_root"


def test_one_key_is_not_two_witnesses(world: World) -> None:
    other = msgspec.structs.replace(witness(*NGO), vkey=signer("uni/1").vkey)
    with pytest.raises(CallerError) as caught:
        parse_root(world.root_payload(witnesses=(witness(*UNI), other), witness_quorum=1))
    assert caught.value.code == "key_in_two_roles"


def test_an_age_that_no_witness_could_keep_is_refused(world: World) -> None:
    assert parse_root(world.root_payload(witness_max_age_ms=60_000)).witness_max_age_ms == 60_000
    with pytest.raises(CallerError, match="time to answer"):
        parse_root(world.root_payload(witness_max_age_ms=59_999))


def test_an_older_root_reads_and_means_what_it_did(world: World) -> None:
    payload = world.root_payload()
    # As they were written before witnesses had an address, and their word an age.
    old = msgspec.json.decode(payload)
    del old["witness_max_age_ms"]
    del old["witnesses"][0]["url"]
    root = parse_root(msgspec.json.encode(old))
    assert root == world.root
    assert format_policy(releases_policy(root)).decode() == (
        f"log {world.log.vkey}\nwitness w1 {world.witness.vkey}\n"
        "group witnesses 1 w1\nquorum witnesses\n"
    )


def test_the_policy_has_a_group_for_each_organisation_with_several(world: World) -> None:
    root = root_of(world, 2, LAB_ONE, LAB_TWO, UNI, url="https://w.example/")
    lines = format_policy(releases_policy(root)).decode().splitlines()
    assert lines[1] == f"witness lab/1 {signer('lab/1').vkey} https://w.example/"
    assert lines[4:] == [
        "group organisation:lab.example 1 lab/1 lab/2",
        "group witnesses 2 organisation:lab.example uni/1",
        "quorum witnesses",
    ]
    # What an auditor is given says the same.
    assert dossier_policy(root, ()).decode().splitlines() == lines


def test_an_organisation_is_as_independent_as_the_least_of_its_witnesses(world: World) -> None:
    proven = dataclasses.replace(world, proof="sha256:" + "0" * 64)

    def assurance(quorum: int, *inside: str) -> str:
        named = (LAB_ONE, LAB_TWO, UNI)
        root = root_of(proven, quorum, *named)
        witnesses = tuple(
            msgspec.structs.replace(w, independent=w.name not in inside) for w in root.witnesses
        )
        root = msgspec.structs.replace(root, witnesses=witnesses)
        keys = ("safety:sam", "overseer:vera")
        signers = tuple(
            Signer(
                key=proven.keys[k].id,
                person=k.split(":")[1],
                organisation=root.person(k.split(":")[1]).organisation,
                role=k.split(":")[0],
            )
            for k in keys
        )
        return assurance_of(root, signers).value

    assert assurance(1) == "witnessed"
    assert assurance(2) == "witnessed"
    assert assurance(1, "lab/2") == "overseen"
    assert assurance(2, "lab/2") == "overseen"
    assert assurance(1, "uni/1") == "overseen"
