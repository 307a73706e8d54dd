"""Handing an order to the keeper of this host by its socket, and hearing what became of it.

Invariants
- One order, one answer, one deadline over all of it.
- Only an answer that says `accepted` is success; silence or a broken connection is an error.
- The order is not judged here: the keeper and every worker do, by its signature.
"""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Final

from gatelift.encoding import Digest
from gatelift.errors import CallerError, PeerError
from gatelift.messages.frames import OrderAnswer, OrderFrame
from gatelift.wire.frames import FrameCodec

__all__ = ["OrderRefusedError", "OrderSocketError", "submit_order"]

_TIMEOUT_S: Final = 5.0
_READ_BYTES: Final = 64 * 1024


class OrderRefusedError(CallerError):
    """The keeper did not take the order; the code is its own."""

    code = "bad_order"


class OrderSocketError(PeerError):
    """The keeper's socket is not there, or did not answer in time."""

    code = "keeper_unavailable"


def submit_order(path: Path, envelope: bytes) -> Digest:
    """Return the digest of an order that the keeper at socket `path` has kept and passed on.

    Raises `OrderRefusedError` with the keeper's reason, or `OrderSocketError`.
    """
    until = time.monotonic() + _TIMEOUT_S
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(_TIMEOUT_S)
            sock.connect(str(path))
            sock.sendall(FrameCodec[OrderFrame](OrderFrame).encode(OrderFrame(envelope=envelope)))
            answer = _answer(sock, until)
    except OSError as error:
        raise OrderSocketError(
            f"the keeper of this host does not take orders at {path}: {error.strerror or error}; "
            "is it running?"
        ) from error
    if answer.accepted and answer.digest is not None:
        return answer.digest
    if answer.code == "not_kept":
        raise OrderSocketError(answer.message, code=answer.code)
    raise OrderRefusedError(answer.message, code=answer.code)


def _answer(sock: socket.socket, until: float) -> OrderAnswer:
    codec = FrameCodec[OrderAnswer](OrderAnswer)
    while True:
        sock.settimeout(max(0.001, until - time.monotonic()))
        data = sock.recv(_READ_BYTES)
        if not data:
            raise OrderSocketError("the keeper closed without an answer: was it one order?")
        frames = codec.feed(data)
        if frames:
            return frames[0]
