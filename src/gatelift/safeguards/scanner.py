"""Scans one stream of text in whatever pieces it arrives, releasing all that is surely clean.

Invariants
- Matches and the total of released text depend on the whole text only, never on the chunks.
- No character of a match is released in a feed that ends before the match does.
- What is held back begins at the leftmost start that is still open, and is shorter than the
  longest pattern. (Why that suffices: `patterns`.)
- Patterns do not hide each other: each is matched by itself; matches of one pattern do not
  overlap, the one that ends first counting.
- The last released character is remembered, because a left boundary looks at it.

Does not decide what a match means; does not decode bytes.
"""

from __future__ import annotations

import msgspec

from gatelift.safeguards.patterns import PatternSet

__all__ = ["Match", "Release", "StreamScanner"]


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """A whole match, in offsets of the stream.

    `pattern` is its number in the set. `cut` is where a stream that ends here must stop: before
    the match and before any other start that was still open when the match became certain.
    """

    pattern: int
    start: int
    end: int
    cut: int


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """Text that no coming match can begin in, and the matches that became certain."""

    text: str
    matches: tuple[Match, ...] = ()


_NOTHING = Release(text="")


class StreamScanner:
    """The state of one stream: some held text and a few numbers."""

    __slots__ = ("_base", "_buffer", "_resume", "_set", "_skip")

    def __init__(self, patterns: PatternSet) -> None:
        self._set = patterns
        self._buffer = ""
        self._skip = 0
        self._base = 0
        self._resume: dict[int, int] = {}

    @property
    def released_chars(self) -> int:
        """How many characters of the stream have been released."""
        return self._base + self._skip

    @property
    def held_chars(self) -> int:
        """How many characters are held back."""
        return len(self._buffer) - self._skip

    def feed(self, text: str) -> Release:
        """Take the next piece; return what may go and what was found."""
        if not text:
            return _NOTHING
        clean = self.feed_clean(text)
        if clean is not None:
            return Release(text=clean)
        buffer = self._buffer + text
        matches: tuple[Match, ...] = ()
        if self._set.full.search(buffer, self._skip) is not None:
            matches = self._certain(buffer)
        return Release(text=self._let_go(buffer), matches=matches)

    def feed_clean(self, text: str) -> str | None:
        """Take a piece that completes no match, and return what may go.

        Null, with nothing taken, where it may complete one: then it is `feed` that judges it.
        """
        buffer = self._buffer + text
        if self._set.needles.search(buffer, self._skip) is not None:
            return None
        return self._let_go(buffer)

    def _let_go(self, buffer: str) -> str:
        skip = self._skip
        held = self._set.open_start(buffer, skip, len(buffer))
        released = buffer[skip:held]
        if released:
            # One released character stays in front of the held text, as the boundary's witness.
            self._buffer = buffer[held - 1 :]
            self._base += held - 1
            self._skip = 1
        else:
            self._buffer = buffer
        return released

    def finish(self) -> Release:
        """Release what is held: at the end of a stream a prefix of a match is no match."""
        text = self._buffer[self._skip :]
        self._base += len(self._buffer)
        self._buffer = ""
        self._skip = 0
        return Release(text=text) if text else _NOTHING

    def _certain(self, buffer: str) -> tuple[Match, ...]:
        """Return the matches in `buffer` that were not returned before.

        A match stays in the buffer while something before it is open; the place where its pattern
        resumes keeps it, and what overlaps it, from counting again.
        """
        found: list[tuple[int, int, int]] = []
        for number, pattern in enumerate(self._set.each):
            hit = pattern.search(buffer, self._skip)
            while hit is not None:
                found.append((hit.end(), hit.start(), number))
                hit = pattern.search(buffer, hit.start() + 1)
        matches: list[Match] = []
        for end, start, number in sorted(found):
            if self._base + start < self._resume.get(number, 0):
                continue
            self._resume[number] = self._base + end
            cut = min(start, self._set.open_start(buffer, self._skip, end))
            matches.append(
                Match(
                    pattern=number,
                    start=self._base + start,
                    end=self._base + end,
                    cut=self._base + cut,
                )
            )
        return tuple(matches)
