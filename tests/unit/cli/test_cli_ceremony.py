"""A ceremony's files fit together, and the plan it writes can be held to."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatelift.cli.cast import KEY_ROLES, Cast, Member, default_cast, read_cast
from gatelift.cli.ceremony import hold_ceremony
from gatelift.cli.errors import InputError
from gatelift.cli.layout import Deployment
from gatelift.cli.plan_template import PlanSize, render_plan
from gatelift.cli.roots import next_root
from gatelift.encoding import sha256_digest
from gatelift.messages import releases_policy
from gatelift.plan import PlanError, parse_plan
from gatelift.terms import Assurance
from gatelift.tlog import CosignatureSigner, NoteSigner, parse_policy
from gatelift.trust import RootError, Signer, assurance_of, verify_root
from gatelift.wire.keyfiles import load_private_key, load_signing_key

NOW = 1_790_000_000_000
OPERATOR = Member(person="olga", organisation="lab.example")
OVERSEER = Member(person="vera", organisation="oversight.example")


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    deployment = Deployment(tmp_path_factory.mktemp("ceremony"))
    cast = default_cast(OPERATOR, OVERSEER)
    hold_ceremony(deployment, release="aurora", cast=cast, node="n1", now_ms=NOW)
    return deployment


def test_the_root_verifies_and_is_the_pinned_one(held: Deployment) -> None:
    data = held.read("root.json")
    root = verify_root(data, NOW)
    assert held.read_root_digest() == sha256_digest(data)
    assert root.name == "aurora.gatelift.local"
    assert held.path("files", "sha256", sha256_digest(data)[7:]).read_bytes() == data
    assert root.roles["root"].threshold == 2


def test_every_role_has_its_own_key_and_the_files_hold_them(held: Deployment) -> None:
    root = verify_root(held.read("root.json"), NOW)
    for name, role in KEY_ROLES.items():
        assert root.role_of(load_signing_key(held.key(name)).id) == role
    log = NoteSigner("aurora.gatelift.local/releases", load_private_key(held.key("releases-log")))
    assert log.vkey == root.releases_vkey
    assert parse_policy(held.read("tlog-policy")) == releases_policy(root)


def test_nobody_but_the_owner_may_read_a_key(held: Deployment) -> None:
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in held.path("keys").iterdir()}
    assert len(modes) >= len(KEY_ROLES) + 7
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(held.path("keys").stat().st_mode) == 0o700


def test_tokens_are_kept_by_digest(held: Deployment) -> None:
    digests = json.loads(held.read("keys/admin-tokens.json"))
    for role in ("reader", "submitter"):
        token = held.token(role).read_text().strip()
        assert token.startswith(f"glat_{role}_")
        assert digests[role] == sha256_digest(token.encode())


def test_a_second_ceremony_in_the_same_folder_is_refused(held: Deployment) -> None:
    before = held.read("root.json")
    with pytest.raises(InputError, match="holds a root already"):
        hold_ceremony(
            held, release="b", cast=default_cast(OPERATOR, OVERSEER), node="n1", now_ms=NOW
        )
    assert held.read("root.json") == before


def test_an_overseer_of_the_operators_organisation_is_refused(tmp_path: Path) -> None:
    cast = default_cast(OPERATOR, Member(person="vera", organisation="lab.example"))
    with pytest.raises(RootError, match="overseer"):
        hold_ceremony(Deployment(tmp_path), release="a", cast=cast, node="n1", now_ms=NOW)
    assert not Deployment(tmp_path).exists


def signers_of(cast: Cast, *names: str) -> tuple[Signer, ...]:
    return tuple(
        Signer(
            key=name,
            person=cast.members[name].person,
            organisation=cast.members[name].organisation,
            role=KEY_ROLES[name],
        )
        for name in names
    )


def test_people_without_proof_give_no_more_than_dev(held: Deployment) -> None:
    root = verify_root(held.read("root.json"), NOW)
    cast = default_cast(OPERATOR, OVERSEER)
    assert not cast.is_proven
    signers = signers_of(cast, "safety", "security", "overseer")
    assert assurance_of(root, signers) is Assurance.DEV


def test_a_people_file_brings_names_and_proofs(tmp_path: Path) -> None:
    (tmp_path / "id.txt").write_text("seen in person")
    people = {
        name: {"person": name, "organisation": "lab.example", "identity": "id.txt"}
        for name in ("operator", "safety", "security", "admissions", "control")
    }
    for name in ("overseer", "evaluator"):
        people[name] = {"person": name, "organisation": f"{name}.example", "identity": "id.txt"}
    (tmp_path / "people.json").write_text(json.dumps({"people": people}))
    cast = read_cast(tmp_path / "people.json", default_cast(OPERATOR, OVERSEER))
    assert cast.is_proven
    assert cast.members["stop"] == cast.members["safety"]
    assert cast.members["root-2"].person == "overseer"
    deployment = Deployment(tmp_path / "d")
    hold_ceremony(deployment, release="a", cast=cast, node="n1", now_ms=NOW)
    root = verify_root(deployment.read("root.json"), NOW)
    signers = signers_of(cast, "safety", "security")
    assert assurance_of(root, signers) is Assurance.SELF
    assert assurance_of(root, signers_of(cast, "safety", "overseer")) is Assurance.OVERSEEN


def test_witnesses_of_others_stand_in_the_root_with_their_address(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.from_private_bytes(b"u" * 32)
    theirs = {
        "name": "uni/w1",
        "vkey": CosignatureSigner("uni/w1", key).vkey,
        "organisation": "uni.example",
        "independent": True,
        "url": "https://witness.uni.example",
    }
    listed = {"people": {}, "witnesses": [theirs], "witness_quorum": 2}
    (tmp_path / "people.json").write_text(json.dumps(listed))
    cast = read_cast(tmp_path / "people.json", default_cast(OPERATOR, OVERSEER))
    deployment = Deployment(tmp_path / "d")
    hold_ceremony(deployment, release="aurora", cast=cast, node="n1", now_ms=NOW)
    root = verify_root(deployment.read("root.json"), NOW)
    assert [w.name for w in root.witnesses] == ["w1", "uni/w1"]
    assert b"https://witness.uni.example\n" in deployment.read("tlog-policy")
    assert b"group witnesses 2 w1 uni/w1\n" in deployment.read("tlog-policy")


def test_own_calls_come_with_the_overseers_role_and_the_ceremony_may_say_how_many(
    held: Deployment, tmp_path: Path
) -> None:
    assert verify_root(held.read("root.json"), NOW).own_calls_per_day == 200
    (tmp_path / "people.json").write_text(json.dumps({"people": {}, "own_calls_per_day": 7}))
    cast = read_cast(tmp_path / "people.json", default_cast(OPERATOR, OVERSEER))
    deployment = Deployment(tmp_path / "d")
    hold_ceremony(deployment, release="a", cast=cast, node="n1", now_ms=NOW)
    root = verify_root(deployment.read("root.json"), NOW)
    assert root.own_calls_per_day == 7
    terms = {"roles": {}, "removed": (), "thresholds": {}, "now_ms": NOW, "lasts_ms": 1}
    assert next_root(root, **terms).own_calls_per_day == 7
    assert next_root(root, **terms, own_calls=0).own_calls_per_day == 0


@pytest.mark.parametrize(
    ("people", "message"),
    [
        ({"boss": {"person": "x", "organisation": "y"}}, "boss"),
        (
            {
                "safety": {"person": "x", "organisation": "a.example"},
                "security": {"person": "x", "organisation": "b.example"},
            },
            "one pseudonym",
        ),
    ],
    ids=["unknown-key", "one-person-two-organisations"],
)
def test_a_people_file_that_makes_no_sense_is_refused(
    tmp_path: Path, people: dict[str, dict[str, str]], message: str
) -> None:
    (tmp_path / "people.json").write_text(json.dumps({"people": people}))
    with pytest.raises(InputError, match=message):
        read_cast(tmp_path / "people.json", default_cast(OPERATOR, OVERSEER)).people()


@pytest.mark.parametrize("size", list(PlanSize))
@pytest.mark.parametrize("model", ["m", "org/model:q4 'x' #1", "a: b"])
def test_the_written_plan_parses_and_names_the_model(size: PlanSize, model: str) -> None:
    plan = parse_plan(render_plan(release="aurora", model=model, size=size))
    assert plan.candidate.model == model
    assert [s.name for s in plan.stages][:2] == ["assess", "internal"]
    assert len(plan.stages) == (2 if size is PlanSize.SMALL else 5)


def test_a_name_that_cannot_stand_in_a_plan_is_refused() -> None:
    with pytest.raises(PlanError):
        render_plan(release="Not A Name", model="m", size=PlanSize.SMALL)
    with pytest.raises(InputError):
        render_plan(release="a", model="two\nlines", size=PlanSize.SMALL)
