"""The page in a real browser: it fits a phone, runs no script, and obeys its own policy.

Needs Chromium on the path; left out where there is none.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gatelift.web import HEADERS
from tests.integration.web_scenes import halted, hostile, page_of, waiting

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# The frame is as wide as a phone; the script around it measures from outside, as none runs inside.
AROUND = """<!doctype html><title>waiting</title>
<iframe id="page" src="/page" width="{width}" height="900"></iframe>
<script>
document.getElementById("page").onload = (event) => {{
  const inner = event.target.contentDocument;
  document.title = JSON.stringify([
    inner.documentElement.scrollWidth - inner.documentElement.clientWidth,
    getComputedStyle(inner.querySelector(".card")).borderRadius,
    inner.querySelectorAll("script, img").length,
  ]);
}};
</script>"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the path"),
]


@contextmanager
def served(page: str, width: int) -> Iterator[str]:
    """Serve the page with its headers, and a frame around it."""
    # A frame of the same origin is let in here only; the policy itself forbids all of them.
    policy = HEADERS["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    framed = {
        **HEADERS,
        "content-security-policy": policy.replace(
            "frame-ancestors 'none'", "frame-ancestors 'self'"
        ),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            inner = self.path == "/page"
            body = (page if inner else AROUND.format(width=width)).encode()
            self.send_response(200)
            self.send_header("content-type", "text/html; charset=utf-8")
            for name, value in framed.items() if inner else ():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@pytest.mark.parametrize("width", [320, 400, 1200])
@pytest.mark.parametrize("scene", [waiting, halted, hostile], ids=lambda each: each.__name__)
def test_page_fits_the_screen_and_its_style_applies(
    scene: Callable[[], object], width: int, tmp_path: Path
) -> None:
    with served(page_of(scene()), width) as url:  # type: ignore[arg-type]
        seen = subprocess.run(
            [
                str(CHROMIUM),
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                f"--user-data-dir={tmp_path}",
                "--virtual-time-budget=5000",
                "--dump-dom",
                url,
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
    title = re.search(r"<title>(.*?)</title>", seen)
    assert title is not None
    # No sideways scrolling (WCAG 1.4.10 asks for it at 320 px); the style's hash was accepted.
    assert title[1] == '[0,"12px",0]'
