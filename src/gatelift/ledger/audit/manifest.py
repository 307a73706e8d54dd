"""What a dossier says of itself, and which files its entries ask for.

`dossier.json` is a table of contents for people. The verifier believes nothing in it; it only reports
where it differs from what the bytes say.
"""

from __future__ import annotations

import msgspec

from gatelift.encoding import Digest
from gatelift.messages import (
    Commit,
    Evidence,
    Export,
    IncidentChange,
    PlacementEnrolment,
    releases_policy,
)
from gatelift.tlog import (
    KeyKind,
    Policy,
    PolicyLog,
    VerifierKey,
    format_policy,
)
from gatelift.trust import Certificate, Grant, Root, parse_public_key

__all__ = [
    "VERSION",
    "LogSize",
    "Manifest",
    "attachments_of",
    "dossier_policy",
]

VERSION = 1


class LogSize(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A log and how many entries of it are included."""

    origin: str
    size: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`dossier.json`. `exported_at` in ms UTC; `root` is the digest of `root.json`.

    `records` counts lines; `missing` names what was asked for and not there: files by digest, batches
    as `<origin>#<index>`.
    """

    v: int
    release: str
    exported_at: int
    root: Digest
    releases: LogSize
    requests: tuple[LogSize, ...]
    records: int
    files: int
    missing: tuple[str, ...]


def attachments_of(value: msgspec.Struct) -> tuple[Digest, ...]:
    """Return the files that an entry's body names beside itself; plan and candidate stand apart."""
    match value:
        case Evidence():
            found = [value.results]
        case Commit():
            found = [value.data_set]
        case PlacementEnrolment():
            found = [] if value.baseline is None else [value.baseline]
            found += [] if value.tls is None else [value.tls.ca]
            found += [] if value.sidecar is None else [value.sidecar.manifest]
        case Export():
            found = [value.manifest]
        case Grant():
            found = [] if value.vetting is None else [value.vetting]
        case Certificate():
            found = [] if value.notice is None else [value.notice.proofs]
        case IncidentChange():
            found = [] if value.retrospective is None else [value.retrospective]
        case _:
            found = []
    return tuple(found)


def dossier_policy(root: Root, origins: tuple[tuple[str, str], ...]) -> bytes:
    """Return the tlog policy text of a dossier: the root's own, and a log line for each requests log.

    `origins` are (origin, node) pairs. The node's key signs all its logs; a policy may name a key
    only once, so the newest log of each node and key stands in it.
    """
    own = releases_policy(root)
    keys = {node.name: parse_public_key(node.requests_key) for node in root.nodes}
    newest: dict[bytes, str] = {}
    for origin, node in origins:
        if node in keys:
            newest[keys[node]] = max(origin, newest.get(keys[node], ""))
    logs = tuple(
        PolicyLog(key=VerifierKey(name=origin, kind=KeyKind.NOTE, public_key=key))
        for key, origin in sorted(newest.items(), key=lambda pair: pair[1])
    )
    return format_policy(
        Policy(
            logs=(*own.logs, *logs),
            witnesses=own.witnesses,
            groups=own.groups,
            quorum=own.quorum,
        )
    )
