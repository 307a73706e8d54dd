"""A witness: it remembers one head per log, and cosigns only what extends it.

The whole point is one promise: this key never cosigns two checkpoints of a log of which neither
extends the other. A log that wants to show two people two histories would need two such words.

Invariants
- Check, store and sign happen under one lock, for one request at a time; a cosignature leaves only
  after the head it belongs to is durable.
- Evidence of a fork is durable before the refusal leaves.
- Once the disk has failed nothing is signed again: every request is answered 503 until a restart
  has read what is really there.
- Cosignature times of a log never go back; a clock more than `CLOCK_SLACK_S` behind the last
  cosignature closes the witness for that log (it fails closed).

Not here: HTTP (`server`), the rules (`decision`), the files (`shelf`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from http import HTTPStatus

import msgspec

from gatelift.encoding import encode_json
from gatelift.errors import CallerError
from gatelift.tlog import (
    CosignatureSigner,
    KeyKind,
    Note,
    VerifierKey,
    format_note,
    format_signatures,
    origin_id,
    parse_note,
    parse_vkey,
)
from gatelift.witness.decision import Accepted, Refused, decide_submission
from gatelift.witness.shelf import CosignedHead, Shelf, ShelfError

__all__ = ["CLOCK_SLACK_S", "SIZE_TYPE", "TEXT_TYPE", "Answer", "Witness", "parse_log_vkeys"]

CLOCK_SLACK_S = 5
TEXT_TYPE = "text/plain; charset=utf-8"
SIZE_TYPE = "text/x.tlog.size"
JSON_TYPE = "application/json"
_LOG = logging.getLogger(__name__)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP answer as plain values; `code` is the reason of a refusal, for logs and counters."""

    status: int
    body: bytes
    content_type: str = TEXT_TYPE
    code: str = "ok"


def parse_log_vkeys(vkeys: Sequence[str]) -> dict[str, tuple[VerifierKey, ...]]:
    """Return the keys of each log by origin; a log may have several while it rotates them."""
    keys: dict[str, tuple[VerifierKey, ...]] = {}
    for vkey in vkeys:
        key = parse_vkey(vkey)
        if key.kind is not KeyKind.NOTE:
            raise CallerError(f"expected a log's key (type 01), got a witness's: {key.name!r}")
        if any(key.public_key == known.public_key for group in keys.values() for known in group):
            raise CallerError(f"expected each log key once, {key.name!r} stands twice")
        keys[key.name] = (*keys.get(key.name, ()), key)
    if not keys:
        raise CallerError("expected at least one log to follow, got none: pass its vkey")
    return keys


