"""Peers: Envoy, LiteLLM, Portkey, and Gatelift's own HTTP with nothing on.

Each is set up as its makers would for speed where that is one setting away, passes the same bytes
to the same mock, and runs on the gateway's core. Nothing of what Gatelift does is asked of them:
LiteLLM checks one master key, the others check nothing.

Invariant: each listens on loopback, or on a port that only this run knows (Portkey has no choice).
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from bench.contenders import ProcessContender, wait_answering
from bench.machine import end, pinned
from bench.messages import MODEL
from bench.nginx import Mock
from bench.ports import free_ports
from bench.wrk import Target

__all__ = ["PEERS", "start_peer"]

_BUILD = Path("build")
_SLOW_DRAIN_S = 5.0
_ENVOY = """\
static_resources:
  listeners:
  - name: bare
    address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bare
          codec_type: HTTP1
          generate_request_id: false
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{prefix: "/"}}
                route: {{cluster: mock, timeout: 0s}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
              suppress_envoy_headers: true
  clusters:
  - name: mock
    type: STATIC
    connect_timeout: 5s
    circuit_breakers:
      thresholds: [{{max_connections: 65536, max_pending_requests: 65536, max_requests: 65536}}]
    load_assignment:
      cluster_name: mock
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {upstream}}}}}}}
"""
_LITELLM = """\
model_list:
  - model_name: {model}
    litellm_params:
      model: openai/{model}
      api_base: {url}/v1
      api_key: {key}
litellm_settings:
  telemetry: false
general_settings:
  master_key: {master}
"""


class _Place:
    """Where a peer is started: its folder, its core, the mock it is to pass on to."""

    def __init__(self, folder: Path, core: int, mock: Mock) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.core = core
        self.mock = mock
        self.port = free_ports(1)

    def start(
        self, name: str, words: list[str], target: Target, more: Mapping[str, str] | None = None
    ) -> ProcessContender:
        """Start a process on the core and wait until it answers."""
        log = self.folder / "log"
        process = subprocess.Popen(
            pinned(self.core, words),
            stdin=subprocess.DEVNULL,
            stdout=log.open("ab"),
            stderr=subprocess.STDOUT,
            env={**os.environ, **(more or {})},
        )
        try:
            wait_answering(target, process)
        except (RuntimeError, TimeoutError) as error:
            end(process)
            raise RuntimeError(f"{error}: {log.read_text(errors='replace')[-300:]}") from error
        return ProcessContender(name, process, target)

    def target(self, key: str, **more: object) -> Target:
        """Return the target of a peer that knows one key."""
        return Target(port=self.port, api_keys=(key,), capped_key=key, **more)  # type: ignore[arg-type]


def _tool(path: Path, how: str) -> Path:
    if not path.exists():
        raise FileNotFoundError(f"not installed: {how}")
    return path.absolute()


def _envoy(place: _Place) -> ProcessContender:
    tool = _tool(_BUILD / "bench-tools/bin/envoy", "make bench-peers")
    conf = place.folder / "envoy.yaml"
    conf.write_text(_ENVOY.format(port=place.port, upstream=place.mock.port))
    words = [
        str(tool),
        "-c",
        str(conf),
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "-l",
        "error",
    ]
    return place.start("envoy", words, place.target(place.mock.key))


def _litellm(place: _Place) -> ProcessContender:
    tool = _tool(_BUILD / "bench-litellm/bin/litellm", "make bench-peers")
    conf, master = place.folder / "config.yaml", f"sk-{secrets.token_hex(16)}"
    conf.write_text(
        _LITELLM.format(model=MODEL, url=place.mock.url, key=place.mock.key, master=master)
    )
    words = [str(tool), "--config", str(conf), "--host", "127.0.0.1", "--port", str(place.port)]
    words += ["--num_workers", "1"]
    more = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    target = place.target(master, health_path="/health/liveliness", drain_s=_SLOW_DRAIN_S)
    return place.start("litellm", words, target, more)


def _portkey(place: _Place) -> ProcessContender:
    node = shutil.which("node")
    if node is None:
        raise FileNotFoundError("node is not installed: apt-get install nodejs npm")
    script = _BUILD / "bench-portkey/node_modules/@portkey-ai/gateway/build/start-server.js"
    words = [node, str(_tool(script, "make bench-peers")), "--headless", f"--port={place.port}"]
    headers = {
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"{place.mock.url}/v1",
    }
    target = place.target(place.mock.key, health_path="/", headers=headers, drain_s=_SLOW_DRAIN_S)
    return place.start("portkey", words, target, {"NODE_ENV": "production"})


def _nothing_on(place: _Place) -> ProcessContender:
    words = [sys.executable, "-m", "bench.bare", "--port", str(place.port)]
    words += ["--upstream", place.mock.url]
    return place.start("gatelift_nothing_on", words, place.target(place.mock.key))


PEERS: dict[str, Callable[[_Place], ProcessContender]] = {
    "envoy": _envoy,
    "litellm": _litellm,
    "portkey": _portkey,
    "gatelift_nothing_on": _nothing_on,
}


def start_peer(name: str, folder: Path, core: int, mock: Mock) -> ProcessContender:
    """Start a peer; raises `OSError`, `RuntimeError` or `TimeoutError` with the reason."""
    return PEERS[name](_Place(folder, core, mock))
