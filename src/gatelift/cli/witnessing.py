"""`gatelift witness`: being another organisation's eyes on a log.

`serve` runs until SIGTERM or SIGINT and logs to standard error.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from gatelift.cli.errors import InputError

__all__ = ["log_to_stderr", "parse_witness_urls", "witness"]

witness = typer.Typer(no_args_is_help=True, help="Run a witness.")


def log_to_stderr() -> None:
    """Have a process that runs on say what it does."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # One line a request at INFO would fill the disk with other people's paths.
    logging.getLogger("httpx").setLevel(logging.WARNING)


def parse_witness_urls(texts: Sequence[str]) -> dict[str, str]:
    """Return the URL of each witness of `NAME=URL`; a URL alone stands under the empty name."""
    found: dict[str, str] = {}
    for text in texts:
        name, _, url = ("", "", text) if _is_url(text) else text.partition("=")
        if not _is_url(url) or name in found:
            raise InputError(
                f"expected NAME=URL once for each witness, with an http(s) URL, got {text[:120]!r}"
            )
        found[name] = url
    return found


def _is_url(text: str) -> bool:
    return text.startswith(("https://", "http://"))


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
