"""Acts 7 and 8: an auditor verifies offline, forgeries are refused, and public stays shut."""

from __future__ import annotations

import json
import secrets
import shutil
from pathlib import Path

from examples.demo.commands import Command, StoryError
from examples.demo.house import Deployment, free_ports
from examples.demo.stage import Stage, codes
from examples.demo.story import Story

__all__ = ["audit", "count_records", "public_stays_shut"]


def count_records(story: Story, dossier: Path) -> None:
    """Note the figures that stand in the requests log."""
    manifest = json.loads((dossier / "dossier.json").read_text())
    for log in manifest["requests"]:
        lines = (dossier / "records").glob("*.jsonl")
        counted: dict[str, int] = {}
        for path in lines:
            for line in path.read_text().splitlines():
                record = json.loads(json.loads(line)["record"])
                if record["kind"] == "finish":
                    counted[record["outcome"]] = counted.get(record["outcome"], 0) + 1
        for outcome, count in sorted(counted.items()):
            story.records(
                f"exchanges {outcome}",
                count,
                log["origin"],
                log["size"] - 1,
                kind="finish",
                outcome=outcome,
            )
        story.log("batches in the requests log", log["size"], log["origin"])
    story.log("entries in the releases log", manifest["releases"]["size"], "releases")


def _expect(command: Command, code: int, what: str, *words: str | Path) -> None:
    said = command.run("verify", *words)
    if said.code != code:
        raise StoryError(
            f"{what}: expected exit {code}, got {said.code}: {said.value} {said.words}"
        )


def audit(stage: Stage, story: Story) -> None:
    """Act 7: export, verify with and without an anchor, refuse a forgery and a flipped byte."""
    tell = stage.teller
    tell.act(7, "The auditor's dossier, verified offline")
    dossier = stage.build / "dossier"
    stage.command.run("dossier", "export", "--dir", stage.house.folder, "--out", dossier).must(
        "dossier export"
    )
    count_records(story, dossier)
    story.write(stage.build / "story.json")
    said = stage.command.run(
        "verify", dossier, "--root", stage.root, "--story", stage.build / "story.json"
    )
    if said.code != 0:
        raise StoryError(f"verify: {json.dumps(said.value)[:3000]} {said.words}")
    tell.say(f"verified against the anchor: {said.value['counts']}")
    _expect(stage.command, 3, "verify without an anchor", dossier)
    tell.say("without the anchor: consistent with itself, not authenticated")
    _flip(stage, dossier)
    _forge(stage)
    _false_story(stage, dossier)
    replayed = stage.command.run("replay", dossier).must("replay")
    tell.say(f"replayed {replayed['decisions']} decisions: every one as recorded")


def _flip(stage: Stage, dossier: Path) -> None:
    copy = stage.build / "flipped"
    shutil.copytree(dossier, copy)
    victim = max((copy / "releases" / "tile" / "entries").rglob("*"))
    data = bytearray(victim.read_bytes())
    place = secrets.randbelow(len(data))
    data[place] ^= 1
    victim.write_bytes(bytes(data))
    _expect(stage.command, 1, "verify one flipped byte", copy, "--root", stage.root)
    shutil.rmtree(copy)
    stage.teller.say("one flipped byte: refused")


def _forge(stage: Stage) -> None:
    """Make a whole other deployment of the same release and show its dossier as this one's."""
    folder = stage.build / "forger"
    command = stage.command
    command.run("init", folder, "--yes", "--plan", stage.house.folder / "plan.yaml").must("init")
    house = Deployment(folder, free_ports(3), 1)
    try:
        house.wait_for_control()
        desk = Command("--admin", house.admin_url, "--token-file", str(house.token("submitter")))
        desk.desk("plan", "adopt", folder / "plan.yaml", "--key", house.key("operator")).must(
            "the forger adopts the plan"
        )
        out = stage.build / "forged"
        desk.run("dossier", "export", "--dir", folder, "--out", out).must("the forger exports")
    finally:
        house.stop()
    own = (folder / "root.sha256").read_text().strip()
    _expect(command, 0, "the forged dossier under its own root", out, "--root", own)
    _expect(command, 1, "the forged dossier", out, "--root", stage.root)
    shutil.rmtree(out)
    shutil.rmtree(folder)
    stage.teller.say("a wholly forged dossier: refused, its root is not the anchor's")


def _false_story(stage: Stage, dossier: Path) -> None:
    told = json.loads((stage.build / "story.json").read_text())
    for figure in told["figures"]:
        if isinstance(figure["value"], int):
            figure["value"] += 1
            break
    false = stage.build / "false-story.json"
    false.write_text(json.dumps(told))
    _expect(
        stage.command, 1, "verify a changed figure", dossier, "--root", stage.root, "--story", false
    )
    false.unlink()
    stage.teller.say("one changed figure in story.json: refused")


def public_stays_shut(stage: Stage) -> str:
    """Act 8: the gate of the last stage, and the last line of the story."""
    stage.teller.act(8, "The gate of public")
    found = stage.blocks("public")
    stage.teller.say(f"shut: {', '.join(codes(found))}")
    if "assurance_below" not in codes(found):
        raise StoryError(f"expected public to be shut by assurance_below, got {codes(found)}")
    reason = next(reason for reason in found if reason["code"] == "assurance_below")
    return f"public stays shut: assurance_below: {reason['subject']}"
