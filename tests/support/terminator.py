"""A TLS terminator in front of a model server, with the weaknesses that a probe must find."""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME
_IDLE_S = 20
_PIECE = 65536


class Terminator:
    """Asks for a client certificate of `client_ca`, then passes bytes on to `backend_port`."""

    def __init__(
        self,
        pem: Path,
        key: Path,
        backend_port: int,
        client_ca: bytes | None,
        *,
        optional: bool = False,
        ignores_time: bool = False,
        speaks_http: bool = False,
    ) -> None:
        self._backend_port = backend_port
        self._speaks_http = speaks_http
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pem, key)
        self._context.num_tickets = 0
        if client_ca is not None:
            self._context.load_verify_locations(cadata=client_ca.decode())
            self._context.verify_mode = ssl.CERT_OPTIONAL if optional else ssl.CERT_REQUIRED
        if ignores_time:
            self._context.verify_flags = ssl.VerifyFlags(
                self._context.verify_flags | _NO_CHECK_TIME
            )
        self.seen: list[dict[str, Any]] = []
        self.open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._run(self._accept)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def bearers(self) -> set[str]:
        """Return the names in the certificates that were shown."""
        names = [value for each in self.seen for _, value in each.get("subjectAltName", ())]
        return set(names)

    def close(self) -> None:
        self._closed = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in list(self.open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    def _run(self, work: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closed:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            self._run(self._serve, raw)

    def _serve(self, raw: socket.socket) -> None:
        raw.settimeout(_IDLE_S)
        try:
            first = raw.recv(1, socket.MSG_PEEK)
            if self._speaks_http and first != b"\x16":
                self._pass_on(raw)
                return
            with self._context.wrap_socket(raw, server_side=True) as tls:
                self.seen.append(dict(tls.getpeercert() or {}))
                self._pass_on(tls)
        except OSError:
            pass
        finally:
            raw.close()

    def _pass_on(self, client: socket.socket) -> None:
        self.open.add(client)
        try:
            with socket.create_connection(("127.0.0.1", self._backend_port)) as backend:
                _carry(client, backend)
        finally:
            self.open.discard(client)


def _carry(client: socket.socket, backend: socket.socket) -> None:
    """Pass bytes on in both directions until one side ends.

    In one thread: two that read and write one TLS connection at the same time overwrite what OpenSSL
    remembers of the last call, and a read that found nothing is then taken for the connection's end.
    """
    with selectors.DefaultSelector() as ready:
        ready.register(client, selectors.EVENT_READ, backend)
        ready.register(backend, selectors.EVENT_READ, client)
        while found := ready.select(_IDLE_S):
            for key, _ in found:
                source, sink = key.fileobj, key.data
                data = source.recv(_PIECE)
                # What was decrypted and not taken yet is nothing that the kernel could tell of.
                while isinstance(source, ssl.SSLSocket) and source.pending():
                    data += source.recv(_PIECE)
                if not data:
                    return
                sink.sendall(data)