class Witness:
    """Answers submissions for the logs it follows."""

    def __init__(
        self,
        *,
        signer: CosignatureSigner,
        log_keys: Mapping[str, Sequence[VerifierKey]],
        shelf: Shelf,
    ) -> None:
        for keys in log_keys.values():
            if any(key.public_key == signer.key.public_key for key in keys):
                raise CallerError("a log's key cannot be the witness's key: make another one")
        self._signer = signer
        self._log_keys = log_keys
        self._shelf = shelf
        self._heads = shelf.load_heads(log_keys=log_keys, own_key=signer.key)
        self._origins = {origin_id(origin): origin for origin in log_keys}
        self._lock = threading.Lock()
        self._broken = False

    @property
    def broken(self) -> bool:
        """Whether the disk failed, so that only a restart helps."""
        return self._broken

    def add_checkpoint(self, body: bytes, *, now_s: int) -> Answer:
        """Answer an `add-checkpoint` request; `now_s` is seconds since 1970."""
        with self._lock:
            if self._broken:
                return _disk_answer()
            try:
                return self._add_checkpoint(body, now_s)
            except ShelfError as error:
                self._broken = True
                _LOG.critical("witness stops signing: %s", error)
                return _disk_answer()

    def checkpoint(self, origin_hex: str) -> Answer:
        """Answer the read side: the last cosigned note of the origin with this hex SHA-256."""
        origin = self._origins.get(origin_hex)
        if origin is None:
            return _refusal(404, "unknown_origin", "expected the SHA-256 of a log's origin in hex")
        head = self._heads.get(origin)
        if head is None:
            return _refusal(404, "no_checkpoint", f"no checkpoint of {origin!r} was cosigned yet")
        return Answer(status=200, body=head.note)

    def forks(self, origin_hex: str) -> Answer:
        """Answer which evidence is kept against the origin with this hex SHA-256: a name a line."""
        origin = self._origins.get(origin_hex)
        if origin is None:
            return _refusal(404, "unknown_origin", "expected the SHA-256 of a log's origin in hex")
        try:
            names = self._shelf.evidence(origin)
        except ShelfError as error:
            return _refusal(503, error.code, "the evidence cannot be read: tell its operator")
        return Answer(status=200, body="".join(f"{name}\n" for name in names).encode())

    def fork(self, origin_hex: str, name: str) -> Answer:
        """Answer with one of the notes that `forks` names."""
        listed = self.forks(origin_hex)
        if listed.status != HTTPStatus.OK:
            return listed
        # Looked up among what is there, never joined to a path.
        note = self._shelf.evidence(self._origins[origin_hex]).get(name)
        if note is None:
            return _refusal(404, "unknown_note", "expected a name that the list of forks holds")
        return Answer(status=200, body=note)

    def card(self) -> Answer:
        """Answer who this is in JSON: what the witness's organisation publishes on its own domain."""
        card = {
            "name": self._signer.name,
            "vkey": self._signer.vkey,
            "logs": [
                {"origin": origin, "vkeys": [key.vkey for key in keys]}
                for origin, keys in self._log_keys.items()
            ],
        }
        return Answer(status=200, body=encode_json(card) + b"\n", content_type=JSON_TYPE)

    def about(self) -> Answer:
        """Answer who this is: the witness's vkey and the logs it follows."""
        lines = [f"witness {self._signer.vkey}"]
        lines += [f"log {key.vkey}" for keys in self._log_keys.values() for key in keys]
        return Answer(status=200, body="".join(f"{line}\n" for line in lines).encode())

    def _add_checkpoint(self, body: bytes, now_s: int) -> Answer:
        latest = {origin: head.checkpoint for origin, head in self._heads.items()}
        outcome = decide_submission(body, log_keys=self._log_keys, latest=latest)
        if isinstance(outcome, Refused):
            return self._refuse(outcome)
        return self._accept(outcome, now_s)

    def _accept(self, outcome: Accepted, now_s: int) -> Answer:
        origin = outcome.checkpoint.origin
        last = self._heads.get(origin)
        last_s = last.time_s if last else 0
        if now_s < last_s - CLOCK_SLACK_S:
            _LOG.error("clock is %d s behind the last cosignature for %r", last_s - now_s, origin)
            return _refusal(503, "clock_behind", "this witness's clock went back: try again later")
        time_s = max(now_s, last_s)
        line = self._signer.sign(outcome.note.text, time_s)
        note = format_note(
            Note(text=outcome.note.text, signatures=(*outcome.note.signatures, line))
        )
        head = CosignedHead(checkpoint=outcome.checkpoint, note=note, time_s=time_s)
        self._shelf.keep_head(head)
        self._shelf.drop_unproven(outcome.checkpoint, outcome.note)
        self._heads[origin] = head
        return Answer(status=200, body=format_signatures([line]))

    def _refuse(self, outcome: Refused) -> Answer:
        checkpoint, note = outcome.checkpoint, outcome.note
        if outcome.evidence is not None and checkpoint is not None and note is not None:
            kept = self._shelf.keep_evidence(outcome.evidence, checkpoint, note)
            if outcome.evidence == "split_view":
                # The other half of the proof is ours, and will be overwritten by the next head.
                own = self._heads[checkpoint.origin]
                self._shelf.keep_evidence("split_view", own.checkpoint, parse_note(own.note))
            _LOG.warning(
                "%s checkpoint of %r at size %d, %s",
                outcome.evidence,
                checkpoint.origin,
                checkpoint.size,
                "kept as evidence" if kept else "not kept: too much evidence already",
            )
        if outcome.size is not None:
            return Answer(
                status=outcome.status,
                body=b"%d\n" % outcome.size,
                content_type=SIZE_TYPE,
                code=outcome.code,
            )
        return _refusal(outcome.status, outcome.code, outcome.message)


def _refusal(status: int, code: str, message: str) -> Answer:
    return Answer(status=status, body=f"{code}: {message}\n".encode(), code=code)


def _disk_answer() -> Answer:
    return _refusal(503, "witness_disk", "this witness cannot store checkpoints: tell its operator")
