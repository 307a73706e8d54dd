"""Promise 10, and the appeal that rests on it: nobody keeps a text, and the caller can prove it.

Attacked here: the text is changed by one byte, salts are changed, tickets and receipts are exchanged, a
start's ticket is taken for a finish's; and the code that the page gives a stranger is run as it stands.

Seen to fail: with the check of salts left out a changed salt was called another text (red); with the
request left out of the finish the command found nothing to open (red).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.promises.dossiers import root_digest
from tests.promises.outside import PLANS, PYTHON, Deployment, Said, Stream, gatelift, wait_for
from tests.support.upstream import ScriptedUpstream

PAGE = Path(__file__).parents[2] / "docs/reference/openings.md"


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    upstream = ScriptedUpstream(["one ", "two ", "naïve ☃"])
    found = Deployment(
        tmp_path_factory.mktemp("p10o") / "d",
        upstream=upstream.url,
        upstream_key=upstream.key,
        plan=PLANS / "harbour.yaml",
    )
    yield found
    found.stop()
    upstream.close()


class Kept:
    """What a caller keeps of an exchange, as files."""

    def __init__(self, deployment: Deployment, folder: Path, text: str) -> None:
        folder.mkdir(parents=True)
        self.deployment = deployment
        body = {"model": deployment.model, "messages": [{"role": "user", "content": text}]}
        sent = json.dumps({**body, "max_tokens": 9}, ensure_ascii=False).encode()
        headers = {"authorization": f"Bearer {deployment.api_key}"}
        url = f"{deployment.base_url}/chat/completions"
        answer = httpx.post(
            url, content=sent, headers={**headers, "content-type": "application/json"}
        )
        assert answer.status_code == 200, answer.text
        ticket = answer.headers["gatelift-ticket"]
        entry = json.loads(base64.b64decode(ticket))["entry"].encode()
        receipt = f"{deployment.base_url}/receipts/{hashlib.sha256(entry).hexdigest()}"
        proof = wait_for(
            lambda: (got := httpx.get(receipt, headers=headers)).status_code == 200 and got
        )
        self.ticket = self._write(folder / "ticket", ticket.encode())
        self.prompt = self._write(folder / "prompt", sent)
        self.answer = self._write(folder / "answer", answer.content)
        self.proof = self._write(folder / "proof", proof.content)

    def _write(self, path: Path, data: bytes) -> Path:
        path.write_bytes(data)
        return path

    def check(self, **other: Path) -> Said:
        used = {"ticket": self.ticket, "prompt": self.prompt, "answer": self.answer}
        used |= {"proof": self.proof} | other
        words: list[object] = ["receipt", "check", used.pop("ticket")]
        for name, path in used.items():
            words += [f"--{name}", path]
        root = self.deployment.folder / "root.json"
        words += ["--root-file", root, "--root", root_digest(self.deployment)]
        return Said(gatelift(*words, "--json"))


@pytest.fixture(scope="module")
def kept(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> tuple[Kept, Kept]:
    home = tmp_path_factory.mktemp("kept")
    return Kept(deployment, home / "a", "a question ☃"), Kept(deployment, home / "b", "another")


def changed(path: Path, out: Path, **fields: Any) -> Path:
    ticket = json.loads(base64.b64decode(path.read_bytes()))
    out.write_bytes(base64.b64encode(json.dumps({**ticket, **fields}).encode()))
    return out


def test_a_caller_proves_what_was_sent_and_what_came_back(kept: tuple[Kept, Kept]) -> None:
    said = kept[0].check().must()
    assert said["authenticated"]
    assert "/requests/n1/" in said["logged"]


def test_wrong_text_other_receipt_and_other_salt_are_told_apart(
    kept: tuple[Kept, Kept], tmp_path: Path
) -> None:
    one, other = kept
    bent = tmp_path / "bent"
    bent.write_bytes(one.prompt.read_bytes().replace(b"question", b"Question"))
    salt = base64.b64encode(bytes(32)).decode()
    request = changed(one.ticket, tmp_path / "request", request_salt=salt)
    answer = changed(one.ticket, tmp_path / "answer", content_salt=salt)
    leaf = changed(one.ticket, tmp_path / "leaf", salt=salt)
    for what, files, code in (
        ("one letter of the prompt", {"prompt": bent}, "other_text"),
        ("another prompt", {"prompt": other.prompt}, "other_text"),
        ("another answer", {"answer": other.answer}, "other_text"),
        ("the salt of the request", {"ticket": request}, "other_salt"),
        ("the salt of the answer", {"ticket": answer}, "other_salt"),
        ("the salt of the record", {"ticket": leaf}, "bad_merkle_proof"),
        ("another receipt", {"proof": other.proof}, "other_receipt"),
        ("another ticket", {"ticket": other.ticket, "proof": other.proof}, "other_text"),
    ):
        said = one.check(**files)
        assert (said.code, said.error["code"]) == (1, code), (what, said.text)


def test_a_stranger_does_it_with_the_code_of_the_page(
    kept: tuple[Kept, Kept], tmp_path: Path
) -> None:
    one, other = kept
    script = tmp_path / "stranger.py"
    found = re.search(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert found is not None
    script.write_text(found[1])
    for answer, holds in ((one.answer, True), (other.answer, False)):
        done = subprocess.run(
            [PYTHON, script, one.ticket, one.prompt, answer],
            capture_output=True,
            text=True,
            check=True,
        )
        lines = done.stdout.splitlines()
        assert lines[0].endswith(" holds")
        assert lines[1].endswith(" holds") is holds
        assert lines[1].endswith("does NOT hold") is not holds


def test_a_streams_last_ticket_opens_its_text(
    deployment: Deployment, kept: tuple[Kept, Kept], tmp_path: Path
) -> None:
    stream = Stream(deployment, "streamed")
    stream.join(20)
    ticket, text = tmp_path / "ticket", tmp_path / "text"
    comment = re.search(rb"^: gatelift-ticket (\S+)$", stream.text, re.MULTILINE)
    assert comment is not None
    ticket.write_bytes(comment[1])
    events = re.findall(rb"^data: (\{.*\})\r?$", stream.text, re.MULTILINE)
    choices = [choice for event in events for choice in json.loads(event)["choices"]]
    text.write_text("".join(choice["delta"].get("content") or "" for choice in choices), "utf-8")
    root = deployment.folder / "root.json"
    words = ["receipt", "check", ticket, "--answer", text, "--root-file", root]
    said = Said(gatelift(*words, "--root", root_digest(deployment), "--json"))
    said.must()
    assert Said(gatelift(*words, "--json")).code == 3
