"""Free ports on loopback."""

from __future__ import annotations

import socket

__all__ = ["free_ports"]


def free_ports(count: int) -> int:
    """Return a port such that it and the next ones are free now."""
    for _ in range(100):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            first: int = probe.getsockname()[1]
        held = []
        try:
            for number in range(first, first + count):
                sock = socket.socket()
                held.append(sock)
                sock.bind(("127.0.0.1", number))
        except OSError:
            continue
        finally:
            for sock in held:
                sock.close()
        return first
    raise RuntimeError(f"no {count} free ports in a row")
