"""Promise 8 for what people sign without a key file: an HSM, a passkey, OpenSSH, a security key.

Attacked here: a real deployment takes a root in which its people sign by other schemes; an order of a
security key and a certificate of an SSH key and a passkey, or of a P-256 key, are signed by code that
imports nothing of ours. Both verifiers call the dossier authentic. Then the log is written anew, with
its own keys, around one signature that is bent as its scheme forbids, and around a root that gives one
key two uses: both verifiers must find it.

Seen to fail: with UV not asked of a passkey in the one file, and then with the namespace of an SSH
signature not compared in `trust.sshsig`, the bent one passed there (red).
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.promises.dossiers import body_of, entries_of, export, head_of, rewrite, root_digest
from tests.promises.hands import STATEMENT, Hands, new_id, now_ms, opened
from tests.promises.outside import PLANS, Deployment, Said, gatelift
from tests.support.signers import P256Signer, PasskeySigner, SchemeSigner, SshSigner
from tests.support.upstream import ScriptedUpstream

ONE_FILE = Path(__file__).parents[2] / "verifier/gatelift_verify.py"
OPERATOR = P256Signer("operator")
SAFETY = PasskeySigner("safety")
SECURITY = SshSigner("security")
STOP = SshSigner("stop", rp_id="ssh:")
SIGNERS: dict[str, SchemeSigner] = {
    "operator": OPERATOR,
    "safety": SAFETY,
    "security": SECURITY,
    "stop": STOP,
}


def kid(signer: SchemeSigner) -> str:
    return "sha256:" + hashlib.sha256(signer.public).hexdigest()


def sealed(payload: bytes, *signers: tuple[str, SchemeSigner]) -> bytes:
    """Return a DSSE envelope; each signature stands under the id of the key that has the role."""
    message = b"DSSEv1 %d %b %d %b" % (len(STATEMENT), STATEMENT.encode(), len(payload), payload)
    signatures = [
        {"keyid": kid(SIGNERS[role]), "sig": base64.b64encode(signer.sign(message)).decode()}
        for role, signer in signers
    ]
    body = {"payload": base64.b64encode(payload).decode(), "payloadType": STATEMENT}
    return json.dumps({**body, "signatures": signatures}).encode()


def predicate(envelope: bytes, **changes: Any) -> bytes:
    """Return the payload of a statement with some fields of its predicate changed."""
    value = opened(envelope)
    return json.dumps({**value, "predicate": {**value["predicate"], **changes}}).encode()


def take_over(deployment: Deployment, home: Path) -> Path:
    """Have the log take a root in which `SIGNERS` hold their roles; return it."""
    people = {person["id"]: person for person in deployment.root()["people"]}
    words: list[object] = []
    for role, signer in SIGNERS.items():
        first = deployment.root()["roles"][role]["keys"][0]
        person = people[deployment.root()["keys"][first]["person"]]
        entry = {
            "key_id": kid(signer),
            "scheme": signer.scheme,
            "public": base64.b64encode(signer.public).decode(),
            "person": person["id"],
            "organisation": person["organisation"],
            **({} if signer.rp_id is None else {"rp_id": signer.rp_id}),
        }
        (home / f"{role}.json").write_text(json.dumps(entry))
        words += ["--role", f"{role}={home / role}.json"]
    draft, made = home / "draft.json", home / "root-2.json"
    root = deployment.folder / "root.json"
    Said(gatelift("root", "next", root, "--out", draft, *words, "--json")).must()
    keys = [w for key in deployment.folder.glob("keys/root*.key") for w in ("--key", key)]
    Said(gatelift("sign", draft, "--yes", "--out", made, *keys, "--json")).must()
    deployment.cli("submit", made).must()
    return made


def stop_and_open(deployment: Deployment, home: Path) -> None:
    """Stop it by the security key, and open it again by P-256 and passkey; both submitted as files."""
    hands = Hands(deployment)
    before, envelope = hands.last_certificate()
    root_2 = take_over(deployment, home)
    order = opened(hands.order("control", "release", hands.release))
    order["predicate"]["id"] = new_id("order")
    submit(deployment, home / "order.json", json.dumps(order).encode(), "stop")
    origin, size, root, _ = head_of(deployment.folder / "logs/releases")
    at = now_ms()
    renewed = predicate(
        envelope,
        root_version=2,
        sequence=before["sequence"] + 1,
        clears=[*before["clears"], order["predicate"]["id"]],
        after={"origin": origin, "size": size, "root": base64.b64encode(root).decode()},
        not_before=at,
        not_after=at + 3_600_000,
    )
    submit(deployment, home / "certificate.json", renewed, "operator", "safety")
    deployment.stop()
    Said(gatelift("root", "adopt", root_2, "--dir", deployment.folder, "--json")).must()
    # Its own key files may sign nothing any more, so it must not try to.
    deployment._words.append("--no-bootstrap")
    deployment.start()
    deployment.wait_serving()
    assert deployment.chat("opened by a passkey", max_tokens=3).status_code == 200


def submit(deployment: Deployment, path: Path, payload: bytes, *roles: str) -> None:
    path.write_bytes(sealed(payload, *((role, SIGNERS[role]) for role in roles)))
    deployment.cli("submit", path).must()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Deployment, Path, str]:
    """A deployment that ran and stopped, its dossier and its anchor."""
    home = tmp_path_factory.mktemp("p8s")
    upstream = ScriptedUpstream(key="upstream-key-of-promise-eight")
    deployment = Deployment(
        home / "d",
        upstream=upstream.url,
        upstream_key=upstream.key,
        plan=PLANS / "harbour.yaml",
    )
    try:
        anchor = root_digest(deployment)
        assert deployment.chat("by key files", max_tokens=3).status_code == 200
        stop_and_open(deployment, home)
        path = export(deployment, home / "dossier")
    finally:
        deployment.stop()
        upstream.close()
    return deployment, path, anchor


def codes(dossier: Path, anchor: str) -> tuple[int, set[str]]:
    """Ask both verifiers; they must say one exit code. Return it, and the codes that both found."""
    words = (dossier, "--root", anchor, "--json")
    ours = Said(gatelift("verify", *words))
    blocked = "import sys; sys.modules['gatelift'] = None; sys.argv = sys.argv[1:]; "
    run = "import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"
    alone = Said(
        subprocess.run(
            [sys.executable, "-c", blocked + run, str(ONE_FILE), *map(str, words)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    )
    assert ours.code == alone.code, (ours.text, alone.text)
    both = [{each["code"] for each in said.value["findings"]} for said in (ours, alone)]
    return ours.code, both[0] & both[1]


def test_what_was_signed_by_every_scheme_is_authentic(told: tuple[Deployment, Path, str]) -> None:
    _, dossier, anchor = told
    assert codes(dossier, anchor)[0] == 0
    signed = {
        signature["keyid"]
        for header in entries_of(dossier)
        for signature in json.loads(body_of(dossier, header))["signatures"]
    }
    assert {kid(OPERATOR), kid(SAFETY), kid(STOP)} <= signed


def _raw(r: int, s: int) -> bytes:
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


BENT: dict[str, tuple[str, dict[str, SchemeSigner]]] = {
    "P-256 without DER": ("certificate", {"operator": replace(OPERATOR, spelled=_raw)}),
    "another P-256 key": ("certificate", {"operator": P256Signer("stranger")}),
    "a passkey without its holder": ("certificate", {"safety": replace(SAFETY, flags=0x01)}),
    "a passkey on another site": (
        "certificate",
        {"safety": replace(SAFETY, client={"origin": "https://evil.example"})},
    ),
    "a passkey for another relying party": (
        "certificate",
        {"safety": replace(SAFETY, signs_for="evil.example")},
    ),
    "a security key that nobody touched": ("order", {"stop": replace(STOP, flags=0)}),
    "what a security key signed for Git": ("order", {"stop": replace(STOP, namespace=b"git")}),
    "an SSH signature by another key": ("order", {"stop": replace(STOP, signed_by="stranger")}),
}


@pytest.mark.parametrize("what", BENT)
def test_a_bent_signature_is_found_by_both(
    told: tuple[Deployment, Path, str], tmp_path: Path, what: str
) -> None:
    deployment, dossier, anchor = told
    kind, bent = BENT[what]
    roles = {"certificate": ("operator", "safety"), "order": ("stop",)}[kind]
    change(
        deployment,
        dossier,
        tmp_path / "copy",
        kind,
        lambda body: sealed(payload_of(body), *((r, bent.get(r, SIGNERS[r])) for r in roles)),
    )
    code, found = codes(tmp_path / "copy", anchor)
    assert code == 1
    assert "forged" in found


def test_signed_anew_as_it_should_be_nothing_is_forged(
    told: tuple[Deployment, Path, str], tmp_path: Path
) -> None:
    """The same rewriting without anything bent: what the rows above find is what was bent."""
    deployment, dossier, anchor = told
    order = ("stop", STOP)
    change(
        deployment,
        dossier,
        tmp_path / "copy",
        "order",
        lambda body: sealed(payload_of(body), order),
    )
    assert "forged" not in codes(tmp_path / "copy", anchor)[1]


def test_a_root_in_which_a_passkey_is_a_nodes_key_too_is_found_by_both(
    told: tuple[Deployment, Path, str], tmp_path: Path
) -> None:
    deployment, dossier, anchor = told
    hands = Hands(deployment)

    def twice(body: bytes) -> bytes:
        value = opened(body)
        held = value["keys"][value["roles"]["admissions"]["keys"][0]]
        node = {"name": "n9", "batch_key": held["public"], "requests_key": held["public"]}
        value["nodes"].append(node)
        payload, kind = json.dumps(value).encode(), "application/vnd.gatelift.root+json"
        message = b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(payload), payload)
        signatures = []
        for path in sorted(deployment.folder.glob("keys/root*.key")):
            key = hands.key(path.stem)
            public = hashlib.sha256(key.public_key().public_bytes_raw()).hexdigest()
            raw = base64.b64encode(key.sign(message)).decode()
            signatures.append({"keyid": f"sha256:{public}", "sig": raw})
        text = base64.b64encode(payload).decode()
        return json.dumps({"payload": text, "payloadType": kind, "signatures": signatures}).encode()

    change(deployment, dossier, tmp_path / "copy", "root", twice)
    code, found = codes(tmp_path / "copy", anchor)
    assert code == 1
    assert "key_in_two_roles" in found


def payload_of(body: bytes) -> bytes:
    return base64.b64decode(json.loads(body)["payload"])


def change(
    deployment: Deployment,
    dossier: Path,
    copy: Path,
    kind: str,
    make: Callable[[bytes], bytes],
) -> None:
    """Put another body into the newest entry of a kind, and write the log anew with its own keys."""
    shutil.copytree(dossier, copy)
    headers = entries_of(copy)
    index = max(place for place, header in enumerate(headers) if header["kind"] == kind)
    rewrite(copy, deployment, index, make(body_of(copy, headers[index])))
