"""A node that starts under a later root: what was logged under an earlier one is judged by that.

Seen to fail: with entries judged by the pinned root, stops and approvals by keys that are gone counted
for nothing; with the root of the log not held against the pinned one, statuses passed on a log that leads
elsewhere; with what was kept and never logged judged once only, it was lost.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from gatelift.encoding import encode_json, sha256_digest
from gatelift.ledger import LedgerError
from gatelift.ledger.following import OrderDesk, ReleasesFollower
from gatelift.messages import Condition, EntryKind, Review, releases_policy
from gatelift.trust import Clear, Key, Role, Root, Scheme, Target, TargetKind
from gatelift.wire.files import FileStore
from tests.integration.keeper_house import House
from tests.support.world import key


class Node(House):
    """A host whose first root is followed by one in which others hold the keys of some roles."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.first = self.world.root
        self.root = self.first

    def replace(self, *names: str, log: bool = True, **changes: Any) -> Root:
        """Sign the root in which each of these keys is another, and log it."""
        root = self.root
        keys, roles = dict(root.keys), dict(root.roles)
        for name in names:
            role, person = name.split(":")
            old, new = self.world.keys[name], key(f"{name}/2")
            self.world.keys[f"{name}/2"] = new
            keys[new.id] = Key(scheme=Scheme.ED25519, public=new.public_text, person=person)
            if all(old.id not in held.keys for kind, held in roles.items() if kind != role):
                del keys[old.id]
            roles[role] = Role(keys=(new.id,), threshold=roles[role].threshold)
        made = msgspec.structs.replace(
            root, version=root.version + 1, keys=keys, roles=roles, **changes
        )
        envelope = self.world.sign_root(encode_json(made))
        if log:
            self.log(EntryKind.ROOT, envelope)
        self.root = made
        return made

    def desk(self, root: Root | None = None, index: str = "orders") -> OrderDesk:
        """Return the desk of a node that starts now, with `root` pinned."""
        pinned = root or self.root
        memory = self.directory / f"memory-{index}"
        return OrderDesk(
            root=pinned,
            first=self.first,
            files=FileStore(self.directory / "files"),
            index=self.directory / index,
            follower=ReleasesFollower(
                self.directory / "logs" / "releases", memory, releases_policy(pinned)
            ),
            on_new=lambda _: None,
        )

    def refused(self, desk: OrderDesk, *orders: bytes) -> str:
        """Return by which code a status is refused that names these orders; empty for none."""
        try:
            desk.check_status(self.status(*orders), self.world.now)
        except LedgerError as error:
            return error.code
        return ""


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path / "d")


def stop_key(node: Node, name: str = "order_1", by: str = "stop:sam") -> bytes:
    return node.order(name, by=by, target=Target(kind=TargetKind.KEY, name="abc"))


def test_a_stop_by_a_key_that_is_gone_must_be_named_by_every_status(node: Node) -> None:
    order = stop_key(node)
    node.log(EntryKind.ORDER, order)
    node.replace("stop:sam")
    desk = node.desk()
    assert node.refused(desk) == "incomplete_status"
    assert node.refused(desk, order) == ""
    assert [frame.envelope for frame in desk.frames()] == [order]


def test_a_lift_by_a_key_that_is_gone_still_lifts_and_one_after_it_does_not(node: Node) -> None:
    orders = [stop_key(node, f"order_{number}") for number in range(2)]
    for order in orders:
        node.log(EntryKind.ORDER, order)
    signers = ("admissions:ada", "security:sue")

    def clear(number: int) -> bytes:
        value = Clear(release=node.world.plan.name, orders=(f"order_{number}",), at=node.world.now)
        return node.world.sign("clear", value, *signers)

    node.log(EntryKind.CLEAR, clear(0))
    node.replace("security:sue")
    node.log(EntryKind.CLEAR, clear(1))
    desk = node.desk()
    assert node.refused(desk) == "incomplete_status"
    assert node.refused(desk, orders[1]) == ""
    frames = [frame.envelope for frame in desk.frames()]
    assert orders[0] not in frames, "a worker could not tell who was allowed to lift it then"
    assert orders[1] in frames


def test_a_stop_that_was_kept_and_never_logged_is_held_again(node: Node) -> None:
    order = stop_key(node)
    node.desk().adopt_order(order)
    node.replace("stop:sam")
    desk = node.desk()
    desk.follow()
    assert [frame.envelope for frame in desk.frames()] == [order]
    assert desk.unlogged() == (order,)


def test_a_stop_by_a_key_of_a_root_in_between_is_held_again(node: Node) -> None:
    node.replace("stop:sam")
    order = stop_key(node, by="stop:sam/2")
    node.desk().adopt_order(order)
    node.world.keys["stop:sam"] = node.world.keys["stop:sam/2"]
    node.replace("stop:sam")
    desk = node.desk()
    desk.follow()
    assert [frame.envelope for frame in desk.frames()] == [order]


def test_nothing_passes_while_a_stop_was_kept_that_nobody_vouches_for(node: Node) -> None:
    node.desk().adopt_order(stop_key(node))
    first, node.first = node.first, node.replace("stop:sam")
    assert node.refused(node.desk()) == "unproven_order", "the first root was forgotten"
    node.first = first
    assert node.refused(node.desk()) == ""


def test_a_key_that_is_gone_stops_nothing_any_more(node: Node) -> None:
    node.replace("stop:sam")
    desk = node.desk()
    desk.follow()
    order = stop_key(node)
    with pytest.raises(Exception, match="no signature by a key of this root"):
        desk.adopt_order(order)
    node.log(EntryKind.ORDER, order)
    assert node.refused(desk) == ""


def test_an_approval_by_a_key_that_is_gone_still_bounds_the_certificate(node: Node) -> None:
    few = Condition(text="two", max_organisations=1)
    review = Review(
        id="review_1",
        release=node.world.plan.name,
        stage="internal",
        approves=True,
        plan=node.world.plan_digest,
        fingerprint=node.world.fingerprint,
        evidence=(),
        note="read",
        conditions=(few,),
    )
    node.log(EntryKind.REVIEW, node.world.sign("review", review, "security:sue"))
    wide = node.world.signed_certificate("internal", sequence=2)
    node.log(EntryKind.CERTIFICATE, wide)
    node.certificate = sha256_digest(wide)
    node.replace("security:sue")
    assert node.refused(node.desk()) == "exceeds_condition"


def test_a_log_that_leads_to_another_root_than_the_pinned_one_passes_nothing(node: Node) -> None:
    pinned = node.replace("stop:sam", log=False)
    assert node.refused(node.desk(pinned)) == "bad_log", "the log has not come there yet"
    node.root = node.first
    node.replace("security:sue")
    assert node.refused(node.desk(pinned, index="other")) == "bad_log"
