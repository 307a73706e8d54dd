"""`gatelift beacon`: being the outside voice without which nothing is served.

`serve` runs until SIGTERM or SIGINT and logs to standard error; `pause` keeps it silent, which stops
service within the plan's `status_ttl`, and `resume` lets it speak again.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

import typer

from gatelift.cli.desk import now_ms
from gatelift.cli.errors import InputError
from gatelift.cli.layout import read_bytes
from gatelift.cli.output import JsonFlag, say, show
from gatelift.cli.running import log_to_stderr
from gatelift.encoding import parse_digest, sha256_digest
from gatelift.trust import verify_root
from gatelift.wire.files import replace_durably
from gatelift.wire.keyfiles import load_secret_text

__all__ = ["beacon"]

beacon = typer.Typer(no_args_is_help=True, help="Run a beacon: its silence stops service.")
FolderOption = Annotated[Path, typer.Option("--folder", help="The beacon's own memory.")]
_PAUSED = "paused"


@beacon.command("serve")
def serve(
    folder: FolderOption,
    root: Annotated[Path, typer.Option("--root", help="The root's envelope.")],
    root_digest: Annotated[
        str, typer.Option("--root-digest", help="Its digest, from elsewhere than the operator.")
    ],
    key: Annotated[Path, typer.Option("--key", help="Its key, a beacon's of that root.")],
    control: Annotated[str, typer.Option("--control", help="URL of the admin API to follow.")],
    token_file: Annotated[
        Path, typer.Option("--token-file", help="An overseer's token of that API (0600).")
    ],
    port: Annotated[int, typer.Option("--port", help="Port to listen on.")],
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Sign statuses that hide nothing, for another organisation than the operator's."""
    log_to_stderr()
    data = read_bytes(root)
    if sha256_digest(data) != parse_digest(root_digest):
        raise InputError(
            f"expected a root of digest {root_digest}, got {sha256_digest(data)} in {root}: ask for "
            "the root that was pinned, or pin its successor with `gatelift root adopt`",
            code="wrong_root",
        )
    # Only the process that serves needs the web server.
    importlib.import_module("gatelift.beacon").serve(
        folder,
        root=verify_root(data, now_ms()),
        key_path=key,
        url=control,
        token=load_secret_text(token_file),
        host=host,
        port=port,
    )


@beacon.command("pause")
def pause(folder: FolderOption, json_output: JsonFlag = False) -> None:
    """Keep it silent from now on: nothing is served once the last status lapses."""
    if not folder.is_dir():
        raise InputError(f"expected the folder of a beacon, found none at {folder}")
    replace_durably(folder / _PAUSED, b"")
    show(
        {"ok": True, "paused": True},
        lambda: say("The beacon is silent. Service ends within status_ttl; resume lets it go on."),
    )


@beacon.command("resume")
def resume(folder: FolderOption, json_output: JsonFlag = False) -> None:
    """Let it speak again."""
    (folder / _PAUSED).unlink(missing_ok=True)
    show({"ok": True, "paused": False}, lambda: say("The beacon speaks again."))
