"""How a worker is set up: where it runs, and the files of its deployment that say how it deals.

Invariants
- A file that is there is read strictly: a field that nobody named ends the start.
- The upstream credential comes from a file of its own, and is in no setting.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from gatelift.encoding import decode_json
from gatelift.gateway.overload import OverloadTerms
from gatelift.gateway.placements import PlacementTerms
from gatelift.wire.keyfiles import load_secret_text
from gatelift.wire.tls import TlsFiles

__all__ = ["WorkerSettings", "read_terms", "read_upstream_key"]

_TermsT = TypeVar("_TermsT", PlacementTerms, OverloadTerms)


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where a worker runs. `directory` is the deployment's; `worker` its own name.

    With `tls` it serves TLS alone, and takes up renewed files by itself.
    `replica` is a folder on a second store, that of all journals of the node. A supervisor that
    keeps the listening socket can put another process in this one's place and lose no connection.
    """

    directory: Path
    node: str
    worker: str
    host: str
    port: int
    tls: TlsFiles | None = None
    replica: Path | None = None
    listen_fd: int | None = None
    """A bound socket that was inherited, instead of one of its own."""
    ready_fd: int | None = None
    """Wait with listening until status stands, then write a line here."""
    listen_within_s: float = 0.0
    """Wait with listening until status stands, but so long at most: then callers are told why not."""


def read_upstream_key(directory: Path) -> str | None:
    """Return the upstream credential of a deployment, null where it needs none."""
    path = directory / "keys" / "upstream.key"
    return load_secret_text(path) if path.exists() else None


def read_terms(path: Path, kind: type[_TermsT]) -> _TermsT:
    """Return the settings in a file, or what holds where there is none; raises `EncodingError`."""
    return decode_json(path.read_bytes(), kind) if path.exists() else kind()
