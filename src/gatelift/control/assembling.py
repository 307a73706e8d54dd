"""One transaction's worth of entries: from submissions to folded state, refusals and decision.

Pure: state, bodies and time in; entries out. The writer stores them.

Invariants
- A submission is taken whole or refused whole; one that is refused changes nothing for the others.
- Every draft is verified (`messages.verify_body`) and admitted (`decide.check_entry`) against the
  state that all drafts before it left, in this transaction too.
- `decide` runs once, with `now` = the `at` of the last input entry; its decision is added when it
  changed, and adding it triggers no further run.
- Exactly the last entry carries `end`. All entries carry one `at`, which never decreases.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from gatelift.control.errors import ControlError, SizeMovedError
from gatelift.control.signing import Draft
from gatelift.decide import State, changed, check_entry, decide, fold
from gatelift.encoding import Digest, sha256_digest
from gatelift.errors import CallerError
from gatelift.messages import (
    Body,
    Decision,
    EntryHeader,
    EntryKind,
    Export,
    PlacementEnrolment,
    PlanAdoption,
    Visibility,
    may_sign,
    verify_body,
)
from gatelift.trust import Certificate, verify_root

__all__ = ["Assembled", "Prepared", "Submission", "assemble", "visibility_of"]

_ONLY_CONTROL = frozenset({"control"})


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """Drafts that are logged together or not at all."""

    drafts: tuple[Draft, ...]
    expected_size: int | None = None


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """An entry to be stored, with the verified body that was folded."""

    index: int
    header: EntryHeader
    body: bytes
    value: Body


class Assembled(msgspec.Struct, frozen=True, kw_only=True):
    """What a transaction holds. `results`: each submission's indices, or why it was refused.

    `decision` is what follows, recorded or not; null when nothing was added.
    """

    entries: tuple[Prepared, ...]
    results: tuple[tuple[int, ...] | CallerError, ...]
    state: State
    decision: Decision | None
    wake_at: int | None


def visibility_of(kind: EntryKind) -> Visibility:
    """Return who may read bodies of a kind: grants name people, all else is public."""
    return Visibility.OVERSEER if kind is EntryKind.GRANT else Visibility.PUBLIC


def assemble(
    state: State,
    submissions: Sequence[Submission],
    *,
    now_ms: int,
    logged: Mapping[Digest, int],
    read: Callable[[Digest], bytes],
    has: Callable[[Digest], bool],
    sign_decision: Callable[[Decision, State], Draft],
) -> Assembled:
    """Return the entries that a group of submissions makes of `state`.

    `logged` maps bodies of the log to their index; `read` and `has` look at files by digest.
    """
    at = max(now_ms, state.at)
    turn = _Turn(state, at, logged, read, has)
    results: list[tuple[int, ...] | CallerError] = []
    for submission in submissions:
        before, mark = turn.state, len(turn.entries)
        try:
            if submission.expected_size not in (None, turn.state.size):
                raise SizeMovedError(submission.expected_size or 0, turn.state.size)
            results.append(tuple(turn.take(draft) for draft in submission.drafts))
        except CallerError as error:
            turn.state = before
            del turn.entries[mark:]
            results.append(error)
    decision: Decision | None = None
    wake_at: int | None = None
    if turn.entries:
        decision, wake_at = decide(turn.state, at)
        last = turn.state.last_decision
        if changed(last.decision if last else None, decision):
            turn.take(sign_decision(decision, turn.state))
    return Assembled(
        entries=turn.finished(),
        results=tuple(results),
        state=turn.state,
        decision=decision,
        wake_at=wake_at,
    )


class _Turn:
    """The state while a transaction grows."""

    def __init__(
        self,
        state: State,
        at: int,
        logged: Mapping[Digest, int],
        read: Callable[[Digest], bytes],
        has: Callable[[Digest], bool],
    ) -> None:
        self.state = state
        self.entries: list[Prepared] = []
        self._at = at
        self._logged = logged
        self._read = read
        self._has = has

    def take(self, draft: Draft) -> int:
        """Verify, admit and fold a draft; return its index, or that of the same one logged before."""
        digest = sha256_digest(draft.body)
        body = self._verify(draft)
        held = self._seen(digest, draft.kind)
        if held is not None:
            self._check_repeatable(body, held)
            return held
        self._check_attachments(body)
        header = EntryHeader(
            v=1,
            at=self._at,
            kind=draft.kind,
            actor=_actor(body),
            body=digest,
            body_bytes=len(draft.body),
            visibility=visibility_of(draft.kind),
            end=False,
        )
        check_entry(self.state, draft.kind, body, draft.body, self._at, self._read)
        index = self.state.size
        self.state = fold(self.state, index, header, body, self._read)
        self.entries.append(Prepared(index=index, header=header, body=draft.body, value=body))
        return index

    def finished(self) -> tuple[Prepared, ...]:
        """Return the entries, the last one marked as the end of its transaction."""
        if not self.entries:
            return ()
        last = self.entries[-1]
        header = msgspec.structs.replace(last.header, end=True)
        return (*self.entries[:-1], msgspec.structs.replace(last, header=header))

    def _verify(self, draft: Draft) -> Body:
        root = self.state.root
        if root is None:
            if draft.kind is not EntryKind.ROOT:
                raise ControlError(
                    "no root of trust is on the log: log a root first", code="root_missing"
                )
            first = verify_root(draft.body, self._at)
            return Body(kind=EntryKind.ROOT, value=first, signers=())
        return verify_body(draft.kind, draft.body, root, self._at)

    def _seen(self, digest: Digest, kind: EntryKind) -> int | None:
        # Control's own statements may say the same twice (a tick does); people's may not.
        if may_sign(kind) == _ONLY_CONTROL:
            return None
        if digest in self._logged:
            return self._logged[digest]
        return next((e.index for e in self.entries if e.header.body == digest), None)

    def _check_repeatable(self, body: Body, held: int) -> None:
        # Who replays an older adoption or enrolment would take back what was signed since.
        value = body.value
        if isinstance(value, PlanAdoption):
            current = self.state.plan_index == held
        elif isinstance(value, PlacementEnrolment):
            current = self.state.placements.get(value.name) == value
        else:
            current = True
        if not current:
            raise ControlError(
                f"these bytes were logged as entry {held} and something newer took their place: "
                "sign the statement anew",
                code="already_logged",
            )

    def _check_attachments(self, body: Body) -> None:
        value = body.value
        if isinstance(value, PlacementEnrolment) and value.tls and not self._has(value.tls.ca):
            raise ControlError(
                f"the enrolment pins {value.tls.ca}, which is not here: attach the certificates",
                code="attachment_missing",
            )
        if isinstance(value, Certificate) and value.notice and not self._has(value.notice.proofs):
            raise ControlError(
                f"the certificate names the proofs {value.notice.proofs}, which are not here: attach "
                "the file",
                code="attachment_missing",
            )
        manifest = _manifest_of(value)
        if manifest is not None and not self._has(manifest):
            raise ControlError(
                f"it pins {manifest}, which is not here: attach the manifest of the weights",
                code="attachment_missing",
            )
        if isinstance(value, PlanAdoption):
            for digest in (value.plan, value.candidate):
                if not self._has(digest):
                    raise ControlError(
                        f"the adoption names {digest}, which is not here: "
                        "attach the plan's and the candidate's file",
                        code="attachment_missing",
                    )


def _manifest_of(value: msgspec.Struct) -> Digest | None:
    if isinstance(value, PlacementEnrolment) and value.sidecar is not None:
        return value.sidecar.manifest
    return value.manifest if isinstance(value, Export) else None


def _actor(body: Body) -> tuple[str, ...]:
    if body.kind is EntryKind.ROOT:
        return ("root",)
    return tuple(sorted({f"{signer.role}:{signer.person}" for signer in body.signers}))
