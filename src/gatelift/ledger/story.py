"""The story of a run, and whether its figures are what the dossier gives.

A story lists figures that somebody shows to others. Each names where it comes from; here each is
computed again from verified bytes. What a run only observed (a latency, a page that opened) stands
apart with who observed it, and is not checked.

    {"v": 1, "release": ..., "figures": [{"name", "value", "source"}], "observed": [{"name", "value", "by"}]}

    source   {"entry": 17, "path": "decision.figures.leak_rate.n"}
             {"records": {"origin", "first", "last"}, "count": {"kind": "finish", "outcome": "served"}}
             {"log": "releases" or an origin, "figure": "size"}
             {"spent": {"counter", "window"}}

Invariants
- A figure without a known source is a finding, as is one whose value differs.
- Nothing is read that the dossier's own checks refused: what is missing there cannot be confirmed.

Does not verify the dossier: run `verify.verify_dossier` first. Format: docs/reference/dossier.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from gatelift.encoding import decode_json
from gatelift.errors import CallerError
from gatelift.ledger.audit.archive import open_dossier
from gatelift.ledger.audit.authority import read_authority
from gatelift.ledger.audit.folder import RELEASES, ROOT, Folder
from gatelift.ledger.audit.releases import Releases, open_first_root, read_releases
from gatelift.ledger.audit.report import Finding, Findings
from gatelift.ledger.audit.requests import Batch, RequestsLog, read_batches, read_requests_logs
from gatelift.messages import Finish, RecordRange

__all__ = ["Figure", "Observed", "Story", "StoryError", "verify_story"]

_COUNTED = frozenset({"start", "finish", "beat"})


class StoryError(CallerError):
    """A figure's source is none that can be computed. Code `unknown_source`."""

    code = "unknown_source"


class Spent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One counter in the window from `window` (ms UTC)."""

    counter: str
    window: int


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a figure comes from: exactly one of entry with path, records with count, log, spent."""

    entry: int | None = None
    path: str | None = None
    records: RecordRange | None = None
    count: dict[str, str | int | bool | None] | None = None
    log: str | None = None
    figure: str | None = None
    spent: Spent | None = None


class Figure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A figure that is shown, and its source."""

    name: str
    value: str | int | bool | None
    source: dict[str, Any]


class Observed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that `by` saw; nothing on record says it again."""

    name: str
    value: Any
    by: str


