"""Starts and finishes as they are written, from parts that all records of one grant share.

A record is nearly the same text each time. What stays the same for one grant at one endpoint of one
stage is written once, here; what changes is put between. That is a fraction of the work of making
a `Start` or `Finish` and encoding it, which a worker would do for each exchange.

Invariants
- What comes out is, byte for byte, what `encode_json` makes of the same `Start`, `Finish` or tuple
  of `Charge`: fields in the order of their declaration in `records`. A test compares all of them.
- Every text is written by the JSON encoder; only numbers, digests and `true` or `false` are not.

A record's place (node, worker, run, number) is the journal's to say: `record_head` begins a record,
the fields that these methods return follow it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Final

from gatelift.encoding import Digest, encode_json
from gatelift.messages.records import Outcome, RecordedVerdict
from gatelift.terms import Endpoint

__all__ = [
    "NO_CHARGES",
    "RecordForm",
    "charges_form",
    "record_head",
    "record_place",
]

NO_CHARGES: Final = "[]"
"""How a record says that nothing was reserved or spent."""


def _text(value: object) -> str:
    return encode_json(value).decode("utf-8")


# Sessions, reasons and outcomes: few, and each in many records.
_known_text = functools.lru_cache(maxsize=4096)(_text)


def record_place(node: str, worker: str, run: str) -> str:
    """Return how records say where they are, up to the sequence number."""
    return f'"node":{_text(node)},"worker":{_text(worker)},"run":{_text(run)},"seq":'


def record_head(kind: str, place: str) -> str:
    """Return how a record of a kind begins, up to the sequence number."""
    return f'{{"kind":{_text(kind)},"v":1,{place}'


def charges_form(counters: Iterable[tuple[str, int] | None]) -> str:
    """Return the JSON of charges to these counters and windows, to be filled in with amounts by `%`.

    It takes an amount for each counter, and writes nothing of the one of a null.
    """
    form, comma = "", ""
    for counter in counters:
        if counter is None:
            form += "%.0s"
            continue
        head = f'{comma}{{"counter":{_text(counter[0])},"window":{counter[1]},"amount":'
        form += head.replace("%", "%%") + "%d}"
        comma = ","
    return f"[{form}]"


class RecordForm:
    """What the records of one grant at one endpoint of one stage have in common."""

    __slots__ = ("_endpoint", "_finish_subject", "_start_subject")

    def __init__(
        self,
        *,
        release: str,
        stage: str,
        certificate: Digest | None,
        fingerprint: Digest,
        grant: str,
        principal: str,
        organisation: str,
        endpoint: Endpoint,
    ) -> None:
        where = f'"release":{_text(release)},"stage":{_text(stage)}'
        self._start_subject = (
            f'{where},"certificate":{_text(certificate)},"fingerprint":{_text(fingerprint)},'
            f'"grant":{_text(grant)},"principal":{_text(principal)},'
            f'"organisation":{_text(organisation)},"session":'
        )
        self._endpoint = f',"endpoint":{_text(endpoint)},"stream":'
        self._finish_subject = (
            f'{where},"grant":{_text(grant)},"organisation":{_text(organisation)},"session":'
        )

    def start(
        self,
        *,
        at: int,
        request_id: str,
        session: str,
        stream: bool,
        request: Digest,
        request_bytes: int,
        reserved: str,
        images: int,
    ) -> str:
        """Return a start's fields after its place; `reserved` is the JSON of the charges."""
        return (
            f'"at":{at},"request_id":{_text(request_id)},{self._start_subject}'
            f"{_known_text(session)}{self._endpoint}{'true' if stream else 'false'},"
            f'"request":"{request}","request_bytes":{request_bytes},"reserved":{reserved},'
            f'"images":{images}}}'
        )

    def finish(
        self,
        *,
        at: int,
        of: str,
        request_id: str,
        session: str,
        outcome: Outcome,
        reason: str,
        upstream: bool,
        status: int,
        answer: Digest | None,
        answer_bytes: int,
        input_tokens: int,
        output_tokens: int,
        spent: str,
        overrun_tokens: int,
        verdicts: tuple[RecordedVerdict, ...],
        request: Digest | None,
        openings: str,
    ) -> str:
        """Return a finish's fields after its place; `of` and `spent` are JSON already."""
        answer_text = "null" if answer is None else f'"{answer}"'
        request_text = "null" if request is None else f'"{request}"'
        return (
            f'"at":{at},"of":{of},"request_id":{_text(request_id)},{self._finish_subject}'
            f'{_known_text(session)},"outcome":{_known_text(outcome)},'
            f'"reason":{_known_text(reason)},"upstream":{"true" if upstream else "false"},'
            f'"status":{status},"answer":{answer_text},'
            f'"answer_bytes":{answer_bytes},"input_tokens":{input_tokens},'
            f'"output_tokens":{output_tokens},"spent":{spent},"overrun_tokens":{overrun_tokens},'
            f'"verdicts":{_text(verdicts) if verdicts else "[]"},"request":{request_text},'
            f'"openings":{_text(openings)}}}'
        )
