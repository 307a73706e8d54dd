"""`gatelift control`, `keeper`, `worker`: each process alone, as in a fleet.

Each runs until SIGTERM or SIGINT and logs to standard error; `up` runs them all.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated, Any

import typer

from gatelift.cli.errors import InputError
from gatelift.cli.layout import Deployment, parse_tls_files
from gatelift.cli.running import log_to_stderr
from gatelift.cli.witness_urls import parse_witness_urls

__all__ = [
    "ReplicaOption",
    "TlsCertOption",
    "TlsClientCaOption",
    "TlsKeyOption",
    "control",
    "keeper",
    "second_store",
    "worker",
]

DirOption = Annotated[Path, typer.Option("--dir", help="The deployment's folder.")]
NodeOption = Annotated[str | None, typer.Option("--node", help="This node's name in the root.")]
TlsCertOption = Annotated[
    Path | None, typer.Option("--tls-cert", help="Serve TLS: certificate and chain (PEM).")
]
TlsKeyOption = Annotated[
    Path | None, typer.Option("--tls-key", help="Its key (PEM, mode 0600, no passphrase).")
]
TlsClientCaOption = Annotated[
    Path | None,
    typer.Option("--tls-client-ca", help="Take client certificates issued by these CAs (PEM)."),
]
ReplicaOption = Annotated[
    Path | None,
    typer.Option("--replica", help="A folder on a second store, for a copy of every journal."),
]
HostOption = Annotated[str, typer.Option("--host", help="Address to listen on.")]


def _room(name: str) -> Any:
    # A worker must not import control's web server and database, nor the other way round.
    return importlib.import_module(f"gatelift.{name}")


def control(
    directory: DirOption,
    host: HostOption = "127.0.0.1",
    port: Annotated[int | None, typer.Option("--port", help="Of the admin API.")] = None,
    witness_url: Annotated[
        list[str] | None,
        typer.Option(
            "--witness-url",
            help="NAME=URL of a witness, before what the root says; once for each. "
            "A URL alone is of the root's first.",
        ),
    ] = None,
) -> None:
    """Run control: the one leader that folds, decides, records and signs status."""
    log_to_stderr()
    settings = Deployment(directory).read_settings()
    named = parse_witness_urls(witness_url or [])
    room = _room("control")
    room.run(
        directory,
        host=host,
        port=port or settings.port + 1,
        witness_url=named.pop("", settings.witness_url),
        named_witness_urls=named,
        extra_routes=_room("web").page_routes,
    )


def second_store(directory: Path, replica: Path | None) -> Path | None:
    """Return the folder of the second copies; refuses one on the deployment's own store."""
    if replica is None:
        return None
    replica.mkdir(parents=True, exist_ok=True)
    if replica.stat().st_dev == directory.stat().st_dev:
        raise InputError(
            f"{replica} lies on the same file system as {directory}: name a folder on another disk "
            "or a mount from another machine",
            code="same_store",
        )
    return replica


def keeper(directory: DirOption, node: NodeOption = None, replica: ReplicaOption = None) -> None:
    """Run this node's keeper: caps, orders, status, requests log, probes."""
    log_to_stderr()
    settings = Deployment(directory).read_settings()
    _room("keeper").run(
        directory, node=node or settings.node, replica=second_store(directory, replica)
    )


def worker(
    directory: DirOption,
    name: Annotated[str, typer.Option("--name", help="The worker's own name.")] = "w0",
    node: NodeOption = None,
    host: HostOption = "127.0.0.1",
    port: Annotated[int | None, typer.Option("--port", help="The gateway's port.")] = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    tls_client_ca: TlsClientCaOption = None,
    replica: ReplicaOption = None,
    listen_fd: Annotated[int | None, typer.Option("--listen-fd", hidden=True)] = None,
    ready_fd: Annotated[int | None, typer.Option("--ready-fd", hidden=True)] = None,
    listen_within_s: Annotated[float, typer.Option("--listen-within", hidden=True)] = 0.0,
) -> None:
    """Run one worker: the gateway that callers reach. Several share one port."""
    log_to_stderr()
    settings = Deployment(directory).read_settings()
    own = parse_tls_files(tls_cert, tls_key, tls_client_ca)
    room = _room("gateway")
    room.run(
        room.WorkerSettings(
            directory=directory,
            node=node or settings.node,
            worker=name,
            host=host,
            port=port or settings.port,
            tls=own or settings.tls_files,
            replica=second_store(directory, replica),
            listen_fd=listen_fd,
            ready_fd=ready_fd,
            listen_within_s=listen_within_s,
        )
    )
