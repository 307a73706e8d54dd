"""Recording that bait was touched: counted in the beat, and on the record where a grant is known.

    key    a key of the list was shown, whole: recorded under its grant
    model  a caller asked for a model of the list: on the record of its own exchange
    path   a path of the list was asked for: recorded if a granted key came with it

The record is a start and a finish with a verdict of the category `honey`, so that keeper, control
and auditor count it as they count every event, and a plan can act on it:

    events: [{event: {safeguard: honey, side: prompt}, count: 1, on_breach: hold, severity: SEV-3}]

Invariants
- The caller's answer is written before the record is begun, so that a touch is not told by its time.
- At most `MAX_RECORDS_A_MINUTE` touches of a worker are recorded in full; all are counted.
- Neither key nor path nor address is in a record or a log: what kind of bait, the grant, the tag.

A touch without a key that a grant names (a path asked for by nobody) is counted in the beat only: it
has no stage, and scanners of the open internet must not open incidents.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import Final

from gatelift.encoding import ID_ENTROPY_BYTES, make_id
from gatelift.gateway.context import Context, now_ms
from gatelift.gateway.holdings import Identified
from gatelift.gateway.honey import source_tag
from gatelift.gateway.http_messages import Request
from gatelift.gateway.recording import Ending, Recorder, Subject
from gatelift.journal import JournalError
from gatelift.messages import NO_CHARGES, Outcome
from gatelift.safeguards import PartKind, Verdict
from gatelift.terms import Band, Category, Posture, Side
from gatelift.watch import make_session

__all__ = ["MAX_RECORDS_A_MINUTE", "honey_model", "touch_honey"]

MAX_RECORDS_A_MINUTE: Final = 60
_MINUTE_MS: Final = 60_000
_LOG = logging.getLogger(__name__)


def honey_model(context: Context, model: str, request: Request) -> tuple[Verdict, ...]:
    """Return the verdict on a model's name: none unless it is bait. For a denial's `verdicts`."""
    if model not in context.honey.models:
        return ()
    context.refused["honey_model"] += 1
    return (_verdict("model", context, request),)


def touch_honey(context: Context, what: str, who: Identified | None, request: Request) -> None:
    """Count a touch, and record it under `who` once the caller has its answer."""
    context.refused[f"honey_{what}"] += 1
    if who is not None:
        asyncio.get_running_loop().call_soon(_record, context, what, who, request)


def _verdict(what: str, context: Context, request: Request) -> Verdict:
    tag = source_tag(request.peer, context.session_secret)
    return Verdict(
        category=Category.HONEY,
        band=Band.PLATFORM_ABUSE,
        rule=f"honey:{what}@{tag}",
        side=Side.PROMPT,
        action=Posture.BLOCK,
        part=PartKind.USER,
    )


def _record(context: Context, what: str, who: Identified, request: Request) -> None:
    bundle, at = context.holdings.bundle, now_ms()
    verdict = _verdict(what, context, request)
    if bundle is None or not context.may_record_honey(at // _MINUTE_MS, MAX_RECORDS_A_MINUTE):
        return
    _LOG.warning("bait was touched: %s, under %s", verdict.rule, who.grant.id)
    window_ms, secret = bundle.plan.session_window_ms, context.session_secret
    subject = Subject(
        request_id=make_id("req", at, secrets.token_bytes(ID_ENTROPY_BYTES)),
        release=bundle.plan.name,
        stage=who.grant.stage,
        certificate=None,
        fingerprint=bundle.bundle.candidate,
        grant=who.grant,
        session=make_session(who.grant.id, "", at, window_ms, secret),
        # It reached no endpoint: the record needs one, and takes the first that the grant names.
        endpoint=who.grant.endpoints[0],
        stream=False,
    )
    recorder = Recorder(context.journal, subject)
    try:
        recorder.write_start(b"", NO_CHARGES)
        recorder.write_finish(
            Ending(outcome=Outcome.STOPPED, reason="honey", status=404, verdicts=(verdict,)),
            None,
            NO_CHARGES,
        )
    except JournalError as error:
        _LOG.error("a touch of bait could not be recorded: %s", error.code)
