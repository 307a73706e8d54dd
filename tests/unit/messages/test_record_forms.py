"""Records put together from parts are the bytes that the encoder makes of the same record."""

from __future__ import annotations

import enum
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gatelift.encoding import Digest, encode_json
from gatelift.messages import (
    NO_CHARGES,
    Charge,
    Finish,
    RecordForm,
    RecordRef,
    Start,
    charges_form,
    record_head,
    record_place,
)

# Names may hold anything that JSON writes differently, and what a form could take for its own.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ['a"b', "back\\slash", "%d %s %%", "{0}", "\n\x00\x1f", "é\u2028\U0001f600"]
)


DIGESTS = st.binary(min_size=32, max_size=32).map(lambda raw: f"sha256:{raw.hex()}")
PLAIN = {str: TEXTS, int: st.integers(0, 2**53 - 1), bool: st.booleans(), Digest: DIGESTS}


def of_kind(kind: Any) -> st.SearchStrategy:
    """Return any value of a type that stands in a record."""
    if kind in PLAIN:
        return PLAIN[kind]
    if get_origin(kind) is tuple:
        return st.lists(of_kind(get_args(kind)[0]), max_size=3).map(tuple)
    if get_args(kind):
        return st.none() | of_kind(get_args(kind)[0])
    if issubclass(kind, enum.Enum):
        return st.sampled_from(kind)
    return st.builds(kind, **{name: of_kind(of) for name, of in get_type_hints(kind).items()})


@given(of_kind(Start), of_kind(Finish))
def test_a_record_from_parts_is_what_the_encoder_makes_of_it(start: Start, finish: Finish) -> None:
    place = record_place(start.node, start.worker, start.run)
    finish = msgspec.structs.replace(
        finish, release=start.release, stage=start.stage, grant=start.grant, v=1,
        organisation=start.organisation, node=start.node, worker=start.worker, run=start.run,
        of=RecordRef(node=start.node, worker=start.worker, run=start.run, seq=start.seq),
    )  # fmt: skip
    start = msgspec.structs.replace(start, v=1)
    form = RecordForm(
        release=start.release, stage=start.stage, certificate=start.certificate,
        fingerprint=start.fingerprint, grant=start.grant, principal=start.principal,
        organisation=start.organisation, endpoint=start.endpoint,
    )  # fmt: skip
    fields = form.start(
        at=start.at, request_id=start.request_id, session=start.session, stream=start.stream,
        request=start.request, request_bytes=start.request_bytes,
        reserved=encode_json(start.reserved).decode(), images=start.images,
    )  # fmt: skip
    written = f"{record_head('start', place)}{start.seq},{fields}"
    assert written.encode() == encode_json(start)
    fields = form.finish(
        at=finish.at, of=f"{{{place}{start.seq}}}", request_id=finish.request_id,
        session=finish.session, outcome=finish.outcome, reason=finish.reason,
        upstream=finish.upstream, status=finish.status, answer=finish.answer,
        answer_bytes=finish.answer_bytes, input_tokens=finish.input_tokens,
        output_tokens=finish.output_tokens, spent=encode_json(finish.spent).decode(),
        overrun_tokens=finish.overrun_tokens, verdicts=finish.verdicts,
        request=finish.request, openings=finish.openings,
    )  # fmt: skip
    written = f"{record_head('finish', place)}{finish.seq},{fields}"
    assert written.encode() == encode_json(finish)


@given(st.lists(of_kind(Charge) | st.none(), max_size=5))
def test_charges_filled_into_their_form_are_what_the_encoder_makes(charges: list) -> None:
    form = charges_form(c and (c.counter, c.window) for c in charges)
    filled = form % tuple(7 if c is None else c.amount for c in charges)
    assert filled.encode() == encode_json(tuple(c for c in charges if c is not None))


def test_no_charges_are_an_empty_list() -> None:
    assert charges_form([]) % () == NO_CHARGES == encode_json(()).decode()