class Story(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`story.json`."""

    v: int
    release: str
    figures: tuple[Figure, ...]
    observed: tuple[Observed, ...]


def verify_story(story: bytes, dossier: Path) -> tuple[Finding, ...]:
    """Return what in the story the dossier does not confirm; none when every figure holds.

    Codes: `unreadable_story`, `wrong_release`, `unknown_source`, `figure_differs`, and
    `not_confirmed` when the dossier lacks what the figures would be computed from.
    """
    findings, quiet = Findings(), Findings()
    with findings.reading("story", "unreadable_story"):
        told = decode_json(story, Story)
        if told.v != 1:
            raise StoryError(f"expected a story of version 1, got {told.v}")
        source = None
        with quiet.reading(dossier.name):
            source = _open(open_dossier(dossier), quiet)
        if source is None:
            findings.error("not_confirmed", "story", "the dossier's logs do not hold: verify it")
            return findings.kept()
        if source.release != told.release:
            findings.error(
                "wrong_release",
                "story",
                f"expected release {source.release!r}, the story is of {told.release!r}",
            )
        for index, figure in enumerate(told.figures):
            _check(source, figure, f"story#{index}", findings)
    return findings.kept()


def _check(source: _Sources, figure: Figure, where: str, findings: Findings) -> None:
    with findings.reading(where, "unknown_source"):
        try:
            found = source.value(msgspec.convert(figure.source, Source))
        except msgspec.ValidationError as error:
            raise StoryError(f"{figure.name}: {error}") from error
        # True equals 1 in Python; a story that says one for the other says something else.
        if type(found) is not type(figure.value) or found != figure.value:
            findings.error(
                "figure_differs",
                where,
                f"{figure.name}: the story says {figure.value!r}, the dossier gives {found!r}",
            )


class _Sources:
    """The verified parts of a dossier that figures are computed from."""

    def __init__(
        self, folder: Folder, releases: Releases, release: str, logs: tuple[RequestsLog, ...]
    ) -> None:
        self.release = release
        self._folder = folder
        self._releases = releases
        self._logs = {held.log.origin: held for held in logs}
        self._batches: dict[str, list[Batch]] = {}

    def value(self, source: Source) -> object:
        """Return what a source gives; raises `StoryError` for one that is none."""
        given = {k for k, v in msgspec.structs.asdict(source).items() if v is not None}
        if given == {"entry", "path"}:
            return self._entry(source.entry or 0, source.path or "")
        if given == {"records", "count"} and source.records is not None:
            return self._count(source.records, source.count or {})
        if given == {"log", "figure"}:
            return self._size(source.log or "", source.figure or "")
        if given == {"spent"} and source.spent is not None:
            return self._spent(source.spent)
        raise StoryError(
            f"expected entry and path, records and count, log and figure, or spent; "
            f"got {sorted(given)}"
        )

    def _entry(self, index: int, path: str) -> object:
        entry = next((e for e in self._releases.entries if e.index == index), None)
        steps = path.split(".")
        if entry is None or steps[0] != entry.header.kind.value:
            kind = "nothing that holds" if entry is None else f"a {entry.header.kind.value}"
            raise StoryError(f"entry {index} is {kind}, the path begins with {steps[0]!r}")
        value: object = msgspec.to_builtins(entry.body.value)
        for step in steps[1:]:
            value = _step(value, step, path)
        if isinstance(value, dict | list | tuple):
            raise StoryError(f"{path} leads to many values, expected one")
        return value

    def _size(self, log: str, figure: str) -> int:
        if figure != "size":
            raise StoryError(f"expected the figure 'size' of a log, got {figure[:60]!r}")
        if log in {RELEASES, self._releases.log.origin}:
            return len(self._releases.log.entries)
        return len(self._log(log).log.entries)

    def _count(self, wanted: RecordRange, where: dict[str, str | int | bool | None]) -> int:
        size = len(self._log(wanted.origin).log.entries)
        if where.get("kind") not in _COUNTED or not 0 <= wanted.first <= wanted.last < size:
            raise StoryError(
                f"expected a kind of {sorted(_COUNTED)} and batches within 0 and {size - 1}, "
                f"got {where.get('kind')!r} and {wanted.first} to {wanted.last}"
            )
        batches = [b for b in self._read(wanted.origin) if wanted.first <= b.index <= wanted.last]
        if len(batches) != wanted.last - wanted.first + 1:
            raise StoryError(f"not all batches {wanted.first} to {wanted.last} hold")
        count = 0
        for batch in batches:
            for record in batch.records:
                fields = msgspec.to_builtins(record)
                if fields["kind"] == where["kind"]:
                    count += _matches(fields, where)
        return count

    def _spent(self, wanted: Spent) -> int:
        return sum(
            charge.amount
            for origin in self._logs
            for batch in self._read(origin)
            for record in batch.records
            if isinstance(record, Finish)
            for charge in record.spent
            if (charge.counter, charge.window) == (wanted.counter, wanted.window)
        )

    def _log(self, origin: str) -> RequestsLog:
        held = self._logs.get(origin)
        if held is None:
            raise StoryError(f"expected one of the logs {sorted(self._logs)}, got {origin[:120]!r}")
        return held

    def _read(self, origin: str) -> list[Batch]:
        if origin not in self._batches:
            quiet = Findings()
            self._batches[origin] = list(read_batches(self._folder, self._log(origin), quiet))
            if quiet.errors:
                raise StoryError(f"the records of {origin} do not hold: verify the dossier")
        return self._batches[origin]


def _open(folder: Folder, quiet: Findings) -> _Sources | None:
    releases = read_releases(folder, RELEASES, open_first_root(folder.read(ROOT)), quiet)
    if releases is None:
        return None
    plans = read_authority(folder, releases, Findings()).plans
    release = plans[-1].adoption.release if plans else ""
    return _Sources(folder, releases, release, read_requests_logs(folder, releases, quiet))


def _step(value: object, step: str, path: str) -> object:
    if isinstance(value, dict) and step in value:
        return value[step]
    if isinstance(value, list | tuple):
        if step.isdecimal() and step.isascii() and int(step) < len(value):
            return value[int(step)]
        for each in value:
            if isinstance(each, dict) and step in {
                each.get(key) for key in ("name", "metric", "code", "organisation", "id")
            }:
                return each
    raise StoryError(f"{path}: nothing under {step[:60]!r}")


def _matches(fields: dict[str, Any], where: dict[str, str | int | bool | None]) -> bool:
    for name, wanted in where.items():
        if name not in fields:
            raise StoryError(f"a {fields['kind']} has no field {name[:60]!r}")
        found = fields[name]
        if type(found) is not type(wanted) or found != wanted:
            return False
    return True
