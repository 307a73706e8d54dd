"""Makes `judged.json`: for each scheme, signatures that hold and ones with a single thing bent.

Imports nothing from the package: `tests/support/signers.py` writes them from the formats alone, and
signs deterministically, so that the same file comes out again.

    python -m tests.vectors.signatures.make_judged > tests/vectors/signatures/judged.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from tests.support.signers import (
    P256_ORDER,
    RP_ID,
    P256Signer,
    PasskeySigner,
    PlainSigner,
    SchemeSigner,
    SshSigner,
)

MESSAGE = b"DSSEv1 1 a 5 hello"
Row = tuple[str, SchemeSigner, bytes, bool]

PLAIN = PlainSigner("one")
P256 = P256Signer("one")
SSH = SshSigner("one")
TOKEN = SshSigner("one", rp_id="ssh:")
PASSKEY = PasskeySigner("one")
EDWARDS = PasskeySigner("one", edwards=True)


def _integer(value: int, pad: int = 0) -> bytes:
    raw = bytes(pad) + value.to_bytes(value.bit_length() // 8 + 1, "big")
    return b"\x02" + bytes([len(raw)]) + raw


def _sequence(*parts: bytes) -> bytes:
    body = b"".join(parts)
    return b"\x30" + bytes([len(body)]) + body


def _plain() -> Iterator[Row]:
    good = PLAIN.sign(MESSAGE)
    yield "as it is", PLAIN, good, True
    yield "a byte more", PLAIN, good + b"\0", False
    yield "a byte less", PLAIN, good[:-1], False
    yield "a bit of R", PLAIN, bytes([good[0] ^ 1]) + good[1:], False
    yield "nothing", PLAIN, b"", False
    order = 2**252 + 27742317777372353535851937790883648493
    higher = int.from_bytes(good[32:], "little") + order
    yield "s plus the order", PLAIN, good[:32] + higher.to_bytes(32, "little"), False
    yield "of another message", PLAIN, PLAIN.sign(MESSAGE + b"x"), False
    yield "by another key", PLAIN, PlainSigner("two").sign(MESSAGE), False
    yield "of an SSH signature", PLAIN, SSH.sign(MESSAGE), False


def _p256() -> Iterator[Row]:
    for what, spelled, holds in (
        ("as it is", encode_dss_signature, True),
        ("the other s", lambda r, s: encode_dss_signature(r, P256_ORDER - s), True),
        ("a byte behind", lambda r, s: encode_dss_signature(r, s) + b"\0", False),
        ("a byte inside", lambda r, s: _sequence(_integer(r), _integer(s), b"\x05\0"), False),
        ("a padded r", lambda r, s: _sequence(_integer(r, 1), _integer(s)), False),
        (
            "a long length",
            lambda r, s: b"\x30\x81" + _sequence(_integer(r), _integer(s))[1:],
            False,
        ),
        ("r of zero", lambda _r, s: encode_dss_signature(0, s), False),
        ("s of zero", lambda r, _s: encode_dss_signature(r, 0), False),
        ("r plus the order", lambda r, s: encode_dss_signature(r + P256_ORDER, s), False),
        ("s plus the order", lambda r, s: encode_dss_signature(r, s + P256_ORDER), False),
        ("r and s without DER", lambda r, s: r.to_bytes(32, "big") + s.to_bytes(32, "big"), False),
        ("nothing", lambda _r, _s: b"", False),
    ):
        yield what, P256, replace(P256, spelled=spelled).sign(MESSAGE), holds
    yield "of another message", P256, P256.sign(MESSAGE + b"x"), False
    yield "by another key", P256, P256Signer("two").sign(MESSAGE), False


def _ssh(pinned: SshSigner) -> Iterator[Row]:
    other = "sk-ssh-ed25519@openssh.com" if pinned.rp_id is None else "ssh-ed25519"
    for what, changes in (
        ("another namespace", {"namespace": b"git"}),
        ("no namespace", {"namespace": b""}),
        ("something reserved", {"reserved": b"x"}),
        ("SHA-256", {"hash_name": b"sha256", "hashed_by": "sha256"}),
        ("SHA-512 that says SHA-256", {"hash_name": b"sha256"}),
        ("SHA-256 that says SHA-512", {"hashed_by": "sha256"}),
        ("says another namespace", {"says": (b"git", b"", b"sha512")}),
        ("says something reserved", {"says": (b"gatelift", b"x", b"sha512")}),
        ("says another hash", {"says": (b"gatelift", b"", b"sha256")}),
        ("another magic", {"magic": b"SSHSIg"}),
        ("another version", {"version": 2}),
        ("a byte behind", {"after": b"\0"}),
        ("a byte behind the signature", {"after_inner": b"\0"}),
        ("another algorithm", {"algorithm": other.encode()}),
        ("our key in it, another signed", {"signed_by": "two"}),
        ("another key in it, ours signed", {"name": "two", "signed_by": "one"}),
        ("another application", {"rp_id": "ssh:other"}),
    ):
        yield what, pinned, replace(pinned, **changes).sign(MESSAGE), False  # type: ignore[arg-type]
    yield "as it is", pinned, pinned.sign(MESSAGE), True
    yield "of another message", pinned, pinned.sign(MESSAGE + b"x"), False
    yield "cut short", pinned, pinned.sign(MESSAGE)[:-1], False
    yield "the bare signature", pinned, PLAIN.sign(MESSAGE), False
    if pinned.rp_id is not None:
        yield "not touched", pinned, replace(pinned, flags=0).sign(MESSAGE), False
        yield "touched and verified", pinned, replace(pinned, flags=5).sign(MESSAGE), True


def _passkey(pinned: PasskeySigner) -> Iterator[Row]:
    for what, changes, holds in (
        ("as it is", {}, True),
        ("a synced passkey", {"flags": 0x1D}, True),
        ("below the domain, with a port", {"client": {"origin": f"https://a.{RP_ID}:8443"}}, True),
        ("members that browsers add", {"client": {"other_keys_can_be_added_here": "x"}}, True),
        ("no word on frames", {"client": {"crossOrigin": "-"}}, True),
        ("made, not got", {"client": {"type": "webauthn.create"}}, False),
        ("a payment", {"client": {"type": "payment.get"}}, False),
        ("another challenge", {"client": {"challenge": "eA"}}, False),
        ("no challenge", {"client": {"challenge": "-"}}, False),
        ("in a frame", {"client": {"crossOrigin": True}}, False),
        ("frames in words", {"client": {"crossOrigin": "false"}}, False),
        ("below another origin", {"client": {"topOrigin": "https://evil.example"}}, False),
        ("plain http", {"client": {"origin": f"http://{RP_ID}"}}, False),
        ("another origin", {"client": {"origin": "https://evil.example"}}, False),
        ("an origin that ends alike", {"client": {"origin": f"https://evil{RP_ID}"}}, False),
        ("a user before the origin", {"client": {"origin": f"https://x@{RP_ID}"}}, False),
        ("an origin with a path", {"client": {"origin": f"https://{RP_ID}/x"}}, False),
        ("an origin in capitals", {"client": {"origin": f"https://{RP_ID.upper()}"}}, False),
        ("an origin that is a list", {"client": {"origin": [f"https://{RP_ID}"]}}, False),
        ("no origin", {"client": {"origin": "-"}}, False),
        ("another relying party", {"signs_for": "evil.example"}, False),
        ("nobody present", {"flags": 0x04}, False),
        ("nobody verified", {"flags": 0x01}, False),
        ("no flags", {"flags": 0x00}, False),
        ("an attested key", {"flags": 0x45}, False),
        ("an extension", {"flags": 0x85, "after": b"\xa0"}, False),
        ("backed up, which it cannot be", {"flags": 0x15}, False),
        ("longer data", {"after": b"\0"}, False),
        ("another member", {"beside": {"userHandle": "eA"}}, False),
        ("base64 with padding", {"beside": {"signature": "eA=="}}, False),
        ("base64 with a stray bit", {"beside": {"signature": "eB"}}, False),
    ):
        yield what, pinned, replace(pinned, **changes).sign(MESSAGE), holds  # type: ignore[arg-type]
    yield "of another message", pinned, pinned.sign(MESSAGE + b"x"), False
    yield "by another key", pinned, replace(pinned, name="two").sign(MESSAGE), False
    yield "a bare signature", pinned, (PLAIN if pinned.edwards else P256).sign(MESSAGE), False
    good = pinned.sign(MESSAGE)
    yield "a member twice", pinned, good[:-1] + b',"signature":"eA"}', False
    yield "a list around it", pinned, b"[" + good + b"]", False


def rows() -> Iterator[dict[str, object]]:
    """Yield every vector."""
    every = (_plain(), _p256(), _ssh(SSH), _ssh(TOKEN), _passkey(PASSKEY), _passkey(EDWARDS))
    for table in every:
        for what, signer, signature, holds in table:
            yield {
                "what": what,
                "scheme": signer.scheme,
                "rp_id": signer.rp_id,
                "public": signer.public.hex(),
                "message": MESSAGE.hex(),
                "signature": signature.hex(),
                "holds": holds,
            }


if __name__ == "__main__":
    json.dump(list(rows()), sys.stdout, indent=1)
    sys.stdout.write("\n")
