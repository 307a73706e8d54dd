"""What all acts share: the people's hands, the callers, the narrator, and waiting for the log."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from examples.demo.commands import Admin, Command, Said, StoryError
from examples.demo.crowd import ORGANISATIONS, Caller
from examples.demo.house import Deployment, ModelServer

__all__ = ["Stage", "Teller", "codes", "fail", "predicate"]

MODEL = "smollm2-135m"


class Teller:
    """Tells the story on the terminal, in plain words, with the time since it began."""

    def __init__(self) -> None:
        self._begin = time.monotonic()

    def act(self, number: int, title: str) -> None:
        """Begin an act."""
        print(f"\n{number}. {title}", flush=True)

    def say(self, text: str) -> None:
        """Tell one thing that happened."""
        print(f"   {time.monotonic() - self._begin:6.1f} s  {text}", flush=True)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the story began."""
        return time.monotonic() - self._begin


def codes(reasons: Iterable[dict[str, Any]]) -> list[str]:
    """Return the codes of reasons, with what each is about where that matters."""
    return sorted({str(reason["code"]) for reason in reasons})


@dataclass
class Stage:
    """The running demo."""

    build: Path
    model: ModelServer
    house: Deployment
    command: Command
    admin: Admin
    teller: Teller
    chance: random.Random
    words: str
    callers: dict[str, list[Caller]] = field(default_factory=dict)
    saw_stale: bool = False

    @property
    def thresholds(self) -> list[str]:
        """The plan's thresholds, in order."""
        plan = (self.house.folder / "plan.yaml").read_text()
        block = plan.split("\nthresholds:", 1)[1].split("\nmetrics:", 1)[0]
        return re.findall(r"^  - name: (\w+)", block, re.MULTILINE)

    def batch_of(self, ticket: str) -> str:
        """Return the hex digest of the batch entry that a ticket names."""
        entry: str = json.loads(base64.b64decode(ticket))["entry"]
        return hashlib.sha256(entry.encode()).hexdigest()

    # --- people ---------------------------------------------------------------------------------

    def sign(self, *words: str | Path, by: Iterable[str]) -> Said:
        """Run a command that people sign."""
        keys = [option for name in by for option in ("--key", str(self.house.key(name)))]
        return self.command.desk(*words, *keys)

    def certify(self, stage: str, *by: str, more: tuple[str, ...] = ()) -> Said:
        """Let people sign a stage's certificate."""
        return self.sign("certify", "--stage", stage, "--yes", *more, by=by)

    def review(self, stage: str, note: str, *by: str) -> None:
        """Let each person approve a stage."""
        for name in by:
            words = ["review", "--stage", stage, "--approve", "--yes", "--note", note]
            said = self.sign(*words, by=[name])
            said.must(f"review of {stage} by {name}")

    def assess(self, *more: str, by: str = "evaluator") -> dict[str, Any]:
        """Commit to a measurement, make it through the gateway, hand in the result."""
        said = self.sign(
            "assess",
            "run",
            "--api-key-file",
            self.build / "evaluator.key",
            "--gateway",
            self.house.gateway_url,
            "--root",
            self.root,
            *more,
            by=[by],
        )
        return said.must("assessment")

    def admit(self, stage: str, organisation: str, *proofs: str) -> Caller:
        """Let admissions admit one principal of an organisation, and return its caller."""
        out = self.build / "callers" / f"{stage}-{organisation}.key"
        out.parent.mkdir(parents=True, exist_ok=True)
        options = [option for proof in proofs for option in ("--proof", proof)]
        said = self.sign(
            "grant",
            "--principal",
            f"{organisation}-1",
            "--organisation",
            organisation,
            "--stage",
            stage,
            "--api-key-out",
            out,
            *options,
            by=["admissions"],
        )
        said.must(f"grant for {organisation} at {stage}")
        return Caller(
            organisation=organisation,
            base_url=f"{self.house.gateway_url}/v1",
            api_key=out.read_text().strip(),
            model=MODEL,
        )

    def admit_all(self, stage: str, *proofs: str) -> list[Caller]:
        """Admit all organisations to a stage."""
        callers = [self.admit(stage, name, *proofs) for name in ORGANISATIONS]
        self.callers[stage] = callers
        self.until(lambda: self._answers(callers[-1]), "the gateway knows the new grants")
        return callers

    def _answers(self, caller: Caller) -> bool:
        return caller.may()

    # --- the log --------------------------------------------------------------------------------

    @property
    def root(self) -> str:
        """The root's digest, as it was written down outside."""
        return (self.build.parent / "anchor").read_text().strip()

    def state(self) -> dict[str, Any]:
        """Return control's summary of the state."""
        found: dict[str, Any] = self.admin.get("state")
        return found

    def blocks(self, stage: str) -> list[dict[str, Any]]:
        """Return what shuts the gate of a stage now."""
        for found in self.admin.get("preview")["stages"]:
            if found["stage"] == stage:
                return list(found["blocked_by"])
        raise StoryError(f"the preview says nothing of stage {stage}")

    def decisions(self) -> list[tuple[int, dict[str, Any]]]:
        """Return the recorded decisions with their indices, oldest first."""
        return [(entry["index"], predicate(entry)) for entry in self.entries("decision")]

    def entries(self, kind: str) -> list[dict[str, Any]]:
        """Return all entries of a kind, oldest first."""
        found, start = [], 0
        while True:
            page = self.admin.get("entries", start=start, limit=100)["entries"]
            if not page:
                return [entry for entry in found if entry["header"]["kind"] == kind]
            found += page
            start += len(page)

    def until(
        self, true: Callable[[], Any], what: str, *, seconds: float = 60, every: float = 0.1
    ) -> Any:
        """Return the first true value; raises `StoryError` after `seconds`."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            found = true()
            if found:
                return found
            time.sleep(every)
        raise StoryError(f"within {seconds:.0f} s it was not so that {what}")

    def must_be_shut(self, stage: str, *expected: str) -> list[str]:
        """See a gate shut for the reasons expected; return their codes."""
        found = codes(self.blocks(stage))
        missing = [code for code in expected if code not in found]
        if missing:
            raise StoryError(f"expected the gate of {stage} to be shut by {missing}, got {found}")
        return found

    def must_be_refused(self, said: Said, code: str, what: str) -> str:
        """See a command refused with its reason; return the words."""
        if said.code == 0 or code not in said.words + str(said.value):
            raise StoryError(f"{what}: expected to be refused with {code}, got {said}")
        return code


def predicate(entry: dict[str, Any]) -> dict[str, Any]:
    """Return what an entry's body says, read without verifying: the dossier is verified later."""
    envelope = json.loads(base64.b64decode(entry["body"]))
    found: dict[str, Any] = json.loads(base64.b64decode(envelope["payload"]))["predicate"]
    return found


def fail(error: Exception) -> int:
    """Tell why the story stopped."""
    print(f"\nThe story stopped: {error}", file=sys.stderr, flush=True)
    return 1
