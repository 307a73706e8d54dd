"""Inspect and release: from upstream pieces to what the caller reads.

Invariants
- Every piece of text goes through the safeguards; what they hold back or stop never reaches the
  codec.
- Our own count decides: one token for each piece at least, the upstream's usage if it is more.
  Beyond the reserve nothing is released; the upstream's excess is booked as overrun.
- An answer that has not begun to leave is withheld whole when a safeguard says so.
- A stop in one choice stops them all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gatelift.gateway.dialects import Answer, AnswerCodec, AnswerEnd, FinishReason, Piece
from gatelift.safeguards import AnswerInspector, Verdict

__all__ = ["Release"]


class Release:
    """The released part of one answer, its counts and its verdicts.

    `max_tokens` and `max_bytes` are what was reserved, over all choices; `open_inspector` makes
    the inspector of one choice.
    """

    def __init__(
        self,
        open_inspector: Callable[[], AnswerInspector],
        codec: AnswerCodec,
        *,
        max_tokens: int,
        max_bytes: int,
    ) -> None:
        self._open_inspector = open_inspector
        self._codec = codec
        self._max_tokens = max_tokens
        self._max_bytes = max_bytes
        self._inspectors: dict[int, AnswerInspector] = {}
        self._counted = 0
        self._usage_output: int | None = None
        self._usage_input: int | None = None
        self._finishes: dict[int, FinishReason] = {}
        self._data_bytes = 0
        self.released = bytearray()
        self.verdicts: list[Verdict] = []
        self.cut_by: Verdict | None = None
        self.withheld = False
        self.exhausted = False

    @property
    def stopped(self) -> bool:
        """Whether nothing more may be released."""
        return self.cut_by is not None or self.exhausted

    @property
    def finishes(self) -> dict[int, FinishReason]:
        """The finish reason of each choice that the caller reads."""
        if self.cut_by is not None:
            return dict.fromkeys({0, *self._inspectors}, FinishReason.CONTENT_FILTER)
        if self.exhausted:
            return dict.fromkeys({0, *self._inspectors}, FinishReason.LENGTH)
        return self._finishes

    @property
    def bytes_out(self) -> int:
        """Bytes of the answer that were released, text and data."""
        return len(self.released) + self._data_bytes

    @property
    def output_tokens(self) -> int:
        """Tokens of the answer by our own count, never more than was reserved."""
        made = self._usage_output
        if made is None:
            # A piece may hold many tokens: without the upstream's word, one a byte at most.
            made = min(self._max_tokens, len(self.released))
        return min(self._max_tokens, max(self._counted, made))

    @property
    def overrun_tokens(self) -> int:
        """What the upstream made beyond the reserve."""
        return max(0, max(self._counted, self._usage_output or 0) - self._max_tokens)

    def input_tokens(self, bound: int) -> int:
        """Return the upstream's count of the prompt, within the reserved bound."""
        return bound if self._usage_input is None else min(bound, self._usage_input)

    def end_for(self, bound: int, note: dict[str, Any] | None = None) -> AnswerEnd:
        """Return how the answer ended, for the caller; `bound` as in `input_tokens`."""
        return AnswerEnd(
            finishes=self.finishes,
            input_tokens=self.input_tokens(bound),
            output_tokens=self.output_tokens,
            note=note,
        )

    def take(self, answer: Answer, *, whole: bool = False) -> bytes:
        """Return what may leave of an answer or of an event of one."""
        self._note(answer)
        if whole and self._usage_output is None:
            # Silent about usage: charge the whole reserve rather than trust a guess.
            self._counted = self._max_tokens
        out = b""
        for piece in answer.pieces:
            if self.stopped:
                break
            if piece.ends:
                out += self._end_of(piece)
                continue
            if not whole:
                self._counted += 1
                if self._counted > self._max_tokens:
                    self.exhausted = True
                    break
            inspector = self._inspectors.get(piece.choice)
            if inspector is None:
                inspector = self._inspectors[piece.choice] = self._open_inspector()
            step = inspector.feed(piece.kind, piece.text, channel=piece.channel)
            out += self._let_go(piece, step.release, step.verdicts)
            if step.stop:
                self._cut(step.withhold)
        return out

    def end(self) -> bytes:
        """Return what was held back and may leave now that the answer has ended."""
        out = b""
        for choice, inspector in self._inspectors.items():
            if self.stopped:
                break
            for step in inspector.finish():
                piece = Piece(step.kind, step.release, step.channel, choice)
                out += self._let_go(piece, step.release, step.verdicts)
                if step.stop:
                    self._cut(step.withhold)
        return out

    def _end_of(self, piece: Piece) -> bytes:
        inspector = self._inspectors.get(piece.choice)
        if inspector is None:
            return b""
        step = inspector.close(piece.kind, channel=piece.channel)
        out = self._let_go(piece, step.release, step.verdicts)
        if step.stop:
            self._cut(step.withhold)
        return out

    def _note(self, answer: Answer) -> None:
        if answer.input_tokens is not None:
            self._usage_input = answer.input_tokens
        if answer.output_tokens is not None:
            self._usage_output = answer.output_tokens
        self._finishes.update(answer.finishes)
        self._data_bytes += answer.data_bytes
        if answer.data_bytes and self.bytes_out > self._max_bytes:
            self.exhausted = self.withheld = True

    def _cut(self, withhold: bool) -> None:
        stops = [verdict for verdict in self.verdicts if verdict.stops]
        self.cut_by = stops[-1]
        self.withheld = self.withheld or withhold

    def _let_go(self, piece: Piece, text: str, verdicts: tuple[Verdict, ...]) -> bytes:
        self.verdicts.extend(verdicts)
        if not text:
            return b""
        data = text.encode("utf-8", "surrogatepass")
        if self.bytes_out + len(data) > self._max_bytes:
            self.exhausted = True
            return b""
        self.released += data
        return self._codec.release(piece, text)
