"""A key inside a PKCS#11 token signs, and a gateway that runs obeys it; without token or PIN nothing is.

The token is SoftHSM's, a library that behaves as a card does. Left out where it is not installed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from tests.promises.outside import free_ports, wait_for
from tests.support.howto import HowTo
from tests.support.to_sign import check_signed, write_envelope
from tests.support.upstream import ScriptedUpstream

SRC = str(Path(__file__).parents[2] / "src")
LIBRARY = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "739204"
pytestmark = pytest.mark.skipif(
    not LIBRARY.exists() or shutil.which("softhsm2-util") is None,
    reason="needs SoftHSM: apt-get install softhsm2",
)
MAKE_KEY = """
import sys, pkcs11
from pkcs11.util.ec import encode_named_curve_parameters
token = pkcs11.lib(sys.argv[1]).get_token(token_label=sys.argv[2])
with token.open(rw=True, user_pin=sys.argv[3]) as session:
    curve = {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}
    made = session.create_domain_parameters(pkcs11.KeyType.EC, curve, local=True)
    made.generate_keypair(store=True, id=b"\\x02", label="signing")
"""


class Tokens(NamedTuple):
    """A reader with tokens in it."""

    folder: Path
    environment: dict[str, str]

    def add(self, label: str) -> None:
        """Put in a token with a new P-256 key."""
        environment = os.environ | self.environment
        subprocess.run(
            [
                *("softhsm2-util", "--init-token", "--free"),
                *("--label", label, "--so-pin", "1234567", "--pin", PIN),
            ],
            check=True,
            env=environment,
            capture_output=True,
        )
        subprocess.run(
            [sys.executable, "-c", MAKE_KEY, str(LIBRARY), label, PIN], check=True, env=environment
        )

    def run(self, *words: object, pin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run one command; the PIN comes on a descriptor."""
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": SRC, "COLUMNS": "200"}
        environment |= self.environment
        passed: tuple[int, ...] = ()
        if pin is not None:
            there, back = os.pipe()
            os.write(back, pin.encode() + b"\n")
            os.close(back)
            environment["GATELIFT_PIN_FD"] = str(there)
            passed = (there,)
        try:
            return subprocess.run(
                [sys.executable, "-m", "gatelift", *map(str, words)],
                capture_output=True,
                stdin=subprocess.DEVNULL,
                text=True,
                timeout=60,
                env=environment,
                pass_fds=passed,
                check=False,
            )
        finally:
            for each in passed:
                os.close(each)


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    pytest.importorskip("pkcs11", reason="needs the extra `hsm`: pip install 'gatelift[hsm]'")
    folder = tmp_path / "tokens"
    folder.mkdir()
    settings = tmp_path / "softhsm2.conf"
    settings.write_text(f"directories.tokendir = {folder}\nlog.level = ERROR\n")
    made = Tokens(folder, {"SOFTHSM2_CONF": str(settings), "PYKCS11LIB": str(LIBRARY)})
    made.add("board")
    return made


@pytest.fixture
def card(tokens: Tokens, tmp_path: Path) -> Path:
    path = tmp_path / "board.card"
    done = tokens.run("keys", "enrol-token", path, "--signer", "hsm:2?label=board")
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture
def envelope(tmp_path: Path) -> Path:
    return write_envelope(tmp_path / "review.json")


def test_a_token_signs_and_its_pin_is_nowhere(tokens: Tokens, card: Path, envelope: Path) -> None:
    done = tokens.run("sign", envelope, "--yes", "--key", card, pin=PIN)
    assert done.returncode == 0, done.stderr
    check_signed(envelope, card)
    everything = done.stdout + done.stderr + card.read_text() + envelope.read_text()
    assert PIN not in everything


def wrong_pin(tokens: Tokens) -> None:
    """Nothing is done to the token."""


def taken_out(tokens: Tokens) -> None:
    shutil.rmtree(tokens.folder)
    tokens.folder.mkdir()


def another_key(tokens: Tokens) -> None:
    taken_out(tokens)
    tokens.add("board")


@pytest.mark.parametrize(
    ("trouble", "pin", "code", "words"),
    [
        (wrong_pin, "000000", "token_failed", "the PIN is wrong"),
        (wrong_pin, "", "token_failed", "empty line"),
        (wrong_pin, None, "token_failed", "expected a terminal"),
        (taken_out, PIN, "token_failed", "No PKCS#11 token"),
        (another_key, PIN, "token_other_key", "is it the right token"),
    ],
    ids=["wrong PIN", "no PIN", "nobody to ask", "taken out", "another key"],
)
def test_trouble_with_the_token_signs_nothing(
    tokens: Tokens, card: Path, envelope: Path, trouble, pin: str | None, code: str, words: str
) -> None:  # fmt: skip
    before = envelope.read_bytes()
    trouble(tokens)
    done = tokens.run("sign", envelope, "--yes", "--key", card, pin=pin)
    assert done.returncode == 4, done.stdout + done.stderr
    assert f"[{code}]" in done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not pin or pin not in done.stderr
    assert envelope.read_bytes() == before


