"""A witness in a thread of the test, which can be slow, silent, away, or of another log."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatelift.tlog import CosignatureSigner
from gatelift.trust import Witness as NamedWitness
from gatelift.witness import Answer, Shelf, Witness, parse_log_vkeys
from tests.support.world import seed


class PlayedWitness:
    """The real judgement behind a server that a test holds back with `silent` and `delay_s`."""

    def __init__(self, folder: Path, name: str, organisation: str, log_vkey: str) -> None:
        self.name, self.organisation = name, organisation
        self.delay_s = 0.0
        self.silent = threading.Event()
        self.asked = 0
        self.signer = CosignatureSigner(name, Ed25519PrivateKey.from_private_bytes(seed(name)))
        self.shelf = Shelf(folder / name.replace("/", "-"))
        self.witness = Witness(
            signer=self.signer, log_keys=parse_log_vkeys([log_vkey]), shelf=self.shelf
        )
        self._closed = threading.Event()
        self._server: ThreadingHTTPServer | None = ThreadingHTTPServer(
            ("127.0.0.1", 0), self._handler()
        )
        self.port = self._server.server_address[1]
        self._serve()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def named(self) -> NamedWitness:
        return NamedWitness(
            name=self.name,
            vkey=self.signer.vkey,
            organisation=self.organisation,
            independent=True,
            url=self.url,
        )

    def go_away(self) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()
        self._server = None

    def come_back(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler())
        self._serve()

    def close(self) -> None:
        self._closed.set()
        if self._server is not None:
            self.go_away()
        self.shelf.close()

    def _serve(self) -> None:
        assert self._server is not None
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        played = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                played.asked += 1
                while played.silent.is_set() and not played._closed.is_set():
                    time.sleep(0.02)
                time.sleep(played.delay_s)
                self._answer(played.witness.add_checkpoint(body, now_s=int(time.time())))

            def do_GET(self) -> None:
                self._answer(played.witness.checkpoint(self.path.split("/")[1]))

            def _answer(self, answer: Answer) -> None:
                self.send_response(answer.status)
                self.send_header("content-type", answer.content_type)
                self.send_header("content-length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler
