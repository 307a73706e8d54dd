"""A passkey in a real browser signs; whatever else answers its page signs nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.browser import CHROMIUM, WHY_NOT, Browser
from tests.support.to_sign import write_envelope

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=WHY_NOT)
SRC = str(Path(__file__).parents[2] / "src")
PRESS = "document.getElementById('go').click()"
SAID = "document.getElementById('said').textContent"


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    made = Browser(tmp_path / "profile")
    yield made
    made.close()


class Command:
    """A command that waits for its page."""

    def __init__(self, *words: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gatelift", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": SRC, "COLUMNS": "200"},
        )
        assert self._process.stderr is not None
        self.url = ""
        read = []
        for line in self._process.stderr:
            read.append(line)
            if line.startswith("http://localhost:"):
                self.url = line.strip()
                break
        assert self.url, "".join(read)
        self.origin, _, self.path = self.url.rpartition("/")

    def end(self) -> tuple[int, str]:
        out, err = self._process.communicate(timeout=30)
        return self._process.returncode, out + err

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def command(*words: object) -> Iterator[Command]:
    made = Command(*words)
    try:
        yield made
    finally:
        made.kill()


def enrolled(folder: Path, browser: Browser) -> Path:
    card = folder / "vera.card"
    with command("keys", "enrol-passkey", card, "--person", "vera") as asked:
        browser.visit(asked.url)
        browser.run(PRESS)
        assert asked.end()[0] == 0
    return card


def envelope(folder: Path) -> Path:
    """A statement that another key has signed."""
    payload = json.dumps({"predicateType": "urn:gatelift:review:v1", "a": "<b>"}).encode()
    return write_envelope(folder / "review.json", payload)


def signatures(path: Path) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(path.read_bytes())["signatures"]
    return found


def test_a_passkey_is_enrolled_and_signs_and_the_page_shows_what(
    tmp_path: Path, browser: Browser
) -> None:
    card = enrolled(tmp_path, browser)
    file = envelope(tmp_path)
    with command("sign", file, "--yes", "--key", card) as asked:
        browser.visit(asked.url)
        shown = browser.run("document.querySelector('pre').textContent")
        picture = os.environ.get("GATELIFT_TEST_PICTURE")
        if picture:
            taken = browser.do("Page.captureScreenshot")["data"]
            Path(picture).write_bytes(base64.b64decode(taken))
        assert browser.run(PRESS) is None
        code, text = asked.end()
        assert code == 0, text
    held = json.loads(card.read_bytes())
    payload = base64.b64decode(json.loads(file.read_bytes())["payload"])
    assert shown == payload.decode()
    signature = signatures(file)[-1]
    point = base64.b64decode(held["public"])
    assert signature["keyid"] == "sha256:" + hashlib.sha256(point).hexdigest()
    # Verified with another's code, from the format's page.
    parts = json.loads(base64.b64decode(signature["sig"]))
    raw = {n: base64.urlsafe_b64decode(t + "=" * (-len(t) % 4)) for n, t in parts.items()}
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    covered = raw["authenticatorData"] + hashlib.sha256(raw["clientDataJSON"]).digest()
    key.verify(raw["signature"], covered, ec.ECDSA(hashes.SHA256()))
    kind = b"application/vnd.in-toto+json"
    message = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(message).digest()).rstrip(b"=").decode()
    assert json.loads(raw["clientDataJSON"])["challenge"] == challenge


def test_the_page_is_shown_once_and_by_its_own_policy(tmp_path: Path, browser: Browser) -> None:
    card = enrolled(tmp_path, browser)
    file = envelope(tmp_path)
    before = file.read_bytes()
    with command("sign", file, "--yes", "--key", card) as asked:
        first = httpx.get(asked.url)
        assert first.status_code == 200
        policy = first.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert first.headers["cache-control"] == "no-store"
        assert httpx.get(asked.url).status_code == 410
        assert httpx.get(asked.origin + "/").status_code == 404
    assert file.read_bytes() == before


REFUSED: dict[str, tuple[dict[str, str], int]] = {
    "another origin": ({"origin": "https://evil.example"}, 403),
    "no origin": ({}, 403),
    "another host": ({"origin": "ORIGIN", "host": "evil.example"}, 404),
    "a form": ({"origin": "ORIGIN", "content-type": "text/plain"}, 415),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_post_from_elsewhere_changes_nothing(tmp_path: Path, browser: Browser, case: str) -> None:
    headers, status = REFUSED[case]
    card = enrolled(tmp_path, browser)
    file = envelope(tmp_path)
    with command("sign", file, "--yes", "--key", card) as asked:
        browser.visit(asked.url)
        sent = {"content-type": "application/json"} | {
            name: asked.origin if value == "ORIGIN" else value for name, value in headers.items()
        }
        answer = httpx.post(asked.url, content=b"{}", headers=sent)
        assert answer.status_code == status
        # The person's own answer still counts.
        browser.run(PRESS)
        assert asked.end()[0] == 0
    assert len(signatures(file)) == 2


def test_an_answer_to_another_challenge_signs_nothing(tmp_path: Path, browser: Browser) -> None:
    card = enrolled(tmp_path, browser)
    file = envelope(tmp_path)
    before = file.read_bytes()
    with command("sign", file, "--yes", "--key", card) as asked:
        browser.visit(asked.url)
        browser.run("asked.challenge = 'A'.repeat(43)")
        browser.run(PRESS)
        code, text = asked.end()
        browser.until(f"{SAID}.startsWith('Refused')")
    assert code != 0
    assert "challenge" in text
    assert file.read_bytes() == before


def test_another_passkey_and_an_unverified_holder_sign_nothing(
    tmp_path: Path, browser: Browser
) -> None:
    card = enrolled(tmp_path, browser)
    file = envelope(tmp_path)
    before = file.read_bytes()
    held: dict[str, Any] = json.loads(card.read_bytes())
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    other = json.loads(enrolled(elsewhere, browser).read_bytes())
    card.write_text(json.dumps(held | {"credential": other["credential"]}))
    with command("sign", file, "--yes", "--key", card) as asked:
        browser.visit(asked.url)
        browser.run(PRESS)
        assert asked.end()[0] != 0
    assert file.read_bytes() == before
    card.write_text(json.dumps(held))
    browser.do(
        "WebAuthn.setUserVerified", authenticatorId=browser.authenticator, isUserVerified=False
    )
    with command("sign", file, "--yes", "--key", card) as asked:
        browser.visit(asked.url)
        browser.run(PRESS)
        browser.until(f"{SAID}.startsWith('NotAllowedError')")
    assert file.read_bytes() == before


def said(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gatelift", *map(str, words)],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": SRC, "COLUMNS": "200"},
        check=False,
    )


def test_a_passkey_holds_the_root_and_a_root_without_its_signature_is_refused(
    tmp_path: Path, browser: Browser
) -> None:
    card = enrolled(tmp_path, browser)
    home, draft, made = tmp_path / "d", tmp_path / "draft.json", tmp_path / "root-2.json"
    entry, before = tmp_path / "vera.json", tmp_path / "d/root.json"
    assert said("init", home, "--yes", "--release", "aurora").returncode == 0
    named = ("--person", "vera", "--organisation", "lab.example", "--out", entry)
    assert said("keys", "show", card, *named).returncode == 0
    roles = ("--threshold", "root=1", "--role", f"root={entry}")
    done = said("root", "next", before, "--out", draft, *roles)
    assert done.returncode == 0, done.stderr
    old = [word for n in (1, 2) for word in ("--key", home / f"keys/root-{n}.key")]
    assert said("sign", draft, "--yes", "--out", made, *old).returncode == 0
    assert said("root", "check", made, "--previous", before).returncode == 1
    with command("sign", made, "--yes", "--key", card, "--root-file", before) as asked:
        browser.visit(asked.url)
        browser.run(PRESS)
        code, text = asked.end()
        assert code == 0, text
    done = said("root", "check", made, "--previous", before)
    assert done.returncode == 0, done.stderr
