"""Judging a proposed status, and signing it or being silent.

    status of control --> fetch what it rests on --> judge as a keeper does --> sign the same bytes

Invariants
- Signed is only what control signed, over a log that extends the largest one ever seen, which is kept
  on disk before; that names every standing order, and serves from nothing that was replaced.
- Of a number one status is signed, and none of an earlier one.
- While the file `paused` lies in its folder it signs nothing: that is how its people stop service.
- Anything unknown is silence. A beacon cannot widen: it signs control's bytes or none.

What it cannot know: whether its operator shows the world another log. Witnesses see to that.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

from gatelift.beacon.errors import BeaconError
from gatelift.beacon.mirror import Mirror
from gatelift.encoding import Digest, encode_json, sha256_digest
from gatelift.ledger.following import OrderDesk, ReleasesFollower
from gatelift.messages import releases_policy
from gatelift.trust import (
    BEACON,
    Root,
    RootError,
    SigningKey,
    Status,
    parse_envelope,
    sign_also,
    verify_proposal,
)
from gatelift.wire.files import FileStore, make_directory

__all__ = ["PAUSED", "Beacon"]

PAUSED: Final = "paused"
"""The name of the file in a beacon's folder that keeps it silent."""


class Beacon:
    """Signs with `key` under `root`; its memory is in `folder`. See `Mirror` for `url` and `token`.

    Used by one process; `sign` may be called from several threads. Raises `BeaconError`
    (`not_in_root`) when the key is not a beacon's of the root.
    """

    def __init__(self, folder: Path, *, root: Root, key: SigningKey, url: str, token: str) -> None:
        self._folder = folder
        self._key = key
        self.organisation = _organisation_of(root, key)
        files = FileStore(folder / "files")
        logs = folder / "log"
        make_directory(logs)
        policy = releases_policy(root)
        follower = ReleasesFollower(logs, folder / "largest-checkpoint", policy)
        self._mirror = Mirror(url, token, logs, files, policy, follower.largest_size)
        self._root = root
        self._desk = OrderDesk(
            root=root,
            files=files,
            index=folder / "orders",
            follower=follower,
            on_new=lambda _: None,
            on_root=self._take_root,
            verify=verify_proposal,
        )
        self._signed: tuple[Status, Digest] | None = None
        self._one = threading.Lock()

    @property
    def key_id(self) -> str:
        """The id of its key in the root."""
        return self._key.id

    @property
    def is_paused(self) -> bool:
        """Whether its people told it to be silent."""
        return (self._folder / PAUSED).exists()

    @property
    def last(self) -> Status | None:
        """The last status signed since it began."""
        return self._signed[0] if self._signed else None

    def sign(self, envelope: bytes, now_ms: int) -> bytes:
        """Return its signature of the status in `envelope`, as JSON of a DSSE signature.

        Raises `BeaconError` or the error of what does not hold; nothing is signed then.
        """
        with self._one:
            self._check_speaks()
            payload = sha256_digest(parse_envelope(envelope).unverified_payload())
            proposal = verify_proposal(envelope, self._root, last=self.last)
            self._check_only_one(proposal, payload)
            self._mirror.fetch(proposal)
            status = self._desk.check_status(envelope, now_ms)
            # Asked again: fetching may have taken a while.
            self._check_speaks()
            self._signed = (status, payload)
            return encode_json(sign_also(envelope, self._key))

    def close(self) -> None:
        """Close its connections."""
        self._mirror.close()

    def _take_root(self, _: Digest, root: Root) -> None:
        """Judge by the root that followed; its own key need not be in it, it then counts for nothing."""
        self._mirror.judge_by(releases_policy(root))
        self._root = root

    def _check_speaks(self) -> None:
        if self.is_paused:
            raise BeaconError(
                "this beacon is paused by its people: nothing is served until they resume it",
                code="paused",
            )

    def _check_only_one(self, proposal: Status, payload: Digest) -> None:
        if self._signed is None or self._signed[1] == payload:
            return
        last = self._signed[0]
        if (proposal.epoch, proposal.number) == (last.epoch, last.number):
            raise BeaconError(
                f"another status {last.epoch}/{last.number} was signed already",
                code="two_statuses",
            )


def _organisation_of(root: Root, key: SigningKey) -> str:
    try:
        if root.role_of(key.id) == BEACON:
            return root.person(root.keys[key.id].person).organisation
    except RootError:
        pass
    raise BeaconError(
        f"key {key.id[:24]} is not a beacon's of root {root.version}: have it enrolled in a next "
        "root, or start with the key that is",
        code="not_in_root",
    )
