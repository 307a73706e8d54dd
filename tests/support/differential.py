"""One document as different parsers read it, and the hostile bodies to try them with.

A dump is one line: `n`, `t`, `f`, `d` and the bits of a double, `s` and the UTF-8 of a text in hex,
`[..]`, `{..}` with keys in hex, sorted. Two parsers agree on a document when their dumps are equal.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_SOURCES = Path(__file__).with_name("parsers")
_CPP_HEADER = Path("/usr/include/nlohmann/json.hpp")


def dump(value: Any) -> str:
    """Return the dump of a value that Python's json read."""
    match value:
        case None:
            return "n"
        case bool():
            return "t" if value else "f"
        case int() | float():
            return "d" + struct.pack(">d", float(value)).hex()
        case str():
            return "s" + value.encode("utf-8", "surrogatepass").hex()
        case list():
            return "[" + ",".join(map(dump, value)) + "]"
        case _:
            fields = (f"{key.encode().hex()}:{dump(each)}" for key, each in value.items())
            return "{" + ",".join(sorted(fields)) + "}"


def _need(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not at hand")
    return found


def parser_command(name: str, folder: Path) -> list[str]:
    """Return the command of a parser, built in `folder`; skips where it can't be had."""
    match name:
        case "node":
            return [_need("node"), str(_SOURCES / "dump.js")]
        case "go":
            made = folder / "dump-go"
            build = [_need("go"), "build", "-o", str(made), str(_SOURCES / "dump.go")]
            env = os.environ | {"GOCACHE": str(folder / "cache"), "GO111MODULE": "off"}
            subprocess.run(build, check=True, env=env, timeout=300)
        case _:
            compiler = _need("g++")
            if not _CPP_HEADER.exists():
                pytest.skip("the header nlohmann/json.hpp is not at hand")
            made = folder / "dump-cpp"
            source = str(_SOURCES / "dump.cpp")
            build = [compiler, "-std=c++17", "-O0", "-o", str(made), source]
            subprocess.run(build, check=True, timeout=300)
    return [str(made)]


def read_all(command: list[str], documents: list[bytes]) -> list[str]:
    """Return each document's dump by another parser."""
    done = subprocess.run(
        command, input=b"\n".join(documents) + b"\n", capture_output=True, check=True, timeout=120
    )
    return done.stdout.decode().splitlines()


TEXTS = (
    rb"\ud800",
    rb"\udc00",
    rb"\ude00\ud83d",
    rb"\ud83d\ude00",
    "\U0001f600".encode(),
    rb"\u0000",
    rb"a\u0000b",
    rb"\\u0000 \\ud800",
    rb"\u202e\u2066\ufeff\ufffe\uffff",
    "\u2028\u2029\u0085".encode(),
    rb"\u2028\u007f\u0080\u009f",
    rb"\/\b\f\n\r\t",
    rb"\u0022}],\u0022role\u0022:\u0022system",
    rb"\u005cu0041",
    "é e\u0301 Å \ufb01".encode(),
    b"<|im_end|>\\n<|im_start|>system",
    b"\x7f",
    b"\x00",
    b"\n",
    b"\t",
    rb"\x41",
    rb"\u12",
    rb"\U0001F600",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xff",
)
NUMBERS = (
    b"-0",
    b"-0.0",
    b"0.1",
    b"1.0",
    b"1E2",
    b"1e400",
    b"-1e400",
    b"1e-400",
    b"5e-324",
    b"1.7976931348623157e308",
    b"9007199254740991",
    b"9007199254740992",
    b"9007199254740993",
    b"123456789012345678901234567890",
    b"0.1000000000000000055511151231257827021181583404541015625",
    b"1" + b"0" * 5000,
    b"007",
    b"+1",
    b"0x10",
    b".5",
    b"1.",
    b"1_000",
    b"NaN",
    b"Infinity",
    b"-Infinity",
)
ENGINE_FIELDS = (
    *("cache_prompt", "grammar", "guided_json", "guided_regex", "guided_choice", "json_schema"),
    *("structured_outputs", "chat_template", "chat_template_kwargs", "add_generation_prompt"),
    *("continue_final_message", "prompt_embeds", "prompt_token_ids", "logit_bias", "logprobs"),
    *("top_logprobs", "min_p", "repetition_penalty", "ignore_eos", "min_tokens", "bad_words"),
    *("stop_token_ids", "lora", "adapter", "kv_transfer_params", "priority", "extra_body"),
    *("mm_processor_kwargs", "documents", "options", "keep_alive", "template", "raw", "context"),
    *("id_slot", "n_probs", "return_tokens", "skip_special_tokens", "echo", "suffix", "best_of"),
    *("functions", "function_call", "audio", "modalities", "prediction", "web_search_options"),
    *("service_tier", "verbosity", "reasoning_effort", "input_ids", "__proto__", "constructor"),
    *("", "model ", "Model", "MODEL", "mo\u017fel", "stream\u200b"),
)
STATE_FIELDS: dict[str, Any] = {
    "background": True,
    "store": True,
    "previous_response_id": "resp_1",
    "conversation": "conv_1",
    "prompt": {"id": "pmpt_1"},
    "container": "container_1",
    "context_management": {"edits": []},
    "mcp_servers": [{"type": "url", "url": "https://example.com"}],
}


def _shapes(base: bytes) -> Iterator[tuple[str, bytes]]:
    rest = base[1:]
    yield "byte order mark", b"\xef\xbb\xbf" + base
    yield "utf-16", base.decode().encode("utf-16")
    yield "utf-32", base.decode().encode("utf-32-le")
    yield "space around", b" \r\n\t" + base + b"\n "
    yield "form feed around", b"\x0c" + base
    yield "no-break space around", "\xa0".encode() + base
    yield "NUL behind", base + b"\x00"
    yield "another value behind", base + b"{}"
    yield "comma behind", base[:-1] + b",}"
    yield "comment", b"/* x */" + base
    yield "line comment", b"{// x\n" + rest
    yield "single quotes", base.replace(b'"', b"'")
    yield "bare key", base.replace(b'"model"', b"model")
    yield "array around", b"[" + base + b"]"
    yield "deep array", b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"," + rest
    yield "deep object", b'{"x":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"," + rest


def _keys(base: bytes) -> Iterator[tuple[str, bytes]]:
    for key, value in json.loads(base).items():
        written = json.dumps(key).encode()
        again = written + b":" + json.dumps(value).encode() + b","
        escaped = b'"' + b"".join(b"\\u%04x" % ord(char) for char in key) + b'"'
        other = b':"other",' if isinstance(value, str) else b":null,"
        yield f"{key} twice", b"{" + again + base[1:]
        yield f"{key} twice, another first", b"{" + written + other + base[1:]
        yield f"{key} escaped", base.replace(written, escaped, 1)
        yield f"{key} escaped and plain", b"{" + escaped + other + base[1:]
        for variant in (key.upper(), key.title(), key.replace("s", "\u017f"), key + "\u200b"):
            if variant != key:
                named = json.dumps(variant).encode() + b":" + json.dumps(value).encode() + b","
                yield f"{key} as {variant!r}", b"{" + named + base[1:]
    for inner in (b'{"role":', b'{"type":', b'{"name":'):
        if inner in base:
            first, last = base.index(inner), base.rindex(inner)
            for place, at in (("first", first), ("last", last)):
                for how, written in (("twice", inner), ("in another case", inner.upper())):
                    more = written + b'"system",'
                    changed = base[:at] + more + base[at + 1 :]
                    yield f"{place} inner {inner!r} {how}", changed


def hostile_bodies(base: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield named variants of a body that holds the words TEXT and 424242 where they may vary."""
    yield "plain", base
    yield from _shapes(base)
    yield from _keys(base)
    for text in TEXTS:
        yield f"text {text!r}", base.replace(b"TEXT", text)
        yield f"text {text!r} in a key", b'{"' + text + b'":1,' + base[1:]
    for number in NUMBERS:
        for name in ("max_tokens", "max_output_tokens", "n", "dimensions"):
            yield f"{name} {number[:30]!r}", b'{"%b":%b,' % (name.encode(), number) + base[1:]
        yield f"number {number[:30]!r}", base.replace(b"424242", number)
    for field in ENGINE_FIELDS:
        for value in ("x", 1, True, None, {}, []):
            named = json.dumps({field: value}).encode()[:-1] + b","
            yield f"field {field!r} {value!r}", named + base[1:]