def test_a_card_with_another_key_is_never_asked_to_sign(
    tokens: Tokens, card: Path, envelope: Path, tmp_path: Path
) -> None:
    # The card of a colleague's token, with the address of this one. No PIN: none may be asked for.
    tokens.add("colleague")
    other = tmp_path / "colleague.card"
    assert (
        tokens.run("keys", "enrol-token", other, "--signer", "hsm:2?label=colleague").returncode
        == 0
    )
    bent = json.loads(other.read_bytes()) | {"uri": "hsm:2?label=board"}
    other.write_text(json.dumps(bent))
    before = envelope.read_bytes()
    done = tokens.run("sign", envelope, "--yes", "--key", other)
    assert "[token_other_key]" in done.stderr
    assert envelope.read_bytes() == before


@pytest.fixture
def how(tmp_path: Path) -> Iterator[HowTo]:
    upstream = ScriptedUpstream(["hello "] * 3, key="k")
    first = free_ports()
    made = HowTo("key-ceremony.md", tmp_path, {"8080": str(first), "8081": str(first + 1)})
    (tmp_path / "up.key").write_text("k")
    (tmp_path / "up.key").chmod(0o600)
    made.put = {**made.put, "UPSTREAM": upstream.url}
    yield made
    made.stop()
    upstream.close()


def asked(how: HowTo) -> int:
    key = (how.folder / "d/keys/developer-api.key").read_text().strip()
    return httpx.post(
        how.here("http://127.0.0.1:8080/v1/chat/completions"),
        headers={"authorization": f"Bearer {key}"},
        json={"model": "aurora", "messages": [{"role": "user", "content": "Say hello."}]},
    ).status_code


def signed(how: HowTo) -> bytes:
    return (how.folder / "root-2.json").read_bytes()


UP = "--dir d --upstream UPSTREAM --model aurora --upstream-key-file up.key"
NEXT = """
gatelift keys new ana.key --scheme ecdsa-p256
gatelift keys show ana.key --person ana --organisation lab.example --out ana.json
gatelift keys show board.card --person safety --organisation lab.example --out stop.json
gatelift root next d/root.json --out draft.json --threshold root=1 --role root=ana.json --role stop=stop.json
"""
SIGN = "gatelift sign draft.json --yes --out root-2.json --key d/keys/root-1.key --key d/keys/root-2.key"
HALT = "gatelift halt --reason drill --release dev --key board.card --socket d"


def test_a_gateway_takes_a_root_by_p256_and_obeys_a_token(
    how: HowTo, tokens: Tokens, card: Path
) -> None:
    how.environment |= tokens.environment
    how.up(UP)
    assert asked(how) == 200
    how.run(NEXT)
    how.run(SIGN)
    # The new holder has not signed yet: nobody takes this root.
    with pytest.raises(AssertionError):
        how.run("gatelift root check root-2.json --previous d/root.json")
    how.run("gatelift sign root-2.json --yes --key ana.key")
    how.run(
        "gatelift submit root-2.json --admin http://127.0.0.1:8081 --token-file d/keys/submitter.token"
    )
    wait_for(lambda: (how.folder / "d/root.json").read_bytes() == signed(how), seconds=30)
    assert asked(how) == 200
    with pytest.raises(AssertionError, match="the PIN is wrong"):
        how.run(f"{HALT} 3<<< 000000", GATELIFT_PIN_FD="3")
    assert asked(how) == 200
    how.run(f"{HALT} 3<<< {PIN}")
    wait_for(lambda: asked(how) != 200, seconds=5)


def test_a_token_taken_out_while_the_pin_is_asked_signs_nothing(
    tokens: Tokens, card: Path, envelope: Path
) -> None:
    before = envelope.read_bytes()
    there, back = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "gatelift", "sign", str(envelope), "--yes", "--key", str(card)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=(there,),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": SRC, "GATELIFT_PIN_FD": str(there)}
        | tokens.environment,
    )
    os.close(there)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(3)
    taken_out(tokens)
    os.write(back, PIN.encode() + b"\n")
    os.close(back)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 4, err
    assert "nothing was signed" in err
    assert envelope.read_bytes() == before
