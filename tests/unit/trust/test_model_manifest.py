"""Manifests of weights: what is refused, each by its own code, and what stands for all files."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from gatelift.encoding import Digest, sha256_digest
from gatelift.errors import CallerError
from gatelift.trust import ManifestError, sign_manifest, verify_manifest, weights_digest


class Sealer:
    def __init__(self, number: int) -> None:
        self._key = ec.derive_private_key(number, ec.SECP256R1())
        self.public = self._key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message, ec.ECDSA(hashes.SHA256()))


ONE, OTHER = Sealer(7), Sealer(8)
FILES: dict[str, Digest] = {
    "sub-b": sha256_digest(b"b"),
    "sub/a": sha256_digest(b"a"),
    "z": sha256_digest(b"z"),
}


def signed(change: Callable[[dict[str, Any]], None], by: Sealer = ONE) -> bytes:
    """Return a manifest whose statement was changed and then signed, as a hostile sealer would."""
    bundle = json.loads(sign_manifest("m", FILES, (), by))
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    change(statement)
    payload = json.dumps(statement).encode()
    kind = b"application/vnd.in-toto+json"
    message = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(by.sign(message)).decode()
    return json.dumps(bundle).encode()


def test_the_digest_of_all_files_is_that_of_their_raw_digests_in_the_order_of_segments() -> None:
    raw = b"".join(hashlib.sha256(each).digest() for each in (b"a", b"b", b"z"))
    assert weights_digest(FILES) == f"sha256:{hashlib.sha256(raw).hexdigest()}"


def test_a_manifest_says_what_was_signed() -> None:
    found = verify_manifest(sign_manifest("m", FILES, ("notes",), ONE), ONE.public)
    assert (found.model, found.files, found.ignored) == ("m", FILES, ("notes",))
    assert found.weights == weights_digest(FILES)


def _rename(statement: dict[str, Any], name: str) -> None:
    statement["predicate"]["resources"][0]["name"] = name


def _serialization(statement: dict[str, Any], key: str, value: object) -> None:
    statement["predicate"]["serialization"][key] = value


@pytest.mark.parametrize(
    ("change", "code"),
    [
        pytest.param(lambda s: _rename(s, "../out"), "bad_path", id="a path that leads out"),
        pytest.param(lambda s: _rename(s, "/etc/passwd"), "bad_path", id="an absolute path"),
        pytest.param(lambda s: _rename(s, "a//b"), "bad_path", id="an empty segment"),
        pytest.param(lambda s: _rename(s, "z"), "bad_manifest", id="a file twice"),
        pytest.param(
            lambda s: s["predicate"]["resources"].reverse(), "bad_manifest", id="another order"
        ),
        pytest.param(
            lambda s: s["predicate"]["resources"].pop(),
            "bad_manifest",
            id="a subject of more files",
        ),
        pytest.param(lambda s: _serialization(s, "method", "shards"), "manifest_kind", id="shards"),
        pytest.param(
            lambda s: _serialization(s, "allow_symlinks", True), "manifest_kind", id="links"
        ),
        pytest.param(
            lambda s: _serialization(s, "hash_type", "blake3"), "manifest_kind", id="another hash"
        ),
        pytest.param(
            lambda s: s.__setitem__("predicateType", "urn:gatelift:order:v1"),
            "bad_manifest",
            id="another predicate",
        ),
        pytest.param(
            lambda s: s["subject"].append(s["subject"][0]), "bad_manifest", id="two subjects"
        ),
    ],
)
def test_a_signed_manifest_that_is_not_read_here_is_refused(
    change: Callable[[dict[str, Any]], None], code: str
) -> None:
    with pytest.raises(ManifestError) as caught:
        verify_manifest(signed(change), ONE.public)
    assert caught.value.code == code


def test_a_manifest_by_another_key_is_refused_even_if_it_borrows_the_hint() -> None:
    with pytest.raises(ManifestError) as caught:
        verify_manifest(sign_manifest("m", FILES, (), OTHER), ONE.public)
    assert caught.value.code == "other_signer"
    mine = json.loads(sign_manifest("m", FILES, (), ONE))
    forged = json.loads(sign_manifest("m", FILES, (), OTHER))
    forged["verificationMaterial"] = mine["verificationMaterial"]
    with pytest.raises(ManifestError) as caught:
        verify_manifest(json.dumps(forged).encode(), ONE.public)
    assert caught.value.code == "forged"


@given(st.binary(max_size=300))
def test_what_is_no_manifest_is_refused_and_breaks_nothing(data: bytes) -> None:
    with pytest.raises(CallerError):
        verify_manifest(data, ONE.public)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.sampled_from(["_type", "subject", "predicateType", "predicate"]), _JSON)
def test_a_signed_statement_of_any_shape_is_read_whole_or_refused(name: str, value: Any) -> None:
    with pytest.raises(CallerError):
        verify_manifest(signed(lambda statement: statement.__setitem__(name, value)), ONE.public)


def test_no_byte_of_a_manifest_can_be_changed() -> None:
    data = bytearray(sign_manifest("m", FILES, (), ONE))
    bundle = json.loads(data)
    payload = bundle["dsseEnvelope"]["payload"]
    start = data.index(payload.encode())
    for place in range(start, start + len(payload), 37):
        changed = bytearray(data)
        changed[place] = ord("A") if changed[place] != ord("A") else ord("B")
        with pytest.raises(CallerError):
            verify_manifest(bytes(changed), ONE.public)
