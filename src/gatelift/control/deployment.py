"""What control takes hold of in its folder: store, files, keys, tokens, the log and its root.

Invariants
- Nothing is served from a folder that does not fit together: the control key has the control role
  in the root, the log's key is the one the root names, the first root is the pinned one.
- The lock is taken first and given back on every way out.
"""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from gatelift.control.assembling import Prepared
from gatelift.control.errors import ControlError
from gatelift.control.refold import Refolded, refold
from gatelift.control.tokens import AdminTokens, load_admin_tokens
from gatelift.encoding import Digest, decode_json, sha256_digest
from gatelift.ledger import HEADS, HeadMemory, NewEntry, ReleasesLog
from gatelift.messages import EntryHeader, EntryKind, releases_policy
from gatelift.store import Store
from gatelift.tlog import NoteSigner, format_proof, parse_vkey
from gatelift.trust import Root, SigningKey, verify_root
from gatelift.wire.files import FileStore
from gatelift.wire.keyfiles import load_private_key, load_signing_key

__all__ = ["Deployment", "open_deployment"]

_MAX_ROOT_BYTES = 1024 * 1024
_LOG = logging.getLogger(__name__)


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """An opened folder. `root_envelope` is logged first where the log is empty."""

    store: Store
    files: FileStore
    log: ReleasesLog
    memory: HeadMemory
    publish_dir: Path
    control_key: SigningKey
    tokens: AdminTokens
    refolded: Refolded
    root: Root
    root_digest: Digest
    root_envelope: bytes
    orders_and_clears: tuple[tuple[EntryKind, bytes], ...]

    def close(self) -> None:
        """Give store and memory back."""
        self.memory.close()
        self.store.close()

    def append(self, entries: tuple[Prepared, ...]) -> None:
        """Store a transaction's entries, durably."""
        group = [
            NewEntry(
                at=entry.header.at,
                kind=entry.header.kind,
                actor=entry.header.actor,
                visibility=entry.header.visibility,
                body=entry.body,
                end=entry.header.end,
            )
            for entry in entries
        ]
        _ = self.log.append(group, expected_size=entries[0].index)

    def prove(self, index: int, note: bytes) -> tuple[bytes, bytes]:
        """Return the leaf of an entry and its tlog-proof under the head `note`."""
        return self.store.leaf(index), format_proof(self.log.proof(index, note))

    def prove_earliest(self, index: int, root: Root) -> tuple[bytes, bytes] | None:
        """Return the leaf of an entry and its proof under the first head that `root` counts."""
        proof = self.log.earliest_proof(index, releases_policy(root))
        return None if proof is None else (self.store.leaf(index), format_proof(proof))

    def entries(self, first: int, stop: int) -> list[tuple[EntryHeader, bytes]]:
        """Return the stored headers and bodies from `first` up to, not including, `stop`."""
        headers = [decode_json(leaf, EntryHeader) for leaf in self.store.leaves(first, stop)]
        return [(header, self.files.get(header.body)) for header in headers]


def open_deployment(directory: Path, now_ms: int) -> Deployment:
    """Take hold of the deployment in `directory`; `now_ms` judges a first root's expiry."""
    store = Store.open(directory / "store")
    try:
        return _open(directory, store, now_ms)
    except BaseException:
        store.close()
        raise


def _open(directory: Path, store: Store, now_ms: int) -> Deployment:
    files = FileStore(directory / "files")
    refolded = refold(store, files)
    envelope = b""
    if refolded.state.root is None or refolded.state.root_digest is None:
        envelope = _read_root(directory)
        root, digest = verify_root(envelope, now_ms), sha256_digest(envelope)
    else:
        root, digest = refolded.state.root, refolded.state.root_digest
    control_key = load_signing_key(directory / "keys" / "control.key")
    if control_key.id not in root.roles["control"].keys:
        raise ControlError(
            f"keys/control.key is not a control key of root {root.version} of {root.name!r}",
            code="wrong_key",
        )
    signer = NoteSigner(
        f"{root.name}/releases", load_private_key(directory / "keys" / "releases-log.key")
    )
    if signer.vkey != root.releases_vkey:
        raise ControlError(
            f"keys/releases-log.key is not the log key that root {root.version} names",
            code="wrong_key",
        )
    tokens = load_admin_tokens(directory / "keys" / "admin-tokens.json")
    orders_and_clears = _orders_and_clears(store, files, refolded)
    publish_dir = directory / "logs" / "releases"
    memory = HeadMemory(directory / HEADS / "releases", signer.key)
    log = _open_log(store, files, publish_dir, signer, memory, root)
    return Deployment(
        store=store,
        files=files,
        log=log,
        memory=memory,
        publish_dir=publish_dir,
        control_key=control_key,
        tokens=tokens,
        refolded=refolded,
        root=root,
        root_digest=digest,
        root_envelope=envelope,
        orders_and_clears=orders_and_clears,
    )


def _open_log(
    store: Store,
    files: FileStore,
    publish_dir: Path,
    signer: NoteSigner,
    memory: HeadMemory,
    root: Root,
) -> ReleasesLog:
    witnesses = [parse_vkey(witness.vkey) for witness in root.witnesses]
    if memory.largest is None and store.checkpoint() is not None:
        _LOG.warning(
            "no memory of the heads that were signed: it is begun again from the store, and only a "
            "witness can tell whether that is the newest"
        )
    try:
        log = ReleasesLog(store, files, publish_dir, signer, memory, witnesses)
    except BaseException:
        memory.close()
        raise
    if log.mended:
        _LOG.warning(
            "published files differed from the store and were written again: %s", log.mended
        )
    return log


def _read_root(directory: Path) -> bytes:
    path = directory / "root.json"
    try:
        with path.open("rb") as file:
            envelope = file.read(_MAX_ROOT_BYTES)
    except OSError as error:
        raise ControlError(
            f"the log is empty and {path} cannot be read ({error.strerror}): "
            "put the signed root there",
            code="root_missing",
        ) from error
    pin = directory / "root.sha256"
    if pin.exists() and pin.read_text("ascii").strip() != sha256_digest(envelope):
        raise ControlError(
            f"{path} is not the root that {pin.name} pins: find out which of the two was changed",
            code="wrong_root",
        )
    return envelope


def _orders_and_clears(
    store: Store, files: FileStore, refolded: Refolded
) -> tuple[tuple[EntryKind, bytes], ...]:
    by_index = {index: digest for digest, index in refolded.logged.items()}
    return tuple(
        (kind, files.get(by_index[index]))
        for kind in (EntryKind.ORDER, EntryKind.CLEAR)
        for index in store.positions(kind.value)
        if index in by_index
    )
