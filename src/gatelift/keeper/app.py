"""Starting a keeper from a deployment's folder, and stopping it.

Invariants
- It starts only as an enrolled node: the root that the host pins names it, and the keys in `keys/`
  are the ones that the root names.
- One keeper a deployment: its own journal's lock says so.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from pathlib import Path

import uvloop

from gatelift.encoding import ID_ENTROPY_BYTES, make_id
from gatelift.errors import GateliftError
from gatelift.journal import Writer
from gatelift.keeper.errors import KeeperError
from gatelift.keeper.journals import KEEPER, Journals
from gatelift.keeper.node import Node
from gatelift.keeper.own_grants import OwnGrantDesk
from gatelift.keeper.pinning import Pin
from gatelift.keeper.sealing import Issuer
from gatelift.keeper.serving import Serving
from gatelift.ledger import HEADS
from gatelift.ledger.following import OrderDesk, ReleasesFollower
from gatelift.messages import releases_policy
from gatelift.tlog import public_key_of
from gatelift.trust import Root, parse_public_key, unverified_root, verify_root
from gatelift.wire.files import FileStore, make_directory
from gatelift.wire.keyfiles import load_private_key, load_secret_text, load_signing_key
from gatelift.wire.memory import settle_collector
from gatelift.wire.pinned_root import read_pinned_roots
from gatelift.wire.sealing import load_upstream_ca, upstream_ca_paths
from gatelift.wire.sockets import socket_path

__all__ = ["run"]


def run(directory: Path, *, node: str, replica: Path | None = None) -> None:
    """Run the keeper of `node` until SIGTERM or SIGINT; `replica` is a folder on a second store.

    Raises `GateliftError` when it may not start: the root is not the pinned one or has expired, the
    node or its keys are not the root's, or another keeper runs.
    """

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, stop.set)
        made = make_node(directory, node, replica)
        settle_collector()
        await made.run(stop)

    try:
        uvloop.run(main())
    except* GateliftError as group:
        raise group.exceptions[0] from None


def make_node(directory: Path, node: str, replica: Path | None = None) -> Node:
    """Return the keeper of `node`, ready to run in this event loop; takes its journal's lock."""
    now_ms = time.time_ns() // 1_000_000
    files = FileStore(directory / "files")
    roots = read_pinned_roots(directory)
    root = verify_root(files.get(roots.pinned), now_ms)
    keys = directory / "keys"
    batch_key = load_signing_key(keys / f"node-{node}-batch.key")
    log_key = load_private_key(keys / f"node-{node}-requests.key")
    _check_keys(root, node, batch_key.public, public_key_of(log_key))
    for name in ("run", "incoming", "orders", "logs", "journal"):
        make_directory(directory / name)
    (directory / "run").chmod(0o700)
    own = Writer(
        directory / "journal" / KEEPER,
        node=node,
        worker=KEEPER,
        run=make_id("run", now_ms, secrets.token_bytes(ID_ENTROPY_BYTES)),
        key=batch_key,
        replica=replica and replica / KEEPER,
    )
    follower = ReleasesFollower(
        directory / "logs" / "releases",
        directory / "run" / "largest-checkpoint",
        releases_policy(root),
    )
    upstream_key = keys / "upstream.key"
    ca_key, _ = upstream_ca_paths(directory, node)
    return Node(
        node=node,
        directory=directory,
        files=files,
        serving=Serving(node=node, files=files, pinned_root=roots.pinned, memory=directory / "run"),
        pin=Pin(directory, files, root.version),
        make_own_grants=lambda on_new: OwnGrantDesk(
            root=root, files=files, index=directory / "own-grants", on_new=on_new
        ),
        make_desk=lambda on_new, on_erasing, on_own_grant, on_root: OrderDesk(
            root=root,
            first=unverified_root(files.get(roots.first)),
            files=files,
            index=directory / "orders",
            follower=follower,
            on_new=on_new,
            on_erasing=on_erasing,
            on_own_grant=on_own_grant,
            on_root=on_root,
        ),
        journals=Journals(
            directory=directory / "journal",
            logs=directory / "logs" / "requests",
            heads=directory / HEADS / "requests",
            deployment=root.name,
            node=node,
            batch_key=batch_key,
            log_key=log_key,
            saved=directory / "run" / "folded",
        ),
        own=own,
        worker_socket=socket_path(directory, "keeper.sock"),
        control_socket=socket_path(directory, "control.sock"),
        order_socket=socket_path(directory, "orders.sock"),
        order_urls=root.order_urls,
        credential=load_secret_text(upstream_key) if upstream_key.exists() else None,
        issuer=Issuer(node, load_upstream_ca(ca_key, node) if ca_key.exists() else None),
        replica=replica,
    )


def _check_keys(root: Root, name: str, batch_key: bytes, log_key: bytes) -> None:
    enrolled = root.node(name)
    for what, ours, theirs in (
        ("batch", batch_key, enrolled.batch_key),
        ("requests", log_key, enrolled.requests_key),
    ):
        if parse_public_key(theirs) != ours:
            raise KeeperError(
                f"keys/node-{name}-{what}.key is not the key that the root enrols for node "
                f"{name!r}: restore it, or enrol the node anew",
                code="bad_deployment",
            )
