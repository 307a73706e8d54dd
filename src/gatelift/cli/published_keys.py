"""`gatelift keys publish` and `compare`: an organisation's keys on its own domain.

    https://<the organisation's domain>/.well-known/gatelift-keys.json
    {"v": 1, "organisation": "...", "keys": [{"id": "sha256:...", "public": "..."}], "witnesses": ["<vkey>"]}

Whoever holds a root of trust can ask the organisation itself, past the operator, whether the keys that
the root gives it are its own.

Invariants
- Every key and vkey that the root gives to the organisation must be published, by its bytes. More may
  be published: an organisation may have keys for other releases.
- The file is fetched over TLS (loopback apart), from the place that was named, without redirects.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
import msgspec
import typer

from gatelift.cli.errors import Exit, InputError
from gatelift.cli.layout import read_bytes
from gatelift.cli.output import JsonFlag, say, show, table
from gatelift.encoding import (
    decode_json,
    encode_base64,
    encode_json,
    parse_base64,
    parse_digest,
    sha256_digest,
)
from gatelift.errors import PeerError
from gatelift.tlog import KeyKind, parse_vkey
from gatelift.trust import KeyId, Root, key_id, unverified_root
from gatelift.wire.signers import load_verifying_key

__all__ = ["WELL_KNOWN", "compare", "publish", "unpublished"]

WELL_KNOWN = "/.well-known/gatelift-keys.json"
_VERSION = 1
_MAX_BYTES = 65_536
_TIMEOUT_S = 10.0
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class PublishedKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key by id and public half (base64)."""

    id: KeyId
    public: str


class PublishedKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file: what an organisation says is its own."""

    v: int
    organisation: str
    keys: tuple[PublishedKey, ...]
    witnesses: tuple[str, ...] = ()


class WellKnownError(PeerError):
    """An organisation's domain did not answer with its keys."""

    code = "well_known_failed"


def unpublished(root: Root, organisation: str, data: bytes) -> tuple[int, tuple[str, ...]]:
    """Return how many keys the root gives to `organisation`, and which of them `data` lacks.

    Raises `EncodingError` or `InputError` for a file that is not the organisation's.
    """
    file = decode_json(data, PublishedKeys)
    if file.v != _VERSION or file.organisation != organisation:
        raise InputError(
            f"expected version {_VERSION} of the keys of {organisation!r}, got {file.v} of "
            f"{file.organisation[:80]!r}"
        )
    people = {person.id for person in root.people if person.organisation == organisation}
    given = [key.public for key in root.keys.values() if key.person in people]
    vkeys = [each.vkey for each in root.witnesses if each.organisation == organisation]
    keys = {parse_base64(key.public) for key in file.keys}
    witnesses = {parse_vkey(vkey).public_key for vkey in file.witnesses}
    lacking: list[str] = [
        key_id(parse_base64(each)) for each in given if parse_base64(each) not in keys
    ]
    lacking += [vkey for vkey in vkeys if parse_vkey(vkey).public_key not in witnesses]
    return len(given) + len(vkeys), tuple(lacking)


def publish(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE]...", help="Key files; they stay here.")
    ] = None,
    organisation: Annotated[
        str, typer.Option("--organisation", help="As the root of trust spells it.")
    ] = "",
    vkey: Annotated[
        list[str] | None, typer.Option("--vkey", help="A witness's vkey; once for each.")
    ] = None,
    json_output: JsonFlag = False,
) -> None:
    """Print the file that an organisation puts at its domain's /.well-known/gatelift-keys.json."""
    if not organisation or not (files or vkey):
        raise InputError("expected --organisation, and key files or --vkey")
    loaded = [load_verifying_key(path) for path in files or ()]
    for each in vkey or ():
        if parse_vkey(each).kind is not KeyKind.COSIGNATURE:
            raise InputError(f"expected the vkey of a witness, got {each[:80]!r}")
    made = PublishedKeys(
        v=_VERSION,
        organisation=organisation,
        keys=tuple(PublishedKey(id=key.id, public=encode_base64(key.public)) for key in loaded),
        witnesses=tuple(vkey or ()),
    )
    # The file itself is JSON, so both forms are the same.
    show(made, lambda: typer.echo(encode_json(made).decode("utf-8")))


def compare(
    root_file: Annotated[Path, typer.Option("--root-file", help="root.json of the release.")],
    organisation: Annotated[
        str, typer.Option("--organisation", help="As the root of trust spells it.")
    ],
    source: Annotated[
        str, typer.Option("--from", help="https://its.domain, or a file fetched from there.")
    ],
    root: Annotated[
        str | None, typer.Option("--root", help="The root's digest, from elsewhere.")
    ] = None,
    json_output: JsonFlag = False,
) -> None:
    """Hold the keys that a root gives an organisation against what that organisation publishes."""
    envelope = read_bytes(root_file)
    if root is not None and sha256_digest(envelope) != parse_digest(root):
        raise InputError(f"{root_file} is not the root {root}", code="wrong_root")
    held = unverified_root(envelope)
    data = _fetch(source) if "://" in source else read_bytes(Path(source))
    count, lacking = unpublished(held, organisation, data)
    if count == 0:
        raise InputError(f"the root gives {organisation!r} no key: check how it is spelled there")
    value: dict[str, Any] = {"ok": not lacking, "keys": count, "lacking": lacking}

    def render() -> None:
        say(f"{count - len(lacking)} of {count} keys of {organisation} are published by it.")
        if lacking:
            table(("not published",), [(each,) for each in lacking])

    show(value, render)
    raise typer.Exit(Exit.REFUSED if lacking else Exit.OK)


def _fetch(url: str) -> bytes:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise InputError(f"expected https://its.domain, got {url[:120]!r}")
    target = url if parts.path.strip("/") else f"{url.rstrip('/')}{WELL_KNOWN}"
    try:
        with httpx.stream(
            "GET", target, timeout=_TIMEOUT_S, follow_redirects=False, trust_env=False
        ) as answer:
            data = b""
            for chunk in answer.iter_bytes():
                data += chunk
                if len(data) > _MAX_BYTES:
                    raise WellKnownError(f"{target} answered more than {_MAX_BYTES} bytes")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise WellKnownError(f"{target} did not answer: {type(error).__name__}") from error
    if answer.status_code != httpx.codes.OK:
        raise WellKnownError(f"{target} answered {answer.status_code}: is the file there?")
    return data
