"""Promise 8: a stranger can check it.

Attacked here: `gatelift verify` of a genuine dossier with the anchor, and without one; with any one
byte flipped in any kind of file; with a file left out; and a dossier forged as a whole, by a real
deployment of the same release name and plan, held against our anchor; and the same by the one-file
verifier, run by a Python that can import nothing of ours, also over the archive. Beside that, an entry's
inclusion and the log's signatures are verified with this folder's own code, from the published
formats and the standard library, and every record of the requests log is recomputed.

Seen to fail: with the anchor not compared in `ledger.verify` the forged dossier exited 0 (red); with
a batch's root not compared in `ledger.audit.requests` the plausibly changed record passed (red).
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.promises.dossiers import (
    body_of,
    bundles,
    entries_of,
    export,
    head_of,
    live_through,
    path_of,
    root_digest,
    tree_hash,
)
from tests.promises.outside import PLANS, Deployment, Said, climb, gatelift, holds, leaf_hash
from tests.support.upstream import ScriptedUpstream


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    found = ScriptedUpstream(key="upstream-key-of-promise-eight")
    yield found
    found.close()


@pytest.fixture(scope="module")
def told(upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A genuine dossier and its anchor; the deployment is gone."""
    home = tmp_path_factory.mktemp("p08")
    deployment = live_through(home, upstream)
    try:
        path = export(deployment, home / "dossier")
        into = ("--archive", home / "dossier.tar")
        deployment.cli("dossier", "export", "--dir", deployment.folder, *into).must()
        anchor = root_digest(deployment)
    finally:
        deployment.stop()
    return path, anchor


FOREIGN_WITNESS = "foreign.example+1ebf9456+BAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
ONE_FILE = Path(__file__).parents[2] / "verifier/gatelift_verify.py"


def verify(dossier: Path, anchor: str | None) -> Said:
    """Ask both verifiers; they must end with one code."""
    more = () if anchor is None else ("--root", anchor)
    said = Said(gatelift("verify", dossier, *more, "--json"))
    alone = by_one_file(dossier, *more)
    assert alone.code == said.code, (alone.text, said.text)
    return said


def by_one_file(dossier: Path, *more: str) -> Said:
    """Run the one file where the package cannot be imported."""
    blocked = "import sys; sys.modules['gatelift'] = None; sys.argv = sys.argv[1:]; "
    run = "import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"
    words = [sys.executable, "-c", blocked + run, ONE_FILE, dossier, *more, "--json"]
    return Said(
        subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=60, check=False)
    )


def test_with_the_anchor_it_holds(told: tuple[Path, str]) -> None:
    said = verify(*told)
    assert said.code == 0, said.text
    assert said.value["authenticated"]
    assert said.value["proved"]
    assert said.value["cannot_prove"], "it says what no dossier can prove"


