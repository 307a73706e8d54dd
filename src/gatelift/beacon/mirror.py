"""A copy of the releases log and of what statuses rest on, fetched from whoever publishes it.

Invariants
- Nothing is believed for where it came from: tiles lead to a checkpoint that the log and its
  witnesses signed (`ledger.following` checks it), every body is named by its digest.
- Answers are bounded, and a fetch ends within `FETCH_S` for each file.
- What was fetched is durable before the log is read up to there.

It fetches; it judges nothing and signs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import httpx

from gatelift.beacon.errors import BeaconError
from gatelift.encoding import Digest, decode_json, sha256_digest
from gatelift.ledger import TileLog
from gatelift.ledger.following import FOLLOWED
from gatelift.ledger.tile_files import places_for_growth
from gatelift.messages import EntryHeader
from gatelift.tlog import Policy, verify_witnessed
from gatelift.trust import Status
from gatelift.wire.files import FileStore, make_directory, replace_durably

__all__ = ["FETCH_S", "Mirror"]

FETCH_S: Final = 1.0
_MAX_FILE_BYTES: Final = 16 * 1024 * 1024


class Mirror:
    """Copies the log at the admin API `url` into `directory`, bodies into `files`.

    `token` is an overseer's: the roster and grants name people. `size` is how much is there already.
    """

    def __init__(
        self, url: str, token: str, directory: Path, files: FileStore, policy: Policy, size: int
    ) -> None:
        self._client = httpx.Client(
            base_url=f"{url.rstrip('/')}/admin/v1/",
            headers={"authorization": f"Bearer {token}"},
            timeout=FETCH_S,
            trust_env=False,
            follow_redirects=False,
        )
        self._directory = directory
        self._files = files
        self._policy = policy
        self._size = size

    def fetch(self, status: Status) -> None:
        """Have all that `status` rests on; raises `BeaconError` or the error of its checkpoint."""
        checkpoint = verify_witnessed(status.checkpoint.encode("utf-8"), self._policy).checkpoint
        if checkpoint.size > self._size:
            for place in places_for_growth(self._size, checkpoint.size):
                self._fetch_tile(place.path)
            log = TileLog(self._directory, checkpoint)
            headers = (decode_json(entry, EntryHeader) for _, entry in log.entries(self._size))
            self._fetch_bodies(each.body for each in headers if each.kind in FOLLOWED)
            self._size = checkpoint.size
        self._fetch_bodies((status.roster, *status.orders))

    def judge_by(self, policy: Policy) -> None:
        """Judge checkpoints by the policy of the next root from now on."""
        self._policy = policy

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _fetch_tile(self, path: str) -> None:
        place = self._directory / path
        make_directory(place.parent)
        replace_durably(place, self._get(f"log/{path}"))

    def _fetch_bodies(self, digests: Iterable[Digest]) -> None:
        for digest in digests:
            if self._files.has(digest):
                continue
            data = self._get(f"files/{digest.removeprefix('sha256:')}")
            if sha256_digest(data) != digest:
                raise BeaconError(f"expected the bytes of {digest}, got others")
            self._files.put(data)

    def _get(self, path: str) -> bytes:
        try:
            with self._client.stream("GET", path) as response:
                if response.status_code != 200:
                    raise BeaconError(f"expected {path}, got {response.status_code}")
                found = bytearray()
                for chunk in response.iter_bytes():
                    found += chunk
                    if len(found) > _MAX_FILE_BYTES:
                        raise BeaconError(f"expected {path} of at most {_MAX_FILE_BYTES} bytes")
        except httpx.HTTPError as error:
            raise BeaconError(
                f"{path} cannot be fetched: {str(error) or type(error).__name__}"
            ) from error
        return bytes(found)
