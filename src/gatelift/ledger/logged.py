"""What this host's own releases log holds of one kind, read and not verified again.

For who looks whether somebody is admitted, or whether something was carried out: it widens nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from gatelift.encoding import decode_json
from gatelift.ledger.audit.folder import FILES, RELEASES
from gatelift.ledger.audit.log import CHECKPOINT
from gatelift.ledger.tiles_reader import TileLog
from gatelift.messages import EntryHeader, EntryKind, Erasure
from gatelift.tlog import parse_checkpoint, parse_note
from gatelift.trust import Grant, parse_envelope, parse_statement
from gatelift.wire.files import FileStore

__all__ = ["logged_erasures", "newest_grants"]

P = TypeVar("P", bound=msgspec.Struct)


def newest_grants(directory: Path) -> tuple[Grant, ...]:
    """Return the newest logged grant of each id in the deployment at `directory`."""
    return tuple({each.id: each for each in _logged(directory, EntryKind.GRANT, Grant)}.values())


def logged_erasures(directory: Path) -> tuple[Erasure, ...]:
    """Return the logged erasures of the deployment at `directory`, oldest first."""
    return tuple(_logged(directory, EntryKind.ERASURE, Erasure))


def _logged(directory: Path, kind: EntryKind, shape: type[P]) -> Iterator[P]:
    folder = directory / "logs" / RELEASES
    files = FileStore(directory / FILES)
    checkpoint = parse_checkpoint(parse_note((folder / CHECKPOINT).read_bytes()).text)
    for _, leaf in TileLog(folder, checkpoint).entries():
        header = decode_json(leaf, EntryHeader)
        if header.kind is kind:
            payload = parse_envelope(files.get(header.body)).unverified_payload()
            yield parse_statement(payload, kind.value, shape).predicate
