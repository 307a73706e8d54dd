"""P-256 key files and cards from the command line: what they sign, and which files are refused."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

SRC = str(Path(__file__).parents[2] / "src")
PUBLIC = base64.b64encode(bytes(range(65))).decode()


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gatelift", *map(str, words)],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": SRC, "COLUMNS": "200"},
        check=False,
    )


def envelope(folder: Path) -> Path:
    path = folder / "review.json"
    value = {
        "payload": base64.b64encode(b'{"predicateType":"urn:gatelift:review:v1"}').decode(),
        "payloadType": "application/vnd.in-toto+json",
        "signatures": [{"keyid": "sha256:" + "0" * 64, "sig": "AA=="}],
    }
    path.write_text(json.dumps(value))
    return path


def test_a_p256_file_signs_in_der_and_is_its_owners_alone(tmp_path: Path) -> None:
    key, file = tmp_path / "ana.key", envelope(tmp_path)
    made = json.loads(run("keys", "new", key, "--scheme", "ecdsa-p256", "--json").stdout)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert json.loads(run("keys", "show", key, "--json").stdout)["public"] == made["public"]
    done = run("sign", file, "--yes", "--key", key)
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_bytes())
    payload, kind = base64.b64decode(found["payload"]), found["payloadType"].encode()
    message = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    point = ec.EllipticCurvePublicKey.from_encoded_point(
        ec.SECP256R1(), base64.b64decode(made["public"])
    )
    signature = base64.b64decode(found["signatures"][-1]["sig"])
    point.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    # Another's public half of it, published: the same key.
    published = run("keys", "publish", key, "--organisation", "lab.example")
    assert made["public"] in published.stdout
    assert run("keys", "new", key, "--scheme", "ecdsa-p256").returncode == 2
    assert run("keys", "paper", key).returncode == 2


def card(**fields: object) -> str:
    return json.dumps({"v": 1, "scheme": "ecdsa-p256", "public": PUBLIC, "uri": "hsm:2", **fields})


# A point that is on the curve: FIPS 186-5's generator, from SEC 2 section 2.4.2.
ON_CURVE = base64.b64encode(
    bytes.fromhex(
        "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
        "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
    )
).decode()
REFUSED = {
    "zero": "ecdsa-p256 " + base64.b64encode(bytes(32)).decode(),
    "too large": "ecdsa-p256 " + base64.b64encode(b"\xff" * 32).decode(),
    "short": "ecdsa-p256 " + base64.b64encode(b"\x01" * 31).decode(),
    "not base64": "ecdsa-p256 secretsecret!",
    "a point off the curve": card(),
    "a card with a PIN": card(public=ON_CURVE, pin="1234"),
    "a card of another version": card(public=ON_CURVE, v=2),
    "a card of another service": card(public=ON_CURVE, uri="https://evil.example"),
    "a card without a scheme that signs": card(public=ON_CURVE, scheme="ed25519"),
    "a passkey of another site": json.dumps(
        {
            "v": 1,
            "scheme": "webauthn",
            "public": ON_CURVE,
            "rp_id": "evil.example",
            "credential": "AAAA",
        }
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_is_no_key_signs_nothing_and_is_not_quoted(tmp_path: Path, case: str) -> None:
    key, file = tmp_path / "bad.key", envelope(tmp_path)
    key.write_text(REFUSED[case] + "\n")
    key.chmod(0o600)
    before = file.read_bytes()
    done = run("sign", file, "--yes", "--key", key)
    assert done.returncode == 2
    assert "[bad_key_file]" in done.stderr
    assert "Traceback" not in done.stderr
    secret = REFUSED[case].removeprefix("ecdsa-p256 ")
    assert secret not in done.stderr
    assert file.read_bytes() == before


def test_a_key_that_the_root_does_not_name_is_refused_before_it_signs(tmp_path: Path) -> None:
    made = run("init", tmp_path / "d", "--yes", "--release", "aurora")
    assert made.returncode == 0, made.stderr
    key, file = tmp_path / "ana.key", envelope(tmp_path)
    run("keys", "new", key, "--scheme", "ecdsa-p256")
    before = file.read_bytes()
    root = tmp_path / "d/root.json"
    done = run("sign", file, "--yes", "--key", key, "--root-file", root)
    assert done.returncode == 2
    assert "[key_not_in_root]" in done.stderr
    assert file.read_bytes() == before
    named = tmp_path / "d/keys/operator.key"
    assert run("sign", file, "--yes", "--key", named, "--root-file", root).returncode == 0
