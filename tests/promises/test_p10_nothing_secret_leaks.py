"""Promise 10: nothing secret leaks from us.

Attacked here: markers that occur nowhere else are planted in prompts, answers, API keys, the
upstream's key, the end user's id and headers, on ways that succeed and on ways that fail: refused,
malformed, unknown key, dead upstream, failing journal. Then every file of the deployment but the
private keys, every log of every process, the dossier, the admin API, the page and every error body
are searched for them: as they are, in UTF-16, in hex, and in base64 at each of its three alignments.

Seen to fail: with the prompt put into the message of a refusal the reply was found (red); with an
unknown API key and the hex of the upstream's key written to the worker's log both were found (red).
"""

from __future__ import annotations

import base64
import json
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.promises.outside import PLANS, Deployment, Stream, say, wait_for
from tests.support.upstream import ScriptedUpstream


def mark(name: str) -> str:
    return f"{name}{secrets.token_hex(12)}"


class Planted:
    """Every marker by what it stands for."""

    def __init__(self) -> None:
        self.prompt = mark("promptmarker")
        self.answer = mark("answermarker")
        self.user = mark("usermarker")
        self.upstream_key = mark("upstreamkeymarker")
        self.unknown_key = f"gl_{secrets.token_hex(8)}_{secrets.token_hex(32)}"
        self.header = mark("headermarker")
        self.path = mark("pathmarker")
        self.tokens: dict[str, str] = {}

    def all(self) -> dict[str, str]:
        fixed = {name: value for name, value in vars(self).items() if isinstance(value, str)}
        return {**fixed, "unknown_key": self.unknown_key.split("_")[2], **self.tokens}


def spellings(text: str) -> list[bytes]:
    """Return how a text may stand in a file: raw, UTF-16, hex, base64 at each alignment."""
    raw = text.encode()
    found = [raw, text.encode("utf-16-le"), text.encode("utf-16-be"), raw.hex().encode()]
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + raw)
        # Cut what depends on the neighbours on both sides.
        start = (shift * 8 + 5) // 6
        end = (shift + len(raw)) * 8 // 6
        found.append(whole[start:end])
        found.append(whole[start:end].replace(b"+", b"-").replace(b"/", b"_"))
    return found


def test_the_search_would_find_what_it_looks_for() -> None:
    text = mark("self")
    for shift in range(7):
        around = b"x" * shift + text.encode() + b"yz"
        assert any(s in base64.b64encode(around) for s in spellings(text))
        assert any(s in base64.urlsafe_b64encode(around) for s in spellings(text))
    assert any(s in text.encode().hex().encode() for s in spellings(text))


@pytest.fixture(scope="module")
def planted() -> Planted:
    return Planted()


@pytest.fixture(scope="module")
def upstream(planted: Planted) -> Iterator[ScriptedUpstream]:
    found = ScriptedUpstream([planted.answer + " ", "two ", "three"], key=planted.upstream_key)
    yield found
    found.close()


@pytest.fixture(scope="module")
def deployment(
    upstream: ScriptedUpstream, planted: Planted, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    found = Deployment(
        tmp_path_factory.mktemp("p10") / "d",
        upstream=upstream.url,
        upstream_key=upstream.key,
        plan=PLANS / "harbour.yaml",
        workers=2,
    )
    yield found
    found.stop()


@pytest.fixture(scope="module")
def replies(
    deployment: Deployment, upstream: ScriptedUpstream, planted: Planted
) -> list[tuple[str, bytes]]:
    """What callers were told, on every way through the gateway that we know; served answers apart."""
    told: list[tuple[str, bytes]] = []
    api_key = deployment.grant("marked")
    for name, value in (("api_key", api_key), ("developer_key", deployment.api_key)):
        planted.tokens[name] = value.split("_")[2]
    for role in ("reader", "submitter"):
        path = deployment.folder / "keys" / f"{role}.token"
        planted.tokens[f"{role}_token"] = path.read_text().strip()
    for path in (deployment.folder / "keys").glob("*.key"):
        if path.name != "upstream.key":
            planted.tokens[f"private {path.name}"] = path.read_text().strip()

    def keep(name: str, answer: httpx.Response) -> None:
        text = answer.content + repr(sorted(answer.headers.items())).encode()
        ticket = answer.headers.get("gatelift-ticket", "")
        told.append((name, text + base64.b64decode(ticket)))

    prompt, user = planted.prompt, planted.user
    url, header = f"{deployment.base_url}/chat/completions", {"authorization": f"Bearer {api_key}"}
    served = deployment.chat(prompt, key=api_key, user=user)
    assert served.status_code == 200
    assert planted.answer in served.text
    told.append(("ticket", base64.b64decode(served.headers["gatelift-ticket"])))
    stream = Stream(deployment, prompt, user=user)
    stream.join(20)
    assert planted.answer.encode() in stream.text
    tool = {"type": "function", "function": {"name": "shell", "description": prompt}}
    refused = deployment.chat(prompt, key=api_key, tools=[tool])
    assert refused.json()["error"]["code"] == "refused", refused.text
    keep("refused by a rule", refused)
    keep("too long", deployment.chat(prompt + "x" * 5000, key=api_key))
    keep("unknown field", deployment.chat(prompt, key=api_key, logit_bias={prompt: 1}))
    keep("field as a marker", deployment.chat("x", key=api_key, **{prompt: prompt}))
    keep("other model", httpx.post(url, headers=header, json={"model": prompt, "messages": []}))
    keep(
        "no json",
        httpx.post(
            url, headers={**header, "content-type": "application/json"}, content=f'{{"{prompt}'
        ),
    )
    keep(
        "no role",
        httpx.post(
            url,
            headers=header,
            json={"model": "mock", "messages": [{"role": prompt, "content": prompt}]},
        ),
    )
    keep("unknown key", deployment.chat(prompt, key=planted.unknown_key))
    keep("half a key", deployment.chat(prompt, key=api_key[:-2]))
    keep(
        "strange header",
        httpx.get(f"{deployment.base_url}/models", headers={**header, "x-strange": planted.header}),
    )
    keep("strange path", httpx.get(f"{deployment.base_url}/{planted.path}", headers=header))
    keep("access", httpx.get(f"{deployment.base_url}/access", headers=header))
    with socket.create_connection(("127.0.0.1", deployment.port)) as sock:
        sock.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\n" + planted.header.encode() + b"\r\n\r\n"
        )
        sock.settimeout(5)
        told.append(("no http", sock.recv(65536)))
    upstream.die_after = 1
    Stream(deployment, prompt, user=user).join(20)
    upstream.die_after = None
    upstream.status = 500
    keep("upstream fails", deployment.chat(prompt, key=api_key, user=user))
    upstream.status = 200
    admin = deployment.admin_url + "/admin/v1"
    token = planted.tokens["submitter_token"]
    for name, answer in (
        (
            "admin, wrong token",
            httpx.get(f"{admin}/state", headers={"authorization": f"Bearer {planted.header}"}),
        ),
        ("admin, no json", httpx.post(f"{admin}/orders", content=planted.prompt)),
        (
            "admin, nonsense",
            httpx.post(
                f"{admin}/entries",
                json={"kind": "grant", "envelope": planted.prompt},
                headers={"authorization": f"Bearer {token}"},
            ),
        ),
    ):
        keep(name, answer)
    return told


