"""What a worker adopts, and what it does not, whoever hands it over."""

from __future__ import annotations

import contextlib

import msgspec
import pytest

from gatelift.encoding import sha256_digest
from gatelift.errors import CallerError
from gatelift.gateway.holdings import Holdings, Identified
from gatelift.gateway.standing import Standing
from gatelift.messages import EntryKind, Placement
from gatelift.terms import Binding, Endpoint, Sealing, Tier
from gatelift.trust import (
    Clear,
    Grant,
    GrantError,
    GrantKey,
    Order,
    Refusal,
    Status,
    Target,
    TargetKind,
    carried_key,
    key_digest,
    sign_status,
)
from tests.support.bundles import Shelf
from tests.support.world import HOUR, NOW, World
from tests.unit.messages.test_bundle import grant as make_grant

TTL = 10_000


class House:
    def __init__(self) -> None:
        self.world = World()
        self.shelf = Shelf(self.world)
        self.shelf.log(EntryKind.ROOT, self.world.root_envelope)
        self.holdings = Holdings(self.world.root_digest, self.shelf.read)
        self.grant: Grant = make_grant(self.world)
        self.number = 0

    def certify(self, **changes: object) -> None:
        self.shelf.log(EntryKind.CERTIFICATE, self.world.signed_certificate(**changes))

    def hand_over(
        self, *which: int, number: int = 1, placements: tuple[Placement, ...] = ()
    ) -> None:
        logged = tuple(self.shelf.logged(index) for index in which)
        self.bundle = sha256_digest(
            self.shelf.bundle(placements, certificates=logged, number=number)
        )
        self.holdings.adopt_bundle(self.bundle, NOW)
        envelope = self.world.sign("grant", self.grant, "admissions:ada")
        self.roster = sha256_digest(self.shelf.roster(envelope))
        self.holdings.adopt_roster(self.roster)

    def status(self, nonce: str, **changes: object) -> bytes:
        self.number += 1
        made = Status(
            release=self.world.plan.name,
            certificates=tuple(digest for digest, _, _ in self.shelf.leaves),
            orders=(),
            bundle=self.bundle,
            roster_number=1,
            roster=self.roster,
            checkpoint="",
            number=self.number,
            nonces=(nonce,),
            epoch=1,
            signed_at=NOW,
            ttl_ms=TTL,
        )
        made = msgspec.structs.replace(made, **changes)
        return sign_status(made, self.world.keys["control:machine"])

    def live(self, boot_ms: int = 0) -> None:
        self.holdings.ask("n", boot_ms)
        assert self.holdings.adopt_status(self.status("n"))

    def may(self, boot_ms: int = 1, now_ms: int = NOW) -> Standing | Refusal:
        return self.holdings.standing(Identified(self.grant, "abc"), now_ms, boot_ms)

    def order(self, kind: TargetKind, name: str, until: int | None = None) -> bytes:
        made = Order(
            id="order_1",
            release=self.world.plan.name,
            target=Target(kind=kind, name=name),
            ceiling=None,
            reasons=("test",),
            at=NOW,
            until=until,
        )
        return self.world.sign("order", made, "safety:sam")


@pytest.fixture
def house() -> House:
    made = House()
    made.certify(sequence=1)
    made.certify(sequence=2)
    made.hand_over(1, 2)
    return made


def test_without_a_status_nothing_is_permitted(house: House) -> None:
    answer = house.may()
    assert isinstance(answer, Refusal)
    assert answer.code == "status_lapsed"


def test_a_status_lives_from_the_asking_and_lapses(house: House) -> None:
    house.live(boot_ms=5)
    assert isinstance(house.may(5 + TTL - 1), Standing)
    assert isinstance(house.may(5 + TTL), Refusal)


def test_a_status_that_answers_others_is_nothing_to_us(house: House) -> None:
    assert not house.holdings.adopt_status(house.status("somebody else's"))
    assert isinstance(house.may(), Refusal)


def test_a_replayed_status_gives_no_more_life(house: House) -> None:
    house.holdings.ask("n", 0)
    data = house.status("n")
    assert house.holdings.adopt_status(data)
    assert not house.holdings.adopt_status(data)
    assert isinstance(house.may(TTL), Refusal)


