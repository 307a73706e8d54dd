"""The way to one client: what is sent to it, whether more is read from it, and how that way ends.

Invariants
- Nothing is queued for a client that is gone or being closed: `ClientGoneError` says so.
- Once the client has ended its side, reading is neither paused nor resumed.
- Without a transport, before the connection and after it, every way of ending it does nothing.

It knows no requests and no deadlines: those are `http_connection`'s.
"""

from __future__ import annotations

import asyncio

from gatelift.gateway.http_gate import WriteGate
from gatelift.gateway.http_messages import ClientGoneError
from gatelift.gateway.http_sockets import prepare, reset
from gatelift.trust import thumbprint_of

__all__ = ["ClientSide"]


class ClientSide:
    """One client's transport, who is at its other end, and the gate of whoever waits to write."""

    __slots__ = ("_gate", "_transport", "certificate", "eof", "peer", "reading_paused", "tls")

    def __init__(self) -> None:
        self._gate = WriteGate()
        self._transport: asyncio.Transport | None = None
        self.peer = "unix"
        self.tls = False
        self.certificate: str | None = None
        self.eof = False
        """Whether the client sends no more."""
        self.reading_paused = False

    def attach(self, transport: asyncio.Transport, *, write_buffer_high: int) -> None:
        """Take the transport of a new connection, and note who is at its other end."""
        self._transport = transport
        transport.set_write_buffer_limits(high=write_buffer_high)
        self.peer = prepare(transport)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            self.tls = True
            shown = tls.getpeercert(binary_form=True)
            self.certificate = None if shown is None else thumbprint_of(shown)

    def detach(self) -> None:
        """Forget the transport of a connection that is lost."""
        self._transport = None

    @property
    def is_attached(self) -> bool:
        """Say whether the connection has begun and is not lost."""
        return self._transport is not None

    @property
    def is_open(self) -> bool:
        """Say whether the client can still be written to."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def has_unsent(self) -> bool:
        """Say whether bytes wait here that the kernel has not taken."""
        return self._transport is not None and self._transport.get_write_buffer_size() > 0

    # Sending.

    def write(self, data: bytes) -> None:
        """Queue bytes for the client; raise `ClientGoneError` once it is gone."""
        if self._transport is None or self._transport.is_closing():
            raise ClientGoneError("the client is gone: stop the upstream and settle")
        self._transport.write(data)

    async def drained(self) -> None:
        """Wait until the write buffer is below its mark; raise `ClientGoneError` once it can't be."""
        await self._gate.wait()
        if not self.is_open:
            raise ClientGoneError(
                "the client did not read, or is gone: stop the upstream and settle"
            )

    def let_through(self) -> None:
        """Wake whoever waits in `drained`."""
        self._gate.open()

    # Reading.

    def pause_reading(self) -> None:
        """Leave what the client sends to the kernel."""
        if not self.reading_paused and not self.eof and self._transport is not None:
            self.reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take again what the client sends."""
        if self.reading_paused and not self.eof and self._transport is not None:
            self.reading_paused = False
            self._transport.resume_reading()

    # Ending.

    @property
    def can_linger(self) -> bool:
        """Say whether our side can be ended while the client's is still read."""
        return not self.eof and self._transport is not None and self._transport.can_write_eof()

    def end_sending(self) -> None:
        """End our side behind what is queued, and read on."""
        if self._transport is not None:
            self._transport.write_eof()
        self.resume_reading()

    def close(self) -> None:
        """Close behind what is queued."""
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """Close at once, and drop what is queued here and in the kernel."""
        if self._transport is not None:
            reset(self._transport)
