"""The roots that a worker knows: a stop by an earlier one holds, and nobody else's history is believed.

Seen to fail: with the history believed before it leads to the pinned root, a foreign one vouched for an order.
"""

from __future__ import annotations

import msgspec
import pytest

from gatelift.encoding import Digest, encode_json, sha256_digest
from gatelift.errors import CallerError
from gatelift.gateway.root_line import RootLine
from gatelift.trust import (
    ROOT_TYPE,
    Key,
    Order,
    Role,
    Root,
    Scheme,
    Target,
    TargetKind,
    sign_envelope,
    verify_order,
)
from tests.support.world import HOUR, NOW, World, key

SIGNERS = ("root:olga", "root:vera")


class Roots:
    """Roots of a world by digest; each next one has another key that stops."""

    def __init__(self) -> None:
        self.world = World()
        self.files = {self.world.root_digest: self.world.root_envelope}
        self.last = self.world.root
        self.digests = [self.world.root_digest]
        self.stops = ["stop:sam"]

    def next(self, *names: str, **changes: object) -> Digest:
        root, new = self.last, key(f"stop:{len(self.digests)}-{changes}")
        (old,) = root.roles["stop"].keys
        keys = {kid: held for kid, held in root.keys.items() if kid != old}
        keys[new.id] = Key(scheme=Scheme.ED25519, public=new.public_text, person="sam")
        roles = root.roles | {"stop": Role(keys=(new.id,), threshold=1)}
        made = msgspec.structs.replace(root, version=root.version + 1, keys=keys, roles=roles)
        self.last = msgspec.structs.replace(made, **changes)
        envelope = sign_envelope(
            encode_json(self.last), ROOT_TYPE, [key(name) for name in names or SIGNERS]
        )
        digest = sha256_digest(envelope)
        self.files[digest] = envelope
        self.digests.append(digest)
        return digest

    def line(self, pinned: int) -> RootLine:
        return RootLine(self.digests[0], self.digests[pinned], lambda digest: self.files[digest])

    def order(self, by: str) -> bytes:
        value = Order(
            id="order_1",
            release="aurora",
            target=Target(kind=TargetKind.KEY, name="abc"),
            ceiling=None,
            reasons=("test",),
            at=NOW,
        )
        return self.world.sign("order", value, by)


def versions(roots: tuple[Root, ...]) -> list[int]:
    return [each.version for each in roots]


def test_the_history_counts_once_it_leads_to_the_pinned_root() -> None:
    roots = Roots()
    for _ in range(2):
        roots.next()
    line = roots.line(pinned=2)
    assert line.follow(roots.digests[1], NOW) is None
    assert line.known == (), "it does not lead to the pinned one yet"
    assert line.follow(roots.digests[2], NOW) is None
    assert versions(line.known) == [2, 1]
    found = verify_order(roots.order("stop:sam"), roots.last, *line.known)
    assert found.by.person == "sam"
    with pytest.raises(CallerError):
        verify_order(roots.order("stop:sam"), roots.last)


def test_another_history_is_not_believed() -> None:
    roots = Roots()
    roots.next()
    line = roots.line(pinned=1)
    first, roots.last = roots.last, roots.world.root
    foreign = roots.next(issued_at=NOW - 2 * HOUR)
    assert first.version == roots.last.version
    assert line.follow(foreign, NOW) is None
    assert line.known == ()


def test_a_root_that_does_not_follow_is_no_part_of_the_history() -> None:
    roots = Roots()
    roots.next("root:olga")
    roots.next()
    line = roots.line(pinned=2)
    with pytest.raises(CallerError) as caught:
        line.follow(roots.digests[1], NOW)
    assert caught.value.code == "quorum_unmet"
    assert line.follow(roots.digests[2], NOW) is None
    assert line.known == ()


def test_an_earlier_root_that_is_over_still_judges_what_was_said_before() -> None:
    roots = Roots()
    roots.next(expires_at=NOW + HOUR)
    roots.next()
    line = roots.line(pinned=2)
    for digest in roots.digests[1:]:
        line.follow(digest, NOW + 2 * HOUR)
    assert versions(line.known) == [2, 1]


def test_a_successor_is_pinned_and_known_before_its_bundle_comes() -> None:
    roots = Roots()
    roots.next()
    line = roots.line(pinned=0)
    found = line.follow(roots.digests[1], NOW)
    assert found == roots.last
    assert line.pinned == roots.digests[1]
    assert versions(line.known) == [2, 1]


def test_a_file_with_other_bytes_is_no_root() -> None:
    roots = Roots()
    digest = roots.next()
    roots.files[digest] = roots.world.root_envelope
    with pytest.raises(CallerError) as caught:
        roots.line(pinned=0).follow(digest, NOW)
    assert caught.value.code == "wrong_root"
