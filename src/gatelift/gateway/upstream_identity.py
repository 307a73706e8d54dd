"""What a worker shows to sealed placements: the short-lived certificate that its keeper issued.

Invariants
- It is used for new connections only while it lives and a status stands; else there is no connection.
- It is held in memory alone, and shown to nobody but the server that the bundle pins.

Who holds the connections retires them when this changes (`context`): a pooled one does not outlive
the certificate that it was made with.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

from gatelift.encoding import Digest
from gatelift.errors import GateliftError
from gatelift.messages import UpstreamTls
from gatelift.messages.frames import CredentialFrame
from gatelift.wire.http_client import UpstreamError
from gatelift.wire.sealing import PinnedServer, client_context

__all__ = ["UpstreamIdentity"]


class UpstreamIdentity:
    """The certificate of one worker. `read` returns a file by digest; `is_alive` whether status stands."""

    def __init__(
        self,
        read: Callable[[Digest], bytes],
        is_alive: Callable[[int], bool],
        boot_ms: Callable[[], int],
    ) -> None:
        self._read = read
        self._is_alive = is_alive
        self._boot_ms = boot_ms
        self._pem: bytes | None = None
        self._until_ms = 0
        self._contexts: dict[UpstreamTls, ssl.SSLContext] = {}

    @property
    def is_over(self) -> bool:
        """Whether there is a certificate that has ended."""
        return self._pem is not None and self._boot_ms() >= self._until_ms

    def adopt(self, frame: CredentialFrame) -> None:
        """Use a certificate from now on."""
        self._pem = frame.pem
        self._until_ms = self._boot_ms() + frame.lives_ms
        self._contexts.clear()

    def drop(self) -> None:
        """Forget the certificate."""
        self._pem = None
        self._contexts.clear()

    def context(self, tls: UpstreamTls) -> ssl.SSLContext:
        """Return what a new connection to a sealed placement is made with; raises `UpstreamError`."""
        now_ms = self._boot_ms()
        if self._pem is None or now_ms >= self._until_ms or not self._is_alive(now_ms):
            raise UpstreamError(
                "no certificate for the sealed placement: the keeper issues one while status stands",
                code="connect_failed",
                sent=False,
            )
        found = self._contexts.get(tls)
        if found is None:
            try:
                server = PinnedServer(server_name=tls.server_name, ca=self._read(tls.ca))
                found = client_context(server, self._pem)
            except (GateliftError, OSError) as error:
                raise UpstreamError(
                    f"the sealed placement can't be reached: {type(error).__name__}",
                    code="connect_failed",
                    sent=False,
                ) from error
            self._contexts[tls] = found
        return found
