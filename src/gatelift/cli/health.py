"""Small questions to processes: does a port answer, is it free, what does health say."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

from gatelift.cli.errors import InputError
from gatelift.errors import GateliftError
from gatelift.wire.tls import TlsFiles, pinned_context

__all__ = ["check_ports_free", "get_health", "port_is_free"]

_TIMEOUT_S = 2.0


def get_health(
    port: int, path: str = "/healthz", *, api_key: str | None = None, tls: TlsFiles | None = None
) -> tuple[int, dict[str, Any]] | None:
    """Return status and JSON of a process on loopback, null if it does not answer.

    With `tls` only a process with exactly that certificate is asked.
    """
    headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
    connection: http.client.HTTPConnection
    try:
        connection = _connection(port, tls)
    except (OSError, GateliftError):
        return None
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        body = response.read(65_536)
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    try:
        found = json.loads(body)
    except ValueError:
        found = {}
    return response.status, found if isinstance(found, dict) else {}


def _connection(port: int, tls: TlsFiles | None) -> http.client.HTTPConnection:
    if tls is None:
        return http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    # The certificate names the host that callers know, not this address.
    context = pinned_context(tls.certificate.read_bytes(), check_hostname=False)
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=_TIMEOUT_S, context=context)


def port_is_free(port: int) -> bool:
    """Return whether nothing listens on a port of loopback, shared ports included."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
    return True


def check_ports_free(first: int) -> None:
    """Raise `InputError` if one of a deployment's three ports is taken.

    Workers share their port on purpose; two deployments on one port would answer for each other.
    """
    taken = [port for port in range(first, first + 3) if not port_is_free(port)]
    if taken:
        raise InputError(
            f"port {taken[0]} is taken (gateway {first}, admin {first + 1}, witness {first + 2}): "
            "choose another with --port",
            code="address_in_use",
        )
