"""Inspects one answer while it streams: release, verdicts, stop.

Invariants
- Each (kind, channel) is one stream with its own scanner; the total released and the verdicts
  depend on the streams' texts, not on how they were cut.
- On `cut` or `block` the stream stops before the first character of what was found; afterwards
  nothing is ever released. `withhold` is set on `block`: an answer that has not begun to leave
  stays in whole.
- One verdict a rule and answer: whether, not how often.
- A tool name is fed whole, in one piece; arguments without an allowed name are denied.
- Fails closed: an exception in a scanner, a kind that no answer has, or too many channels end the
  answer with a `safeguard_error` verdict.

Sees only what it is fed. Text that leaves by another field (log probabilities, ids, annotations)
is the exchange's to strip.
"""

from __future__ import annotations

import msgspec

from gatelift.errors import PeerError
from gatelift.safeguards.autonomy import AUTONOMY_IDS, tool_violation
from gatelift.safeguards.leak import technique_ids
from gatelift.safeguards.parts import PartKind
from gatelift.safeguards.patterns import PatternSet
from gatelift.safeguards.scanner import Match, StreamScanner
from gatelift.safeguards.verdict import Verdict, action_of, error_verdict
from gatelift.terms import Band, Category, Posture, Scope, Side

__all__ = ["ANSWER_KINDS", "AnswerInspector", "AnswerStep", "StreamError"]

ANSWER_KINDS = frozenset(
    {
        PartKind.ASSISTANT_TEXT,
        PartKind.REASONING,
        PartKind.REFUSAL,
        PartKind.TOOL_CALL_NAME,
        PartKind.TOOL_CALL_ARGUMENTS,
    }
)
# Asked of every piece: a name of the module is found sooner than one of the enumeration.
_NAME = PartKind.TOOL_CALL_NAME
_CALL = frozenset({PartKind.TOOL_CALL_NAME, PartKind.TOOL_CALL_ARGUMENTS})
# In these nothing is sought but leaks.
_PLAIN = ANSWER_KINDS - _CALL
MAX_STREAMS = 128
_ARGUMENTS_WITHOUT_NAME = "arguments_without_name"


class StreamError(PeerError):
    """The upstream sent something that no answer consists of."""

    code = "bad_answer_stream"


