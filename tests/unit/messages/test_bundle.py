"""What a gateway refuses to serve from, whoever hands it over."""

from __future__ import annotations

import msgspec
import pytest

from gatelift.errors import CallerError
from gatelift.messages import BUNDLE_TYPE, EntryKind, verify_bundle, verify_roster
from gatelift.terms import Endpoint, Tier
from gatelift.trust import Grant, GrantKey, key_digest, sign_envelope
from tests.support.bundles import Shelf
from tests.support.world import HOUR, NOW, World, digest_of


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def shelf_with(world: World, data: bytes, *, cosigned: bool = True) -> Shelf:
    shelf = Shelf(world, cosigned=cosigned)
    shelf.log(EntryKind.ROOT, world.root_envelope)
    shelf.log(EntryKind.CERTIFICATE, data)
    return shelf


def test_a_logged_and_witnessed_certificate_counts(world: World) -> None:
    shelf = shelf_with(world, world.signed_certificate())
    found = verify_bundle(shelf.bundle(), shelf.read, world.root_digest, NOW)
    assert set(found.certificates) == {"internal"}
    assert not found.rejected
    assert found.largest_checkpoint == 2


def test_the_newest_certificate_of_a_stage_counts(world: World) -> None:
    shelf = shelf_with(world, world.signed_certificate(sequence=2))
    shelf.log(EntryKind.CERTIFICATE, world.signed_certificate(sequence=1))
    found = verify_bundle(shelf.bundle(), shelf.read, world.root_digest, NOW)
    assert found.certificates["internal"].certificate.sequence == 2


def rejected_code(world: World, shelf: Shelf, data: bytes | None = None) -> str:
    found = verify_bundle(data or shelf.bundle(), shelf.read, world.root_digest, NOW)
    assert not found.certificates
    assert len(found.rejected) == 1
    return found.rejected[0].code


def test_without_the_witness_a_certificate_is_nothing(world: World) -> None:
    shelf = shelf_with(world, world.signed_certificate(), cosigned=False)
    assert rejected_code(world, shelf) == "quorum_not_met"


def test_a_proof_of_something_else_proves_nothing(world: World) -> None:
    shelf = shelf_with(world, world.signed_certificate())
    logged = shelf.logged(1)
    other = shelf.put(world.signed_certificate(sequence=7))
    swapped = msgspec.structs.replace(logged, envelope=other)
    assert rejected_code(world, shelf, shelf.bundle(certificates=(swapped,))) == "not_logged"


def test_a_proof_of_another_kind_of_entry_proves_nothing(world: World) -> None:
    shelf = Shelf(world)
    shelf.log(EntryKind.REVIEW, world.signed_certificate())
    bundle = shelf.bundle(certificates=(shelf.logged(0),))
    assert rejected_code(world, shelf, bundle) == "not_logged"


def test_a_wider_certificate_is_left_out_and_the_others_stand(world: World) -> None:
    shelf = shelf_with(world, world.signed_certificate())
    envelope = msgspec.structs.replace(world.certificate("assess").envelope, caps=())
    shelf.log(EntryKind.CERTIFICATE, world.signed_certificate("assess", envelope=envelope))
    found = verify_bundle(shelf.bundle(), shelf.read, world.root_digest, NOW)
    assert set(found.certificates) == {"internal"}
    assert [r.code for r in found.rejected] == ["envelope_too_wide"]


def test_a_bundle_under_another_root_is_refused(world: World) -> None:
    shelf = shelf_with(world, world.signed_certificate())
    with pytest.raises(CallerError):
        verify_bundle(shelf.bundle(root=digest_of("x")), shelf.read, world.root_digest, NOW)


def test_a_bundle_that_control_did_not_sign_is_refused(world: World) -> None:
    shelf = shelf_with(world, world.signed_certificate())
    forged = sign_envelope(b"{}", BUNDLE_TYPE, [world.keys["operator:olga"]])
    with pytest.raises(CallerError) as caught:
        verify_bundle(forged, shelf.read, world.root_digest, NOW)
    assert caught.value.code == "role_not_allowed"


def grant(world: World, **changes: object) -> Grant:
    made = Grant(
        id="grant_1",
        release=world.plan.name,
        stage="internal",
        principal="p1",
        organisation="o1",
        project="x",
        tier=Tier.INTERNAL,
        endpoints=(Endpoint.CHAT,),
        proofs=("identity",),
        vetting=None,
        keys=(GrantKey(public_id="abc", digest=key_digest("gl_abc_s")),),
        not_before=NOW - HOUR,
        not_after=NOW + HOUR,
    )
    return msgspec.structs.replace(made, **changes)


def test_a_roster_admits_whom_admissions_signed_inside_the_plan(world: World) -> None:
    shelf = Shelf(world)
    good = world.sign("grant", grant(world), "admissions:ada")
    wide = world.sign("grant", grant(world, id="g2", tier=Tier.PUBLIC), "admissions:ada")
    forged = world.sign("grant", grant(world, id="g3"), "control:machine")
    twice = world.sign("grant", grant(world, id="g4"), "admissions:ada")
    found = verify_roster(shelf.roster(good, wide, forged, twice), world.root, world.plan)
    assert set(found.by_public_id) == {"abc"}
    assert found.by_public_id["abc"].id == "grant_1"
    assert [r.code for r in found.rejected] == [
        "grant_too_wide",
        "role_not_allowed",
        "duplicate_key_id",
    ]