def test_a_status_that_names_an_order_we_lack_is_refused(house: House) -> None:
    house.holdings.ask("n", 0)
    with pytest.raises(CallerError):
        house.holdings.adopt_status(house.status("n", orders=(sha256_digest(b"x"),)))
    assert isinstance(house.may(), Refusal)


def test_an_earlier_certificate_is_not_taken_back(house: House) -> None:
    house.live()
    answer = house.may()
    assert isinstance(answer, Standing)
    assert answer.permission.certificate.certificate.sequence == 2
    house.hand_over(1, number=2)
    house.live()
    gone = house.may()
    assert isinstance(gone, Refusal)
    assert gone.code == "no_certificate"


def test_a_clear_lifts_a_stop_of_an_organisation_and_never_one_of_a_stage(house: House) -> None:
    house.live()
    clear = Clear(release=house.world.plan.name, orders=("order_1",), at=NOW)
    lifted = house.world.sign("clear", clear, "admissions:ada", "safety:sam")
    house.holdings.adopt_order(house.order(TargetKind.ORGANISATION, "o1"))
    assert isinstance(house.may(), Refusal)
    house.holdings.adopt_clear(lifted)
    assert isinstance(house.may(), Standing)
    house.holdings.adopt_order(house.order(TargetKind.STAGE, "internal"))
    assert isinstance(house.may(), Refusal)


def test_an_order_before_any_bundle_waits_and_then_acts() -> None:
    made = House()
    made.certify()
    made.holdings.adopt_order(b"rubbish")
    made.holdings.adopt_order(made.order(TargetKind.RELEASE, "aurora"))
    made.hand_over(1)
    made.live()
    answer = made.may()
    assert isinstance(answer, Refusal)
    assert answer.code == "stopped"


def test_what_was_judged_is_kept_until_something_begins_or_ends(house: House) -> None:
    house.live()
    first = house.may()
    assert house.may() is first, "judged once"
    certificate = next(iter(house.holdings.bundle.certificates.values())).certificate
    last = min(certificate.not_after, house.grant.not_after)
    assert house.may(now_ms=last - 1) is first
    ended = house.may(now_ms=last)
    assert isinstance(ended, Refusal)
    assert ended.code in {"no_certificate", "grant_expired"}
    # A clock that was set back is no way to what stood before.
    begin = max(certificate.not_before, house.grant.not_before)
    assert isinstance(house.may(now_ms=begin - 1), Refusal)


def test_an_order_ends_what_was_judged_and_so_does_its_own_end(house: House) -> None:
    house.live()
    assert isinstance(house.may(), Standing)
    house.holdings.adopt_order(house.order(TargetKind.KEY, "abc", until=NOW + 50))
    assert isinstance(house.may(), Refusal)
    assert isinstance(house.may(now_ms=NOW + 49), Refusal)
    assert isinstance(house.may(now_ms=NOW + 50), Standing)


def test_a_key_from_elsewhere_is_known_by_its_digest() -> None:
    house = House()
    theirs = "sk-" + "k" * 22
    house.grant = msgspec.structs.replace(house.grant, keys=(carried_key(key_digest(theirs)),))
    house.certify(sequence=1)
    house.hand_over(1)
    found = house.holdings.identify(theirs.encode())
    assert found is not None
    assert found.public_id == carried_key(key_digest(theirs)).public_id
    assert house.holdings.identify(b"sk-" + b"x" * 22) is None
    # Not even by its public id, which stands in records, is the digest a key.
    assert house.holdings.identify(f"gl_{found.public_id}_secret".encode()) is None
    assert house.holdings.identify(key_digest(theirs).encode()) is None