class AnswerStep(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one piece: text of (`kind`, `channel`) that may go, and what was found.

    `stop`: release this and end the answer. `withhold`: if nothing has left yet, let nothing
    leave, not even `release`.
    """

    kind: PartKind
    channel: int = 0
    release: str = ""
    verdicts: tuple[Verdict, ...] = ()
    stop: bool = False
    withhold: bool = False


class AnswerInspector:
    """The state of one answer. Made by `Suite.open_answer`."""

    __slots__ = (
        "_autonomy",
        "_closed",
        "_finished",
        "_going",
        "_going_channel",
        "_going_kind",
        "_leak",
        "_leak_set",
        "_named",
        "_scanners",
        "_scope",
        "_seen",
        "_steps_taken",
        "_stopped",
    )

    def __init__(
        self,
        *,
        leak: Posture | None,
        leak_set: PatternSet,
        autonomy: Posture | None,
        scope: Scope,
        steps_taken: int,
    ) -> None:
        self._leak = leak
        self._leak_set = leak_set
        self._autonomy = autonomy
        self._scope = scope
        self._steps_taken = steps_taken
        self._scanners: dict[tuple[PartKind, int], StreamScanner] = {}
        # The stream that was fed last, while more of it may be fed: null once anything ends.
        self._going: StreamScanner | None = None
        self._going_kind = PartKind.ASSISTANT_TEXT
        self._going_channel = 0
        self._named: set[int] = set()
        self._seen: set[str] = set()
        self._closed: set[tuple[PartKind, int]] = set()
        self._finished = False
        self._stopped = False

    @property
    def stopped(self) -> bool:
        """Whether the answer was ended by a safeguard."""
        return self._stopped

    @property
    def held_chars(self) -> int:
        """How many characters are held back over all streams."""
        return sum(scanner.held_chars for scanner in self._scanners.values())

    def feed(self, kind: PartKind, text: str, *, channel: int = 0) -> AnswerStep:
        """Take the next piece of stream (`kind`, `channel`)."""
        if self._stopped:
            return AnswerStep(kind=kind, channel=channel, stop=True)
        category = Category.LEAK
        try:
            if kind not in ANSWER_KINDS:
                raise StreamError(f"expected a part of an answer, got {kind!r}")
            if self._finished or (self._closed and (kind, channel) in self._closed):
                raise StreamError(f"expected no more of {kind.value} {channel}: it was ended")
            verdicts: tuple[Verdict, ...] = ()
            if self._autonomy is not None and kind in _CALL:
                category = Category.AUTONOMY
                verdicts = self._judge_tool(kind, text, channel)
                if any(verdict.stops for verdict in verdicts):
                    return self._step(kind, channel, "", verdicts)
                category = Category.LEAK
            if self._leak is None:
                return self._step(kind, channel, text, verdicts)
            release, found = self._scan(self._leak, kind, text, channel)
            return self._step(kind, channel, release, verdicts + found)
        except Exception:  # noqa: BLE001  whatever failed, nothing passes: the promise is closed
            return self._fail(category, kind, channel)

    def feed_clean(self, kind: PartKind, text: str, channel: int) -> str | None:
        """Take a piece that `feed` would find nothing in, and return what may go.

        Null, with nothing taken, where that is not certain: then `feed` judges it. Certain it is of
        nearly all pieces, since they go on with the stream before them and hold no rare sign of a
        leak; nothing else can be found in the middle of a stream (a name has none).
        """
        going = self._going
        if going is None or kind is not self._going_kind or channel != self._going_channel:
            return None
        try:
            return going.feed_clean(text)
        except Exception:  # noqa: BLE001  `feed` fails by the same, and says so
            return None

    def whole_is_clean(self, kind: PartKind, text: str, channel: int) -> bool:
        """Take a stream that comes whole, and return whether nothing is found in it.

        If so all of it may go, and it is closed: nothing is held back of a text that has ended.
        Otherwise nothing was taken, and `feed` judges it.
        """
        if kind not in _PLAIN or self._stopped or self._finished or self._scanners or self._closed:
            return False
        try:
            if self._leak is not None and self._leak_set.needles.search(text) is not None:
                return False
        except Exception:  # noqa: BLE001  `feed` fails by the same, and says so
            return False
        self._closed.add((kind, channel))
        return True

    def finish(self) -> tuple[AnswerStep, ...]:
        """End all streams; return a step for each that still held text, in order of opening."""
        self._going = None
        if self._stopped:
            return ()
        self._finished = True
        steps: list[AnswerStep] = []
        for (kind, channel), scanner in self._scanners.items():
            try:
                release = scanner.finish().text
            except Exception:  # noqa: BLE001  as in `feed`
                return (self._fail(Category.LEAK, kind, channel),)
            if release:
                steps.append(AnswerStep(kind=kind, channel=channel, release=release))
        return tuple(steps)

    def close(self, kind: PartKind, *, channel: int = 0) -> AnswerStep:
        """End one stream before the answer ends and return what it held.

        Nothing may follow on that stream: its next piece would fail closed.
        """
        if self._stopped:
            return AnswerStep(kind=kind, channel=channel, stop=True)
        self._closed.add((kind, channel))
        self._going = None
        try:
            scanner = self._scanners.get((kind, channel))
            release = "" if scanner is None else scanner.finish().text
            return AnswerStep(kind=kind, channel=channel, release=release)
        except Exception:  # noqa: BLE001  as in `feed`
            return self._fail(Category.LEAK, kind, channel)

    def _judge_tool(self, kind: PartKind, text: str, channel: int) -> tuple[Verdict, ...]:
        if kind is _NAME:
            if channel in self._named:
                raise StreamError(f"expected the name of call {channel} in one piece")
            rule = tool_violation(text, self._scope, steps_taken=self._steps_taken)
            self._named.add(channel)
        else:
            rule = None if channel in self._named else _ARGUMENTS_WITHOUT_NAME
        if rule is None or self._autonomy is None or rule in self._seen:
            return ()
        self._seen.add(rule)
        verdict = Verdict(
            category=Category.AUTONOMY,
            band=Band.PLATFORM_ABUSE,
            rule=rule,
            side=Side.ANSWER,
            action=action_of(self._autonomy, Side.ANSWER),
            part=kind,
            index=channel,
            span=(0, len(text)),
            ids=AUTONOMY_IDS,
        )
        return (verdict,)

    def _scan(
        self, posture: Posture, kind: PartKind, text: str, channel: int
    ) -> tuple[str, tuple[Verdict, ...]]:
        scanner = self._scanners.get((kind, channel))
        if scanner is not None and kind is _NAME:
            raise StreamError(f"expected the name of call {channel} in one piece")
        if scanner is None:
            if len(self._scanners) >= MAX_STREAMS:
                raise StreamError(f"expected at most {MAX_STREAMS} streams in one answer")
            scanner = StreamScanner(self._leak_set)
            self._scanners[kind, channel] = scanner
        if kind is not _NAME:
            self._going, self._going_kind, self._going_channel = scanner, kind, channel
        begin = scanner.released_chars
        out = scanner.feed(text)
        release = out.text
        if kind is _NAME:
            release += scanner.finish().text
        if not out.matches:
            return release, ()
        action = action_of(posture, Side.ANSWER)
        if action is not Posture.OBSERVE:
            # Matches come in order of their end: what follows the first is never reached.
            first = out.matches[0]
            return release[: first.cut - begin], (self._leaked(first, action, kind, channel),)
        fresh = []
        for match in out.matches:
            verdict = self._leaked(match, action, kind, channel)
            if verdict.rule not in self._seen:
                self._seen.add(verdict.rule)
                fresh.append(verdict)
        return release, tuple(fresh)

    def _leaked(self, match: Match, action: Posture, kind: PartKind, channel: int) -> Verdict:
        rule = self._leak_set.patterns[match.pattern].id
        return Verdict(
            category=Category.LEAK,
            band=Band.PLATFORM_ABUSE,
            rule=rule,
            side=Side.ANSWER,
            action=action,
            part=kind,
            index=channel,
            span=(match.start, match.end),
            ids=technique_ids(rule),
        )

    def _step(
        self, kind: PartKind, channel: int, release: str, verdicts: tuple[Verdict, ...]
    ) -> AnswerStep:
        if not verdicts:
            return AnswerStep(kind=kind, channel=channel, release=release)
        self._stopped = any(verdict.stops for verdict in verdicts)
        if self._stopped:
            self._going = None
        return AnswerStep(
            kind=kind,
            channel=channel,
            release=release,
            verdicts=verdicts,
            stop=self._stopped,
            withhold=any(verdict.action is Posture.BLOCK for verdict in verdicts),
        )

    def _fail(self, category: Category, kind: PartKind, channel: int) -> AnswerStep:
        return self._step(kind, channel, "", (error_verdict(category, Side.ANSWER, kind, channel),))
