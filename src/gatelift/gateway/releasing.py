"""Inspect and release: from upstream pieces to what the caller reads.

Invariants
- Every piece of text goes through the safeguards; what they hold back or stop never reaches the
  writer.
- Our own count decides: one token for each piece at least, the upstream's usage if it is more.
  Beyond the reserve nothing is released; the upstream's excess is booked as overrun.
- An answer that has not begun to leave is withheld whole when a safeguard says so.
"""

from __future__ import annotations

from typing import Any

from gatelift.gateway.answers import Answer, AnswerWriter, Piece
from gatelift.safeguards import AnswerInspector, Verdict

__all__ = ["Release"]


class Release:
    """The released part of one answer, its counts and its verdicts."""

    def __init__(
        self,
        inspector: AnswerInspector,
        writer: AnswerWriter,
        *,
        max_tokens: int,
        max_bytes: int,
    ) -> None:
        self._inspector = inspector
        self._writer = writer
        self._max_tokens = max_tokens
        self._max_bytes = max_bytes
        self._counted = 0
        self._usage_output: int | None = None
        self._usage_input: int | None = None
        self._finish: str | None = None
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
    def ended(self) -> bool:
        """Whether the answer came to an end that somebody named: the model server, or we."""
        return self.stopped or self._finish is not None

    @property
    def finish_reason(self) -> str:
        """The finish reason that the caller reads."""
        if self.cut_by is not None:
            return "content_filter"
        if self.exhausted:
            return "length"
        return self._finish or "stop"

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

    def take(self, answer: Answer, *, whole: bool = False) -> list[dict[str, Any]]:
        """Return the deltas that may leave of an answer or a chunk of one."""
        if answer.input_tokens is not None:
            self._usage_input = answer.input_tokens
        if answer.output_tokens is not None:
            self._usage_output = answer.output_tokens
        if answer.finish_reason is not None:
            self._finish = answer.finish_reason
        if whole and self._usage_output is None:
            # Silent about usage: charge the whole reserve rather than trust a guess.
            self._counted = self._max_tokens
        deltas = []
        for piece in answer.pieces:
            if self.stopped:
                break
            if not whole:
                self._counted += 1
                if self._counted > self._max_tokens:
                    self.exhausted = True
                    break
            step = self._inspector.feed(piece.kind, piece.text, channel=piece.channel)
            deltas += self._let_go(piece, step.release, step.verdicts)
            if step.stop:
                self._cut(step.withhold)
        return deltas

    def end(self) -> list[dict[str, Any]]:
        """Return the deltas that were held back and may leave now that the answer has ended."""
        if self.stopped:
            return []
        deltas = []
        for step in self._inspector.finish():
            piece = Piece(kind=step.kind, text=step.release, channel=step.channel)
            deltas += self._let_go(piece, step.release, step.verdicts)
            if step.stop:
                self._cut(step.withhold)
        return deltas

    def _cut(self, withhold: bool) -> None:
        stops = [verdict for verdict in self.verdicts if verdict.stops]
        self.cut_by = stops[-1]
        self.withheld = self.withheld or withhold

    def _let_go(
        self, piece: Piece, text: str, verdicts: tuple[Verdict, ...]
    ) -> list[dict[str, Any]]:
        self.verdicts.extend(verdicts)
        data = text.encode("utf-8", "surrogatepass")
        if len(self.released) + len(data) > self._max_bytes:
            self.exhausted = True
            return []
        self.released += data
        delta = self._writer.take(piece, text)
        return [] if delta is None else [delta]
