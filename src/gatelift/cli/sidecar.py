"""`gatelift sidecar`: start a model server once its weights were checked, and measure them after."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from gatelift.cli.errors import InputError
from gatelift.cli.running import log_to_stderr
from gatelift.cli.weights import SignerOption
from gatelift.messages import MAX_MEASUREMENT_LIVES_MS
from gatelift.sidecar import SidecarSettings, run
from gatelift.terms import parse_duration_ms

__all__ = ["sidecar"]


def sidecar(
    command: Annotated[
        list[str], typer.Argument(metavar="-- COMMAND", help="The model server, with its words.")
    ],
    model: Annotated[Path, typer.Option("--model", help="The model's folder.")],
    manifest: Annotated[Path, typer.Option("--manifest", help="Its signed manifest.")],
    signer: SignerOption,
    candidate: Annotated[Path, typer.Option("--candidate", help="The candidate.json in force.")],
    key: Annotated[Path, typer.Option("--key", help="This sidecar's own key file.")],
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Where keepers ask.")
    ] = "127.0.0.1:8095",
    placement: Annotated[str, typer.Option("--placement", help="The placement's name.")] = "p1",
    lives: Annotated[str, typer.Option("--lives", help="How long a measurement lives.")] = "15s",
    read_again: Annotated[
        str, typer.Option("--read-again", help="How often every byte is hashed again.")
    ] = "1h",
) -> None:
    """Check a model against its manifest, start its server, and measure for keepers."""
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise InputError(f"expected --listen HOST:PORT, got {listen!r}")
    lives_ms = parse_duration_ms(lives)
    if not 0 < lives_ms <= MAX_MEASUREMENT_LIVES_MS:
        raise InputError(f"expected --lives of up to {MAX_MEASUREMENT_LIVES_MS // 1000}s")
    log_to_stderr()
    code = run(
        SidecarSettings(
            model=model,
            manifest=manifest,
            signer=signer,
            candidate=candidate,
            placement=placement,
            key=key,
            host=host.strip("[]"),
            port=int(port),
            lives_ms=lives_ms,
            read_again_s=parse_duration_ms(read_again) / 1000,
            command=tuple(command),
        )
    )
    # A server that died of a signal is told as the shell tells it.
    sys.exit(code if code >= 0 else 128 - code)
