"""A key inside AWS KMS signs; an alias that was pointed elsewhere, or a service that refuses, signs nothing.

What asks is boto3; what answers is `tests.support.kms`, which signs as KMS documents it. Seen to fail:
without the comparison in `KmsSigner.sign` the service was asked to sign with the other key.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.kms import KeyService
from tests.support.to_sign import check_signed, write_envelope

pytest.importorskip("boto3", reason="needs the extra `kms`: pip install 'gatelift[kms]'")
SRC = str(Path(__file__).parents[2] / "src")
SECRET = "the-secret-of-the-service"


@pytest.fixture
def service() -> Iterator[KeyService]:
    made = KeyService()
    yield made
    made.close()


def run(service: KeyService, *words: object, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": SRC, "COLUMNS": "200"}
    environment |= {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": SECRET}
    environment |= {"AWS_DEFAULT_REGION": "eu-west-1", "AWS_ENDPOINT_URL_KMS": service.url}
    return subprocess.run(
        [sys.executable, "-m", "gatelift", *map(str, words)],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=60,
        env=environment | more,
        check=False,
    )


@pytest.fixture
def envelope(tmp_path: Path) -> Path:
    return write_envelope(tmp_path / "review.json")


def enrol(service: KeyService, path: Path, alias: str) -> Path:
    service.make(alias)
    done = run(service, "keys", "enrol-token", path, "--signer", f"awskms:alias/{alias}")
    assert done.returncode == 0, done.stderr
    return path


def test_a_key_in_the_service_signs(service: KeyService, envelope: Path, tmp_path: Path) -> None:
    card = enrol(service, tmp_path / "board.card", "signs")
    done = run(service, "sign", envelope, "--yes", "--key", card)
    assert done.returncode == 0, done.stderr
    message = check_signed(envelope, card)
    assert service.messages == [hashlib.sha256(message).digest()], "the hash alone is sent"
    assert SECRET not in done.stdout + done.stderr + card.read_text() + envelope.read_text()


def test_an_alias_that_was_pointed_elsewhere_signs_nothing(
    service: KeyService, envelope: Path, tmp_path: Path
) -> None:
    card = enrol(service, tmp_path / "board.card", "moved")
    service.make("moved")
    before = envelope.read_bytes()
    done = run(service, "sign", envelope, "--yes", "--key", card)
    assert done.returncode == 4, done.stderr
    assert "[kms_other_key]" in done.stderr
    assert not service.messages, "it was never asked to sign"
    assert envelope.read_bytes() == before


@pytest.mark.parametrize(
    ("alias", "more"),
    [
        ("away", {"AWS_ENDPOINT_URL_KMS": "http://127.0.0.1:1", "AWS_MAX_ATTEMPTS": "1"}),
        ("unknown", {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}),
    ],
    ids=["nobody listens", "no credentials"],
)
def test_a_service_that_does_not_answer_signs_nothing(
    service: KeyService, envelope: Path, tmp_path: Path, alias: str, more: dict[str, str]
) -> None:
    card = enrol(service, tmp_path / "board.card", alias)
    before = envelope.read_bytes()
    done = run(
        service, "sign", envelope, "--yes", "--key", card, **more, AWS_EC2_METADATA_DISABLED="true"
    )
    told(done, "cannot be asked")
    assert envelope.read_bytes() == before


def test_a_key_that_was_disabled_signs_nothing(
    service: KeyService, envelope: Path, tmp_path: Path
) -> None:
    card = enrol(service, tmp_path / "board.card", "retired")
    service.disabled.add("alias/retired")
    before = envelope.read_bytes()
    told(
        run(service, "sign", envelope, "--yes", "--key", card),
        "the service refused: DisabledException",
    )
    assert envelope.read_bytes() == before


def told(done: subprocess.CompletedProcess[str], words: str) -> None:
    assert done.returncode == 4, done.stdout + done.stderr
    assert "[kms_failed]" in done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "1234" not in done.stderr, "messages of the service name accounts"
    assert SECRET not in done.stderr


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("awskms:alias/rsa", "expected a P-256 key"),
        ("awskms:alias/wide", "expected a P-256 key"),
        ("awskms:alias/nobody", "NotFoundException"),
        ("awskms:", "expected a key as awskms:alias/NAME"),
        ("awskms:alias/a b", "expected a key as awskms:alias/NAME"),
    ],
)
def test_what_is_no_p256_key_is_not_enrolled(
    service: KeyService, tmp_path: Path, uri: str, words: str
) -> None:
    service.make_rsa("rsa")
    service.make("wide", ec.SECP384R1())
    card = tmp_path / "x.card"
    told(run(service, "keys", "enrol-token", card, "--signer", uri), words)
    assert not card.exists()
