"""nginx twice: as the mock upstream, and as the bare proxy that others are compared with.

The mock answers chat completions with one fixed JSON, refuses calls without its credential, and
writes one two-byte line for each request with a body of 900 bytes or more, so that the size of that
file is its own count. (Shorter ones are Gatelift's drift probes; they are not load.)
"""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import httpx

from bench.machine import end, pinned, wait_for
from bench.messages import ANSWER, chat_body

__all__ = ["BareProxy", "Mock", "Nginx", "find_nginx"]

_COMMON = """\
daemon off;
worker_processes 1;
worker_rlimit_nofile 65536;
error_log {folder}/error.log;
pid {folder}/nginx.pid;
events {{ worker_connections 32768; }}
http {{
  access_log off;
  server_tokens off;
  keepalive_requests 1000000000;
  keepalive_timeout 3600s;
  tcp_nodelay on;
  client_body_buffer_size 16k;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
{inner}
}}
"""
_MOCK = """\
  log_format one "1";
  map $content_length $is_load {{ default 0; "~^(9[0-9][0-9]|[0-9][0-9][0-9][0-9]+)$" 1; }}
  map $http_authorization $is_known {{ default 0; "Bearer {key}" 1; }}
  server {{
    listen 127.0.0.1:{port} backlog=8192;
    default_type application/json;
    location = /healthz {{ return 200 "ok"; }}
    location = /v1/chat/completions {{
      if ($is_known = 0) {{
        access_log off;
        return 401 '{{"error":{{"message":"no credential"}}}}';
      }}
      access_log {folder}/count.log one buffer=64k flush=100ms if=$is_load;
      return 200 '{answer}';
    }}
  }}
"""
_BARE = """\
  upstream mock {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=8192;
    location / {{
      proxy_pass http://mock;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering {buffering};
    }}
  }}
"""


def find_nginx() -> str:
    """Return nginx's path; raises `FileNotFoundError` that says how to get it."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin")
    if found is None:
        raise FileNotFoundError("nginx is not installed: apt-get install nginx-light")
    return found


class Nginx:
    """One nginx in a folder of its own, on one core."""

    def __init__(self, folder: Path, core: int, port: int, inner: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = port
        conf = folder / "nginx.conf"
        conf.write_text(_COMMON.format(folder=folder, inner=inner))
        self.process = subprocess.Popen(
            pinned(core, [find_nginx(), "-p", str(folder), "-c", str(conf)]),
            stderr=(folder / "stderr.log").open("ab"),
        )
        self.wait_up()

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"

    def wait_up(self) -> None:
        """Wait until it answers."""

        def up() -> bool:
            if self.process.poll() is not None:
                raise RuntimeError(
                    f"nginx ended: {(self.folder / 'stderr.log').read_text()[-500:]}"
                )
            try:
                return httpx.get(f"{self.url}/healthz").status_code == 200
            except httpx.TransportError:
                return False

        wait_for(up, "nginx")

    def stop(self) -> None:
        """End it."""
        end(self.process)


class Mock(Nginx):
    """The upstream: as fast as can be, and it counts."""

    def __init__(self, folder: Path, core: int, port: int, key: str) -> None:
        (folder / "count.log").unlink(missing_ok=True)
        self.key = key
        inner = _MOCK.format(folder=folder, port=port, key=key, answer=ANSWER)
        super().__init__(folder, core, port, inner)
        self._check()

    def _check(self) -> None:
        stranger = httpx.post(f"{self.url}/v1/chat/completions", content=chat_body())
        if stranger.status_code != 401:
            raise RuntimeError(f"the mock answered a stranger with {stranger.status_code}")

    def count(self) -> int:
        """Return how many requests of load it has answered, once nothing more is written."""
        size = -1
        while size != (now := self._size()):
            size = now
            # Its buffer is written out after 100 ms at the latest.
            time.sleep(0.25)
        return size // 2

    def _size(self) -> int:
        path = self.folder / "count.log"
        return path.stat().st_size if path.exists() else 0


class BareProxy(Nginx):
    """`proxy_pass` with kept connections, and nothing else. Unbuffered for streams."""

    def __init__(
        self, folder: Path, core: int, port: int, upstream: int, *, streams: bool = False
    ) -> None:
        buffering = "off" if streams else "on"
        inner = _BARE.format(upstream=upstream, port=port, buffering=buffering)
        super().__init__(folder, core, port, inner)
