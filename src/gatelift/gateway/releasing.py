"""Inspect and release: from upstream pieces to what the caller reads.

Invariants
- Every piece of text goes through the safeguards; what they hold back or stop never reaches the
  codec.
- Our own count decides: one token for each piece at least, the upstream's usage if it is more.
  Beyond the reserve nothing is released; the upstream's excess is booked as overrun.
- Usage below what any tokenizer makes of the text (a token a word, and one for 32 bytes) is not
  believed: it counts as silence, and silence as the worst case.
- An answer that has not begun to leave is withheld whole when a safeguard says so.
- A stop in one choice stops them all, those too that have not begun.
- An answer has ended when every choice that was asked for has: a silent one is a broken one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gatelift.gateway.dialects import Answer, AnswerCodec, AnswerEnd, FinishReason, Piece
from gatelift.safeguards import AnswerInspector, AnswerStep, Verdict

__all__ = ["BYTES_PER_TOKEN_BOUND", "Release", "least_tokens", "may_be_tokens"]

BYTES_PER_TOKEN_BOUND = 32
_MAX_BYTES_OF_CHAR = 4
_BLANKS = b" \n\t\r\x0b\x0c"
_ONE_CHOICE = frozenset({0})


def least_tokens(text: bytes | bytearray) -> int:
    """Return how many tokens a text has at least, whatever the tokenizer."""
    return max(len(text.split()), -(-len(text) // BYTES_PER_TOKEN_BOUND))


def may_be_tokens(count: int, text: bytes | bytearray) -> bool:
    """Return whether a text may have as few tokens as `count`."""
    # As many words as blanks, and one: counted in one pass, without cutting the text up.
    most = 1 + len(text) - len(text.translate(None, _BLANKS))
    if count >= most and count * BYTES_PER_TOKEN_BOUND >= len(text):
        return True
    return count >= least_tokens(text)


def _anything(_count: int) -> bool:
    return True


class Release:
    """The released part of one answer, its counts and its verdicts.

    `max_tokens` and `max_bytes` are what was reserved, over all choices; `open_inspector` makes
    the inspector of one choice; `may_have_read` says whether the prompt may have as few tokens.
    """

    __slots__ = (
        "_believed_input",
        "_believed_output",
        "_choices",
        "_codec",
        "_counted",
        "_data_bytes",
        "_finishes",
        "_inspectors",
        "_max_bytes",
        "_max_tokens",
        "_may_have_read",
        "_open_inspector",
        "_usage_input",
        "_usage_output",
        "_whole",
        "cut_by",
        "exhausted",
        "released",
        "stopped",
        "verdicts",
        "withheld",
    )

    def __init__(
        self,
        open_inspector: Callable[[], AnswerInspector],
        codec: AnswerCodec,
        *,
        max_tokens: int,
        max_bytes: int,
        may_have_read: Callable[[int], bool] = _anything,
    ) -> None:
        self._open_inspector = open_inspector
        self._codec = codec
        choices = codec.choices
        self._choices = _ONE_CHOICE if choices == 1 else frozenset(range(choices))
        self._max_tokens = max_tokens
        self._max_bytes = max_bytes
        self._inspectors: dict[int, AnswerInspector] = {}
        self._may_have_read = may_have_read
        self._believed_output: tuple[int, int] | None = None
        self._whole = False
        self._counted = 0
        self._usage_output: int | None = None
        self._usage_input: int | None = None
        self._believed_input: int | None = None
        self._finishes: dict[int, FinishReason] = {}
        self._data_bytes = 0
        self.released = bytearray()
        self.verdicts: list[Verdict] = []
        self.cut_by: Verdict | None = None
        self.withheld = False
        self.exhausted = False
        self.stopped = False
        """Whether nothing more may be released: it was cut, or its reserve is spent."""

    @property
    def ended(self) -> bool:
        """Whether every choice came to an end that somebody named: the model server, or we."""
        return self.stopped or self._finishes.keys() >= self._choices

    @property
    def finishes(self) -> dict[int, FinishReason]:
        """The finish reason of each choice that the caller reads."""
        if self.cut_by is not None:
            return dict.fromkeys(self._choices, FinishReason.CONTENT_FILTER)
        if self.exhausted:
            return dict.fromkeys(self._choices, FinishReason.LENGTH)
        return self._finishes

    @property
    def bytes_out(self) -> int:
        """Bytes of the answer that were released, text and data."""
        return len(self.released) + self._data_bytes

    @property
    def output_tokens(self) -> int:
        """Tokens of the answer by our own count, never more than was reserved."""
        made = self._usage_output
        if made is None or not self._is_believed(made):
            # A piece may hold many tokens: without the upstream's word, one a byte at most. Of a
            # whole answer the upstream may have made more than it sent.
            made = self._max_tokens if self._whole else min(self._max_tokens, len(self.released))
        return min(self._max_tokens, max(self._counted, made))

    def _is_believed(self, made: int) -> bool:
        if self._believed_output != (made, len(self.released)):
            if not may_be_tokens(made, self.released):
                return False
            self._believed_output = (made, len(self.released))
        return True

    @property
    def overrun_tokens(self) -> int:
        """What the upstream made beyond the reserve."""
        return max(0, max(self._counted, self._usage_output or 0) - self._max_tokens)

    def input_tokens(self, bound: int) -> int:
        """Return the upstream's count of the prompt, within the reserved bound."""
        if self._usage_input is None:
            return bound
        if self._believed_input is None:
            believed = self._may_have_read(self._usage_input)
            self._believed_input = self._usage_input if believed else bound
        return min(bound, self._believed_input)

    def expect_whole(self) -> None:
        """Note that a whole answer is being made: until its usage is known it costs the reserve."""
        self._whole = True

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
        if (
            answer.finishes
            or answer.data_bytes
            or answer.input_tokens is not None
            or answer.output_tokens is not None
        ):
            self._note(answer)
        if whole and len(answer.pieces) == 1 and self._passes_whole(answer.pieces[0]):
            return self._let_go(answer.pieces[0], answer.pieces[0].text)
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
                    self._exhaust()
                    break
            inspector = self._inspectors.get(piece.choice) or self._open(piece.choice)
            clean = inspector.feed_clean(piece.kind, piece.text, piece.channel)
            if clean is not None:
                out += self._let_go(piece, clean)
                continue
            step = inspector.feed(piece.kind, piece.text, channel=piece.channel)
            out += self._after(piece, step)
        return out

    def _open(self, choice: int) -> AnswerInspector:
        inspector = self._inspectors[choice] = self._open_inspector()
        return inspector

    def _passes_whole(self, piece: Piece) -> bool:
        """Return whether a piece that is the whole answer may leave at once, all of it.

        One that may be beyond the reserve leaves as far as it goes: by the long way.
        """
        text = piece.text
        left = self._max_bytes - self.bytes_out
        if self.stopped or piece.ends or self._inspectors:
            return False
        if len(text) * (1 if text.isascii() else _MAX_BYTES_OF_CHAR) > left:
            return False
        return self._open(piece.choice).whole_is_clean(piece.kind, text, piece.channel)

    def end(self) -> bytes:
        """Return what was held back and may leave now that the answer has ended."""
        out = b""
        for choice, inspector in self._inspectors.items():
            if self.stopped:
                break
            for step in inspector.finish():
                out += self._after(Piece(step.kind, step.release, step.channel, choice), step)
        return out

    def _end_of(self, piece: Piece) -> bytes:
        inspector = self._inspectors.get(piece.choice)
        if inspector is None:
            return b""
        return self._after(piece, inspector.close(piece.kind, channel=piece.channel))

    def _after(self, piece: Piece, step: AnswerStep) -> bytes:
        """Act on what the safeguards say of a piece; return what may leave of it."""
        self.verdicts.extend(step.verdicts)
        out = self._let_go(piece, step.release)
        if step.stop:
            self._cut(step.withhold)
        return out

    def _note(self, answer: Answer) -> None:
        if answer.input_tokens is not None:
            self._usage_input, self._believed_input = answer.input_tokens, None
        if answer.output_tokens is not None:
            self._usage_output = answer.output_tokens
        self._finishes.update(answer.finishes)
        self._data_bytes += answer.data_bytes
        if answer.data_bytes and self.bytes_out > self._max_bytes:
            self._exhaust()
            self.withheld = True

    def _cut(self, withhold: bool) -> None:
        stops = [verdict for verdict in self.verdicts if verdict.stops]
        self.cut_by = stops[-1]
        self.stopped = True
        self.withheld = self.withheld or withhold

    def _exhaust(self) -> None:
        self.exhausted = self.stopped = True

    def _let_go(self, piece: Piece, text: str) -> bytes:
        if not text:
            return b""
        data = text.encode("utf-8", "surrogatepass")
        released = self.released
        if len(released) + self._data_bytes + len(data) > self._max_bytes:
            self._exhaust()
            return b""
        released += data
        return self._codec.release(piece, text)