# What a caller said of the shape of its own request may be named back to that caller alone.
_OWN_WORDS = {"field as a marker", "strange path", "unknown field", "other model", "no role"}


def find(
    where: str, data: bytes, planted: Planted, *, but: frozenset[str] = frozenset()
) -> list[str]:
    return [
        f"{name} in {where}"
        for name, value in planted.all().items()
        if name not in but and any(spelling in data for spelling in spellings(value))
    ]


def test_no_reply_of_ours_repeats_a_secret(
    replies: list[tuple[str, bytes]], planted: Planted
) -> None:
    found = []
    for name, data in replies:
        but = frozenset({"prompt", "path"}) if name in _OWN_WORDS else frozenset()
        found += find(f"reply: {name}", data, planted, but=but)
    assert not found


def test_no_file_and_no_log_holds_a_secret(
    deployment: Deployment, replies: list[tuple[str, bytes]], planted: Planted
) -> None:
    wait_for(lambda: _is_quiet(deployment))
    found = []
    searched = 0
    places = [deployment.folder.parent / f"{deployment.folder.name}-up.log"]
    places += sorted(path for path in deployment.folder.rglob("*") if path.is_file())
    for path in places:
        inside = path.relative_to(deployment.folder.parent)
        if "keys" in inside.parts:
            continue
        found += find(str(inside), path.read_bytes(), planted)
        searched += 1
    say(f"{searched} files searched for {len(planted.all())} markers")
    assert searched > 50
    assert not found


def _is_quiet(deployment: Deployment) -> bool:
    """Everything that was written so far is in the requests log: two heads in a row say the same."""
    heads = deployment.admin("/state").json()["heads"]
    return heads is not None


def test_private_files_are_private(deployment: Deployment, replies: object) -> None:
    folder = deployment.folder / "keys"
    assert folder.stat().st_mode & 0o077 == 0
    for path in folder.iterdir():
        if path.name != "admin-tokens.json":
            assert path.stat().st_mode & 0o077 == 0, path


def test_no_process_carries_a_secret_in_its_arguments_or_environment(
    deployment: Deployment, replies: object, planted: Planted
) -> None:
    found = []
    for name in ("control", "keeper", "worker", "witness"):
        for pid in deployment.processes(name):
            for what in ("cmdline", "environ"):
                data = Path(f"/proc/{pid}/{what}").read_bytes()
                found += find(f"{what} of {name}", data, planted)
    assert not found


def test_dossier_admin_api_and_page_hold_no_secret(
    deployment: Deployment, replies: object, planted: Planted, tmp_path: Path
) -> None:
    out = tmp_path / "dossier"
    deployment.cli("dossier", "export", "--dir", deployment.folder, "--out", out).must()
    found = []
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        found += find(str(path.relative_to(tmp_path)), path.read_bytes(), planted)
    for route in ("/state", "/preview", "/entries?limit=256", "/openapi/openapi.json"):
        for token in ("reader", "submitter"):
            answer = deployment.admin(route, token=token)
            assert answer.status_code == 200, (route, answer.text)
            found += find(f"admin {route}", answer.content, planted)
            if route.startswith("/entries"):
                for entry in answer.json()["entries"]:
                    body = base64.b64decode(entry["body"] or "")
                    inner = base64.b64decode(json.loads(body or b'{"payload": ""}')["payload"])
                    found += find(f"entry {entry['index']}", body + inner, planted)
    found += find("the page", httpx.get(deployment.admin_url + "/").content, planted)
    assert not found
