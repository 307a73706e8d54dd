"""Running an assessment: the items of a committed run, asked through the gateway, once each.

    terms -> seed -> items -> ask, hear, score (4 at a time) -> terms again -> evidence

Invariants
- Nothing is asked before the commit is covered by a cosigned head, the data set is the committed
  one, and the key's terms can hold every item.
- Each item is asked once. What goes wrong is counted as an error, what cannot be told as
  undetermined; neither is tried again, and every committed attempt has a row.
- The run is void, and makes no evidence, if stage, candidate, safeguards or orders are not the same
  at the end as at the start, or an answer came from another stage or candidate in between. A change
  that came and went between two answers is not seen.
- It ends before the commit's deadline; items that were not reached are errors.
- Two answers with one record are two errors: a node cannot pass one exchange off as many.

It goes through the public door with an ordinary key, so every attempt is recorded, counted and
capped like anybody's; there is no side door.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

import msgspec

from gatelift.assess.access import Terms
from gatelift.assess.asking import AttemptError, ask, hear, read_terms
from gatelift.assess.data_sets import Item
from gatelift.assess.preflight import (
    RunRefusedError,
    canaries_of,
    check_door,
    check_terms,
    committed_assessment,
)
from gatelift.assess.results import EvidenceDraft, Results, Row, draft
from gatelift.assess.scorers import Verdict, score
from gatelift.assess.seed import RunSeed, seed_of
from gatelift.encoding import ID_ENTROPY_BYTES, Digest, make_id, sha256_digest
from gatelift.errors import GateliftError, PeerError
from gatelift.messages import Commit, RecordRef, Ticket, releases_policy
from gatelift.terms import Category, Posture
from gatelift.trust import Root
from gatelift.wire.http_client import Upstream, UpstreamLimits, UpstreamTimeouts

__all__ = ["Progress", "RunSettings", "RunVoidError", "run", "run_assessment"]

Progress = Callable[[int, int], None]
"""Told how many items are done, and of how many."""

_TERMS_TIMEOUT_S: Final = 10.0


class RunVoidError(PeerError):
    """Conditions changed while the run was under way: it says nothing and is not evidence."""

    code = "run_void"


class RunSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a run is made. Times in seconds; `finish_before_s` is kept free before the deadline."""

    concurrency: int = 4
    item_timeout_s: float = 120.0
    finish_before_s: float = 5.0
    keep_text: bool = False


class _Attempt(msgspec.Struct, frozen=True, kw_only=True):
    row: Row
    ticket: Ticket | None


class _Run:
    """One run under way."""

    def __init__(
        self,
        *,
        upstream: Upstream,
        api_key: str,
        root: Root,
        terms: Terms,
        canaries: tuple[str, ...],
        settings: RunSettings,
        stop_at_s: float,
    ) -> None:
        self._upstream = upstream
        self._api_key = api_key
        self._root = root
        self._terms = terms
        self._canaries = canaries
        self._settings = settings
        self._stop_at_s = stop_at_s
        self._moved: str | None = None

    async def attempts(self, items: list[Item], progress: Progress | None) -> list[_Attempt]:
        waiting = iter(enumerate(items))
        done: dict[int, _Attempt] = {}

        async def work() -> None:
            for number, item in waiting:
                done[number] = await self._attempt(item)
                if progress is not None:
                    progress(len(done), len(items))

        open_at_once = self._settings.concurrency
        if self._terms.parallel is not None:
            open_at_once = min(open_at_once, self._terms.parallel)
        async with asyncio.TaskGroup() as group:
            for _ in range(max(1, open_at_once)):
                group.create_task(work())
        if self._moved is not None:
            raise RunVoidError(self._moved)
        return _once_each([done[number] for number in range(len(items))])

    async def _attempt(self, item: Item) -> _Attempt:
        left_s = self._stop_at_s - asyncio.get_running_loop().time()
        if self._moved is not None or left_s <= 0:
            return _failed(item, "not_reached")
        try:
            reply = await ask(
                self._upstream,
                self._api_key,
                model=self._terms.model,
                prompt=item.prompt,
                max_tokens=item.max_tokens,
                timeout_s=min(self._settings.item_timeout_s, left_s),
            )
            checked = hear(reply, root=self._root, terms=self._terms)
        except (AttemptError, PeerError) as error:
            return _failed(item, error.code)
        if (checked.stage, checked.candidate) != (self._terms.stage, self._terms.candidate):
            self._moved = (
                f"item {item.id} was answered by stage {checked.stage!r}, {checked.candidate}"
            )
            return _failed(item, "moved")
        heard, finish = checked.heard, checked.finish
        verdict = score(
            item.scorer,
            heard,
            expected=item.expected,
            distractors=item.distractors,
            canaries=self._canaries,
        )
        row = Row(
            id=item.id,
            kind=item.kind,
            verdict=verdict,
            outcome=heard.outcome.value,
            reason=finish.reason,
            place=RecordRef(node=finish.node, worker=finish.worker, run=finish.run, seq=finish.seq),
            record=sha256_digest(checked.ticket.record.encode("utf-8")),
            answer=sha256_digest(heard.text.encode("utf-8")) if heard.text else None,
            text=heard.text if self._settings.keep_text else None,
        )
        return _Attempt(row=row, ticket=checked.ticket)


