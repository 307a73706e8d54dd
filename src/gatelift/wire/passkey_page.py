"""One page on loopback, shown once, through which a browser answers once.

Invariants
- The address is 127.0.0.1, the port and the path are random; nobody learns the path but who is told.
- The page is handed out once. A second visitor gets 410: who finds that theirs is the second stops.
- An answer is taken only from the page itself: its Host, its Origin, JSON, of bounded length, after
  the page was opened. Anything else is refused and changes nothing.
- No script or style runs but the page's own (nonce), no frame holds it, nothing of it is kept.
- The page shows all of what it was given: nothing is cut.
- What was not answered by the deadline is an error, and nothing was signed.

Whether the answer is a good one is its asker's to judge, before the browser is told.
"""

from __future__ import annotations

import html
import json
import secrets
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from string import Template
from typing import Any, ClassVar, Final

import msgspec

from gatelift.errors import GateliftError, PeerError

__all__ = ["PageError", "PageText", "ask_browser"]

_DEADLINE_S: Final = 180.0
_READ_TIMEOUT_S: Final = 10.0
_MAX_BODY_BYTES: Final = 16_384


class PageError(PeerError):
    """The browser did not answer in time."""

    code = "no_answer"


class PageText(msgspec.Struct, frozen=True, kw_only=True):
    """What a person reads on the page: plain text, escaped here."""

    title: str
    lead: str
    shown: str
    action: str


class _Page:
    """What the handler's threads share; each change is under the lock."""

    def __init__(
        self, text: PageText, asked: dict[str, Any], take: Callable[[bytes], None]
    ) -> None:
        self.path = "/" + secrets.token_urlsafe(24)
        self.origin = ""
        self.done = threading.Event()
        self.error: GateliftError | None = None
        self._text, self._asked, self._take = text, asked, take
        self._lock = threading.Lock()
        self._opened = self._answered = False

    def open(self) -> tuple[bytes, str] | None:
        """Return the page and its nonce, the first time only."""
        with self._lock:
            if self._opened:
                return None
            self._opened = True
        nonce = secrets.token_urlsafe(16)
        source = files("gatelift.wire").joinpath("passkey.html").read_text("utf-8")
        words = {n: html.escape(t) for n, t in msgspec.structs.asdict(self._text).items()}
        # Inside a script only what could end it must be escaped; JSON allows that in strings.
        asked = json.dumps(self._asked).replace("<", "\\u003c")
        return Template(source).substitute(words, nonce=nonce, asked=asked).encode(), nonce

    def answer(self, body: bytes) -> tuple[HTTPStatus, str]:
        """Take the one answer; a second is refused."""
        with self._lock:
            if not self._opened or self._answered:
                return HTTPStatus.GONE, "This page has been used. Nothing more is taken."
            self._answered = True
        try:
            self._take(body)
        except GateliftError as error:
            self.error = error
            return HTTPStatus.BAD_REQUEST, f"Refused, nothing was signed: {error}"
        else:
            return HTTPStatus.OK, "Done. You can close this page."


class _Handler(BaseHTTPRequestHandler):
    page: ClassVar[_Page]
    timeout = _READ_TIMEOUT_S
    server_version, sys_version = "gatelift", ""

    def do_GET(self) -> None:
        if not self._is_ours():
            return
        opened = self.page.open()
        if opened is None:
            self._say(
                HTTPStatus.GONE,
                "This page was opened before and is shown once. If that was not you, stop the "
                "command (Ctrl-C); otherwise run it again.",
            )
            return
        self._send(HTTPStatus.OK, "text/html; charset=utf-8", *opened)

    def do_POST(self) -> None:
        if not self._is_ours():
            return
        length = self.headers.get("content-length") or ""
        if self.headers.get("origin") != self.page.origin:
            self._say(HTTPStatus.FORBIDDEN, "An answer is taken from the page itself only.")
        elif self.headers.get_content_type() != "application/json":
            self._say(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Expected application/json.")
        elif not (length.isascii() and length.isdigit() and int(length) <= _MAX_BODY_BYTES):
            self._say(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"Expected at most {_MAX_BODY_BYTES} bytes."
            )
        else:
            status, text = self.page.answer(self.rfile.read(int(length)))
            self._say(status, text)
            if status is not HTTPStatus.GONE:
                # Only now, so that the browser reads what became of it before the page goes away.
                self.page.done.set()

    def log_message(self, *_: object) -> None:
        """Write nothing: the path is a secret."""

    def _is_ours(self) -> bool:
        # The host too: a name that somebody lets point here is another origin.
        host = self.page.origin.removeprefix("http://")
        path = secrets.compare_digest(self.path.encode(), self.page.path.encode())
        if path and self.headers.get("host") == host:
            return True
        self._say(HTTPStatus.NOT_FOUND, "There is no such page.")
        return False

    def _say(self, status: HTTPStatus, text: str) -> None:
        self._send(status, "text/plain; charset=utf-8", text.encode("utf-8"), "none")

    def _send(self, status: HTTPStatus, kind: str, body: bytes, nonce: str) -> None:
        self.send_response(status)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
            "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
        )
        for name, value in (
            ("content-type", kind),
            ("content-length", str(len(body))),
            ("content-security-policy", policy),
            ("cache-control", "no-store"),
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("cross-origin-opener-policy", "same-origin"),
            ("connection", "close"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def ask_browser(
    text: PageText,
    asked: dict[str, Any],
    take: Callable[[bytes, str], None],
    tell: Callable[[str], None],
    deadline_s: float = _DEADLINE_S,
) -> None:
    """Serve the page until it is answered; raises `PageError`, or what `take` refused with.

    `take` gets the answer's bytes and the page's origin; `tell` gets the address for the person.
    """
    page = _Page(text, asked, lambda body: take(body, page.origin))
    handler = type("_OnePage", (_Handler,), {"page": page})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    page.origin = f"http://localhost:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        tell(page.origin + page.path)
        answered = page.done.wait(deadline_s)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    if not answered:
        raise PageError(f"nobody answered the page within {deadline_s:g} s: nothing was signed")
    if page.error is not None:
        raise page.error
