"""When a worker may connect to a sealed placement."""

from __future__ import annotations

import ssl

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from gatelift.encoding import sha256_digest
from gatelift.gateway.upstream_identity import UpstreamIdentity
from gatelift.messages import UpstreamTls
from gatelift.messages.frames import CredentialFrame
from gatelift.wire.http_client import UpstreamError
from gatelift.wire.sealing import Bearer, UpstreamCa

NOW = 1_790_000_000_000
CA = UpstreamCa("n1", ec.generate_private_key(ec.SECP256R1()))
PEM = CA.certificate(NOW)
TLS = UpstreamTls(server_name="model", ca=sha256_digest(PEM))
BEARER = Bearer(node="n1", worker="w0", release="aurora")


class Desk:
    def __init__(self) -> None:
        self.now = 1_000
        self.alive = True
        self.file = PEM
        self.identity = UpstreamIdentity(
            lambda _: self.file, lambda _: self.alive, lambda: self.now
        )

    def adopt(self, lives_ms: int = 30_000) -> None:
        pem = CA.issue(BEARER, now_ms=NOW, lives_s=30)
        self.identity.adopt(CredentialFrame(pem=pem, lives_ms=lives_ms))

    def refused(self) -> bool:
        with pytest.raises(UpstreamError) as raised:
            self.identity.context(TLS)
        return (raised.value.code, raised.value.sent) == ("connect_failed", False)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_there_is_a_connection_only_while_certificate_and_status_live(desk: Desk) -> None:
    assert desk.refused()
    desk.adopt()
    found = desk.identity.context(TLS)
    assert (found.verify_mode, found.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert len(found.get_ca_certs()) == 1
    desk.alive = False
    assert desk.refused()
    desk.alive = True
    assert desk.identity.context(TLS) is found
    desk.now += 29_999
    assert not desk.identity.is_over
    desk.now += 1
    assert desk.identity.is_over
    assert desk.refused()
    desk.identity.drop()
    assert not desk.identity.is_over
    assert desk.refused()


def test_a_renewal_is_used_from_the_next_connection_on(desk: Desk) -> None:
    desk.adopt()
    first = desk.identity.context(TLS)
    desk.adopt()
    assert desk.identity.context(TLS) is not first


def test_pinned_certificates_that_are_none_trust_nobody(desk: Desk) -> None:
    desk.adopt()
    desk.file = b""
    assert desk.refused()
