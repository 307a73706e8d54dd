"""The one-file verifier takes and refuses signatures of every scheme as the package does.

`judged.json` says of each of its vectors whether it holds; both are held to that, not to each other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st

from gatelift.trust import Scheme, SignatureError, VerifyingKey, verify_signature
from gatelift.trust.keys import check_verifying_key
from tests.support.alike import REFUSED, by_file, by_package
from tests.support.verifiers import load_file
from tests.support.world import key
from tests.unit.trust import test_trust_schemes as schemes
from tests.vectors.signatures import make_judged

JUDGED = json.loads(
    (Path(__file__).parents[2] / "vectors/signatures/judged.json").read_text("utf-8")
)


GOOD = [vector for vector in JUDGED if vector["holds"]]


def pinned(vector: dict[str, Any]) -> VerifyingKey:
    return VerifyingKey(
        scheme=Scheme(vector["scheme"]),
        public=bytes.fromhex(vector["public"]),
        rp_id=vector.get("rp_id"),
    )


def there(held: VerifyingKey) -> Any:
    return load_file().PublicKey(held.scheme.value, held.public, held.rp_id)


def said(held: VerifyingKey, signature: bytes, message: bytes) -> tuple[bool, bool]:
    """Return whether the package takes a signature, and whether the one file does."""
    try:
        verify_signature(held, signature, message)
        ours = True
    except SignatureError:
        ours = False
    theirs = by_file(lambda given: there(held).verify(given, message), signature) is not REFUSED
    return ours, theirs


# -- vectors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "vector", JUDGED, ids=[f"{v['scheme']} {v['rp_id']} {v['what']}" for v in JUDGED]
)
def test_a_vector_is_judged_by_both_as_it_says(vector: dict[str, Any]) -> None:
    held = check_verifying_key(pinned(vector))
    there(held).check()
    signature, message = (bytes.fromhex(vector[name]) for name in ("signature", "message"))
    assert said(held, signature, message) == (vector["holds"], vector["holds"])


def test_the_vectors_are_those_that_their_generator_makes() -> None:
    assert list(make_judged.rows()) == JUDGED


def test_every_scheme_has_vectors_that_hold_and_vectors_that_do_not() -> None:
    told = {(vector["scheme"], vector["holds"]) for vector in JUDGED}
    assert told == {(scheme.value, holds) for scheme in Scheme for holds in (True, False)}


def published() -> Iterator[tuple[VerifyingKey, bytes, bytes]]:
    """Yield what others signed: RFC 8032, RFC 6979, OpenSSH, and WebAuthn written out by hand."""
    for vector in schemes.CURVES["ed25519"]:
        signature, message = (bytes.fromhex(vector[name]) for name in ("signature", "message"))
        yield pinned({**vector, "scheme": "ed25519"}), signature, message
    for vector in schemes.CURVES["ecdsa-p256"]:
        held, r, s, message = schemes.p256(vector)
        yield held, encode_dss_signature(r, s), message
    yield *schemes.golden_ssh(), schemes.MESSAGE
    for vector in schemes.WEBAUTHN:
        response = json.dumps(vector["response"]).encode()
        yield pinned({**vector, "scheme": "webauthn"}), response, bytes.fromhex(vector["message"])


def test_published_signatures_of_each_scheme_hold_by_both() -> None:
    told = list(published())
    assert {held.scheme for held, _, _ in told} == set(Scheme)
    for held, signature, message in told:
        there(check_verifying_key(held)).check()
        assert said(held, signature, message) == (True, True)
        assert said(held, signature, message + b"x") == (False, False)


@settings(max_examples=600, deadline=None)
@given(data=st.data())
def test_bent_signatures_of_every_scheme_are_taken_and_refused_alike(data: st.DataObject) -> None:
    vector = data.draw(st.sampled_from(GOOD))
    good = bytes.fromhex(vector["signature"])
    at = data.draw(st.integers(0, len(good)))
    put = data.draw(st.binary(max_size=4))
    cut = data.draw(st.integers(0, 4))
    bent = good[:at] + put + good[at + cut :]
    ours, theirs = said(pinned(vector), bent, bytes.fromhex(vector["message"]))
    assert ours == theirs, (vector["scheme"], bent)


# -- keys -----------------------------------------------------------------------------------------


@given(
    scheme=st.sampled_from(list(Scheme)),
    rp_id=st.one_of(st.none(), st.text("aZ.:/ \n\u00e9", max_size=5), st.just("x" * 254)),
    long=st.booleans(),
)
def test_a_key_suits_its_scheme_by_both(scheme: Scheme, rp_id: str | None, long: bool) -> None:
    p256 = schemes.p256(schemes.CURVES["ecdsa-p256"][0])[0].public
    held = VerifyingKey(scheme=scheme, public=p256 if long else key("a").public, rp_id=rp_id)
    ours = by_package(check_verifying_key, held)
    theirs = by_file(lambda given: there(given).check(), held)
    assert (ours is REFUSED) == (theirs is REFUSED)


@pytest.mark.parametrize(
    ("rp_id", "suits"),
    [
        ("sign.example", True),
        ("Sign.example", False),
        ("https://sign.example", False),
        ("", False),
        (None, False),
        ("x" * 254, False),
    ],
)
def test_a_relying_party_is_a_domain_in_lower_case_by_both(rp_id: str | None, suits: bool) -> None:
    held = VerifyingKey(scheme=Scheme.WEBAUTHN, public=key("a").public, rp_id=rp_id)
    assert (by_package(check_verifying_key, held) is not REFUSED) == suits
    assert (by_file(lambda given: there(given).check(), held) is not REFUSED) == suits


@pytest.mark.parametrize("name", schemes._points())
def test_a_point_has_one_spelling_by_both(name: str) -> None:
    held = VerifyingKey(scheme=Scheme.ECDSA_P256, public=schemes._points()[name])
    assert by_file(lambda given: there(given).check(), held) is REFUSED
