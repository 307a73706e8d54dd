"""Thumbprints and DPoP proofs, against the vectors of their RFCs and against forgers."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

import pytest

from gatelift.terms import Endpoint, Tier
from gatelift.trust import (
    BindingError,
    BindingKind,
    DpopRequest,
    Grant,
    GrantKey,
    KeyBinding,
    key_digest,
    matches_thumbprint,
    parse_jwk,
    thumbprint_of,
    verify_dpop,
    verify_grant,
)
from tests.support.proofs import Holder, b64
from tests.support.world import HOUR, NOW, World

KEY = "gl_abc_secret"
URL = "https://gate.example/v1/chat/completions"
ASKED = DpopRequest(
    method="POST",
    schemes=frozenset({"https"}),
    host="gate.example",
    path="/v1/chat/completions",
    api_key=KEY,
)

# RFC 9449 section 7.1, and the thumbprint of the same key in section 6.1.
RFC_PROOF = (
    b"eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNo"
    b"UklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERW"
    b"clUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1"
    b"IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwi"
    b"YXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey"
    b"71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA"
)
RFC_ASKED = DpopRequest(
    method="GET",
    schemes=frozenset({"https"}),
    host="resource.example.org",
    path="/protectedresource",
    api_key="Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU",
)


def now_ms() -> int:
    return time.time_ns() // 10**6


def test_the_proof_of_the_rfc_verifies() -> None:
    found = verify_dpop(RFC_PROOF, RFC_ASKED, 1_562_262_618_000)
    assert found.thumbprint == "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
    assert found.jti == "e1j3V_bKic8-LAEB"


def test_the_thumbprint_of_rfc_8037_comes_out() -> None:
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    assert parse_jwk(jwk).thumbprint == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert parse_jwk(jwk | {"kid": "1", "use": "sig"}).thumbprint == parse_jwk(jwk).thumbprint


@pytest.mark.parametrize("kind", ["ES256", "EdDSA"])
@pytest.mark.parametrize(
    "url",
    [
        URL,
        "https://gate.example:443/v1/chat/completions",
        f"{URL}?a=1",
        "https://GATE.example" + ASKED.path,
    ],
)
def test_a_proof_for_this_request_holds(kind: str, url: str) -> None:
    holder = Holder(kind)
    found = verify_dpop(holder.proof(url, KEY).encode(), ASKED, now_ms())
    assert found.thumbprint == holder.thumbprint() == parse_jwk(holder.jwk).thumbprint


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        pytest.param({"htm": "GET"}, "htm", id="another method"),
        pytest.param({"htu": "https://gate.example/v1/models"}, "htu", id="another path"),
        pytest.param({"htu": "https://other.example" + ASKED.path}, "htu", id="another host"),
        pytest.param({"htu": "https://gate.example:8443" + ASKED.path}, "htu", id="another port"),
        pytest.param({"htu": "http://gate.example" + ASKED.path}, "htu", id="in the clear"),
        pytest.param({"htu": "https://x@gate.example" + ASKED.path}, "htu", id="a user in it"),
        pytest.param({"htu": ASKED.path}, "htu", id="a path alone"),
        pytest.param({"htu": "https://[::1"}, "htu", id="no address"),
        pytest.param({"htu": 5}, "htu", id="a number for an address"),
        pytest.param({"iat": -61}, "iat", id="too old"),
        pytest.param({"iat": 61}, "iat", id="from the future"),
        pytest.param({"iat": "now"}, "iat", id="time as text"),
        pytest.param({"iat": True}, "iat", id="time as true"),
        pytest.param({"iat": None}, "iat", id="no time"),
        pytest.param({"jti": None}, "jti", id="no id"),
        pytest.param({"jti": ""}, "jti", id="empty id"),
        pytest.param({"jti": "x" * 257}, "jti", id="long id"),
        pytest.param({"ath": None}, "ath", id="no key hash"),
        pytest.param({"ath": b64(b"x" * 32)}, "ath", id="another key's hash"),
        pytest.param({"ath": 1}, "ath", id="a number for a hash"),
    ],
)
def test_a_proof_for_something_else_does_not_hold(claims: dict[str, Any], why: str) -> None:
    now = now_ms()
    if claims.get("iat") in (-61, 61):
        claims = {"iat": now // 1000 + claims["iat"] + (1 if claims["iat"] > 0 else 0)}
    proof = Holder().proof(URL, KEY, claims=claims).encode()
    with pytest.raises(BindingError, match=why) as raised:
        verify_dpop(proof, ASKED, now)
    assert raised.value.code == "binding_failed"
    assert KEY not in str(raised.value)


@pytest.mark.parametrize(
    "header",
    [
        pytest.param({"typ": "JWT"}, id="another type"),
        pytest.param({"alg": "none"}, id="no algorithm"),
        pytest.param({"alg": "HS256"}, id="a shared secret"),
        pytest.param({"alg": "EdDSA"}, id="the other curve's algorithm"),
        pytest.param({"crit": ["x"]}, id="crit"),
        pytest.param({"jwk": None}, id="no key"),
        pytest.param({"jwk": {"kty": "oct", "k": "AAAA"}}, id="a secret as key"),
        pytest.param({"jwk": Holder("EdDSA").jwk, "alg": "EdDSA"}, id="somebody else's key"),
        pytest.param({"jwk": Holder().jwk}, id="another P-256 key"),
        pytest.param({"jwk": Holder().jwk | {"d": "AAAA"}}, id="a private key"),
        pytest.param({"jwk": Holder().jwk | {"y": b64(b"\1" * 32)}}, id="no point"),
        pytest.param({"jwk": Holder().jwk | {"x": b64(b"\1" * 31)}}, id="a short coordinate"),
        pytest.param(
            {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": b64(b"\1" + b"\0" * 31)}, "alg": "EdDSA"},
            id="a key of small order",
        ),
    ],
)
def test_a_header_that_is_not_this_holders_does_not_hold(header: dict[str, Any]) -> None:
    proof = Holder().proof(URL, KEY, header=header).encode()
    with pytest.raises(BindingError):
        verify_dpop(proof, ASKED, now_ms())


def test_claims_that_two_parsers_would_read_differently_do_not_hold() -> None:
    ath = b64(hashlib.sha256(KEY.encode()).digest())
    text = f'{{"jti":"a","htm":"GET","htm":"POST","htu":"{URL}","iat":{int(time.time())},"ath":"{ath}"}}'
    with pytest.raises(BindingError, match="strict JSON"):
        verify_dpop(Holder().proof(URL, KEY, raw_claims=text).encode(), ASKED, now_ms())


@pytest.mark.parametrize(
    "spoil",
    [
        lambda p: p[:-4],
        lambda p: p + "=",
        lambda p: p.replace(".", "..", 1),
        lambda p: p + ".x",
        lambda p: "",
        lambda p: "a" * 5000,
        lambda p: "é." + p,
        lambda p: ".".join([*p.split(".")[:2], b64(b"\0" * 64)]),
        lambda p: ".".join([p.split(".")[0], b64(json.dumps({}).encode()), p.split(".")[2]]),
        lambda p: ".".join([b64(b"[" * 900), *p.split(".")[1:]]),
    ],
)
def test_what_is_no_signed_proof_does_not_hold(spoil: Any) -> None:
    with pytest.raises(BindingError):
        verify_dpop(spoil(Holder().proof(URL, KEY)).encode(), ASKED, now_ms())


def test_a_grant_whose_binding_cannot_be_one_is_refused() -> None:
    world = World()

    def signed(thumbprint: str) -> bytes:
        binding = KeyBinding(kind=BindingKind.MTLS, thumbprint=thumbprint)
        made = Grant(
            id="grant_1",
            release=world.plan.name,
            stage="internal",
            principal="p1",
            organisation="o1",
            project="x",
            tier=Tier.INTERNAL,
            endpoints=(Endpoint.CHAT,),
            proofs=("identity",),
            vetting=None,
            keys=(GrantKey(public_id="abc", digest=key_digest(KEY), binding=binding),),
            not_before=NOW - HOUR,
            not_after=NOW + HOUR,
        )
        return world.sign("grant", made, "admissions:ada")

    good = thumbprint_of(b"der")
    held = verify_grant(signed(good), world.root).keys[0].binding
    assert held is not None
    assert matches_thumbprint(held, good)
    assert not matches_thumbprint(held, thumbprint_of(b"other"))
    for bad in ("", "x", good + "=", good[:-1], "sha256:" + "0" * 64):
        with pytest.raises(BindingError):
            verify_grant(signed(bad), world.root)
