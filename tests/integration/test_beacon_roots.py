"""A beacon that runs takes the next root from the log, and judges by it what it signs.

Seen to fail: with no `on_root` it went on by the root before and refused the control of the new one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest

from gatelift.beacon import Beacon
from gatelift.errors import CallerError
from gatelift.messages import EntryKind
from gatelift.trust import Key, Person, Role, Scheme
from tests.integration.test_desk_over_roots import Node, stop_key
from tests.support.world import key


class Admin(SimpleHTTPRequestHandler):
    """What control's admin API hands a beacon of a deployment's folder."""

    def translate_path(self, path: str) -> str:
        asked = path.removeprefix("/admin/v1/")
        below = asked.replace("files/", "files/sha256/").replace("log/", "logs/releases/")
        return str(Path(self.directory) / below)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A node in whose root there is a beacon."""
    made = Node(tmp_path / "d")
    seat, root = key("beacon:bea"), made.root
    made.root = msgspec.structs.replace(
        root,
        people=(*root.people, Person(id="bea", organisation="press.example")),
        keys=root.keys
        | {seat.id: Key(scheme=Scheme.ED25519, public=seat.public_text, person="bea")},
        roles=root.roles | {"beacon": Role(keys=(seat.id,), threshold=1)},
    )
    made.replace("evaluator:eve")
    made.first = made.root
    return made


@pytest.fixture
def beacon(node: Node, tmp_path: Path) -> Iterator[Beacon]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Admin, directory=str(node.directory)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    found = Beacon(
        tmp_path / "beacon", root=node.first, key=key("beacon:bea"), url=url, token="token"
    )
    yield found
    found.close()
    server.shutdown()
    thread.join()
    server.server_close()


def refused(node: Node, beacon: Beacon, *orders: bytes) -> str:
    try:
        beacon.sign(node.status(*orders), node.world.now)
    except CallerError as error:
        return error.code
    except Exception as error:  # noqa: BLE001  an error of a peer has a code too
        return str(getattr(error, "code", error))
    return ""


def test_a_stop_by_a_key_of_the_next_root_is_not_hidden_from_a_beacon(
    node: Node, beacon: Beacon
) -> None:
    assert refused(node, beacon) == ""
    node.replace("stop:sam")
    assert refused(node, beacon) == ""
    order = stop_key(node, by="stop:sam/2")
    node.log(EntryKind.ORDER, order)
    assert refused(node, beacon) == "incomplete_status"
    assert refused(node, beacon, order) == ""


def test_a_status_of_the_next_roots_control_is_signed_and_of_the_one_before_is_not(
    node: Node, beacon: Beacon
) -> None:
    assert refused(node, beacon) == ""
    node.replace("control:machine")
    assert refused(node, beacon) == "", "the last by the key that is gone: it brings the root"
    assert refused(node, beacon) == "unknown_signers"
    node.world.keys["control:machine"] = node.world.keys["control:machine/2"]
    assert refused(node, beacon) == ""
