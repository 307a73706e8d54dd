"""`gatelift witness`: being another organisation's eyes on a log.

`serve` runs until SIGTERM or SIGINT and logs to standard error. `compare` asks each witness of a policy
itself what it saw of a log, and says where that is not what we were shown.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import httpx
import typer

from gatelift.cli.desk import now_ms
from gatelift.cli.errors import Exit, InputError
from gatelift.cli.layout import read_bytes
from gatelift.cli.output import JsonFlag, at_text, facts, say, show, table
from gatelift.cli.running import log_to_stderr
from gatelift.cli.witness_urls import parse_witness_urls
from gatelift.encoding import decode_json
from gatelift.ledger.audit.folder import MANIFEST, RELEASES
from gatelift.ledger.audit.manifest import Manifest
from gatelift.ledger.witness_heads import compare_heads
from gatelift.ledger.witnessing import fetch_witness_head
from gatelift.terms import parse_duration_ms
from gatelift.tlog import CosignatureSigner, Policy, parse_policy
from gatelift.wire.keyfiles import create_signing_key, load_private_key

__all__ = ["witness"]

witness = typer.Typer(no_args_is_help=True, help="Run a witness, or ask what witnesses saw.")


@witness.command("serve")
def serve(
    folder: Annotated[Path, typer.Option("--folder", help="The witness's own memory.")],
    name: Annotated[str, typer.Option("--name", help="The name that it signs under.")],
    key: Annotated[Path, typer.Option("--key", help="Its signing key.")],
    port: Annotated[int, typer.Option("--port", help="Port to listen on.")],
    log_vkey: Annotated[
        list[str], typer.Option("--log-vkey", help="A log to follow; once for each.")
    ],
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Cosign the checkpoints of logs, for another organisation than the operator's."""
    log_to_stderr()
    if not log_vkey:
        raise InputError("expected --log-vkey, the key of a log to follow")
    # Only the process that serves needs the web server.
    importlib.import_module("gatelift.witness").serve(
        folder, name=name, signing_key_path=key, log_vkeys=log_vkey, host=host, port=port
    )


@witness.command("new")
def new(
    name: Annotated[str, typer.Option("--name", help="The name that it signs under.")],
    key: Annotated[Path, typer.Option("--key", help="Where its key is kept (0600).")],
    json_output: JsonFlag = False,
) -> None:
    """Draw a witness's key; print the vkey that a root of trust names it by."""
    create_signing_key(key)
    made = CosignatureSigner(name, load_private_key(key)).vkey

    def render() -> None:
        say(f"New key in {key}. Keep it; give the vkey to whoever holds the ceremony.")
        facts((("name", name), ("vkey", made)))

    show({"ok": True, "file": str(key), "name": name, "vkey": made}, render)


@witness.command("vkey")
def vkey(
    name: Annotated[str, typer.Option("--name", help="The name that it signs under.")],
    key: Annotated[Path, typer.Option("--key", help="Its signing key.")],
    json_output: JsonFlag = False,
) -> None:
    """Print the vkey of a witness's key, and nothing else."""
    found = CosignatureSigner(name, load_private_key(key)).vkey
    show({"ok": True, "name": name, "vkey": found}, lambda: typer.echo(found))


@witness.command("forks")
def forks(
    folder: Annotated[Path, typer.Option("--folder", help="The witness's own memory.")],
    log_vkey: Annotated[
        list[str], typer.Option("--log-vkey", help="A log to look at; once for each.")
    ],
    json_output: JsonFlag = False,
) -> None:
    """List the notes that a witness keeps against logs: 1 if any is a split view."""
    room = importlib.import_module("gatelift.witness")
    if not folder.is_dir():
        raise InputError(f"expected a witness's folder, got {folder}")
    kept = {
        origin: room.read_evidence(folder / "forks", origin)
        for origin in room.parse_log_vkeys(log_vkey)
    }
    found = [
        {"origin": origin, "name": name, "note": note.decode("utf-8", "replace")}
        for origin, notes in kept.items()
        for name, note in notes.items()
    ]
    is_split = any(each["name"].startswith("split_view-") for each in found)

    def render() -> None:
        say(f"{len(found)} note(s) are kept. Two roots at one size are proof against the log.")
        for each in found:
            say(f"  - {each['origin']}: {each['name']}")

    show({"ok": not is_split, "kept": found}, render)
    raise typer.Exit(Exit.REFUSED if is_split else Exit.OK)


@witness.command("compare")
def compare(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="A dossier, or the folder of a published log.")
    ],
    policy: Annotated[Path, typer.Option("--policy", help="A tlog policy, from elsewhere.")],
    witness_url: Annotated[
        list[str] | None,
        typer.Option("--witness-url", help="NAME=URL, before what the policy says; once for each."),
    ] = None,
    max_age: Annotated[
        str, typer.Option("--max-age", help="How old the head's cosignatures may be.")
    ] = "1h",
    slack: Annotated[
        str, typer.Option("--slack", help="How long a cosigned head may take to be published.")
    ] = "10s",
    json_output: JsonFlag = False,
) -> None:
    """Compare a log's head with what its witnesses saw: 0 agrees, 1 alarm, 4 too few answered."""
    rules = parse_policy(read_bytes(policy))
    directory, as_of_s = _log_in(path)
    heads = {name: partial(_fetch, url) for name, url in _urls(rules, witness_url or []).items()}
    found = compare_heads(
        directory,
        rules,
        heads,
        now_s=now_ms() // 1000,
        as_of_s=as_of_s,
        max_age_s=_seconds(max_age),
        slack_s=_seconds(slack),
    )
    code = Exit.REFUSED if found.alarms else Exit.OK if found.is_enough else Exit.PEER
    value = {"ok": code == Exit.OK, "exit_code": code, "compared": found}

    def render() -> None:
        say(f"{found.origin}: {found.size} entries. {_VERDICTS[code]}")
        table(
            ("witness", "code", "size", "at", "what"),
            [
                (
                    each.witness or "(this head)",
                    each.code,
                    "-" if each.size is None else each.size,
                    at_text(each.cosigned_at) if each.cosigned_at else "-",
                    each.message,
                )
                for each in found.outcomes
            ],
        )

    show(value, render)
    raise typer.Exit(code)


_ASK_S = 10.0
_VERDICTS = {
    Exit.OK: "The witnesses saw the same log.",
    Exit.REFUSED: "The witnesses saw something else than what is shown here.",
    Exit.PEER: "Too few witnesses could be asked: nothing is known.",
}


def _fetch(url: str, origin: str) -> bytes | None:
    async def ask() -> bytes | None:
        async with httpx.AsyncClient(trust_env=False, follow_redirects=False) as client:
            return await fetch_witness_head(client, url, origin, timeout_s=_ASK_S)

    return asyncio.run(ask())


def _urls(policy: Policy, texts: Sequence[str]) -> dict[str, str]:
    named = parse_witness_urls(texts)
    known = {each.name: each.url for each in policy.witnesses}
    for name in named.keys() - known.keys():
        raise InputError(f"expected a witness of the policy ({', '.join(known)}), got {name!r}")
    return {name: url for name, url in (known | named).items() if url}


def _log_in(path: Path) -> tuple[Path, int]:
    """Return the folder of the releases log, and since when (s) it may lack what came later."""
    if not path.is_dir():
        raise InputError(f"expected a dossier or a log's folder, got {path}")
    if not (path / MANIFEST).exists():
        return path, now_ms() // 1000
    return path / RELEASES, decode_json(read_bytes(path / MANIFEST), Manifest).exported_at // 1000


def _seconds(text: str) -> int:
    return parse_duration_ms(text) // 1000