def test_a_grant_that_a_newer_roster_lacks_is_gone_at_once(house: House) -> None:
    house.live()
    assert isinstance(house.may(), Standing)
    house.holdings.adopt_roster(sha256_digest(house.shelf.roster(number=2)))
    gone = house.may()
    assert isinstance(gone, Refusal)
    assert gone.code == "grant_expired"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"not_after": NOW + 2 * HOUR}, None),
        ({"endpoints": (Endpoint.MODELS,)}, "endpoint_not_granted"),
        ({"not_after": NOW}, "grant_expired"),
        ({"id": "grant_2"}, "grant_expired"),
        ({"principal": "p2"}, "grant_expired"),
        ({"organisation": "o2"}, "endpoint_not_granted"),
        ({"stage": "assess", "tier": Tier.EVALUATORS}, "no_certificate"),
    ],
)
def test_an_open_exchange_is_judged_by_the_grant_as_it_was_changed(
    house: House, changes: dict[str, object], code: str | None
) -> None:
    house.live()
    changed = house.world.sign(
        "grant", msgspec.structs.replace(house.grant, **changes), "admissions:ada"
    )
    house.roster = sha256_digest(house.shelf.roster(changed, number=2))
    house.holdings.adopt_roster(house.roster)
    assert isinstance(house.may(), Standing), "a roster counts from the status that names it"
    house.live()
    answer = house.may()
    assert (answer.code if isinstance(answer, Refusal) else None) == code


HERE = Placement(name="here", base_url="http://127.0.0.1:1", model="m", baseline=None)
THERE = msgspec.structs.replace(HERE, name="there", base_url="http://127.0.0.1:2")
VETTED = {"stage": "researchers", "tier": Tier.VERIFIED, "proofs": ("identity", "terms@1")}


def researching(
    sealing: Sealing = Sealing.DECLARED, binding: Binding = Binding.CLAIMED, **changes: object
) -> House:
    """A house whose grant names a stage of which the plan asks for an upstream that is `declared`."""
    made = House()
    made.grant = msgspec.structs.replace(made.grant, **(VETTED | changes))
    levels = msgspec.structs.replace(
        made.world.certificate("researchers").levels, sealing=sealing, binding=binding
    )
    made.certify()
    made.shelf.log(
        EntryKind.CERTIFICATE, made.world.signed_certificate("researchers", levels=levels)
    )
    made.hand_over(1, 2, placements=(HERE, THERE))
    made.live()
    return made


@pytest.mark.parametrize(
    ("said", "seen", "serves"),
    [
        (Sealing.DECLARED, Sealing.OPEN, False),
        (Sealing.DECLARED, Sealing.DECLARED, True),
        (Sealing.DECLARED, Sealing.SEALED, True),
        # The plan would be content with less, those who signed were told more.
        (Sealing.SEALED, Sealing.DECLARED, False),
        (Sealing.SEALED, Sealing.SEALED, True),
    ],
)
def test_a_certificate_is_not_served_from_where_probes_show_less_than_it_says(
    said: Sealing, seen: Sealing, serves: bool
) -> None:
    house = researching(said)
    house.holdings.set_placement("here", up=True, sealing=said)
    assert isinstance(house.may(), Standing)
    house.holdings.set_placement("here", up=True, sealing=seen)
    answer = house.may()
    assert isinstance(answer, Standing) is serves
    if isinstance(answer, Refusal):
        assert answer.code == "sealing_below"
        assert f"{said.value}, and probes from outside find it {seen.value}" in answer.message
    house.holdings.set_placement("here", up=True, sealing=said)
    assert isinstance(house.may(), Standing), "once the door is shut again"


def test_what_a_node_does_not_say_of_the_sealing_is_open() -> None:
    house = researching()
    house.holdings.set_placement("here", up=True)
    assert isinstance(house.may(), Refusal)


def test_one_open_door_of_an_enrolled_placement_counts_for_all_of_them() -> None:
    house = researching()
    house.holdings.set_placement("here", up=True, sealing=Sealing.DECLARED)
    house.holdings.set_placement("there", up=True, sealing=Sealing.OPEN)
    house.holdings.take_out("there")
    house.holdings.set_placement("elsewhere", up=True, sealing=Sealing.OPEN)
    assert isinstance(house.may(), Refusal), "it answers strangers, if not us"
    house.holdings.set_placement("there", up=False, sealing=Sealing.OPEN)
    assert isinstance(house.may(), Standing)