def test_the_report_is_a_page_that_loads_nothing(told: tuple[Path, str], tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    words = ("verify", told[0], "--root", told[1], "--html", page, "--json")
    said = Said(gatelift(*words))
    assert said.code == 0, said.text
    text = page.read_text("utf-8")
    assert "It holds, and it is the deployment that you named." in text
    for sentence in (*said.value["proved"], *said.value["cannot_prove"]):
        assert sentence in html.unescape(text), sentence
    assert "<script" not in text
    assert "src=" not in text
    assert Said(gatelift(*words)).code == 2, "the file is there"


def test_an_archive_holds_as_a_folder_does(told: tuple[Path, str], tmp_path: Path) -> None:
    archive = told[0].with_name("dossier.tar")
    assert verify(archive, told[1]).code == 0
    assert verify(archive, None).code == 3
    data = archive.read_bytes()
    changed = data.replace(b'\\"upstream\\":true', b'\\"upstream\\":fals', 1)
    assert changed != data
    (tmp_path / "altered.tar").write_bytes(changed)
    assert verify(tmp_path / "altered.tar", told[1]).code == 1


def test_its_log_is_said_in_other_formats_and_never_kinder(
    told: tuple[Path, str], tmp_path: Path
) -> None:
    dossier, anchor = told
    bom = tmp_path / "bom.json"
    words = ("dossier", "export-bom", dossier, "--out", bom)
    assert Said(gatelift(*words, "--json")).code == 3, "not authenticated"
    assert Said(gatelift(*words, "--root", anchor, "--json")).code == 2, "the file is there"
    bom.unlink()
    assert Said(gatelift(*words, "--root", anchor, "--json")).code == 0
    found = json.loads(bom.read_bytes())
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    assert found["components"][0]["type"] == "machine-learning-model"
    out = tmp_path / "statements"
    into = ("dossier", "export-in-toto", dossier.with_name("dossier.tar"), "--out", out)
    said = Said(gatelift(*into, "--root", anchor, "--json"))
    assert said.code == 0, said.text
    summaries = [
        json.loads(p.read_bytes()) for p in sorted(out.glob("*-verification-summary.json"))
    ]
    passed = [s["predicate"]["verificationResult"] == "PASSED" for s in summaries]
    # Stage zero was stopped and opened again: only its newest certificate stands.
    assert passed.count(True) == 1
    assert len(passed) > 1
    copy = tmp_path / "copy"
    shutil.copytree(dossier, copy)
    order = next(e for e in entries_of(copy) if e["kind"] == "order")
    (copy / "files/sha256" / order["body"].removeprefix("sha256:")).unlink()
    altered = ("dossier", "export-bom", copy, "--out", tmp_path / "b.json", "--root", anchor)
    assert Said(gatelift(*altered, "--json")).code == 1
    assert not (tmp_path / "b.json").exists()


def test_without_an_anchor_it_says_so_and_exits_otherwise(told: tuple[Path, str]) -> None:
    said = verify(told[0], None)
    assert said.code == 3
    assert said.value["authenticated"] is False
    words = gatelift("verify", told[0])
    assert words.returncode == 3
    assert "not authenticated" in words.stdout.lower()


def test_a_dossier_of_another_deployment_of_the_same_release_never_passes(
    told: tuple[Path, str], upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    other = Deployment(
        tmp_path / "d",
        upstream=upstream.url,
        upstream_key=upstream.key,
        plan=PLANS / "harbour.yaml",
    )
    try:
        forged = export(other, tmp_path / "forged")
    finally:
        other.stop()
    assert json.loads((forged / "dossier.json").read_bytes())["release"] == "harbour"
    assert verify(forged, None).code == 3, "it is consistent with itself"
    assert verify(forged, told[1]).code == 1
    # Our root in their folder, and our manifest's word for it.
    shutil.copy(told[0] / "root.json", forged / "root.json")
    manifest = json.loads((forged / "dossier.json").read_bytes()) | {"root": told[1]}
    (forged / "dossier.json").write_text(json.dumps(manifest))
    assert verify(forged, told[1]).code == 1


def test_the_witness_and_the_log_are_an_anchor_too(told: tuple[Path, str], tmp_path: Path) -> None:
    # A policy from elsewhere: here the true one, and one that asks for another witness.
    policy = (told[0] / "tlog-policy").read_text()
    (tmp_path / "policy").write_text(policy)
    more = ("--policy", str(tmp_path / "policy"))
    said = Said(gatelift("verify", told[0], *more, "--json"))
    assert (said.code, by_one_file(told[0], *more).code) == (0, 0), said.text
    witness = next(line for line in policy.splitlines() if line.startswith("witness "))
    other = f"witness {witness.split()[1]} {FOREIGN_WITNESS}"
    (tmp_path / "policy").write_text(policy.replace(witness, other))
    said = Said(gatelift("verify", told[0], *more, "--json"))
    assert (said.code, by_one_file(told[0], *more).code) == (1, 1), said.text


def kinds_of_file(dossier: Path) -> list[Path]:
    """Return one file or more of each kind that a verdict stands on."""
    entries = entries_of(dossier)
    bodies: dict[str, Path] = {}
    for header in entries:
        name = header["body"].removeprefix("sha256:")
        bodies.setdefault(header["kind"], dossier / "files/sha256" / name)
    (log,) = (dossier / "requests").iterdir()
    (records,) = (dossier / "records").iterdir()
    tiles = [*dossier.glob("releases/tile/**/*"), *log.glob("tile/**/*")]
    return [
        dossier / "root.json",
        dossier / "releases/checkpoint",
        log / "checkpoint",
        records,
        *sorted(bodies.values()),
        *sorted(path for path in tiles if path.is_file()),
    ]


def test_a_flipped_byte_is_found_wherever_it_is(told: tuple[Path, str], tmp_path: Path) -> None:
    chance = random.Random(8)
    files = kinds_of_file(told[0])
    picked = [files[0], files[1], files[2], files[3], *chance.sample(files[4:], 5)]
    for number, path in enumerate(picked):
        copy = tmp_path / f"copy-{number}"
        shutil.copytree(told[0], copy)
        target = copy / path.relative_to(told[0])
        data = bytearray(target.read_bytes())
        place = chance.randrange(len(data))
        data[place] ^= 1 << chance.randrange(7)
        target.write_bytes(bytes(data))
        said = verify(copy, told[1])
        where = f"{path.relative_to(told[0])} at {place}"
        assert said.code in {1, 2}, f"{where}: {said.code} {said.text}"
        if path.name not in {"root.json", "dossier.json"}:
            assert said.code == 1, where
        shutil.rmtree(copy)


def test_a_plausible_change_of_one_record_is_found(told: tuple[Path, str], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(told[0], copy)
    (path,) = (copy / "records").iterdir()
    lines = path.read_text().splitlines(keepends=True)
    for number, line in enumerate(lines):
        row = json.loads(line)
        record = json.loads(row["record"])
        if record.get("outcome") == "served":
            before = f'"answer_bytes":{record["answer_bytes"]}'
            row["record"] = row["record"].replace(before, before + "0")
            lines[number] = json.dumps(row, separators=(",", ":")) + "\n"
            break
    path.write_text("".join(lines))
    said = verify(copy, told[1])
    assert said.code == 1, said.text
    assert "batch_root" in {each["code"] for each in said.value["findings"]}


def test_what_is_left_out_is_missed(told: tuple[Path, str], tmp_path: Path) -> None:
    entries = entries_of(told[0])
    order = next(e for e in entries if e["kind"] == "order")
    (records,) = (told[0] / "records").iterdir()
    for number, name in enumerate(
        (
            f"files/sha256/{order['body'].removeprefix('sha256:')}",
            f"records/{records.name}:line",
            f"requests/{records.stem}",
        )
    ):
        copy = tmp_path / f"copy-{number}"
        shutil.copytree(told[0], copy)
        if name.endswith(":line"):
            path = copy / name.removesuffix(":line")
            lines = path.read_bytes().split(b"\n")
            path.write_bytes(b"\n".join(lines[:5] + lines[6:]))
        elif (copy / name).is_dir():
            shutil.rmtree(copy / name)
            (copy / "records" / records.name).unlink()
        else:
            (copy / name).unlink()
        said = verify(copy, told[1])
        assert said.code == 1, (name, said.text)


def test_an_entry_is_included_by_code_of_our_own(told: tuple[Path, str]) -> None:
    dossier, anchor = told
    # The anchor is the digest of root.json; the root holds the keys.
    data = (dossier / "root.json").read_bytes()
    assert "sha256:" + hashlib.sha256(data).hexdigest() == anchor
    root = json.loads(base64.b64decode(json.loads(data)["payload"]))
    log = dossier / "releases"
    origin, size, head, signatures = head_of(log)
    assert origin == f"{root['name']}/releases"
    leaves = [leaf_hash(entry) for entry in bundles(log, size)]
    assert len(leaves) == size
    assert tree_hash(leaves) == head
    for index in (0, size // 2, size - 1):
        assert climb(leaves[index], index, size, path_of(leaves, index)) == head
    text = (log / "checkpoint").read_text().partition("\n\n")[0] + "\n"
    signed = {line.split(" ")[1]: base64.b64decode(line.split(" ")[2]) for line in signatures}
    public = base64.b64decode(root["releases_vkey"].split("+", 2)[2])[1:]
    assert holds(public, signed[origin][4:], text.encode())
    witness, _, blob = root["witnesses"][0]["vkey"].split("+", 2)
    raw = signed[witness][4:]
    said = f"cosignature/v1\ntime {int.from_bytes(raw[:8], 'big')}\n{text}".encode()
    assert holds(base64.b64decode(blob)[1:], raw[8:], said)
    for header in entries_of(dossier):
        body = body_of(dossier, header)
        assert "sha256:" + hashlib.sha256(body).hexdigest() == header["body"]


def test_every_record_is_under_its_batch_by_code_of_our_own(told: tuple[Path, str]) -> None:
    dossier, _ = told
    (log,) = (dossier / "requests").iterdir()
    _, size, head, _ = head_of(log)
    batches = list(bundles(log, size))
    assert tree_hash([leaf_hash(entry) for entry in batches]) == head
    (records,) = (dossier / "records").iterdir()
    leaves: dict[int, list[bytes]] = {}
    for line in records.read_text().splitlines():
        row = json.loads(line)
        salted = base64.b64decode(row["salt"]) + row["record"].encode()
        leaf = hashlib.sha256(b"\x00gatelift/record/v1\n" + salted).digest()
        leaves.setdefault(row["batch"], []).append(leaf)
    assert sorted(leaves) == list(range(size))
    for index, entry in enumerate(batches):
        batch = json.loads(entry)
        assert batch["n"] == len(leaves[index])
        assert batch["root"] == "sha256:" + tree_hash(leaves[index]).hex()
