"""When certificates for sealed placements are issued, and when not."""

from __future__ import annotations

import datetime as dt

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from gatelift.keeper.counters import WorkerRun
from gatelift.keeper.sealing import Issuer
from gatelift.messages.frames import CredentialFrame, KeeperToWorker
from gatelift.trust import Status
from gatelift.wire.sealing import UpstreamCa

NOW = 1_790_000_000_000
W0, W1 = WorkerRun("w0", "run_0"), WorkerRun("w1", "run_1")
CERTIFICATE = "sha256:" + "0" * 64


def status(
    *nonces: str, certificates: tuple[str, ...] = (CERTIFICATE,), ttl: int = 10_000
) -> Status:
    return Status(
        release="aurora",
        certificates=certificates,
        orders=(),
        bundle=CERTIFICATE,
        roster_number=1,
        roster=CERTIFICATE,
        checkpoint="",
        number=1,
        nonces=nonces,
        epoch=1,
        signed_at=NOW,
        ttl_ms=ttl,
    )


class Desk:
    def __init__(self) -> None:
        self.issuer = Issuer("n1", UpstreamCa("n1", ec.generate_private_key(ec.SECP256R1())))

    def stand(self, at: int, *, ttl: int = 10_000) -> None:
        self.issuer.asked((f"nonce-{at}",), at)
        self.issuer.adopt(status(f"nonce-{at}", ttl=ttl), ttl)

    def due(self, at: int, worker: WorkerRun = W0, *, anew: bool = False) -> CredentialFrame | None:
        return self.issuer.issue_due(worker, boot_ms=at, now_ms=NOW, anew=anew)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_nothing_is_issued_before_a_status_that_answers_this_node(desk: Desk) -> None:
    assert desk.due(0) is None
    desk.issuer.adopt(status("somebody-else's"), 10_000)
    assert desk.due(0) is None
    desk.stand(0)
    assert desk.due(1) is not None


def test_a_status_without_a_certificate_ends_it(desk: Desk) -> None:
    desk.stand(0)
    desk.issuer.asked(("b",), 100)
    desk.issuer.adopt(status("b", certificates=()), 10_000)
    assert desk.due(101) is None


def test_a_status_stands_for_its_ttl_from_the_asking(desk: Desk) -> None:
    desk.stand(1_000)
    assert desk.due(10_999, anew=True) is not None
    assert desk.due(11_000, anew=True) is None


def test_a_status_replayed_keeps_nothing_alive(desk: Desk) -> None:
    desk.stand(0)
    desk.issuer.adopt(status("nonce-0"), 10_000)
    assert desk.due(10_001, anew=True) is None


@pytest.mark.parametrize(("ttl", "lives"), [(2_000, 30_000), (20_000, 60_000), (600_000, 300_000)])
def test_what_is_issued_lives_three_ttl_within_bounds(desk: Desk, ttl: int, lives: int) -> None:
    desk.stand(0, ttl=ttl)
    made = desk.due(1)
    assert made is not None
    assert made.lives_ms == lives
    found = x509.load_pem_x509_certificate(made.pem)
    ends = dt.datetime.fromtimestamp((NOW + lives) / 1000, dt.UTC)
    assert found.not_valid_after_utc == ends


def test_it_is_renewed_at_half_of_its_life_and_for_each_worker(desk: Desk) -> None:
    for at in range(0, 40_000, 1_000):
        desk.stand(at)
        for worker in (W0, W1):
            assert (desk.due(at, worker) is not None) is (at in {0, 15_000, 30_000})
    first, second = desk.due(39_500, W0, anew=True), desk.due(39_500, W1, anew=True)
    assert first is not None
    assert second is not None
    assert first.pem != second.pem


def test_a_certificate_is_for_one_bearer_and_for_clients_alone(desk: Desk) -> None:
    desk.stand(0)
    made = desk.due(1)
    assert made is not None
    found = x509.load_pem_x509_certificate(made.pem)
    key = load_pem_private_key(made.pem, None)
    assert found.public_key() == key.public_key()
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.curve.name == "secp256r1"
    extensions = found.extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["gatelift://n1/w0/aurora"]
    uses = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_closed_node_and_one_without_a_ca_issue_nothing(desk: Desk) -> None:
    desk.stand(0)
    desk.issuer.close_node()
    assert desk.due(1) is None
    bare = Issuer("n1", None)
    bare.asked(("a",), 0)
    bare.adopt(status("a"), 10_000)
    assert bare.issue_due(W0, boot_ms=1, now_ms=NOW) is None
    assert bare.probe_identities("aurora") is None


def test_a_frame_with_a_key_crosses_and_shows_nothing(desk: Desk) -> None:
    desk.stand(0)
    made = desk.due(1)
    data = msgspec.msgpack.encode(made)
    assert msgspec.msgpack.decode(data, type=KeeperToWorker) == made
    assert "PRIVATE" not in repr(made)