def _failed(item: Item, code: str) -> _Attempt:
    row = Row(
        id=item.id,
        kind=item.kind,
        verdict=Verdict.ERROR,
        outcome="error",
        reason=code,
        place=None,
        record=None,
        answer=None,
    )
    return _Attempt(row=row, ticket=None)


def _once_each(attempts: list[_Attempt]) -> list[_Attempt]:
    seen = Counter(attempt.row.place for attempt in attempts if attempt.row.place is not None)
    again = {place for place, times in seen.items() if times > 1}
    return [
        attempt
        if attempt.row.place not in again
        else msgspec.structs.replace(
            attempt,
            row=msgspec.structs.replace(
                attempt.row, verdict=Verdict.ERROR, outcome="error", reason="record_seen_twice"
            ),
        )
        for attempt in attempts
    ]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


async def run_assessment(
    *,
    commit: Commit,
    commit_index: int,
    note: bytes,
    root: Root,
    gateway_url: str,
    api_key: str,
    candidate: bytes | None = None,
    demanded: dict[Category, Posture] | None = None,
    settings: RunSettings | None = None,
    progress: Progress | None = None,
) -> EvidenceDraft:
    """Run what was committed and return the evidence, not yet signed.

    `commit_index` is the commit's place in the releases log, `note` the first cosigned checkpoint
    after it, `root` the pinned root (its witnesses and node keys are what is believed). `candidate`
    is the candidate file, needed where canaries are looked for; `demanded` the postures of the
    measure that is being tested, if one is.

    Raises `RunRefusedError`, `SeedError`, `NotAdmittedError` or those of `tlog` before anything was
    asked, `AccessError` and `UpstreamError` if the gateway cannot be reached, and `RunVoidError`.
    """
    settings = settings or RunSettings()
    started_ms = _now_ms()
    check_door(gateway_url, api_key)
    if not 1 <= settings.concurrency <= 64:
        raise RunRefusedError(f"expected 1 to 64 at a time, got {settings.concurrency}")
    left_s = (commit.deadline - started_ms) / 1000 - settings.finish_before_s
    if left_s <= 0:
        raise RunRefusedError("the commit's deadline is here: it counts as failed")
    assessment = committed_assessment(commit)
    canaries = canaries_of(assessment, commit, candidate)
    drawn = seed_of(note, commit_index=commit_index, policy=releases_policy(root))
    items = assessment.items(drawn.seed, commit.attempts)
    limit_s = settings.item_timeout_s
    timeouts = UpstreamTimeouts(first_byte_s=limit_s, idle_s=limit_s, total_s=limit_s)
    # A kept connection may be closed under a request, which would be an error that says nothing of
    # the candidate: each attempt gets its own.
    limits = UpstreamLimits(max_idle_connections=0)
    upstream = Upstream(gateway_url, limits=limits, timeouts=timeouts)
    try:
        terms = await read_terms(upstream, api_key, timeout_s=_TERMS_TIMEOUT_S)
        check_terms(terms, commit, items, demanded or {})
        under_way = _Run(
            upstream=upstream,
            api_key=api_key,
            root=root,
            terms=terms,
            canaries=canaries,
            settings=settings,
            stop_at_s=asyncio.get_running_loop().time() + left_s,
        )
        attempts = await under_way.attempts(items, progress)
        await _check_unchanged(upstream, api_key, terms)
    finally:
        await upstream.aclose()
    return _evidence(commit, drawn, terms, attempts, started_ms)


async def _check_unchanged(upstream: Upstream, api_key: str, before: Terms) -> None:
    try:
        after = await read_terms(upstream, api_key, timeout_s=_TERMS_TIMEOUT_S)
    except GateliftError as error:
        raise RunVoidError(f"the terms at the end are not known: {error}") from error
    changed = [
        name
        for name in ("stage", "candidate", "under", "orders", "envelope")
        if getattr(before, name) != getattr(after, name)
    ]
    if changed:
        raise RunVoidError(
            f"{', '.join(changed)} changed during the run: it was made under no one set of terms"
        )


def _evidence(
    commit: Commit, drawn: RunSeed, terms: Terms, attempts: list[_Attempt], started_ms: int
) -> EvidenceDraft:
    finished_ms = _now_ms()
    results = Results(
        v=1,
        commit=commit.id,
        assessment=commit.assessment,
        metric=commit.metric,
        fingerprint=Digest(commit.fingerprint),
        data_set=commit.data_set,
        seed=drawn.seed,
        log_size=drawn.size,
        stage=terms.stage,
        under=terms.under,
        rows=tuple(attempt.row for attempt in attempts),
    )
    return draft(
        results,
        tuple(attempt.ticket for attempt in attempts),
        evidence_id=make_id("evi", finished_ms, secrets.token_bytes(ID_ENTROPY_BYTES)),
        started_ms=started_ms,
        finished_ms=finished_ms,
    )


def run(
    *,
    commit: Commit,
    commit_index: int,
    note: bytes,
    root: Root,
    gateway_url: str,
    api_key: str,
    candidate: bytes | None = None,
    demanded: dict[Category, Posture] | None = None,
    settings: RunSettings | None = None,
    progress: Progress | None = None,
) -> EvidenceDraft:
    """Do `run_assessment` in a loop of its own, for a command line."""
    return asyncio.run(
        run_assessment(
            commit=commit,
            commit_index=commit_index,
            note=note,
            root=root,
            gateway_url=gateway_url,
            api_key=api_key,
            candidate=candidate,
            demanded=demanded,
            settings=settings,
            progress=progress,
        )
    )
