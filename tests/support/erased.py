"""Erasing records of the small deployment of `tests/integration/dossier_deployment.py`, and doing it wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from gatelift.encoding import Digest, encode_json, parse_base64, sha256_digest
from gatelift.messages import (
    Beat,
    EntryKind,
    ErasedLine,
    ErasedRange,
    Erasure,
    ErasureBasis,
    ErasureScope,
    Hold,
    HoldReason,
    decode_record,
    make_alias,
    record_leaf,
    redact,
)

if TYPE_CHECKING:
    from tests.integration.dossier_deployment import Deployment

__all__ = [
    "erase_last",
    "erase_less",
    "erase_under_hold",
    "erase_with_a_lie",
    "forget_other",
    "name_other",
    "other_figure",
    "other_leaf",
    "say_erased",
    "without_erased",
]


def erase_last(
    deployment: Deployment,
    scope: ErasureScope = ErasureScope.SESSIONS,
    *,
    organisation: str | None = None,
    admit: bool = True,
    lie: tuple[str, str] = ("", ""),
    **changes: Any,
) -> Erasure:
    """Log an erasure of the last exchange's session, or of all that an organisation did."""
    name = f"erasure_{len(deployment.headers):026d}"
    rows = [json.loads(line) for line in deployment.lines]
    records = [decode_record(row["record"].encode()) for row in rows]
    newest = next(r for r in reversed(records) if not isinstance(r, Beat))
    lines = []
    for row, record in zip(rows, records, strict=True):
        if isinstance(record, Beat) or row["log"] != deployment.origin:
            continue
        mine = record.session == newest.session
        if organisation is not None:
            mine = record.organisation == organisation
        if mine:
            leaf = record_leaf(parse_base64(row["salt"]), row["record"].encode())
            left = redact(record, scope, lambda kind, n: make_alias(kind, n, b"s" * 32))
            line = ErasedLine(
                log=row["log"],
                batch=row["batch"],
                i=row["i"],
                leaf=Digest(f"sha256:{leaf.hex()}"),
                erasure=name,
                record=encode_json(left).decode().replace(*lie),
            )
            lines.append(line)
    data = b"".join(encode_json(line) + b"\n" for line in lines)
    deployment.files[sha256_digest(data)] = data
    covers = ErasedRange(
        origin=deployment.origin,
        first=lines[0].batch,
        last=lines[-1].batch,
        records=len(lines),
        tombstones=sha256_digest(data),
    )
    value = Erasure(
        id=name,
        release="aurora",
        basis=ErasureBasis.DATA_SUBJECT_REQUEST,
        scope=scope,
        covers=(covers,),
        supersedes=tuple(deployment.state.erasures),
        at=deployment.now,
    )
    for field, change in changes.items():
        value = type(value)(**{**_fields(value), field: change})
    deployment.log(EntryKind.ERASURE, value, "operator:olga", "safety:sam", admit=admit)
    deployment.settle()
    return value


def _fields(value: Erasure) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__struct_fields__}


def hold(deployment: Deployment) -> None:
    value = Hold(
        id=f"hold_{len(deployment.headers):026d}",
        release="aurora",
        reason=HoldReason.LEGAL,
        incident=None,
        covers=(),
        at=deployment.now,
    )
    deployment.log(EntryKind.HOLD, value, "operator:olga")
    deployment.settle()


def erase_under_hold(deployment: Deployment) -> None:
    deployment.served("held")
    deployment.commit()
    hold(deployment)
    erase_last(deployment, admit=False)
    deployment.head()


def erase_with_a_lie(deployment: Deployment) -> None:
    """Sign that an exchange spent half of what it did."""
    deployment.served("lied about")
    deployment.commit()
    erase_last(deployment, lie=('"output_tokens":20', '"output_tokens":10'))
    deployment.head()


def erase_less(deployment: Deployment) -> None:
    """Say that an erasure replaces an earlier one of which it covers nothing."""
    deployment.served("first")
    deployment.commit()
    first = erase_last(deployment)
    deployment.served("second")
    deployment.commit()
    erase_last(deployment, admit=False, supersedes=(first.id,))
    deployment.head()


# Done to the lines of a dossier whose last exchange was erased.


def _erased(lines: list[bytes]) -> int:
    return next(n for n, line in enumerate(lines) if b'"erasure":' in line)


def _with(lines: list[bytes], at: int, **changes: Any) -> list[bytes]:
    row = json.loads(lines[at]) | changes
    text = json.dumps(row, separators=(",", ":"), ensure_ascii=False).encode()
    return [*lines[:at], text, *lines[at + 1 :]]


def other_figure(lines: list[bytes]) -> list[bytes]:
    at = _erased(lines) + 1
    record = json.loads(lines[at])["record"].replace('"output_tokens":20', '"output_tokens":10')
    return _with(lines, at, record=record)


def other_leaf(lines: list[bytes]) -> list[bytes]:
    return _with(lines, _erased(lines), leaf="sha256:" + "0" * 64)


def name_other(lines: list[bytes]) -> list[bytes]:
    return _with(lines, _erased(lines), erasure="erasure_00000000000000000000000000")


def without_erased(lines: list[bytes]) -> list[bytes]:
    at = _erased(lines)
    return [*lines[:at], *lines[at + 1 :]]


def say_erased(lines: list[bytes]) -> list[bytes]:
    """Take the first record away, and say that the erasure took it."""
    row, erasure = json.loads(lines[0]), json.loads(lines[_erased(lines)])["erasure"]
    leaf = record_leaf(parse_base64(row["salt"]), row["record"].encode()).hex()
    said = {"log": row["log"], "batch": row["batch"], "i": row["i"], "leaf": f"sha256:{leaf}"}
    text = json.dumps({**said, "erasure": erasure, "record": row["record"]}, separators=(",", ":"))
    return [text.encode(), *lines[1:]]


def forget_other(lines: list[bytes]) -> list[bytes]:
    """Take another record of the erased one's batch away under the same erasure."""
    at = _erased(lines)
    batch = json.loads(lines[at])["batch"]
    other = next(n for n, line in enumerate(lines) if line and json.loads(line)["batch"] == batch)
    row = json.loads(lines[other])
    leaf = record_leaf(parse_base64(row["salt"]), row["record"].encode()).hex()
    said = {"log": row["log"], "batch": batch, "i": row["i"], "leaf": f"sha256:{leaf}"}
    said |= {"erasure": json.loads(lines[at])["erasure"], "record": row["record"]}
    text = json.dumps(said, separators=(",", ":")).encode()
    return [*lines[:other], text, *lines[other + 1 :]]
