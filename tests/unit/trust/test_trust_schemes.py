"""The four ways to sign: published vectors hold, and every way to bend one fails."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from gatelift.tlog import PublicKeyError
from gatelift.trust import (
    Scheme,
    SignatureError,
    SigningKey,
    VerifyingKey,
    challenge_of,
    key_id,
    parse_ssh_armour,
    parse_ssh_public_key,
    verify_signature,
)
from gatelift.trust.keys import check_verifying_key

VECTORS = Path(__file__).parents[2] / "vectors" / "signatures"
CURVES = json.loads((VECTORS / "curves.json").read_text())
WEBAUTHN = json.loads((VECTORS / "webauthn.json").read_text())
MESSAGE = b"DSSEv1 1 a 5 hello"
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
P256_P = 2**256 - 2**224 + 2**192 + 2**96 - 1


def refused(key: VerifyingKey, signature: bytes, message: bytes) -> str:
    with pytest.raises(SignatureError) as caught:
        verify_signature(key, signature, message)
    return str(caught.value)


# --- the curves --------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", CURVES["ed25519"], ids=lambda v: v["source"])
def test_published_ed25519_signatures_verify(vector: dict[str, str]) -> None:
    key = VerifyingKey(scheme=Scheme.ED25519, public=bytes.fromhex(vector["public"]))
    message, signature = bytes.fromhex(vector["message"]), bytes.fromhex(vector["signature"])
    verify_signature(check_verifying_key(key), signature, message)
    refused(key, signature, message + b"x")
    refused(key, signature + b"\0", message)


def p256(vector: dict[str, str]) -> tuple[VerifyingKey, int, int, bytes]:
    point = b"\x04" + bytes.fromhex(vector["x"]) + bytes.fromhex(vector["y"])
    key = VerifyingKey(scheme=Scheme.ECDSA_P256, public=point)
    return key, int(vector["r"], 16), int(vector["s"], 16), bytes.fromhex(vector["message"])


@pytest.mark.parametrize("vector", CURVES["ecdsa-p256"], ids=lambda v: v["source"])
def test_published_p256_signatures_verify(vector: dict[str, str]) -> None:
    key, r, s, message = p256(vector)
    verify_signature(check_verifying_key(key), encode_dss_signature(r, s), message)
    # The other s of the same r is a signature too.
    verify_signature(key, encode_dss_signature(r, P256_ORDER - s), message)
    refused(key, encode_dss_signature(r, s), message + b"x")


def _integer(value: int, *, pad: int = 0) -> bytes:
    raw = bytes(pad) + value.to_bytes(value.bit_length() // 8 + 1, "big")
    return b"\x02" + bytes([len(raw)]) + raw


def _sequence(body: bytes) -> bytes:
    return b"\x30" + bytes([len(body)]) + body


BENT_DER: dict[str, Callable[[int, int], bytes]] = {
    "trailing byte": lambda r, s: encode_dss_signature(r, s) + b"\0",
    "trailing inside": lambda r, s: _sequence(_integer(r) + _integer(s) + b"\x05\0"),
    "padded r": lambda r, s: _sequence(_integer(r, pad=1) + _integer(s)),
    "long form length": lambda r, s: (
        b"\x30\x81" + bytes([len(_integer(r) + _integer(s))]) + _integer(r) + _integer(s)
    ),
    "negative r": lambda r, s: _sequence(b"\x02\x20" + r.to_bytes(32, "big") + _integer(s)),
    "r of zero": lambda _r, s: encode_dss_signature(0, s),
    "s of zero": lambda r, _s: encode_dss_signature(r, 0),
    "r plus the order": lambda r, s: encode_dss_signature(r + P256_ORDER, s),
    "s plus the order": lambda r, s: encode_dss_signature(r, s + P256_ORDER),
    "raw r and s": lambda r, s: r.to_bytes(32, "big") + s.to_bytes(32, "big"),
    "nothing": lambda _r, _s: b"",
}


@pytest.mark.parametrize("name", BENT_DER)
def test_a_p256_signature_in_another_spelling_is_refused(name: str) -> None:
    key, r, s, message = p256(CURVES["ecdsa-p256"][0])
    refused(key, BENT_DER[name](r, s), message)


def _points() -> dict[str, bytes]:
    x, y = (bytes.fromhex(CURVES["ecdsa-p256"][0][each]) for each in "xy")
    point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + x + y)
    # A point whose x is small enough to be written once more above the field's prime.
    low = ec.EllipticCurvePublicKey.from_encoded_point(
        ec.SECP256R1(), b"\x02" + (5).to_bytes(32, "big")
    ).public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return {
        "compressed": point.public_bytes(Encoding.X962, PublicFormat.CompressedPoint),
        "SPKI": point.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "hybrid": bytes([6 + (y[-1] & 1)]) + x + y,
        "off the curve": b"\x04" + x + x,
        "infinity": b"\0",
        "x above the prime": b"\x04" + (5 + P256_P).to_bytes(32, "big") + low[33:],
        "longer": b"\x04" + x + y + b"\0",
    }


@pytest.mark.parametrize("name", _points())
def test_a_p256_key_has_one_spelling(name: str) -> None:
    with pytest.raises(PublicKeyError):
        check_verifying_key(VerifyingKey(scheme=Scheme.ECDSA_P256, public=_points()[name]))


# --- one key, one id ---------------------------------------------------------------------------


def test_the_same_material_has_one_id_under_every_scheme() -> None:
    raw = SigningKey(b"7" * 32).public
    keys = (
        VerifyingKey(scheme=Scheme.ED25519, public=raw),
        VerifyingKey(scheme=Scheme.SSHSIG, public=raw),
        VerifyingKey(scheme=Scheme.SSHSIG, public=raw, rp_id="ssh:"),
        VerifyingKey(scheme=Scheme.WEBAUTHN, public=raw, rp_id="sign.example"),
    )
    assert {check_verifying_key(key).id for key in keys} == {key_id(raw)}


def test_a_signature_counts_only_under_the_scheme_that_is_pinned() -> None:
    key = SigningKey(b"7" * 32)
    signature = key.sign(MESSAGE)
    verify_signature(VerifyingKey(scheme=Scheme.ED25519, public=key.public), signature, MESSAGE)
    for scheme, rp_id in ((Scheme.SSHSIG, None), (Scheme.WEBAUTHN, "sign.example")):
        pinned = VerifyingKey(scheme=scheme, public=key.public, rp_id=rp_id)
        refused(pinned, signature, MESSAGE)


@pytest.mark.parametrize(
    ("scheme", "rp_id"),
    [
        (Scheme.ED25519, "sign.example"),
        (Scheme.ECDSA_P256, "sign.example"),
        (Scheme.WEBAUTHN, None),
        (Scheme.WEBAUTHN, ""),
        (Scheme.WEBAUTHN, "https://sign.example"),
        (Scheme.WEBAUTHN, "Sign.example"),
        (Scheme.SSHSIG, "ssh:\n"),
    ],
)
def test_a_relying_party_stands_where_it_is_used_and_nowhere_else(
    scheme: Scheme, rp_id: str | None
) -> None:
    public = SigningKey(b"7" * 32).public
    if scheme is Scheme.ECDSA_P256:
        public = p256(CURVES["ecdsa-p256"][0])[0].public
    with pytest.raises(PublicKeyError):
        check_verifying_key(VerifyingKey(scheme=scheme, public=public, rp_id=rp_id))


# --- sshsig ------------------------------------------------------------------------------------


def string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


class Ssh:
    """An SSH signature written out field by field; a test changes one of them."""

    def __init__(self, application: str | None = None) -> None:
        self.signer = SigningKey(b"s" * 32)
        self.application = application
        self.kind = b"ssh-ed25519" if application is None else b"sk-ssh-ed25519@openssh.com"
        self.key = string(self.kind) + string(self.signer.public)
        if application is not None:
            self.key += string(application.encode())
        self.magic, self.version, self.namespace = b"SSHSIG", 1, b"gatelift"
        self.reserved, self.hash, self.after, self.inner_after = b"", b"sha512", b"", b""
        self.flags, self.algorithm = 1, self.kind
        self.digest = "sha512"

    def pinned(self) -> VerifyingKey:
        return check_verifying_key(
            VerifyingKey(scheme=Scheme.SSHSIG, public=self.signer.public, rp_id=self.application)
        )

    def blob(self, message: bytes = MESSAGE) -> bytes:
        covered = b"SSHSIG" + string(self.namespace) + string(self.reserved) + string(self.hash)
        covered += string(hashlib.new(self.digest, message).digest())
        extra = b""
        if self.application is not None:
            extra = bytes([self.flags]) + (9).to_bytes(4, "big")
            covered = (
                hashlib.sha256(self.application.encode()).digest()
                + extra
                + hashlib.sha256(covered).digest()
            )
        inner = string(self.algorithm) + string(self.signer.sign(covered)) + extra
        return (
            self.magic
            + self.version.to_bytes(4, "big")
            + string(self.key)
            + string(self.namespace)
            + string(self.reserved)
            + string(self.hash)
            + string(inner + self.inner_after)
            + self.after
        )


def golden_ssh() -> tuple[VerifyingKey, bytes]:
    held = parse_ssh_public_key((VECTORS / "sshsig.pub").read_text())
    assert held.application is None
    key = check_verifying_key(VerifyingKey(scheme=Scheme.SSHSIG, public=held.raw))
    return key, parse_ssh_armour((VECTORS / "sshsig.txt").read_text())


def test_what_openssh_signed_verifies() -> None:
    key, blob = golden_ssh()
    verify_signature(key, blob, MESSAGE)
    refused(key, blob, MESSAGE + b"\n")


@pytest.mark.parametrize("application", [None, "ssh:", "ssh:gatelift"])
def test_an_ssh_signature_written_by_hand_verifies(application: str | None) -> None:
    made = Ssh(application)
    verify_signature(made.pinned(), made.blob(), MESSAGE)


BENT_SSH: dict[str, dict[str, Any]] = {
    "another namespace": {"namespace": b"git"},
    "no namespace": {"namespace": b""},
    "reserved": {"reserved": b"x"},
    "sha256": {"hash": b"sha256", "digest": "sha256"},
    "sha512 that says sha256": {"hash": b"sha256"},
    "sha256 that says sha512": {"digest": "sha256"},
    "another magic": {"magic": b"SSHSIg"},
    "another version": {"version": 2},
    "something after": {"after": b"\0"},
    "something after the signature": {"inner_after": b"\0"},
    "another algorithm": {"algorithm": b"ssh-rsa"},
}


@pytest.mark.parametrize("application", [None, "ssh:"])
@pytest.mark.parametrize("name", BENT_SSH)
def test_an_ssh_signature_with_one_other_field_is_refused(
    name: str, application: str | None
) -> None:
    made = Ssh(application)
    for field, value in BENT_SSH[name].items():
        setattr(made, field, value)
    refused(made.pinned(), made.blob(), MESSAGE)


def test_an_ssh_signature_by_another_key_is_refused_whatever_it_says() -> None:
    made, other = Ssh(), Ssh()
    other.signer = SigningKey(b"o" * 32)
    # It carries our key and is signed by another, and the other way round.
    refused(made.pinned(), other.blob(), MESSAGE)
    made.key = string(b"ssh-ed25519") + string(other.signer.public)
    refused(made.pinned(), made.blob(), MESSAGE)
    other.key = string(b"ssh-ed25519") + string(other.signer.public)
    refused(made.pinned(), other.blob(), MESSAGE)


def test_a_security_key_that_was_not_touched_signed_nothing() -> None:
    made = Ssh("ssh:")
    made.flags = 0
    assert "touch" in refused(made.pinned(), made.blob(), MESSAGE)


def test_a_security_key_signs_for_its_own_application_only() -> None:
    made = Ssh("ssh:")
    other = msgspec.structs.replace(made.pinned(), rp_id="ssh:other")
    plain = msgspec.structs.replace(made.pinned(), rp_id=None)
    refused(other, made.blob(), MESSAGE)
    refused(plain, made.blob(), MESSAGE)
    refused(made.pinned(), Ssh().blob(), MESSAGE)


@pytest.mark.parametrize("length", range(0, 170, 7))
def test_an_ssh_signature_cut_short_is_refused(length: int) -> None:
    made = Ssh()
    assert len(made.blob()) > 170
    refused(made.pinned(), made.blob()[:length], MESSAGE)


PUBLIC_LINES = {
    "rsa": "ssh-rsa AAAAB3NzaC1yc2E= x",
    "two lines": (VECTORS / "sshsig.pub").read_text() * 2,
    "no base64": "ssh-ed25519 %%%",
    "one word": "ssh-ed25519",
    "another type inside": "sk-ssh-ed25519@openssh.com "
    + (VECTORS / "sshsig.pub").read_text().split()[1],
    "another type of the same shape": "ssh-ed25519 "
    + base64.b64encode(string(b"ssh-other!!") + string(SigningKey(b"s" * 32).public)).decode(),
    "small order": "ssh-ed25519 "
    + base64.b64encode(string(b"ssh-ed25519") + string(b"\x01" + bytes(31))).decode(),
    "left over": "ssh-ed25519 "
    + base64.b64encode(
        string(b"ssh-ed25519") + string(SigningKey(b"s" * 32).public) + b"\0"
    ).decode(),
}


@pytest.mark.parametrize("name", PUBLIC_LINES)
def test_an_ssh_public_key_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(PublicKeyError):
        parse_ssh_public_key(PUBLIC_LINES[name])


# --- webauthn ----------------------------------------------------------------------------------


class Assertion:
    """An assertion by a software authenticator; a test changes one part of it."""

    def __init__(self) -> None:
        self.private = ec.derive_private_key(7, ec.SECP256R1())
        self.rp_id, self.flags, self.more = "sign.example", 0x05, b""
        self.client: dict[str, Any] = {
            "type": "webauthn.get",
            "challenge": challenge_of(MESSAGE),
            "origin": "https://sign.example",
            "crossOrigin": False,
        }
        self.client_text: str | None = None
        self.extra: dict[str, str] = {}

    def pinned(self) -> VerifyingKey:
        public = self.private.public_key().public_bytes(
            Encoding.X962, PublicFormat.UncompressedPoint
        )
        return check_verifying_key(
            VerifyingKey(scheme=Scheme.WEBAUTHN, public=public, rp_id="sign.example")
        )

    def signature(self) -> bytes:
        text = json.dumps(self.client) if self.client_text is None else self.client_text
        client = text.encode()
        data = hashlib.sha256(self.rp_id.encode()).digest() + bytes([self.flags])
        data += (1).to_bytes(4, "big") + self.more
        signed = self.private.sign(
            data + hashlib.sha256(client).digest(), ec.ECDSA(hashes.SHA256())
        )
        parts = {"authenticatorData": data, "clientDataJSON": client, "signature": signed}
        response = {
            name: base64.urlsafe_b64encode(part).rstrip(b"=").decode()
            for name, part in parts.items()
        }
        return json.dumps(response | self.extra).encode()


@pytest.mark.parametrize("vector", WEBAUTHN, ids=lambda v: v["algorithm"])
def test_stored_assertions_verify(vector: dict[str, Any]) -> None:
    key = VerifyingKey(
        scheme=Scheme.WEBAUTHN, public=bytes.fromhex(vector["public"]), rp_id=vector["rp_id"]
    )
    signature = json.dumps(vector["response"]).encode()
    message = bytes.fromhex(vector["message"])
    verify_signature(check_verifying_key(key), signature, message)
    refused(key, signature, message + b"x")
    refused(msgspec.structs.replace(key, rp_id="example"), signature, message)


def _client(**changes: Any) -> Callable[[Assertion], None]:
    return lambda made: made.client.update(changes)


def _set(**changes: Any) -> Callable[[Assertion], None]:
    def change(made: Assertion) -> None:
        for name, value in changes.items():
            setattr(made, name, value)

    return change


GOOD_ASSERTIONS: dict[str, Callable[[Assertion], None]] = {
    "as it is": lambda _made: None,
    "a synced passkey": _set(flags=0x1D),
    "below the domain, with a port": _client(origin="https://a.sign.example:8443"),
    "members that browsers add": _client(other_keys_can_be_added_here="x"),
}
BENT_ASSERTIONS: dict[str, Callable[[Assertion], None]] = {
    "made, not got": _client(type="webauthn.create"),
    "a payment": _client(type="payment.get"),
    "another challenge": _client(challenge=challenge_of(b"another message")),
    "a padded challenge": _client(challenge=challenge_of(MESSAGE) + "="),
    "the message itself as challenge": _client(challenge=MESSAGE.decode()),
    "no challenge": lambda made: made.client.pop("challenge"),
    "in a frame": _client(crossOrigin=True),
    "crossOrigin in words": _client(crossOrigin="false"),
    "below another origin": _client(topOrigin="https://evil.example"),
    "plain http": _client(origin="http://sign.example"),
    "another origin": _client(origin="https://evil.example"),
    "an origin that ends alike": _client(origin="https://evilsign.example"),
    "an origin with user": _client(origin="https://sign.example@evil.example"),
    "user of the origin": _client(origin="https://x@sign.example"),
    "an origin with a path": _client(origin="https://sign.example/x"),
    "no origin": lambda made: made.client.pop("origin"),
    "another relying party": _set(rp_id="evil.example"),
    "nobody present": _set(flags=0x04),
    "nobody verified": _set(flags=0x01),
    "no flags": _set(flags=0x00),
    "an attested key": _set(flags=0x45),
    "an extension": _set(flags=0x85, more=b"\xa0"),
    "backed up and not eligible": _set(flags=0x15),
    "longer data": _set(more=b"\0"),
    "another member": _set(extra={"userHandle": "eA"}),
    "two challenges": _set(
        client_text='{"type":"webauthn.get","challenge":"'
        + challenge_of(b"shown to the person")
        + '","challenge":"'
        + challenge_of(MESSAGE)
        + '","origin":"https://sign.example"}'
    ),
    "no object": _set(client_text="[]"),
}


@pytest.mark.parametrize("name", GOOD_ASSERTIONS)
def test_an_assertion_verifies(name: str) -> None:
    made = Assertion()
    GOOD_ASSERTIONS[name](made)
    verify_signature(made.pinned(), made.signature(), MESSAGE)


@pytest.mark.parametrize("name", BENT_ASSERTIONS)
def test_an_assertion_with_one_part_bent_is_refused(name: str) -> None:
    made = Assertion()
    BENT_ASSERTIONS[name](made)
    refused(made.pinned(), made.signature(), MESSAGE)


def test_an_assertion_by_another_key_is_refused() -> None:
    other = Assertion()
    other.private = ec.derive_private_key(8, ec.SECP256R1())
    refused(Assertion().pinned(), other.signature(), MESSAGE)


# --- whatever comes ----------------------------------------------------------------------------


@functools.cache
def _pairs() -> tuple[tuple[VerifyingKey, bytes], ...]:
    p256_key, r, s, _ = p256(CURVES["ecdsa-p256"][0])
    return (
        (p256_key, encode_dss_signature(r, s)),
        (Ssh().pinned(), Ssh().blob()),
        (Ssh("ssh:").pinned(), Ssh("ssh:").blob()),
        (Assertion().pinned(), Assertion().signature()),
    )


@given(data=st.data())
def test_bytes_that_were_bent_anywhere_are_refused_and_nothing_else_happens(
    data: st.DataObject,
) -> None:
    key, good = data.draw(st.sampled_from(_pairs()))
    at = data.draw(st.integers(0, len(good)))
    put = data.draw(st.binary(max_size=6))
    taken = data.draw(st.integers(0, 6))
    # The message is another, so that nothing may hold, whatever the bytes say.
    refused(key, good[:at] + put + good[at + taken :], b"another message")
    if key.scheme is Scheme.SSHSIG and good[:at] + put + good[at + taken :] != good:
        refused(key, good[:at] + put + good[at + taken :], MESSAGE)