def test_an_open_upstream_leaves_a_stage_alone_of_which_the_plan_asks_no_sealing(
    house: House,
) -> None:
    house.hand_over(1, 2, number=2, placements=(HERE,))
    house.live()
    house.holdings.set_placement("here", up=True, sealing=Sealing.OPEN)
    answer = house.may()
    assert isinstance(answer, Standing)
    assert answer.permission.certificate.certificate.levels.sealing is Sealing.DECLARED


def test_a_stop_is_told_before_the_sealing() -> None:
    house = researching()
    house.holdings.set_placement("here", up=True, sealing=Sealing.OPEN)
    house.holdings.adopt_order(house.order(TargetKind.STAGE, "researchers"))
    answer = house.may()
    assert isinstance(answer, Refusal)
    assert answer.code == "stopped"


KEY = b"gl_abc_" + b"s" * 20


def keyed() -> House:
    made = House()
    made.grant = msgspec.structs.replace(
        made.grant, keys=(GrantKey(public_id="abc", digest=key_digest(KEY.decode())),)
    )
    made.certify()
    made.hand_over(1)
    made.live()
    return made


def test_a_key_that_was_found_once_is_found_again_and_no_other_key_is() -> None:
    house = keyed()
    found = house.holdings.identify(KEY)
    assert found is not None
    assert house.holdings.identify(KEY) is found
    for other in (KEY[:-1], KEY + b"s", KEY[:-1] + b"t", KEY.upper()):
        with contextlib.suppress(GrantError):
            assert house.holdings.identify(other) is None


def test_a_key_is_nobodys_once_the_roster_in_force_lacks_it() -> None:
    house = keyed()
    assert house.holdings.identify(KEY) is not None
    house.roster = sha256_digest(house.shelf.roster(number=2))
    house.holdings.adopt_roster(house.roster)
    house.live()
    assert house.holdings.identify(KEY) is None


def test_what_a_found_key_may_do_ends_with_status_orders_and_the_coming_roster() -> None:
    house = keyed()
    found = house.holdings.identify(KEY)
    assert found is not None

    def may(boot_ms: int = 1) -> bool:
        return isinstance(house.holdings.standing(found, NOW, boot_ms), Standing)

    assert may()
    assert may(TTL - 1)
    assert not may(TTL)
    house.holdings.adopt_order(house.order(TargetKind.KEY, "abc", until=NOW + 1))
    assert not may()
    house = keyed()
    found = house.holdings.identify(KEY)
    assert found is not None
    assert may()
    house.holdings.adopt_roster(sha256_digest(house.shelf.roster(number=2)))
    assert not may()


@pytest.mark.parametrize(
    ("said", "seen", "serves"),
    [
        (Binding.CLAIMED, Binding.CLAIMED, True),
        (Binding.CLAIMED, Binding.MEASURED, True),
        # The plan asks for nothing, those who signed were told `measured`.
        (Binding.MEASURED, Binding.CLAIMED, False),
        (Binding.MEASURED, Binding.MEASURED, True),
    ],
)
def test_a_certificate_is_not_served_from_weights_that_are_bound_by_less_than_it_says(
    said: Binding, seen: Binding, serves: bool
) -> None:
    house = researching(binding=said)

    def see(binding: Binding) -> None:
        house.holdings.set_placement("here", up=True, sealing=Sealing.DECLARED, binding=binding)

    see(seen)
    answer = house.may()
    assert isinstance(answer, Standing) is serves
    if isinstance(answer, Refusal):
        assert answer.code == "binding_below"
    see(Binding.MEASURED)
    assert isinstance(house.may(), Standing), "once they are measured again"


def test_one_placement_that_is_not_measured_counts_for_all_of_them() -> None:
    house = researching(binding=Binding.MEASURED)
    both = {"up": True, "sealing": Sealing.DECLARED}
    house.holdings.set_placement("here", **both, binding=Binding.MEASURED)  # type: ignore[arg-type]
    assert isinstance(house.may(), Standing)
    house.holdings.set_placement("there", **both)  # type: ignore[arg-type]
    assert isinstance(house.may(), Refusal), "what a node does not say is claimed"
