"""Gatelift with nothing on: its HTTP protocols on both sides, passing bytes through.

No key, no cap, no safeguard, no record: what is left is the cost of HTTP in this language. The
difference to everything on is what the promises cost. Not a product; nothing here is safe to serve.
"""

from __future__ import annotations

import argparse
import asyncio
import signal

import uvloop

from gatelift.gateway.http_messages import Request
from gatelift.gateway.http_responder import Responder
from gatelift.gateway.http_server import serve
from gatelift.wire.http_client import Upstream

_PASSED = (b"authorization", b"content-type")


class _Through:
    """Hands each request on, and its answer back."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    async def handle(self, request: Request, responder: Responder) -> None:
        """Answer one request."""
        if request.path == "/healthz":
            responder.send(200, [], b"ok")
            return
        headers = [(name, value) for name, value in request.headers if name in _PASSED]
        response = await self._upstream.request(request.method, request.path, headers, request.body)
        kind = response.headers.get(b"content-type", b"application/json")
        try:
            if kind.startswith(b"text/event-stream"):
                responder.start_stream(response.status, [(b"content-type", kind)])
                async for part in response.chunks():
                    await responder.write(part)
                await responder.finish()
            else:
                body = await response.read()
                responder.send(response.status, [(b"content-type", kind)], body)
        finally:
            response.close()


async def _main(port: int, upstream_url: str) -> None:
    upstream = Upstream(upstream_url)
    server = await serve(_Through(upstream).handle, host="127.0.0.1", port=port)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.drain(1.0)
    await upstream.aclose()


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="bench.bare")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True)
    options = parser.parse_args()
    uvloop.run(_main(options.port, options.upstream))


if __name__ == "__main__":
    main()
