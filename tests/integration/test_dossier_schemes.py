"""Both verifiers judge roots alike, their successors, and what people signed by each scheme."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.dossier_deployment import Deployment
from tests.support.root_rows import ROOTS, SCHEME_ROWS, SUCCESSORS
from tests.support.scheme_world import SCHEMES, SchemeWorld, mixed
from tests.support.tamperings import Tampering
from tests.support.verifiers import Answer, by_file, by_package
from tests.support.world import HOUR, World

BOTH = pytest.mark.parametrize("verify", [by_package, by_file], ids=["package", "file"])
Told = tuple[Deployment, Path]


def tell(home: Path, world: World) -> Told:
    deployment = Deployment(home / "deployment", world)
    deployment.begin()
    deployment.certify()
    deployment.grant()
    deployment.serve_some()
    deployment.head()
    deployment.observe()
    deployment.order()
    deployment.export(home / "dossier")
    return deployment, home / "dossier"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Told:
    return tell(tmp_path_factory.mktemp("plain"), World())


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    return tell(tmp_path_factory.mktemp("mixed"), mixed())


@pytest.fixture(scope="module", params=SCHEMES)
def of_scheme(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Told:
    return tell(tmp_path_factory.mktemp("scheme"), SchemeWorld(signer=SCHEMES[request.param]))


def ask(verify: Callable[..., Answer], deployment: Deployment, path: Path) -> Answer:
    return verify(path, root=deployment.world.root_digest, now_ms=deployment.now)


@BOTH
def test_a_dossier_signed_by_one_scheme_verifies(
    of_scheme: Told, verify: Callable[..., Answer]
) -> None:
    answer = ask(verify, *of_scheme)
    assert (answer.exit_code, answer.errors | answer.warnings) == (0, frozenset()), answer.said


@BOTH
def test_a_dossier_signed_by_all_schemes_verifies(
    told: Told, verify: Callable[..., Answer]
) -> None:
    schemes = {key.scheme.value for key in told[0].world.root.keys.values()}
    assert schemes == {"ed25519", "ecdsa-p256", "sshsig", "webauthn"}
    answer = ask(verify, *told)
    assert (answer.exit_code, answer.errors | answer.warnings) == (0, frozenset()), answer.said


def found(row: Tampering, told: Told, tmp_path: Path, verify: Callable[..., Answer]) -> None:
    path = tmp_path / "dossier"
    shutil.copytree(told[1], path)
    row.change(path, told[0])
    answer = ask(verify, told[0], path)
    assert answer.exit_code == row.exit_code, answer.said
    assert row.code in answer.errors, answer.said


@BOTH
@pytest.mark.parametrize("row", ROOTS, ids=[row.what for row in ROOTS])
def test_a_root_against_the_rules_is_found(
    plain: Told, tmp_path: Path, row: Tampering, verify: Callable[..., Answer]
) -> None:
    found(row, plain, tmp_path, verify)


LATER = (*SUCCESSORS, *SCHEME_ROWS)


@BOTH
@pytest.mark.parametrize("row", LATER, ids=[row.what for row in LATER])
def test_a_successor_or_a_signature_against_the_rules_is_found(
    told: Told, tmp_path: Path, row: Tampering, verify: Callable[..., Answer]
) -> None:
    found(row, told, tmp_path, verify)


@BOTH
def test_roots_that_expired_on_the_way_still_name_their_successors(
    tmp_path: Path, verify: Callable[..., Answer]
) -> None:
    """Root 2 expired before root 3 was logged; nothing was logged in between, and root 3 goes on."""
    deployment = Deployment(tmp_path / "deployment", mixed())
    deployment.begin()
    deployment.rotate(expires_at=deployment.now + HOUR)
    deployment.now += 2 * HOUR
    deployment.rotate("root:lea", "root:vera")
    deployment.certify()
    deployment.grant()
    deployment.serve_some()
    deployment.head()
    deployment.export(tmp_path / "dossier")
    answer = ask(verify, deployment, tmp_path / "dossier")
    assert (answer.exit_code, answer.errors) == (0, frozenset()), answer.said
