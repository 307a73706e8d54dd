#!/usr/bin/env python3
r"""Verify a Gatelift dossier with one file: Python's standard library and `cryptography`.

    python gatelift_verify.py DOSSIER [--root sha256:...] [--policy FILE] [--json]

DOSSIER is the folder or the plain tar archive. Exit codes: 0 it holds and the anchor authenticates it,
1 it does not hold, 2 it cannot be read, 3 consistent with itself, not authenticated.

Whatever it checks stands in docs/reference/dossier.md, ledger.md, signatures.md and entries.md; it shares
no code with Gatelift itself. Needs Python 3.10 or later. Its parts, in order: bytes, keys and signatures,
shapes, the folder or archive, trees and notes, envelopes and the root, plans, the releases log, records,
the whole.
Take it from where you trust it, never from the dossier: who forges the one can forge the other.

Invariants
- Nothing is believed because the dossier says so. Without an anchor the result is 3 at best.
- How a key signs stands with the key in the root; a signature never chooses. One key is one vote.
- What this file does not judge it names (`not_judged`), and a plan that it cannot read is an error.
- Whatever the bytes are, the answer is a report, not a traceback.
- Nothing is written, fetched or run.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import json
import os
import re
import stat
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlsplit

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

SHOWN_PER_CODE = 20
MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_LINE_BYTES = 256 * 1024
MAX_NOTE_BYTES = 262_144
MAX_POLICY_BYTES = 1_048_576
MAX_SAFE_INTEGER = 2**53 - 1
MAX_SIZE = 2**63 - 1
MAX_DEPTH = 64
MAX_NAMES = 2_000_000
CLOCK_SLACK_MS = 300_000
SLACK_MS = 1_000
DAY_MS = 86_400_000

CANNOT_PROVE = (
    "that the plan is good, or its thresholds the right ones",
    "that safeguards' verdicts and assessors' labels are right: counts are recounted, not relabelled",
    "that no copy of the weights and no second door to the model exists",
    "that the model server ran this candidate: probes detect a change, they do not prove identity",
    "that every exchange was written down: for that, callers hold their tickets against the log",
    "that wall clocks were right: times are the writers' own, bounded only by cosignature times",
    "that witnesses and signers are who they say, beyond what the root of trust says of them",
)
NOT_FOREIGN = ", not independent of the operator"
NOT_JUDGED = (
    "whether decisions follow from the entries before them (gatelift replay)",
    "whether each entry was admissible when it was logged: that gates were open",
    "whether envelopes lie inside the plan's and what was announced, and exchanges inside theirs",
    "whether charges keep within caps, and observations are what the records give",
)


class BrokenError(Exception):
    """Something does not hold. `code` is stable; the text says what was expected and what came."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Report:
    """Findings, each with code, severity, place and message; every code keeps its first twenty."""

    def __init__(self) -> None:
        self.findings: list[dict[str, str]] = []
        self.errors = 0
        self.by_code: dict[str, int] = {}

    def error(self, code: str, where: str, message: str) -> None:
        """Note that something does not hold."""
        self.errors += 1
        self._add("error", code, where, message)

    def warn(self, code: str, where: str, message: str) -> None:
        """Note something for the reader to judge."""
        self._add("warning", code, where, message)

    def _add(self, severity: str, code: str, where: str, message: str) -> None:
        self.by_code[code] = self.by_code.get(code, 0) + 1
        if self.by_code[code] <= SHOWN_PER_CODE:
            found = {"code": code, "severity": severity, "where": where[:300]}
            self.findings.append({**found, "message": message[:600]})

    @contextmanager
    def reading(self, where: str, code: str | None = None) -> Iterator[None]:
        """Turn whatever is raised inside into one finding, under its own code or this one."""
        try:
            yield
        except BrokenError as error:
            self.error(code or error.code, where, str(error))
        except Exception as error:  # noqa: BLE001 - hostile bytes may break any parser in any way
            self.error("unreadable", where, f"{type(error).__name__} while reading: {error}")


# -- bytes (ledger.md, "Bytes") -----------------------------------------------------------------------


def digest_of(data: bytes) -> str:
    """Return the digest of bytes as they are stored."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def check_digest(text: Any) -> str:
    """Return `text` if it is a digest."""
    if not isinstance(text, str) or re.fullmatch(r"sha256:[0-9a-f]{64}", text) is None:
        raise BrokenError(
            "bad_digest", f"expected sha256: and 64 hex digits, got {str(text)[:80]!r}"
        )
    return text


def read_base64(text: str, *, url_safe_too: bool = False) -> bytes:
    """Return the bytes of canonical base64 with padding."""
    if url_safe_too:
        text = text.replace("-", "+").replace("_", "/")
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise BrokenError("bad_base64", f"expected base64, got {text[:40]!r}") from error
    if base64.b64encode(data).decode() != text:
        raise BrokenError("bad_base64", f"expected canonical base64, got {text[:40]!r}")
    return data


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BrokenError("duplicate_key", "expected each key once in an object")
    return found


def _integer(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > MAX_SAFE_INTEGER:
        raise BrokenError("big_integer", f"integer {text[:24]} is beyond 2**53 - 1")
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if value in {float("inf"), float("-inf")}:
        raise BrokenError("not_finite", f"number {text[:24]} is out of range")
    return value


def _constant(name: str) -> Any:
    raise BrokenError("not_finite", f"{name} is not JSON")


_JSON = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_number, parse_constant=_constant
)


def read_json(data: bytes) -> Any:
    """Return the value of strict JSON."""
    try:
        text = data.decode("utf-8")
        value = _JSON.decode(text)
    except UnicodeDecodeError as error:
        raise BrokenError("bad_utf8", f"invalid UTF-8 at byte {error.start}") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise BrokenError("not_json", f"not JSON: {error}") from error
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(value)
    if "\\u" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            raise BrokenError("lone_surrogate", "half a surrogate pair in a text") from error
    return value


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level:
        held = [each for each in level if isinstance(each, dict | list)]
        depth += bool(held)
        if depth > MAX_DEPTH:
            raise BrokenError("too_deep", f"nested deeper than {MAX_DEPTH} levels")
        level = [x for each in held for x in (each.values() if isinstance(each, dict) else each)]


def read_shape(data: bytes, name: str) -> dict[str, Any]:
    """Return strict JSON that has the shape `name` of entries.md."""
    value: dict[str, Any] = check_shape(read_json(data), name, name)
    return value


# -- keys and signatures (signatures.md) --------------------------------------------------------------

_P = 2**255 - 19
_D = (-121665 * pow(121666, -1, _P)) % _P
_SMALL_ORDER = {0, 1, _P - 1} | {
    int.from_bytes(bytes.fromhex(text), "little")
    for text in (
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    )
}
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_SSH_HEAD = b"SSHSIG" + (1).to_bytes(4, "big")
_MAX_SSH_BYTES = 4096
_MAX_ASSERTION_BYTES = 8192
_TOUCHED = 0x01
# Flags of an authenticator: present, verified, can be backed up, is backed up, and two that say more follows.
_UP, _UV, _BE, _BS, _AT, _ED = 0x01, 0x04, 0x08, 0x10, 0x40, 0x80


def check_public_key(raw: bytes) -> bytes:
    """Return the 32 bytes of an Ed25519 key that every library treats alike."""
    y = int.from_bytes(raw, "little") & (2**255 - 1)
    square = (y * y - 1) * (_D * y * y + 1) % _P
    if len(raw) != 32 or y >= _P or y in _SMALL_ORDER or pow(square, (_P - 1) // 2, _P) != 1:
        raise BrokenError("bad_public_key", "expected a canonical Ed25519 key of large order")
    return raw


def check_point(raw: bytes) -> bytes:
    """Return the 65 bytes of a point on P-256 in its one spelling."""
    try:
        if len(raw) != 65 or raw[0] != 4:
            raise ValueError(f"{len(raw)} bytes")
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), raw)
    except ValueError as error:
        raise BrokenError(
            "bad_public_key", f"expected an uncompressed P-256 point: {error}"
        ) from error
    return raw


def check_signature(public: bytes, signature: bytes, message: bytes, code: str) -> None:
    """Return if an Ed25519 signature holds."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise BrokenError(
            code, "a signature does not hold: content, signature or key differs"
        ) from error


@dataclass(frozen=True)
class PublicKey:
    """A person's key as the root pins it: the bytes of its point, and how it signs."""

    scheme: str
    public: bytes
    rp_id: str | None

    def check(self) -> None:
        """Return if the point and `rp_id` suit the scheme."""
        if self.scheme == "ecdsa-p256" or (self.scheme == "webauthn" and len(self.public) != 32):
            check_point(self.public)
        else:
            check_public_key(self.public)
        if not self._suits():
            raise BrokenError("bad_public_key", f"rp_id {self.rp_id!r} does not suit {self.scheme}")

    def _suits(self) -> bool:
        name = self.rp_id
        if name is None:
            return self.scheme != "webauthn"
        if not 0 < len(name) <= 253 or not name.isascii() or not name.isprintable():
            return False
        if self.scheme == "webauthn":
            return name == name.lower() and not set(name) & set(" /:@?#\\")
        return self.scheme == "sshsig"

    def verify(self, signature: bytes, message: bytes) -> None:
        """Return if the signature is this key's, by its own scheme."""
        if self.scheme == "ed25519":
            check_signature(self.public, signature, message, "forged")
        elif self.scheme == "ecdsa-p256":
            _verify_p256(self.public, signature, message)
        elif self.scheme == "sshsig":
            _verify_sshsig(self.public, self.rp_id, signature, message)
        elif self.scheme == "webauthn" and self.rp_id is not None:
            _verify_webauthn(self.public, self.rp_id, signature, message)
        else:
            raise BrokenError("forged", f"no scheme {self.scheme!r} is known here")


def _verify_p256(public: bytes, signature: bytes, message: bytes) -> None:
    try:
        r, s = decode_dss_signature(signature)
        below = 1 <= r < _P256_ORDER and 1 <= s < _P256_ORDER
        if encode_dss_signature(r, s) != signature or not below:
            raise ValueError("another spelling")
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public)
        key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError) as error:
        raise BrokenError("forged", f"a P-256 signature does not hold: {error}") from error


def _ssh_string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _ssh_strings(data: bytes, count: int) -> tuple[list[bytes], bytes]:
    """Return the first strings of an SSH encoding, and what is left."""
    found = []
    for _ in range(count):
        size = int.from_bytes(data[:4], "big")
        if len(data) < 4 + size:
            raise BrokenError("forged", "an SSH signature is cut short")
        found.append(data[4 : 4 + size])
        data = data[4 + size :]
    return found, data


def _verify_sshsig(
    public: bytes, application: str | None, signature: bytes, message: bytes
) -> None:
    kind = b"ssh-ed25519" if application is None else b"sk-ssh-ed25519@openssh.com"
    key = _ssh_string(kind) + _ssh_string(public)
    if application is not None:
        key += _ssh_string(application.encode())
    if len(signature) > _MAX_SSH_BYTES or not signature.startswith(_SSH_HEAD):
        raise BrokenError("forged", "no SSH signature of version 1")
    fixed, left = _ssh_strings(signature[len(_SSH_HEAD) :], 5)
    if (fixed[:4], left) != ([key, b"gatelift", b"", b"sha512"], b""):
        raise BrokenError("forged", "an SSH signature of another key, namespace, hash or form")
    (algorithm, raw), extra = _ssh_strings(fixed[4], 2)
    signed = [b"gatelift", b"", b"sha512", hashlib.sha512(message).digest()]
    covered = b"SSHSIG" + b"".join(map(_ssh_string, signed))
    if application is not None:
        if len(extra) != 5 or not extra[0] & _TOUCHED:
            raise BrokenError("forged", "the security key was not touched")
        name = hashlib.sha256(application.encode()).digest()
        covered = name + extra + hashlib.sha256(covered).digest()
    elif extra:
        raise BrokenError("forged", "something stands behind an SSH signature")
    if algorithm != kind:
        raise BrokenError("forged", "an SSH signature of another algorithm than its key")
    check_signature(public, raw, covered, "forged")


def _verify_webauthn(public: bytes, rp_id: str, signature: bytes, message: bytes) -> None:
    try:
        data, text, raw, client = _read_assertion(signature)
    except BrokenError as error:
        raise BrokenError("forged", f"no WebAuthn assertion in strict JSON: {error}") from error
    challenge = base64.urlsafe_b64encode(hashlib.sha256(message).digest()).rstrip(b"=").decode()
    if (client.get("type"), client.get("challenge")) != ("webauthn.get", challenge):
        raise BrokenError("forged", "the assertion is of another kind, or signed something else")
    if client.get("crossOrigin", False) is not False or "topOrigin" in client:
        raise BrokenError("forged", "the assertion was made inside another site's frame")
    if not _is_origin_of(client.get("origin"), rp_id):
        raise BrokenError("forged", f"expected an https origin of {rp_id!r}")
    _check_authenticator(data, rp_id)
    covered = data + hashlib.sha256(text).digest()
    if len(public) == 32:
        check_signature(public, raw, covered, "forged")
    else:
        _verify_p256(public, raw, covered)


def _read_assertion(signature: bytes) -> tuple[bytes, bytes, bytes, dict[str, Any]]:
    """Return authenticator data, client data as bytes, the signature, and the client data read."""
    if len(signature) > _MAX_ASSERTION_BYTES:
        raise BrokenError("forged", f"more than {_MAX_ASSERTION_BYTES} bytes")
    said = read_json(signature)
    names = ("authenticatorData", "clientDataJSON", "signature")
    if not isinstance(said, dict) or said.keys() != set(names):
        raise BrokenError("forged", f"expected an object of {names}")
    data, text, raw = (_read_base64url(said[name]) for name in names)
    client = read_json(text)
    if not isinstance(client, dict):
        raise BrokenError("forged", "expected client data that are an object")
    return data, text, raw, client


def _read_base64url(text: Any) -> bytes:
    if not isinstance(text, str) or re.fullmatch(r"[A-Za-z0-9_-]*", text) is None:
        raise BrokenError("bad_base64", "expected base64url without padding")
    return read_base64(text + "=" * (-len(text) % 4), url_safe_too=True)


def _is_origin_of(origin: Any, rp_id: str) -> bool:
    try:
        parts = urlsplit(str(origin))
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    plain = f"{parts.scheme}://{host}" + ("" if port is None else f":{port}")
    safe = parts.scheme == "https" or (parts.scheme == "http" and host == "localhost" == rp_id)
    return safe and plain == origin and (host == rp_id or host.endswith(f".{rp_id}"))


def _check_authenticator(data: bytes, rp_id: str) -> None:
    if len(data) != 37 or data[:32] != hashlib.sha256(rp_id.encode()).digest():
        raise BrokenError("forged", f"expected 37 bytes of an authenticator, for {rp_id!r}")
    flags = data[32]
    if flags & (_UP | _UV) != _UP | _UV:
        raise BrokenError("forged", "nobody was present and verified")
    if flags & (_AT | _ED) or flags & (_BS | _BE) == _BS:
        raise BrokenError(
            "forged", "the authenticator says more than it may, or contradicts itself"
        )


# -- shapes (entries.md) -------------------------------------------------------------------------------

WORDS = {
    "Assurance": "dev self overseen witnessed",
    "Band": "prohibited high_risk_dual_use dual_use defensive platform_abuse unrelated",
    "Binding": "claimed measured",
    "BindingKind": "mtls dpop",
    "CopyEnd": "returned destroyed",
    "CapUnit": "requests input_tokens output_tokens bytes_out parallel cost coverage",
    "Category": "leak misuse autonomy probing honey",
    "DecisionKind": "advance hold rescope roll_back halt resume",
    "Durability": "relaxed node replicated",
    "Endpoint": "chat responses completions messages embeddings count_tokens models",
    "EntryKind": "root plan placement probe commit evidence revocation review announcement objection"
    " root_announcement certificate grant order"
    " clear observation event head incident incident_change erasure hold hold_lift decision tick export copy_closed own_grant disclosure",
    "ErasureBasis": "data_subject_request contract_end legal_duty secret_caught",
    "ErasureScope": "sessions principal organisation",
    "HoldReason": "incident legal",
    "Outcome": "served cut refused capped stopped withheld upstream_failed disconnected aborted",
    "Posture": "observe redact cut reroute block",
    "Scheme": "ed25519 ecdsa-p256 sshsig webauthn",
    "Sealing": "open declared sealed",
    "Severity": "SEV-1 SEV-2 SEV-3 SEV-4",
    "Side": "prompt answer",
    "Subject": "principal organisation audience stage",
    "TargetKind": "release stage organisation principal key",
    "ThresholdVerdict": "reached ruled_out cannot_rule_out",
    "Tier": "nobody evaluators internal verified partners public",
    "Visibility": "public overseer",
    "Window": "none min h d",
}
_PLACE = "v integer, node text, worker text, run text, seq integer, at integer"
SHAPES = {
    "root": "name text, version integer, issued_at integer, expires_at integer, people [Person],"
    " keys {digest:Key}, roles {text:Role}, releases_vkey text, nodes [Node], witnesses [Witness],"
    " witness_quorum integer, order_urls? [text], beacon_urls? [text],"
    " witness_max_age_ms? integer, own_calls_per_day? integer",
    "plan": "release text, plan digest, candidate digest",
    "placement": "name text, base_url text, model text, fingerprint digest, baseline digest|null,"
    " tls? UpstreamTls|null, sidecar? Sidecar|null",
    "probe": "node text, placement text, sealing Sealing, changed integer, of integer, up boolean,"
    " reason text, binding? Binding, measurement? text|null",
    "commit": "id text, fingerprint digest, assessment text, metric text, comparator text,"
    " limit decimal, margin decimal, confidence decimal, attempts integer, data_set digest,"
    " deadline integer",
    "evidence": "id text, commit text, fingerprint digest, assessment text, metric text, n integer,"
    " s integer, undetermined integer, errors integer, tool text, tool_version text, seed text,"
    " stage text, started integer, finished integer, results digest, under [text]",
    "revocation": "body digest, reason text",
    "review": "id text, release text, stage text, approves boolean, plan digest, fingerprint digest,"
    " evidence [digest], note text, conditions? [Condition], until? integer|null",
    "announcement": "id text, release text, stage text, fingerprint digest, plan digest,"
    " envelope Envelope, clears [text], reason text",
    "objection": "id text, release text, announcement digest, grounds text",
    "root_announcement": "root digest, envelope text, reason text",
    "certificate": "release text, stage text, fingerprint digest, plan digest, root_version integer,"
    " envelope Envelope, thresholds {text:ThresholdVerdict}, evidence [digest], clears [text],"
    " after After, levels Levels, status_ttl_ms integer, sequence integer, not_before integer,"
    " not_after integer, notice? Notice|null",
    "grant": "id text, release text, stage text, principal text, organisation text, project text,"
    " tier Tier, endpoints [Endpoint], proofs [text], vetting digest|null, keys [GrantKey],"
    " not_before integer, not_after integer, private_endpoint? digest|null",
    "order": "id text, release text, target Target, ceiling Envelope|null, block_rules? [BlockRule],"
    " reasons [text], at integer, until? integer|null",
    "clear": "release text, orders [text], at integer",
    "observation": "release text, metric text, stage text, certificate digest, stretch integer,"
    " n integer, s integer, open integer, units integer, organisations [OrganisationCount],"
    " ranges [RecordRange]",
    "event": "release text, stage text, category Category, side Side, count integer,"
    " ranges [RecordRange]",
    "head": "origin text, checkpoint text",
    "incident": "id text, release text, severity Severity, title text, source text,"
    " occurred_at integer|null, detected_at integer, aware_at integer|null,"
    " discovered_at integer|null, reasonable_belief_at integer|null, determined_at integer|null",
    "incident_change": "id text, severity Severity|null, aware_at integer|null,"
    " discovered_at integer|null, reasonable_belief_at integer|null, determined_at integer|null,"
    " contained_at integer|null, resolved_at integer|null, retrospective digest|null, note text",
    "erasure": "id text, release text, basis ErasureBasis, scope ErasureScope, covers [ErasedRange],"
    " supersedes [text], at integer",
    "hold": "id text, release text, reason HoldReason, incident text|null, covers [HoldScope], at integer",
    "hold_lift": "id text, release text, at integer",
    "decision": "release text, kind DecisionKind, stage text|null, target text|null, reasons [Reason],"
    " figures [Figure], narrow [Narrowing]",
    "tick": "release text",
    "export": "id text, release text, weights digest, manifest digest, destination text,"
    " purpose text, custodian text, expires_at integer",
    "copy_closed": "export text, release text, end CopyEnd, note text",
    "own_grant": "id text, release text, requests_per_day integer, not_before integer, not_after integer,"
    " disclose_by integer, locator digest, sealed text",
    "disclosure": "release text, own_grant digest, seed text, calls integer, results [digest], note text",
    "header": "v integer, at integer, kind EntryKind, actor [text], body digest, body_bytes integer,"
    " visibility Visibility, end boolean",
    "batch": "v integer, node text, worker text, run text, seq integer, n integer, root digest,"
    " at integer, durability? Durability|null",
    "start": f"{_PLACE}, request_id text, release text, stage text, certificate digest|null,"
    " fingerprint digest, grant text, principal text, organisation text, session text,"
    " endpoint Endpoint, stream boolean, request digest, request_bytes integer, reserved [Charge],"
    " images? integer",
    "finish": f"{_PLACE}, of RecordRef, request_id text, release text, stage text, grant text,"
    " organisation text, session text, outcome Outcome, reason text, upstream boolean,"
    " status integer, answer digest|null, answer_bytes integer, input_tokens integer,"
    " output_tokens integer, spent [Charge], overrun_tokens integer, verdicts [RecordedVerdict],"
    " request? digest|null, openings? text",
    "beat": f"{_PLACE}, refused {{text:integer}}",
    "After": "origin text, size integer, root text",
    "Audience": "tier? Tier, max_organisations? integer|null, requires? [text],"
    " safety_identifier? boolean",
    "BlockRule": "id text, phrases [text]",
    "Cap": "subject Subject, unit CapUnit, window Window, limit integer",
    "Charge": "counter text, window integer, amount integer",
    "Condition": "text text, max_organisations? integer|null",
    "Envelope": "audience? Audience, scope? Scope, caps? [Cap], safeguards? SafeguardTerms,"
    " retention? Retention",
    "ErasedRange": "origin text, first integer, last integer, records integer, tombstones digest",
    "Figure": "name text, value text, n integer, s integer",
    "GrantKey": "public_id text, digest digest, binding? KeyBinding|null",
    "HoldScope": "origin text, first integer, last integer|null",
    "Key": "scheme Scheme, public text, person text, rp_id? text|null",
    "KeyBinding": "kind BindingKind, thumbprint text",
    "Levels": "assurance Assurance, sealing Sealing, binding Binding, durability Durability",
    "Narrowing": "target Target, ceiling Envelope|null, reason text",
    "Node": "name text, batch_key text, requests_key text",
    "Notice": "announcement digest, objections [digest], proofs digest",
    "LoggedStatement": "envelope text, leaf text, proof text",
    "NoticedRoot": "announcement text, leaf text, announced text, standing text, objections [digest]",
    "NoticeProofs": "announcement LoggedStatement, objections [LoggedStatement]",
    "OrganisationCount": "organisation text, n integer, s integer, open integer",
    "Person": "id text, organisation text, proof? text",
    "Reason": "code text, subject text, message text, opens_with text",
    "RecordRange": "origin text, first integer, last integer",
    "RecordRef": "node text, worker text, run text, seq integer",
    "RecordedVerdict": "category Category, band Band, rule text, side Side, action Posture",
    "Retention": "content_days? integer|null, training? boolean",
    "Role": "keys [digest], threshold? integer",
    "SafeguardTerms": "postures? {Category:Posture}, block_rules? [BlockRule]",
    "Scope": "endpoints? [Endpoint]|null, tools? [text]|null, agent_steps? integer|null,"
    " context_tokens? integer|null, output_tokens? integer|null, logprobs? boolean,"
    " images? boolean, unlocked? [Band]|null",
    "Sidecar": "url text, key text, manifest digest",
    "Target": "kind TargetKind, name text",
    "UpstreamTls": "server_name text, ca digest",
    "Witness": "name text, vkey text, organisation text, independent boolean, url? text",
    # Not of entries.md: weights.md, dossier.md, and the two layers around a body (ledger.md). Of these
    # two, further fields are passed over.
    "measurement": "placement text, fingerprint digest, weights digest, manifest digest, nonce text,"
    " loaded_at integer, measured_at integer, lives_ms integer",
    "manifest": "v integer, release text, exported_at integer, root digest, releases LogSize,"
    " requests [LogSize], records integer, files integer, missing [text]",
    "LogSize": "origin text, size integer",
    "line": "log text, batch integer, i integer, salt text, record text",
    "erased": "log text, batch integer, i integer, leaf digest, erasure text, record text",
    "envelope": "payload text, payloadType text, signatures [signature]",
    "signature": "keyid? text, sig text",
    "statement": "_type text, subject [subject], predicateType text, predicate object",
    "subject": "name text, digest {text:text}",
}
_OPEN = {"envelope", "signature", "statement", "subject"}
Check = Callable[[Any, str], Any]
_CHECKS: dict[str, Check] = {}


def _refused(expected: str, value: Any, path: str) -> BrokenError:
    return BrokenError("bad_shape", f"{path}: expected {expected}, got {json.dumps(value)[:60]}")


def _simple(word: str, accepts: Callable[[Any], bool]) -> Check:
    def check(value: Any, path: str) -> Any:
        if not accepts(value):
            raise _refused(word, value, path)
        return value

    return check


def _is_decimal(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"-?\d{1,30}(\.\d{1,30})?", value) is not None


for _name, _accepts in {
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "text": lambda v: isinstance(v, str),
    "boolean": lambda v: isinstance(v, bool),
    "object": lambda v: isinstance(v, dict),
    "null": lambda v: v is None,
    "decimal": _is_decimal,
}.items():
    _CHECKS[_name] = _simple(_name, _accepts)
_CHECKS["digest"] = lambda value, _: check_digest(value)


def _check_of(kind: str) -> Check:
    """Return the check of a type: a word, `[type]`, `{type:type}`, `type|null` or a shape."""
    if kind not in _CHECKS:
        _CHECKS[kind] = _made(kind)
    return _CHECKS[kind]


def _made(kind: str) -> Check:
    if kind.endswith("|null"):
        inner = _check_of(kind.removesuffix("|null"))
        return lambda value, path: None if value is None else inner(value, path)
    if kind.startswith("["):
        return _list_of(_check_of(kind[1:-1]))
    if kind.startswith("{"):
        keys, _, values = kind[1:-1].partition(":")
        return _table_of(_check_of(keys), _check_of(values))
    if kind in WORDS:
        words = frozenset(WORDS[kind].split())
        return _simple(f"one of {sorted(words)}", lambda v: isinstance(v, str) and v in words)
    return _object_of(kind)


def _list_of(each: Check) -> Check:
    def check(value: Any, path: str) -> Any:
        if not isinstance(value, list):
            raise _refused("a list", value, path)
        for item in value:
            each(item, path)
        return value

    return check


def _table_of(key: Check, each: Check) -> Check:
    def check(value: Any, path: str) -> Any:
        if not isinstance(value, dict):
            raise _refused("an object", value, path)
        for name, item in value.items():
            key(name, path)
            each(item, f"{path}.{name}")
        return value

    return check


def _object_of(name: str) -> Check:
    fields: dict[str, tuple[str, bool]] = {}
    for part in SHAPES[name].split(", "):
        word, _, kind = part.strip().partition(" ")
        fields[word.rstrip("?")] = (kind, not word.endswith("?"))
    needed = {word for word, (_, required) in fields.items() if required}

    def check(value: Any, path: str) -> Any:
        if not isinstance(value, dict):
            raise _refused("an object", value, path)
        if not needed <= value.keys() or (name not in _OPEN and not value.keys() <= fields.keys()):
            wrong = sorted(needed ^ value.keys())
            raise BrokenError("bad_shape", f"{path}: missing or unknown among {wrong[:8]}")
        for word, item in value.items():
            if word in fields:
                _check_of(fields[word][0])(item, f"{path}.{word}")
        return value

    return check


def check_shape(value: Any, name: str, path: str) -> Any:
    """Return `value` if it has a shape of entries.md."""
    return _check_of(name)(value, path)


# -- the folder, or the archive (dossier.md) -----------------------------------------------------------

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)
_TOP = {
    "dossier.json", "root.json", "tlog-policy", "releases", "requests", "records", "files",
}  # fmt: skip
LOG_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,63})-([0-9]{4}-(?:0[1-9]|1[0-2]))", re.ASCII)


class Source:
    """Files by their path in the dossier: plain files of a folder, or members of a plain tar."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.odd: list[tuple[str, str, str]] = []
        self.sizes: dict[str, int] = {}
        self.unused: set[str] = set()
        """Files of a dossier's form that no check has opened yet."""
        self._places: dict[str, int] = {}
        if self.path.is_file() and not self.path.is_symlink():
            self._archive = True
            with self.path.open("rb") as file:
                self._index(file)
        elif self.path.is_dir() and not self.path.is_symlink():
            self._archive = False
            self._walk("", 0)
        else:
            raise BrokenError("missing", f"expected a folder or an archive at {path!r}")

    def _count(self) -> None:
        if len(self.sizes) + len(self.odd) >= MAX_NAMES:
            raise BrokenError("too_large", f"expected at most {MAX_NAMES} files")

    def _walk(self, below: str, depth: int) -> None:
        with os.scandir(self.path / below) as found:
            for entry in sorted(found, key=lambda e: e.name):
                name = f"{below}/{entry.name}" if below else entry.name
                self._count()
                if entry.is_file(follow_symlinks=False):
                    self.sizes[name] = entry.stat(follow_symlinks=False).st_size
                elif entry.is_symlink() or not entry.is_dir(follow_symlinks=False):
                    self.odd.append(("symlink", name, "expected plain files and folders only"))
                elif depth >= 16:
                    self.odd.append(("bad_name", name, "nested too deep"))
                else:
                    self._walk(name, depth + 1)

    def _index(self, file: IO[bytes]) -> None:
        """Read the headers of a POSIX ustar archive of plain files, refusing all else."""
        end = os.fstat(file.fileno()).st_size
        at = 0
        folders: set[str] = set()
        while True:
            file.seek(at)
            head = file.read(512)
            if len(head) < 512:
                raise BrokenError("bad_archive", "the archive ends without its two empty blocks")
            if not any(head):
                break
            name, size = _tar_header(head)
            if name is not None:
                self._count()
                folders |= {name[:i] for i, c in enumerate(name) if c == "/"}
                if name in self.sizes or name in folders or folders & self.sizes.keys():
                    raise BrokenError("bad_archive", f"{name!r} stands twice in the archive")
                self.sizes[name], self._places[name] = size, at + 512
            at += 512 + -(-size // 512) * 512
            if at > end:
                raise BrokenError("bad_archive", "the archive is cut short")
        rest = file.read(MAX_FILE_BYTES)
        if len(rest) < 512 or any(rest) or file.read(1):
            raise BrokenError("bad_archive", "expected nothing but zeros after the last file")

    @contextmanager
    def open(self, name: str) -> Iterator[tuple[IO[bytes], int]]:
        """Yield an open file at the beginning of `name`, and how many bytes are its own."""
        if name not in self.sizes:
            odd = any(name == o or name.startswith(f"{o}/") for _, o, _ in self.odd)
            raise BrokenError("symlink" if odd else "missing", f"expected a file at {name}")
        self.unused.discard(name)
        if self._archive:
            with self.path.open("rb") as file:
                file.seek(self._places[name])
                yield file, self.sizes[name]
            return
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        fd = os.open(self.path.joinpath(*name.split("/")), flags | getattr(os, "O_BINARY", 0))
        with os.fdopen(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise BrokenError("not_a_file", f"expected a plain file at {name}")
            yield file, os.fstat(fd).st_size

    def read(self, name: str, limit: int = MAX_FILE_BYTES) -> bytes:
        """Return a whole file."""
        with self.open(name) as (file, size):
            if size > limit:
                raise BrokenError("too_large", f"expected at most {limit} bytes in {name}")
            return file.read(size)

    def read_digest(self, digest: str) -> bytes:
        """Return the file of a digest, hashed again."""
        name = "files/sha256/" + check_digest(digest).removeprefix("sha256:")
        data = self.read(name)
        if digest_of(data) != digest:
            raise BrokenError("wrong_bytes", f"{name} holds other bytes than its name says")
        return data

    def lines(self, name: str) -> Iterator[bytes]:
        """Yield the lines of a file without their newlines."""
        with self.open(name) as (file, size):
            left = size
            while left:
                line = file.readline(min(left, MAX_LINE_BYTES + 1))
                left -= len(line)
                if not line.endswith(b"\n"):
                    raise BrokenError("line_too_long", f"a line of {name} has no end in time")
                yield line[:-1]

    def logs(self) -> list[str]:
        """Return the folders below requests/, by node and month."""
        names = {name.split("/")[1] for name in self.sizes if name.startswith("requests/")}
        names |= {name.split("/")[1] for _, name, _ in self.odd if name.startswith("requests/")}
        return sorted(names, key=lambda n: (n[:-8], n))

    def inspect(self, report: Report) -> None:
        """Report links, names that do not belong, and files by digest that hold other bytes."""
        for code, name, message in self.odd:
            report.error(code, name, message)
        fitting = set()
        for name in self.sizes:
            parts = name.split("/")
            if parts[0] not in _TOP or not all(_NAME.fullmatch(part) for part in parts):
                report.warn("unexpected_file", name, "not part of a dossier; not read")
            elif parts[0] != "files":
                fitting.add(name)
            elif parts[1:2] != ["sha256"] or len(parts) != 3 or not _HEX.fullmatch(parts[2]):
                report.warn("unexpected_file", name, "expected files/sha256/<64 hex digits>")
            else:
                fitting.add(name)
                with report.reading(name):
                    self.read_digest(f"sha256:{parts[2]}")
        self.unused = fitting


def _tar_header(head: bytes) -> tuple[str | None, int]:
    """Return name and size of a member of a ustar archive; no name for a folder."""
    if head[257:265] != b"ustar\x0000":
        raise BrokenError("bad_archive", "expected a plain POSIX ustar archive, not compressed")
    total = sum(head) - sum(head[148:156]) + 8 * 32
    if _octal(head[148:156]) != total:
        raise BrokenError("bad_archive", "a header's checksum is wrong")
    raw = head[345:500].partition(b"\0")[0]
    raw = (raw + b"/" if raw else b"") + head[0:100].partition(b"\0")[0]
    kind, size = head[156:157], _octal(head[124:136])
    try:
        name = raw.decode("ascii")
    except UnicodeDecodeError as error:
        raise BrokenError("bad_archive", f"a member's name is not ASCII: {raw[:80]!r}") from error
    if kind == b"5" and size == 0:
        name = name.removesuffix("/")
    elif kind not in {b"0", b"\0"}:
        raise BrokenError(
            "bad_archive", f"{name[:80]!r} is a link, a device or worse: type {kind!r}"
        )
    parts = name.split("/")
    if not all(parts) or {".", ".."} & set(parts) or "\\" in name or len(parts) > 17:
        raise BrokenError("bad_archive", f"expected a path of plain names, got {name[:80]!r}")
    return (None if kind == b"5" else name), size


def _octal(text: bytes) -> int:
    found = re.fullmatch(rb" *([0-7]+)[ \0]*", text)
    if found is None:
        raise BrokenError("bad_archive", f"expected an octal number in a header, got {text!r}")
    return int(found[1], 8)


# -- trees, notes, policies (ledger.md, "The logs") ----------------------------------------------------


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of the node above two."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """An RFC 6962 tree over leaf hashes; `levels[l][i]` is the root over 2**l leaves."""

    def __init__(self, leaves: list[bytes]) -> None:
        self.levels = [leaves]
        while len(self.levels[-1]) > 1:
            row = self.levels[-1]
            self.levels.append([node_hash(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)])

    def root(self, size: int | None = None) -> bytes:
        """Return the root over the first `size` leaves, by default over all."""
        size = len(self.levels[0]) if size is None else size
        found: bytes | None = None
        for level in range(size.bit_length()):
            if size >> level & 1:
                whole = self.levels[level][(size >> level) - 1]
                found = whole if found is None else node_hash(whole, found)
        return hashlib.sha256(b"").digest() if found is None else found


def numbered(index: int, width: int) -> str:
    """Return the end of a tile's path."""
    groups = [f"{index % 1000:03d}"]
    while index >= 1000:
        index //= 1000
        groups.insert(0, f"x{index % 1000:03d}")
    return "/".join(groups) + ("" if width == 256 else f".p/{width}")


def tiles(count: int) -> Iterator[tuple[int, int]]:
    """Yield (number, width) of the tiles that hold `count` hashes or entries."""
    for index in range(count // 256):
        yield index, 256
    if count % 256:
        yield count // 256, count % 256


@dataclass(frozen=True)
class Vkey:
    """A key that signs notes (type 1) or cosigns them (type 4), under a name."""

    name: str
    kind: int
    public: bytes

    @property
    def mark(self) -> tuple[str, bytes]:
        """Name and key id, as a signature line has them."""
        text = self.name.encode() + b"\n" + bytes([self.kind]) + self.public
        return self.name, hashlib.sha256(text).digest()[:4]

    @property
    def text(self) -> str:
        """The written form."""
        key = base64.b64encode(bytes([self.kind]) + self.public).decode()
        return f"{self.name}+{self.mark[1].hex()}+{key}"


def check_key_name(name: str) -> str:
    """Return a name that a signature line can carry."""
    odd = any(c.isspace() or c < " " or "\ud800" <= c <= "\udfff" for c in name)
    if not name or "+" in name or odd:
        raise BrokenError("bad_vkey", f"expected a key name, got {name[:80]!r}")
    return name


def read_vkey(text: str, kind: int | None = None) -> Vkey:
    """Return the key of a written vkey, of type `kind` if that is given."""
    parts = text.split("+", 2)
    if len(parts) != 3:
        raise BrokenError("bad_vkey", f"expected name+id+key, got {text[:80]!r}")
    raw = read_base64(parts[2])
    if len(raw) != 33 or raw[0] not in ({1, 4} if kind is None else {kind}):
        raise BrokenError(
            "bad_vkey", f"expected a key of type {kind or '01 or 04'} in {text[:80]!r}"
        )
    key = Vkey(check_key_name(parts[0]), raw[0], check_public_key(raw[1:]))
    if key.mark[1].hex() != parts[1]:
        raise BrokenError("bad_vkey", f"the id in {text[:80]!r} is not that of its key")
    return key


@dataclass(frozen=True)
class Note:
    """A note: text and lines of (name, key id, signature), none of them verified."""

    text: bytes
    lines: list[tuple[str, bytes, bytes]]

    def by(self, keys: list[Vkey]) -> Iterator[tuple[Vkey, bytes]]:
        """Yield the signatures that claim to be by one of the keys."""
        marks = {key.mark: key for key in keys}
        if len(marks) != len(set(keys)):
            raise BrokenError("ambiguous_key", "two known keys share a name and an id")
        for name, key_id, signature in self.lines:
            if (name, key_id) in marks:
                yield marks[name, key_id], signature


def read_note(data: bytes) -> Note:
    """Return the parts of a signed note."""
    text, found, rest = data.rpartition(b"\n\n")
    if len(data) > MAX_NOTE_BYTES or not found or not rest.endswith(b"\n"):
        raise BrokenError("bad_note", "expected a text, an empty line and signature lines")
    text += b"\n"
    try:
        lines = rest[:-1].decode("utf-8").split("\n")
        odd = any(c < " " and c != "\n" for c in text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BrokenError("bad_note", "a note is not UTF-8") from error
    if odd or len(lines) > 100:
        raise BrokenError("bad_note", "control characters in a note, or more than 100 signatures")
    found_lines = []
    for line in lines:
        dash, name, encoded = [*line.split(" ", 2), "", ""][:3]
        raw = read_base64(encoded)
        if dash != "—" or len(raw) <= 4:
            raise BrokenError("bad_note", f"expected a signature line, got {line[:80]!r}")
        found_lines.append((check_key_name(name), raw[:4], raw[4:]))
    return Note(text, found_lines)


@dataclass(frozen=True)
class Checkpoint:
    """What a log's note says: its origin, size and root."""

    origin: str
    size: int
    root: bytes


def read_decimal(text: str) -> int:
    """Return a number without leading zeros."""
    if re.fullmatch(r"0|[1-9][0-9]{0,18}", text, re.ASCII) is None or int(text) > MAX_SIZE:
        raise BrokenError("bad_checkpoint", f"expected a decimal number, got {text[:40]!r}")
    return int(text)


def read_checkpoint(note: Note) -> Checkpoint:
    """Return the checkpoint in a note; nothing is verified."""
    lines = note.text.decode("utf-8").split("\n")
    if len(lines) < 4 or not all(lines[:-1]):
        raise BrokenError("bad_checkpoint", "expected the lines origin, size and root")
    root = read_base64(lines[2])
    if len(root) != 32:
        raise BrokenError("bad_checkpoint", f"expected a root of 32 bytes, got {len(root)}")
    return Checkpoint(lines[0], read_decimal(lines[1]), root)


def verify_log_key(note: Note, keys: list[Vkey]) -> Checkpoint:
    """Return the checkpoint of a note that one of the log keys, named like its origin, signed."""
    checkpoint = read_checkpoint(note)
    signers = []
    for key, signature in note.by(keys):
        check_signature(key.public, signature, note.text, "bad_signature")
        signers.append(key)
    if not signers:
        raise BrokenError("unsigned", "expected a signature by a key of this log, got none")
    if all(key.name != checkpoint.origin for key in signers):
        raise BrokenError(
            "wrong_origin", f"a note of {checkpoint.origin[:80]!r}, signed by another log"
        )
    return checkpoint


def cosignature_times(note: Note, keys: list[Vkey]) -> dict[Vkey, int]:
    """Return the newest time (s) at which each witness cosigned the note."""
    times: dict[Vkey, int] = {}
    for key, raw in note.by(keys):
        at = int.from_bytes(raw[:8], "big")
        if len(raw) != 72 or at > MAX_SIZE:
            raise BrokenError(
                "bad_cosignature", f"expected 72 bytes by {key.name!r}, got {len(raw)}"
            )
        message = b"cosignature/v1\ntime %d\n" % at + note.text
        check_signature(key.public, raw[8:], message, "bad_signature")
        times[key] = max(at, times.get(key, 0))
    return times


@dataclass
class Policy:
    """A tlog-policy: logs, witnesses by name, groups in their order, and the quorum."""

    logs: list[Vkey] = field(default_factory=list)
    witnesses: dict[str, Vkey] = field(default_factory=dict)
    groups: dict[str, tuple[int, list[str]]] = field(default_factory=dict)
    quorum: str | None = None

    def verify(
        self, note: Note, until_s: int, since_s: int = 0
    ) -> tuple[Checkpoint, dict[str, int]]:
        """Return the checkpoint that meets this policy, and the times of its cosignatures."""
        checkpoint = verify_log_key(note, self.logs)
        times = cosignature_times(note, list(self.witnesses.values()))
        timed = {n: times[k] for n, k in self.witnesses.items() if k in times}
        seen = {name: at for name, at in timed.items() if since_s <= at <= until_s}
        met = set(seen)
        for name, (threshold, members) in self.groups.items():
            if sum(member in met for member in members) >= threshold:
                met.add(name)
        if self.quorum is not None and self.quorum not in met:
            raise BrokenError(
                "quorum_not_met",
                f"expected the quorum {self.quorum!r}, cosigned in time by {sorted(seen) or 'nobody'}",
            )
        return checkpoint, seen


class _PolicyReader:
    """Takes a policy line by line. Each name and key stands once, and above where it is used."""

    def __init__(self) -> None:
        self.policy = Policy()
        self.quorums = 0
        self._names = {"none"}
        self._members = {"none"}
        self._keys: set[bytes] = set()

    def take(self, words: list[str]) -> None:
        """Take the words of one line."""
        match words:
            case ["log", vkey] | ["log", vkey, _]:
                self.policy.logs.append(self._key(vkey, 1))
            case ["witness", name, vkey] | ["witness", name, vkey, _]:
                self._name(name)
                self.policy.witnesses[name] = self._key(vkey, 4)
            case ["group", name, rule, first, *rest]:
                self.policy.groups[name] = self._group(name, rule, [first, *rest])
            case ["quorum", name] if name in self._names:
                self.quorums += 1
                self.policy.quorum = None if name == "none" else name
            case _:
                raise BrokenError("bad_policy", f"not a policy line: {' '.join(words)[:80]!r}")

    def _name(self, name: str) -> None:
        if name in self._names:
            raise BrokenError("bad_policy", f"the name {name!r} is taken")
        self._names.add(name)

    def _key(self, vkey: str, kind: int) -> Vkey:
        key = read_vkey(vkey, kind)
        if key.public in self._keys:
            raise BrokenError("bad_policy", f"the key of {key.name!r} stands twice")
        self._keys.add(key.public)
        return key

    def _group(self, name: str, rule: str, members: list[str]) -> tuple[int, list[str]]:
        if len(set(members)) != len(members) or not set(members) <= self._names - self._members:
            raise BrokenError("bad_policy", "a group's member is undefined, or in a group already")
        self._name(name)
        self._members |= set(members)
        threshold = read_decimal({"all": str(len(members)), "any": "1"}.get(rule, rule))
        if not 1 <= threshold <= len(members):
            raise BrokenError("bad_policy", f"group {name!r} asks for {rule} of its members")
        return threshold, members


def read_policy(data: bytes) -> Policy:
    """Return a tlog-policy, strictly."""
    if len(data) > MAX_POLICY_BYTES or not data.endswith(b"\n"):
        raise BrokenError("bad_policy", "expected a policy that ends in a newline")
    if any((octet < 0x20 and octet not in b"\t\n") or octet == 0x7F for octet in data):
        raise BrokenError("bad_policy", "control characters in a policy")
    reader = _PolicyReader()
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        words = [word for word in re.split(r"[ \t]+", line) if word]
        if words and not words[0].startswith("#"):
            reader.take(words)
    if reader.quorums != 1:
        raise BrokenError("bad_policy", f"expected one quorum line, got {reader.quorums}")
    return reader.policy


@dataclass
class Log:
    """A log whose entries lead to its checkpoint's root."""

    folder: str
    checkpoint: Checkpoint
    entries: list[bytes]
    tree: Tree


def read_log(source: Source, folder: str, checkpoint: Checkpoint, report: Report) -> Log | None:
    """Return the log in `folder`; none, and a finding, if its entries do not lead to the root."""
    entries: list[bytes] = []
    for index, width in tiles(checkpoint.size):
        where = f"{folder}/tile/entries/{numbered(index, width)}"
        before = report.errors
        with report.reading(where):
            entries += _read_bundle(source.read(where), width)
        if report.errors > before:
            return None
    tree = Tree([hashlib.sha256(b"\x00" + entry).digest() for entry in entries])
    if tree.root() != checkpoint.root:
        report.error(
            "root_mismatch",
            f"{folder}/checkpoint",
            f"expected the root {checkpoint.root.hex()}, the entries lead to {tree.root().hex()}",
        )
        return None
    level, count = 0, len(entries)
    while count:
        row = tree.levels[8 * level]
        for index, width in tiles(count):
            where = f"{folder}/tile/{level}/{numbered(index, width)}"
            with report.reading(where):
                if source.read(where, 8192) != b"".join(row[256 * index : 256 * index + width]):
                    report.error("tile_mismatch", where, "expected the hashes of the log's entries")
        level, count = level + 1, count // 256
    return Log(folder, checkpoint, entries, tree)


def _read_bundle(data: bytes, width: int) -> list[bytes]:
    found: list[bytes] = []
    at = 0
    while at + 2 <= len(data) and len(found) < width:
        length = int.from_bytes(data[at : at + 2], "big")
        found.append(data[at + 2 : at + 2 + length])
        at += 2 + length
    if len(found) != width or at != len(data):
        raise BrokenError("bad_tile", f"expected {width} entries and no byte more")
    return found


# -- envelopes and the root (ledger.md) ----------------------------------------------------------------

ROOT_TYPE = "application/vnd.gatelift.root+json"
ROOT_NOTICE_MS = 30 * 86_400_000
STATEMENT_TYPE = "application/vnd.in-toto+json"
PEOPLE = {"operator", "safety", "security", "overseer"}
MAY_SIGN = {
    "plan": {"operator"},
    "placement": {"operator"},
    "probe": {"control"},
    "commit": {"evaluator", "safety"},
    "evidence": {"evaluator", "safety"},
    "revocation": PEOPLE | {"evaluator"},
    "review": PEOPLE,
    "announcement": PEOPLE,
    "objection": {"overseer"},
    "root_announcement": PEOPLE,
    "certificate": PEOPLE | {"evaluator"},
    "grant": {"admissions"},
    "order": PEOPLE | {"admissions", "stop", "control"},
    "clear": PEOPLE | {"admissions"},
    "observation": {"control"},
    "event": {"control"},
    "head": {"control"},
    "erasure": {"operator", "admissions", "safety", "overseer"},
    "hold": PEOPLE | {"admissions"},
    "hold_lift": {"operator", "admissions", "safety", "overseer"},
    "incident": PEOPLE | {"control"},
    "incident_change": PEOPLE,
    "decision": {"control"},
    "tick": {"control"},
    "export": {"operator", "security"},
    "copy_closed": {"operator", "security"},
    "own_grant": {"overseer"},
    "disclosure": {"overseer"},
}
ROLES = {
    "root", "operator", "safety", "security", "overseer", "admissions", "evaluator", "control", "stop",
    "beacon",
}  # fmt: skip


def unverified_payload(data: bytes) -> bytes:
    """Return an envelope's payload without saying anything about who signed it."""
    return read_base64(read_shape(data, "envelope")["payload"], url_safe_too=True)


def verify_envelope(data: bytes, kind: str, keys: dict[str, PublicKey]) -> tuple[bytes, list[str]]:
    """Return the payload and the ids of the known keys that signed it, each once."""
    envelope = read_shape(data, "envelope")
    if not 1 <= len(envelope["signatures"]) <= 32:
        raise BrokenError("bad_envelope", "expected 1 to 32 signatures")
    if envelope["payloadType"] != kind:
        raise BrokenError("wrong_type", f"expected {kind}, got {envelope['payloadType'][:80]!r}")
    payload = read_base64(envelope["payload"], url_safe_too=True)
    word = kind.encode()
    message = b"DSSEv1 %d %b %d %b" % (len(word), word, len(payload), payload)
    signers: list[str] = []
    for each in envelope["signatures"]:
        key_id = each.get("keyid", "")
        if key_id in keys and key_id not in signers:
            keys[key_id].verify(read_base64(each["sig"], url_safe_too=True), message)
            signers.append(key_id)
    if not signers:
        raise BrokenError("unknown_signers", "no signature by a key of this root")
    return payload, signers


@dataclass(frozen=True)
class Signer:
    """Who stands behind one verified signature."""

    key: str
    person: str
    organisation: str
    role: str


def open_root(data: bytes) -> tuple[bytes, dict[str, Any] | None]:
    """Return the envelope in a root's file, and the public notice that it rides on, if it does."""
    try:
        held = read_shape(data, "NoticedRoot")
    except BrokenError:
        return data, None
    payload = unverified_payload(held["announcement"].encode())
    return announced_envelope(read_statement(payload, "root_announcement")[0]), held


def announced_envelope(value: dict[str, Any]) -> bytes:
    """Return the root's envelope in an announcement."""
    envelope: bytes = value["envelope"].encode()
    if digest_of(envelope) != value["root"]:
        raise BrokenError("bad_notice", "the announcement names another root than it holds")
    return envelope


class Root:
    """A root of trust that is consistent and signed by its own root role."""

    def __init__(self, data: bytes) -> None:
        self.digest = digest_of(data)
        envelope, self.notice = open_root(data)
        self.value = read_shape(unverified_payload(envelope), "root")
        self.name: str = self.value["name"]
        self.version: int = self.value["version"]
        self.expires_at: int = self.value["expires_at"]
        self.people = {person["id"]: person for person in self.value["people"]}
        self.roles: dict[str, dict[str, Any]] = self.value["roles"]
        self.keys = {
            key_id: PublicKey(key["scheme"], read_base64(key["public"]), key.get("rp_id"))
            for key_id, key in self.value["keys"].items()
        }
        self.role_of = {key: name for name, role in self.roles.items() for key in role["keys"]}
        self._check()
        self.check_signed_by(self, envelope)

    def _check(self) -> None:
        """Return if this root does not contradict itself."""
        for key in self.keys.values():
            key.check()
        self._check_people()
        self._check_roles()
        self._check_machines()
        for role in ("overseer", "beacon"):
            if self._organisations("operator") & self._organisations(role):
                raise BrokenError(f"{role}_inside", f"the {role} is of the operator's organisation")
        self._check_witnesses()

    def _check_people(self) -> None:
        value = self.value
        written = {person["organisation"] for person in value["people"]}
        known = set(map(one_spelling, written))
        _demand("organisation_spelling", {"one spelling of people's": len(known) == len(written)})
        _demand(
            "bad_root",
            {
                "version and expiry": self.version >= 1 and self.expires_at > value["issued_at"],
                "each person once": len(self.people) == len(value["people"]),
                "an organisation for each person": "" not in known,
                "each key under the digest of its point": all(
                    digest_of(key.public) == key_id for key_id, key in self.keys.items()
                ),
                "keys of people of the root": all(
                    key["person"] in self.people for key in value["keys"].values()
                ),
            },
        )

    def _check_roles(self) -> None:
        listed = [key for role in self.roles.values() for key in role["keys"]]
        _demand(
            "bad_root",
            {
                "known roles": self.roles.keys() <= ROLES,
                "root, operator and control": {"root", "operator", "control"} <= self.roles.keys(),
                "an overseer beside a beacon": "beacon" not in self.roles
                or "overseer" in self.roles,
                "a role for each key, a key for each role": set(listed) == self.keys.keys(),
            },
        )
        _demand("key_in_two_roles", {"one role a key": len(set(listed)) == len(listed)})
        for name, role in self.roles.items():
            voices = (
                self._organisations(name)
                if name in {"overseer", "beacon"}
                else {self.value["keys"][key]["person"] for key in role["keys"]}
            )
            if not 1 <= role.get("threshold", 1) <= len(voices):
                raise BrokenError("bad_root", f"role {name} asks for more than it has, or none")

    def _check_machines(self) -> None:
        used = [*self.role_of, *self._machine_keys()]
        names = [node["name"] for node in self.value["nodes"]]
        lists = [self.value.get(name, []) for name in ("order_urls", "beacon_urls")]
        _demand("key_in_two_roles", {"one use a key": len(set(used)) == len(used)})
        _demand(
            "bad_root",
            {
                "each node once": len(set(names)) == len(names),
                "order lists and beacons at https addresses": all(
                    len(urls) <= 8 and all(map(_is_url, urls)) for urls in lists
                ),
            },
        )

    def _machine_keys(self) -> Iterator[str]:
        yield digest_of(read_vkey(self.value["releases_vkey"]).public)
        for node in self.value["nodes"]:
            yield digest_of(check_public_key(read_base64(node["batch_key"])))
            yield digest_of(check_public_key(read_base64(node["requests_key"])))
        for witness in self.value["witnesses"]:
            yield digest_of(read_vkey(witness["vkey"]).public)

    def _check_witnesses(self) -> None:
        witnesses, quorum = self.value["witnesses"], self.value["witness_quorum"]
        written = {witness["organisation"] for witness in witnesses}
        known = self._witnessing().keys()
        _demand("witness_organisation", {"one spelling a witness": len(written) == len(known)})
        inside = {one_spelling(each) for each in self._organisations("operator")}
        _demand("witness_inside", {"no witness of the operator": not inside & known})
        _demand(
            "bad_root",
            {
                "no more own calls than an overseer may have": 0
                <= self.own_calls_per_day
                <= (1_000_000 if "overseer" in self.roles else 0),
                "witnesses with time to answer": self._witness_max_age_ms() >= 60_000,
                "an organisation for each witness": "" not in known,
                "a quorum of the organisations that witness": 0 <= quorum <= len(known),
                "names and keys of witnesses of one word": all(
                    word and word.isprintable() and " " not in word
                    for witness in witnesses
                    for word in (witness["name"], witness["vkey"])
                ),
                "witnesses at https addresses": all(
                    not each.get("url") or _is_url(each["url"]) for each in witnesses
                ),
            },
        )
        try:
            self.policy()
        except BrokenError as error:
            raise BrokenError("bad_root", f"the witnesses make no policy: {error}") from error

    def _witness_max_age_ms(self) -> int:
        given: int = self.value.get("witness_max_age_ms", 86_400_000)
        return given

    @property
    def own_calls_per_day(self) -> int:
        """How many calls of its own an overseer's organisation may make a UTC day."""
        given: int = self.value.get("own_calls_per_day", 0)
        return given

    def _organisations(self, role: str) -> set[str]:
        keys = self.roles.get(role, {"keys": []})["keys"]
        return {self._organisation(key) for key in keys}

    def check_signed_by(self, root: Root, data: bytes) -> None:
        """Return if the root role of `root` signed the root in `data`."""
        _, signers = verify_envelope(data, ROOT_TYPE, root.keys)
        role = root.roles["root"]
        people = {root.value["keys"][key]["person"] for key in signers if key in role["keys"]}
        if len(people) < role.get("threshold", 1):
            raise BrokenError("quorum_unmet", f"{len(people)} people of the root role signed")

    def check_overseen_by(self, root: Root, data: bytes) -> None:
        """Return if an overseer of `root` signed the envelope `data`, where that takes one."""
        _, signers = verify_envelope(data, ROOT_TYPE, root.keys)
        overseers = root._organisations("overseer")
        changed = "overseer" in root.roles and root._oversight() != self._oversight()
        if changed and not overseers & {root._organisation(key) for key in signers}:
            raise BrokenError("overseer_missing", "it changes what is the overseer's, unsigned")

    def _organisation(self, key_id: str) -> str:
        person: str = self.value["keys"][key_id]["person"]
        organisation: str = self.people[person]["organisation"]
        return organisation

    def _oversight(self) -> Any:
        """Return all that the overseer keeps: own role, the beacon's, lists, own calls, witnesses."""
        witnesses = {(each["vkey"], each["organisation"]) for each in self.value["witnesses"]}
        witnessing = self.value["releases_vkey"], self.value["witness_quorum"], witnesses
        kept = self.value.get("order_urls", []), self.own_calls_per_day, witnessing
        return self._held("overseer"), self._held("beacon"), *kept

    def _held(self, name: str) -> Any:
        """Return a role's threshold, keys and people."""
        role = self.roles.get(name)
        keys = role["keys"] if role else []
        people = [self.people[self.value["keys"][key]["person"]] for key in keys]
        return (
            role and role.get("threshold", 1),
            {key: self.keys[key] for key in keys},
            {key: self.value["keys"][key]["person"] for key in keys},
            {p["id"]: (p["organisation"], p.get("proof", "unproven")) for p in people},
        )

    def signers(self, data: bytes) -> tuple[bytes, list[Signer]]:
        """Return the payload of a statement and who of this root signed it."""
        payload, keys = verify_envelope(data, STATEMENT_TYPE, self.keys)
        people = {key: self.value["keys"][key]["person"] for key in keys}
        return payload, [
            Signer(key, people[key], self._organisation(key), self.role_of[key]) for key in keys
        ]

    def assurance(self, signers: list[Signer]) -> str:
        """Return the level that these signers give."""
        people = {signer.person for signer in signers}
        proofs = {self.people[person].get("proof", "unproven") for person in people}
        if len(people) < 2 or "unproven" in proofs:
            return "dev"
        if all(signer.role != "overseer" for signer in signers):
            return "self"
        inside = {
            one_spelling(w["organisation"]) for w in self.value["witnesses"] if not w["independent"]
        }
        foreign = self._witnessing().keys() - inside
        quorum = self.value["witness_quorum"]
        return "witnessed" if len(inside) < quorum <= len(foreign) else "overseen"

    def _witnessing(self) -> dict[str, list[str]]:
        """Return the names of the witnesses by organisation: each counts once, however it is written."""
        found: dict[str, list[str]] = {}
        for witness in self.value["witnesses"]:
            found.setdefault(one_spelling(witness["organisation"]), []).append(witness["name"])
        return found

    def policy_lines(self) -> list[str]:
        """Return the lines on witnesses and quorum that this root's policy has."""
        value = self.value
        lines = [
            f"witness {w['name']} {w['vkey']} {w.get('url', '')}".rstrip()
            for w in value["witnesses"]
        ]
        if not value["witness_quorum"]:
            return [*lines, "quorum none"]
        members = []
        for organisation, names in self._witnessing().items():
            member = names[0]
            if len(names) > 1:
                member = f"organisation:{quote(organisation, safe='.-_')}"
                lines.append(f"group {member} any {' '.join(names)}")
            members.append(member)
        quorum = f"group witnesses {value['witness_quorum']} {' '.join(members)}"
        return [*lines, quorum, "quorum witnesses"]

    def policy(self) -> Policy:
        """Return the policy of the releases log by this root."""
        lines = [f"log {self.value['releases_vkey']}", *self.policy_lines()]
        return read_policy("".join(f"{line}\n" for line in lines).encode())


def _demand(code: str, rules: dict[str, bool]) -> None:
    for rule, holds in rules.items():
        if not holds:
            raise BrokenError(code, f"expected of a root: {rule}")


def one_spelling(organisation: str) -> str:
    """Return what all spellings of an organisation's name have in common."""
    return " ".join(unicodedata.normalize("NFKC", organisation).casefold().split())


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        known = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    plain = parts.scheme == "http" and parts.hostname in {"127.0.0.1", "::1", "localhost"}
    clean = "@" not in parts.netloc and not parts.fragment and " " not in url
    return (
        known
        and clean
        and url.isascii()
        and url.isprintable()
        and (plain or parts.scheme == "https")
    )


def read_statement(payload: bytes, kind: str) -> tuple[dict[str, Any], set[str]]:
    """Return the predicate of a statement of `kind` and the digests of its subjects."""
    value = read_shape(payload, "statement")
    if (
        value["_type"] != "https://in-toto.io/Statement/v1"
        or value["predicateType"] != f"urn:gatelift:{kind}:v1"
    ):
        raise BrokenError("wrong_type", f"expected a {kind}, got {value['predicateType'][:80]!r}")
    if not value["subject"]:
        raise BrokenError("bad_statement", "expected at least one subject")
    subjects = {check_digest(f"sha256:{s['digest'].get('sha256', '')}") for s in value["subject"]}
    return check_shape(value["predicate"], kind, kind), subjects


# -- plans: as much of YAML as a plan's quorum takes (ledger.md, "Which YAML") -------------------------

_KEY = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]*):(?: +|$)")
_FORBIDDEN = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]")


class PlanReader:
    """Reads block and flow collections of one-line scalars, as text; refuses what else YAML has."""

    def __init__(self, data: bytes) -> None:
        try:
            text = data.decode("utf-8").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            raise self._refuse("it is not UTF-8") from error
        if len(data) > 256 * 1024 or _FORBIDDEN.search(text):
            raise self._refuse("it is too long, or holds tabs or control characters")
        self._lines: list[tuple[int, str]] = []
        for line in text.split("\n"):
            bare = _without_comment(line).rstrip(" ")
            if bare.strip(" "):
                self._lines.append((len(bare) - len(bare.lstrip(" ")), bare.strip(" ")))
        self._at = 0

    def read(self) -> Any:
        """Return the document."""
        value = self._block(0)
        if self._at != len(self._lines):
            raise self._refuse(f"at {self._lines[self._at][1][:60]!r}")
        return value

    def _refuse(self, why: str) -> BrokenError:
        return BrokenError(
            "plan_not_read", f"this verifier reads less of YAML than a plan may use: {why}"
        )

    def _block(self, indent: int) -> Any:
        if self._at >= len(self._lines) or self._lines[self._at][0] != indent:
            raise self._refuse("its indentation")
        return self._list(indent) if _is_item(self._lines[self._at][1]) else self._map(indent)

    def _list(self, indent: int) -> list[Any]:
        found = []
        while self._at < len(self._lines) and self._lines[self._at][0] == indent:
            text = self._lines[self._at][1]
            if not _is_item(text):
                break
            inner = text[1:].lstrip(" ")
            if not inner:
                raise self._refuse("an item that begins on its next line")
            if _is_item(inner):
                raise self._refuse("a list that begins in a list's line")
            if _KEY.match(inner):
                # `- key: value` is a map whose indentation is where its first key stands.
                place = indent + len(text) - len(inner)
                self._lines[self._at] = (place, inner)
                found.append(self._map(place))
            else:
                self._at += 1
                found.append(self._inline(inner, indent))
        return found

    def _map(self, indent: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while self._at < len(self._lines) and self._lines[self._at][0] == indent:
            text = self._lines[self._at][1]
            key = _KEY.match(text)
            if key is None or key[1] in found:
                if _is_item(text) and found:
                    break
                raise self._refuse(f"expected a key that is new, got {text[:60]!r}")
            self._at += 1
            rest = text[key.end() :]
            found[key[1]] = self._inline(rest, indent) if rest else self._below(indent)
        return found

    def _below(self, indent: int) -> Any:
        if self._at >= len(self._lines):
            return ""
        place, text = self._lines[self._at]
        if place > indent or (place == indent and _is_item(text)):
            return self._block(place)
        return ""

    def _inline(self, text: str, indent: int) -> Any:
        """Return a value that begins behind its key; a flow collection may take more lines."""
        if text[0] in "[{":
            flow = _Flow(text, self._refuse)
            while not flow.is_closed:
                if self._at >= len(self._lines) or self._lines[self._at][0] <= indent:
                    raise self._refuse("brackets that do not close")
                flow = _Flow(f"{flow.text}\n{self._lines[self._at][1]}", self._refuse)
                self._at += 1
            value = flow.read()
        elif text[0] in "\"'":
            flow = _Flow(text, self._refuse)
            value = flow.read()
        else:
            if text[0] in "&*!|>%@`,]}#?-:" and not re.match(r"-[0-9a-zA-Z]", text):
                raise self._refuse(f"a value that begins as {text[:20]!r}")
            if re.search(r":( |$)", text):
                raise self._refuse(f"a colon in {text[:60]!r}")
            value = text
        if self._at < len(self._lines) and self._lines[self._at][0] > indent:
            raise self._refuse(f"a value that goes on at {self._lines[self._at][1][:60]!r}")
        return value


def _is_item(text: str) -> bool:
    return text == "-" or text.startswith("- ")


def _without_comment(line: str) -> str:
    quote = ""
    for place, char in enumerate(line):
        before = line[place - 1] if place else " "
        if quote:
            if char == quote:
                quote = ""
        elif char in "\"'" and before in " [{,:":
            quote = char
        elif char == "#" and before == " ":
            return line[:place]
    return line


class _Flow:
    """A flow collection, or one quoted scalar, as text that may hold newlines."""

    def __init__(self, text: str, refuse: Callable[[str], BrokenError]) -> None:
        self.text = text
        self._refuse = refuse
        self._at = 0

    @property
    def is_closed(self) -> bool:
        """Say whether every bracket is closed; brackets in quotes do not count."""
        bare = re.sub(r"\"[^\"]*\"|'[^']*'", "", self.text)
        return sum(c in "[{" for c in bare) <= sum(c in "]}" for c in bare)

    def read(self) -> Any:
        """Return the value, which must take all of the text."""
        value = self._value()
        self._skip()
        if self._at != len(self.text):
            raise self._refuse(f"something behind a value: {self.text[self._at :][:40]!r}")
        return value

    def _skip(self) -> str:
        while self._at < len(self.text) and self.text[self._at] in " \n":
            self._at += 1
        return self.text[self._at : self._at + 1]

    def _value(self, depth: int = 0) -> Any:
        char = self._skip()
        if depth > 16:
            raise self._refuse("it is nested too deep")
        if char == "[":
            return self._items(depth)
        if char == "{":
            return self._pairs(depth)
        if char and char in "\"'":
            return self._quoted(char)
        found = re.compile(
            r"[^\s,\[\]{}&*!|>%@`\"'#?:-][^\n,\[\]{}#:\"']*(?::[^\s,\[\]{}#:\"']+)*"
        ).match(self.text, self._at)
        if found is None:
            raise self._refuse(f"at {self.text[self._at :][:40]!r}")
        self._at = found.end()
        return found[0].rstrip(" ")

    def _items(self, depth: int) -> list[Any]:
        found: list[Any] = []
        self._at += 1
        while self._skip() != "]":
            found.append(self._value(depth + 1))
            if not self._separator("]"):
                break
        self._at += 1
        return found

    def _pairs(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self._at += 1
        while self._skip() != "}":
            key = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]*): +").match(self.text, self._at)
            if key is None or key[1] in found:
                raise self._refuse(f"expected a key that is new at {self.text[self._at :][:40]!r}")
            self._at = key.end()
            found[key[1]] = self._value(depth + 1)
            if not self._separator("}"):
                break
        self._at += 1
        return found

    def _separator(self, end: str) -> bool:
        char = self._skip()
        if char == ",":
            self._at += 1
            if self._skip() == end:
                raise self._refuse("a comma before a closing bracket")
            return True
        if char != end:
            raise self._refuse(f"expected a comma or {end!r} at {self.text[self._at :][:40]!r}")
        return False

    def _quoted(self, quote: str) -> str:
        end = self.text.find(quote, self._at + 1)
        inner = self.text[self._at + 1 : end]
        if end < 0 or "\\" in inner or "\n" in inner or self.text[end + 1 : end + 2] == quote:
            raise self._refuse("an escape in quotes, or quotes over several lines")
        self._at = end + 1
        return inner


_UNITS_MS = {"ms": 1, "s": 1_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}


def read_duration(text: Any) -> int:
    """Return a plan's duration in milliseconds."""
    found = re.fullmatch(r"([0-9]{1,12})(ms|s|min|h|d)", str(text), re.ASCII)
    if found is None:
        raise BrokenError("plan_not_read", f"expected a duration, got {str(text)[:40]!r}")
    return int(found[1]) * _UNITS_MS[found[2]]


@dataclass(frozen=True)
class Stage:
    """What a certificate is held against of a stage."""

    quorum: list[str]
    assurance: str
    sealing: str
    binding: str
    certificate_ms: int
    thresholds: list[str]
    notice_ms: int


class Plan:
    """The parts of an adopted plan that this verifier judges by."""

    def __init__(self, data: bytes) -> None:
        tree = PlanReader(data).read()
        try:
            self.name: str = tree["metadata"]["name"]
            self.status_ttl_ms = read_duration(tree["trust"]["status_ttl"])
            usual = read_duration(tree["trust"].get("notice", "0s"))
            self.stages = {
                each["name"]: self._stage(each, tree, usual if number else 0)
                for number, each in enumerate(tree["stages"])
            }
            exposures = tree.get("exposures", [])
            self.exposures = exposures if isinstance(exposures, list) else []
            told = [self.name, *self.stages, *(r for s in self.stages.values() for r in s.quorum)]
        except (KeyError, TypeError, AttributeError) as error:
            raise BrokenError(
                "plan_not_read", f"a plan lacks what this verifier needs: {error}"
            ) from error
        if not all(isinstance(each, str) for each in told) or len(self.stages) != len(
            tree["stages"]
        ):
            raise BrokenError("plan_not_read", "names of a plan are not words, or stand twice")

    def _stage(self, each: Any, tree: Any, notice_ms: int) -> Stage:
        quorum = each.get("quorum", tree["trust"]["quorum"])
        thresholds = (each.get("gate") or {}).get("thresholds", [])
        if not isinstance(quorum, list) or not quorum or not isinstance(thresholds, list):
            raise TypeError("a quorum or thresholds that are no list")
        said = {"Binding": each.get("binding", "claimed")}
        said |= {"Assurance": each["assurance"], "Sealing": each["sealing"]}
        if any(word not in WORDS[ladder].split() for ladder, word in said.items()):
            raise TypeError("an assurance, a sealing or a binding that is none")
        return Stage(
            quorum,
            each["assurance"],
            each["sealing"],
            said["Binding"],
            read_duration(each["certificate"]),
            thresholds,
            read_duration(each["notice"]) if "notice" in each else notice_ms,
        )

    def reach(self, stage: str) -> int:
        """Return the place of a stage; beyond all where there is none."""
        names = list(self.stages)
        return names.index(stage) if stage in names else len(names)


def check_quorum(root: Root, signers: list[Signer], roles: list[str]) -> None:
    """Return if distinct people fill every place that the roles ask for.

    In the overseer's role organisations are counted: each has one place, and enough must be filled.
    """
    seated: dict[str, list[str]] = {}

    def seat(able: list[str], tried: set[str]) -> bool:
        for person in able:
            if person not in tried:
                tried.add(person)
                if person not in seated or seat(seated[person], tried):
                    seated[person] = able
                    return True
        return False

    filled = True
    for role in sorted(roles, key=lambda each: each == "overseer"):
        voices: dict[str, list[str]] = {}
        for signer in signers:
            if signer.role == role:
                voice = signer.organisation if role == "overseer" else signer.person
                voices.setdefault(voice, []).append(signer.person)
        threshold = root.roles.get(role, {}).get("threshold", 1)
        if len(voices) < threshold:
            code = "overseer_missing" if role == "overseer" else "quorum_unmet"
            raise BrokenError(code, f"role {role}: expected {threshold} voices, got {len(voices)}")
        if role == "overseer":
            filled &= sum(seat(people, set()) for people in voices.values()) >= threshold
        else:
            filled &= all(seat(list(voices), set()) for _ in range(threshold))
    if not filled:
        raise BrokenError("person_twice", f"one person fills two of the roles {roles}")


# -- the releases log (ledger.md, "Entries", "Certificates") -------------------------------------------


@dataclass
class Entry:
    """An entry that was opened and verified."""

    index: int
    header: dict[str, Any]
    value: dict[str, Any]
    subjects: set[str]
    signers: list[Signer]


@dataclass
class Permit:
    """A certificate that held, and when it was logged."""

    value: dict[str, Any]
    at: int
    plan: Plan


@dataclass
class Granted:
    """A grant, and when it was logged."""

    value: dict[str, Any]
    at: int


@dataclass
class Own:
    """An overseer's own grant, whose it is, and what its disclosure showed."""

    value: dict[str, Any]
    organisation: str
    place: str
    grant: dict[str, Any] | None = None
    said: int | None = None
    calls: int = 0
    charged: dict[int, int] = field(default_factory=dict)


@dataclass
class Stop:
    """An order, when it was logged, and when a clear of it was."""

    value: dict[str, Any]
    at: int
    cleared_at: int | None = None


@dataclass
class Erased:
    """What an erasure covers of one log, and what was read of it."""

    value: dict[str, Any]
    lines: int = 0
    digest: Any = field(default_factory=hashlib.sha256)


class Releases:
    """The releases log: entries opened, roots in force, and who was permitted what."""

    def __init__(self, source: Source, log: Log, first: Root) -> None:
        self.source = source
        self.log = log
        self.roots: list[tuple[int, Root]] = [(0, first)]
        self.entries: list[Entry] = []
        self.plan: tuple[dict[str, Any], Plan | None] | None = None
        self.permits: dict[str, Permit] = {}
        self.stops: dict[str, Stop] = {}
        self.grants: dict[str, list[Granted]] = {}
        self.reviews: list[tuple[str, dict[str, Any], set[str]]] = []
        self.withdrawn: set[str] = set()
        self.own: dict[str, Own] = {}
        self.own_ids: dict[str, str] = {}
        self.announced: dict[str, tuple[str, str, str]] = {}
        self.announced_roots: dict[str, str] = {}
        self.objections: dict[str, tuple[str, str]] = {}
        self.holds: dict[str, dict[str, Any]] = {}
        self.erasures: dict[str, dict[str, Any]] = {}
        self.erased: dict[tuple[str, str], Erased] = {}
        self.placements: dict[str, dict[str, Any]] = {}
        self.weights: Any = None
        self.registered: dict[str, int] = {}
        self.copies: dict[str, Entry] = {}
        self.certificates = 0

    @property
    def root(self) -> Root:
        """The newest root."""
        return self.roots[-1][1]

    def open(self, report: Report, granted: Report) -> None:
        """Open every entry in order; what does not hold is a finding and left out."""
        before: dict[str, Any] | None = None
        for index, leaf in enumerate(self.log.entries):
            where = f"{self.log.folder}#{index}"
            with report.reading(where):
                header = read_shape(leaf, "header")
                self._check_header(header, before, where, report)
                before = header
                data = self.source.read_digest(header["body"])
                if len(data) != header["body_bytes"]:
                    report.error("body_size", where, f"expected {header['body_bytes']} bytes")
                entry = self._open(index, header, data)
                actor = sorted({f"{s.role}:{s.person}" for s in entry.signers}) or ["root"]
                if header["actor"] != actor:
                    report.error(
                        "actor_mismatch", where, f"expected {actor}, got {header['actor']}"
                    )
                self.entries.append(entry)
                with granted.reading(where):
                    self._take(entry, digest_of(data))
        if before is not None and not before["end"]:
            report.error(
                "group_open", self.log.folder, "expected the end of a transaction at the end"
            )

    def _check_header(
        self, header: dict[str, Any], before: dict[str, Any] | None, where: str, report: Report
    ) -> None:
        if header["v"] != 1:
            report.error("bad_header", where, f"expected version 1, got {header['v']}")
        if before is not None and header["at"] < before["at"]:
            report.error("time_went_back", where, f"expected a time from {before['at']} on")
        closes = before is not None and not before["end"] and before["kind"] != "decision"
        if header["kind"] == "decision" and not (header["end"] and closes):
            report.error(
                "bad_group", where, "expected a decision once, at the end of its transaction"
            )
        if header["kind"] != "root" and header["at"] >= self.root.expires_at:
            report.error("root_expired", where, f"root {self.root.version} had expired")

    def _open(self, index: int, header: dict[str, Any], data: bytes) -> Entry:
        kind = header["kind"]
        if kind == "root":
            if header["body"] != self.root.digest:
                self._rotate(index, header, data)
            return Entry(index, header, {}, set(), [])
        payload, signers = self.root.signers(data)
        if not MAY_SIGN[kind] & {signer.role for signer in signers}:
            raise BrokenError("role_not_allowed", f"a {kind} takes one of {sorted(MAY_SIGN[kind])}")
        value, subjects = read_statement(payload, kind)
        self._check_rules(kind, value, signers)
        if kind == "root_announcement":
            self._follow(header, announced_envelope(value))
            if self.root.policy().quorum is None:
                raise BrokenError("bad_notice", "without witnesses nobody counts its 30 days")
        return Entry(index, header, value, subjects, signers)

    def _rotate(self, index: int, header: dict[str, Any], data: bytes) -> None:
        root = self._follow(header, data)
        envelope = open_root(data)[0]
        if root.notice is None:
            root.check_overseen_by(self.root, envelope)
        else:
            self._check_root_notice(root.notice)
        self.roots.append((index + 1, root))
        self.announced_roots = {}

    def _follow(self, header: dict[str, Any], data: bytes) -> Root:
        """Return the root that follows the one in force, signed by the root role of both."""
        root = Root(data)
        if (root.name, root.version) != (self.root.name, self.root.version + 1):
            raise BrokenError(
                "not_successor", f"expected root {self.root.version + 1} of the same name"
            )
        root.check_signed_by(self.root, open_root(data)[0])
        if header["at"] >= root.expires_at:
            raise BrokenError("expired", f"root {root.version} had expired when it was logged")
        return root

    def _check_root_notice(self, held: dict[str, Any]) -> None:
        """Return if a root was public for 30 days by the witnesses of the root in force."""
        digest = digest_of(held["announcement"].encode())
        root = self.announced_roots.get(digest)
        if root is None:
            raise BrokenError("not_announced", "no announcement of it is on the log under its last")
        against = {
            objection
            for objection, (announcement, _) in self.objections.items()
            if self.announced_roots.get(announcement) == root
        }
        if against - set(held["objections"]):
            raise BrokenError("objection_hidden", "the root does not name what stood against it")
        if read_shape(held["leaf"].encode(), "header")["kind"] != "root_announcement":
            raise BrokenError("bad_notice", "its proofs are of another kind of entry")
        leaf = {"envelope": held["announcement"], "leaf": held["leaf"]}
        since_ms = self._known_since_ms({**leaf, "proof": held["announced"]})
        until_ms = self._known_since_ms({**leaf, "proof": held["standing"]}, latest=True)
        if since_ms < self.root.value["issued_at"] // 1000 * 1000:
            raise BrokenError("notice_voided", "it was announced before its last was issued")
        if until_ms - since_ms < ROOT_NOTICE_MS:
            raise BrokenError("notice_running", f"it was public for {until_ms - since_ms} ms")

    def _check_rules(self, kind: str, value: dict[str, Any], signers: list[Signer]) -> None:
        if kind == "order":
            ends = value.get("until") is not None and value["target"]["kind"] in {
                "release",
                "stage",
            }
            if ends or not value["reasons"]:
                raise BrokenError("bad_order", "an order gives no reason, or ends a stop by time")
        elif kind == "clear":
            first = {s.person for s in signers if s.role == "admissions"}
            second = {s.person for s in signers if s.role in PEOPLE}
            if not first or not second or len(first | second) < 2:
                raise BrokenError("quorum_unmet", "a clear takes admissions and a second person")
        elif kind in {"erasure", "hold_lift"}:
            asking = {s.person for s in signers if s.role in {"operator", "admissions"}}
            consenting = {s.person for s in signers if s.role in {"safety", "overseer"}}
            if not asking or not consenting or len(asking | consenting) < 2:
                raise BrokenError("quorum_unmet", f"a {kind} takes two people of two sides")
        elif kind in {"export", "copy_closed"} or (kind == "placement" and value.get("sidecar")):
            check_quorum(self.root, signers, ["operator", "security"])
        elif kind == "grant" and (not value["keys"] or value["not_after"] <= value["not_before"]):
            raise BrokenError("bad_grant", "a grant without a key, or that ends before it begins")

    def _take(self, entry: Entry, digest: str) -> None:
        kind, value, at = entry.header["kind"], entry.value, entry.header["at"]
        if kind == "plan":
            self.plan = (value, None)
            candidate = json.loads(self.source.read_digest(value["candidate"]))
            self.weights = candidate["model_part"]["weights"]
            self.plan = (value, Plan(self.source.read_digest(value["plan"])))
        elif kind == "certificate":
            self._certify(entry, digest)
        elif kind == "export":
            self._register(entry)
        elif kind == "copy_closed":
            self.copies.pop(value["export"], None)
        elif kind == "placement":
            self.placements[value["name"]] = value
        elif kind == "probe":
            self._check_probe(value)
        elif kind == "order":
            self._stop(value, at)
        elif kind == "clear":
            for name in value["orders"]:
                stop = self.stops.get(name)
                if stop is not None and stop.cleared_at is None:
                    stop.cleared_at = at
        elif kind == "grant":
            self.grants.setdefault(value["id"], []).append(Granted(value, at))
        elif kind == "own_grant":
            self._seal(entry, digest)
        elif kind == "disclosure":
            self._disclose(entry)
        elif kind == "root_announcement":
            self.announced_roots[digest] = value["root"]
        elif kind == "hold":
            self.holds[value["id"]] = value
        elif kind == "hold_lift":
            self.holds.pop(value["id"], None)
        elif kind == "erasure":
            self._erase(value)
        else:
            self._hear(entry, digest)

    def _hear(self, entry: Entry, digest: str) -> None:
        """Take what people say of a stage, and what they take back."""
        kind, value = entry.header["kind"], entry.value
        if kind == "announcement":
            self.announced[digest] = _terms(value)
        elif kind == "objection":
            for organisation in _overseers(entry.signers):
                against = (value["announcement"], organisation)
                if against not in self.objections.values():
                    self.objections[digest] = against
        elif kind == "review":
            self.reviews.append((digest, value, {signer.person for signer in entry.signers}))
        elif kind == "revocation":
            authors = {signer.person for signer in entry.signers}
            self.withdrawn |= {d for d, _, people in self.reviews if people & authors} & {
                value["body"]
            }
            taken = self.objections.get(value["body"])
            if taken is not None and taken[1] in _overseers(entry.signers):
                del self.objections[value["body"]]

    def _stop(self, value: dict[str, Any], at: int) -> None:
        if value["id"] in self.stops:
            raise BrokenError("id_taken", f"an order with the id {value['id'][:60]} is on the log")
        self.stops[value["id"]] = Stop(value, at)

    def _erase(self, value: dict[str, Any]) -> None:
        if value["id"] in self.erasures:
            raise BrokenError("id_taken", f"erasure {value['id'][:60]} is on the log twice")
        replaced = [self.erasures.get(name) for name in value["supersedes"]]
        whole = [older for older in replaced if older is not None and _covers(value, older)]
        for older in whole:
            for each in older["covers"]:
                self.erased.pop((older["id"], each["origin"]), None)
        self.erasures[value["id"]] = value
        for each in value["covers"]:
            self.erased[value["id"], each["origin"]] = Erased(each)
        for hold in self.holds.values():
            pairs = [(kept, gone) for kept in hold["covers"] for gone in value["covers"]]
            if not pairs or any(_overlaps(*pair) for pair in pairs):
                raise BrokenError(
                    "erased_under_hold", f"hold {hold['id'][:60]} stood on what it covers"
                )
        if len(whole) != len(replaced):
            raise BrokenError("not_superseded", "it does not cover all that it says it supersedes")

    def _register(self, entry: Entry) -> None:
        value = entry.value
        plan = None if self.plan is None else self.plan[1]
        if plan is None or value["destination"] not in plan.exposures:
            raise BrokenError("exposure_undeclared", "a copy went to where the plan says none goes")
        if value["weights"] != self.weights:
            raise BrokenError("wrong_candidate", "a copy is of other weights than the candidate's")
        if self.registered.setdefault(value["id"], entry.index) != entry.index:
            raise BrokenError("id_taken", "an export with this id is on the log")
        self.copies[value["id"]] = entry

    def _check_probe(self, value: dict[str, Any]) -> None:
        placement = self.placements.get(value["placement"], {})
        said, text = value.get("binding", "claimed"), value.get("measurement")
        if said == "claimed" and text is None:
            return
        sidecar = placement.get("sidecar")
        if said != "measured" or text is None or not sidecar:
            raise BrokenError("not_measured", "a binding without a measurement, or the reverse")
        public = read_base64(sidecar["key"])
        key = {f"sha256:{hashlib.sha256(public).hexdigest()}": PublicKey("ed25519", public, None)}
        payload, _ = verify_envelope(text.encode(), STATEMENT_TYPE, key)
        found, _ = read_statement(payload, "measurement")
        for name, wanted in (
            ("placement", value["placement"]),
            ("fingerprint", placement["fingerprint"]),
            ("manifest", sidecar["manifest"]),
        ):
            if found[name] != wanted:
                raise BrokenError("other_measurement", f"it measures another {name}")

    def _certify(self, entry: Entry, digest: str) -> None:
        value = entry.value
        if self.plan is None:
            raise BrokenError("no_plan", "expected a plan on the log before any certificate")
        adoption, plan = self.plan
        if plan is None:
            raise BrokenError(
                "plan_not_read", "its plan could not be read: its quorum is not judged"
            )
        stage = plan.stages.get(value["stage"])
        if (
            value["fingerprint"] != adoption["candidate"]
            or value["fingerprint"] not in entry.subjects
        ):
            raise BrokenError("wrong_candidate", "the certificate is for another candidate")
        if (value["release"], value["plan"]) != (plan.name, adoption["plan"]):
            raise BrokenError("wrong_plan", "the certificate is for another plan")
        if stage is None:
            raise BrokenError("wrong_stage", f"the plan has no stage {value['stage'][:60]!r}")
        check_quorum(self.root, entry.signers, stage.quorum)
        self._check_terms(entry, plan, stage)
        self._check_after(entry)
        if stage.notice_ms:
            self._check_notice(value, stage.notice_ms)
        self._check_approved(value, entry.header["at"])
        for stop in self.stops.values():
            lowers = stop.value["ceiling"] is None or _is_narrow(stop.value["ceiling"])
            if lowers and _on_stage(stop.value, value) and stop.value["id"] not in value["clears"]:
                raise BrokenError(
                    "granted_over_order", f"order {stop.value['id'][:60]} stood against it"
                )
        self.certificates += 1
        self.permits[digest] = Permit(value, entry.header["at"], plan)

    def _check_terms(self, entry: Entry, plan: Plan, stage: Stage) -> None:
        value, levels = entry.value, entry.value["levels"]
        missing = set(stage.thresholds) - value["thresholds"].keys()
        if missing:
            raise BrokenError("threshold_missing", f"it says nothing of {sorted(missing)}")
        if value["status_ttl_ms"] != plan.status_ttl_ms:
            raise BrokenError("wrong_status_ttl", f"expected {plan.status_ttl_ms} ms")
        ladder, seals = WORDS["Assurance"].split(), WORDS["Sealing"].split()
        have = ladder.index(self.root.assurance(entry.signers))
        if ladder.index(levels["assurance"]) > have:
            raise BrokenError("assurance_overstated", f"its signers give {ladder[have]}")
        if ladder.index(levels["assurance"]) < ladder.index(stage.assurance):
            raise BrokenError("assurance_below", f"the stage needs {stage.assurance}")
        if seals.index(levels["sealing"]) < seals.index(stage.sealing):
            raise BrokenError("sealing_below", f"the stage needs {stage.sealing}")
        bonds = WORDS["Binding"].split()
        if bonds.index(levels["binding"]) < bonds.index(stage.binding):
            raise BrokenError("binding_below", f"the stage needs {stage.binding}")
        if not 0 < value["not_after"] - value["not_before"] <= stage.certificate_ms:
            raise BrokenError("window_too_long", f"expected at most {stage.certificate_ms} ms")
        if value["not_after"] > self.root.expires_at:
            raise BrokenError("outlives_root", "the certificate ends after its root")
        if entry.header["at"] >= value["not_after"]:
            raise BrokenError("expired", "the certificate had expired when it was logged")

    def _check_notice(self, value: dict[str, Any], notice_ms: int) -> None:
        """Return if a certificate was announced for long enough, by the witnesses' own times."""
        notice = value.get("notice")
        if notice is None or notice["announcement"] not in self.announced:
            raise BrokenError("not_announced", "no announcement of it is on the log before it")
        data = self.source.read_digest(notice["proofs"])
        proofs = read_shape(data, "NoticeProofs")
        told = [digest_of(each["envelope"].encode()) for each in proofs["objections"]]
        announced = digest_of(proofs["announcement"]["envelope"].encode())
        if (announced, told) != (notice["announcement"], notice["objections"]):
            raise BrokenError("bad_notice", "its proofs are of other statements than it names")
        self._check_covers(self._logged(proofs["announcement"], "announcement"), value)
        for each in proofs["objections"]:
            self._logged(each, "objection")
        moments = [
            self._known_since_ms(each) for each in (proofs["announcement"], *proofs["objections"])
        ]
        if value["not_before"] < max(moments) + notice_ms:
            raise BrokenError("notice_running", f"its notice is over at {max(moments) + notice_ms}")
        standing = {
            objection
            for objection, (against, _) in self.objections.items()
            if self.announced.get(against) == _terms(value)
        }
        if standing - set(told):
            raise BrokenError("objection_hidden", "it leaves out an objection that stood before it")

    def _logged(self, held: dict[str, Any], kind: str) -> dict[str, Any]:
        payload, signers = self.root.signers(held["envelope"].encode())
        if not MAY_SIGN[kind] & {signer.role for signer in signers}:
            raise BrokenError("role_not_allowed", f"a {kind} takes one of {sorted(MAY_SIGN[kind])}")
        return read_statement(payload, kind)[0]

    def _check_covers(self, announced: dict[str, Any], value: dict[str, Any]) -> None:
        same = all(announced[n] == value[n] for n in ("release", "stage", "fingerprint", "plan"))
        if not same or set(value["clears"]) - set(announced["clears"]):
            raise BrokenError("announced_otherwise", "something else was announced")

    def _known_since_ms(self, held: dict[str, Any], *, latest: bool = False) -> int:
        """Return since when a quorum of witnesses confirms a head of this log that holds a statement.

        With `latest`: the last time at which a quorum did.
        """
        header = read_shape(held["leaf"].encode(), "header")
        if header["body"] != digest_of(held["envelope"].encode()):
            raise BrokenError("not_logged", "a proof of its notice is of another entry")
        note = read_note(held["proof"].encode().partition(b"\n\n")[2])
        policy = self.root.policy()
        if policy.quorum is None:
            raise BrokenError("bad_notice", "without witnesses nobody says when it was announced")
        times = sorted(cosignature_times(note, list(policy.witnesses.values())).values())
        for at in reversed(times) if latest else times:
            try:
                checkpoint, _ = policy.verify(note, *((MAX_SIZE, at) if latest else (at,)))
            except BrokenError:
                continue
            size, leaf = checkpoint.size, held["leaf"].encode()
            of_this_log = (
                size <= len(self.log.entries) and self.log.tree.root(size) == checkpoint.root
            )
            if not of_this_log or leaf not in self.log.entries[:size]:
                raise BrokenError("bad_notice", "its notice is proved by another log")
            return at * 1000
        policy.verify(note, MAX_SIZE)
        raise BrokenError("quorum_not_met", "no quorum of witnesses cosigned its announcement")

    def _check_approved(self, value: dict[str, Any], at: int) -> None:
        """Return if a certificate stays inside each approval that stood when it was logged."""
        newest: dict[str, tuple[str, dict[str, Any]]] = {}
        for digest, review, people in self.reviews:
            if (review["release"], review["stage"]) == (value["release"], value["stage"]):
                newest |= dict.fromkeys(people, (digest, review))
        most = value["envelope"].get("audience", {}).get("max_organisations")
        for digest, review in newest.values():
            same = all(review[name] == value[name] for name in ("plan", "fingerprint"))
            end = review.get("until")
            over = end is not None and at >= end
            if not review["approves"] or digest in self.withdrawn or not same or over:
                continue
            if end is not None and value["not_after"] > end:
                raise BrokenError("outlives_approval", f"an approval of its stage ends at {end}")
            for condition in review.get("conditions", []):
                limit = condition.get("max_organisations")
                if limit is not None and (most is None or most > limit):
                    raise BrokenError(
                        "exceeds_condition", f"it was approved for at most {limit} organisations"
                    )

    def _seal(self, entry: Entry, digest: str) -> None:
        """Take an own grant that the root leaves room for (ledger.md, "Own calls")."""
        value, most = entry.value, self.root.own_calls_per_day
        organisation = next(s.organisation for s in entry.signers if s.role == "overseer")
        days = _days(value)
        others = [each for each in self.own.values() if each.organisation == organisation]
        for day in days:
            there = [e.value["requests_per_day"] for e in others if day in _days(e.value)]
            if sum(there) + value["requests_per_day"] > most or len(there) >= 256:
                raise BrokenError("own_calls_spent", f"more than {most} own calls on day {day}")
        first, last, due = value["not_before"], value["not_after"], value["disclose_by"]
        _demand(
            "bad_own_grant",
            {
                "a request a day or more": value["requests_per_day"] >= 1,
                "an end within 31 days": 0 <= first < last <= first + 31 * DAY_MS,
                "a disclosure within 90 days": last <= due <= last + 90 * DAY_MS,
                "an end after it was logged": entry.header["at"] < last,
                "an id of its own": value["id"] not in self.own and value["id"] not in self.grants,
            },
        )
        place = f"{self.log.folder}#{entry.index}"
        self.own[value["id"]] = Own(value, organisation, place)
        self.own_ids[digest] = value["id"]

    def _disclose(self, entry: Entry) -> None:
        value = entry.value
        held = self.own.get(self.own_ids.get(value["own_grant"], ""))
        if held is None or held.grant is not None:
            raise BrokenError("unknown_digest", "it discloses no own grant that is sealed")
        if held.organisation not in _overseers(entry.signers):
            raise BrokenError("own_grant_of_another", f"{held.organisation} sealed it")
        held.grant = _unseal(held.value, read_base64(value["seed"]))
        held.said = value["calls"]

    def _check_after(self, entry: Entry) -> None:
        after = entry.value["after"]
        known = after["origin"] == self.log.checkpoint.origin and 0 <= after["size"] <= entry.index
        if not known or read_base64(after["root"]) != self.log.tree.root(after["size"]):
            raise BrokenError(
                "wrong_after", "the checkpoint that it was signed after is not of this log"
            )


_EVERYTHING: dict[str, dict[str, Any]] = {
    "audience": {"tier": "public", "max_organisations": None, "requires": [], "safety_identifier": False},
    "scope": {
        "endpoints": None, "tools": None, "agent_steps": None, "context_tokens": None,
        "output_tokens": None, "logprobs": True, "images": True, "unlocked": None,
    },
    "safeguards": {"postures": {}, "block_rules": []},
    "retention": {"content_days": None, "training": True},
}  # fmt: skip


def _days(own: dict[str, Any]) -> range:
    """Return the UTC days that an own grant touches."""
    return range(own["not_before"] // DAY_MS, (own["not_after"] - 1) // DAY_MS + 1)


def _unseal(own: dict[str, Any], seed: bytes) -> dict[str, Any]:
    """Return the grant that a seed opens, and no other seed."""
    locator = hashlib.sha256(b"gatelift/own-call/locator/v1\n" + seed).hexdigest()
    if own["locator"] != f"sha256:{locator}":
        raise BrokenError("seed_opens_nothing", "expected the seed of the own grant")
    key = hashlib.sha256(b"gatelift/own-call/key/v1\n" + seed).digest()
    try:
        text = ChaCha20Poly1305(key).decrypt(bytes(12), read_base64(own["sealed"]), None)
    except InvalidTag as error:
        raise BrokenError("bad_own_grant", "its own seed does not open it") from error
    grant: dict[str, Any] = read_shape(text, "grant")
    same = all(grant[name] == own[name] for name in ("id", "release", "not_before", "not_after"))
    if not same or len(grant["keys"]) != 1:
        raise BrokenError("bad_own_grant", "what it seals is another grant")
    return grant


def _terms(value: dict[str, Any]) -> tuple[str, str, str]:
    """Return what an objection stands against: a stage, a candidate, a plan."""
    return value["stage"], value["fingerprint"], value["plan"]


def _overseers(signers: list[Signer]) -> set[str]:
    """Return the organisations that signed as overseer."""
    return {signer.organisation for signer in signers if signer.role == "overseer"}


def _is_narrow(ceiling: dict[str, Any]) -> bool:
    """Say whether an envelope allows less than everything."""
    return bool(ceiling.get("caps")) or any(
        {**everything, **ceiling.get(part, {})} != everything
        for part, everything in _EVERYTHING.items()
    )


def _covers(newer: dict[str, Any], older: dict[str, Any]) -> bool:
    """Say whether an erasure can cover all that an earlier one did."""
    mine = {each["origin"]: each for each in newer["covers"]}
    return all(
        own is not None
        and own["first"] <= each["first"]
        and own["last"] >= each["last"]
        and own["records"] >= each["records"]
        for each in older["covers"]
        for own in [mine.get(each["origin"])]
    )


def _overlaps(kept: dict[str, Any], gone: dict[str, Any]) -> bool:
    """Say whether a hold's range and an erasure's have a batch in common."""
    ends = kept["last"] is None or gone["first"] <= kept["last"]
    return bool(kept["origin"] == gone["origin"] and kept["first"] <= gone["last"] and ends)


def _on_stage(order: dict[str, Any], certificate: dict[str, Any]) -> bool:
    target = order["target"]
    named = target["kind"] == "release" or target == {"kind": "stage", "name": certificate["stage"]}
    return bool(named and order["release"] == certificate["release"])


# -- requests logs and records (ledger.md, "Batches"; dossier.md, "What is checked of the records") ----


class Requests:
    """The requests logs, and the exchanges that their records tell of."""

    def __init__(self, releases: Releases, report: Report, told: Report) -> None:
        self.releases = releases
        self.report = report
        self.told = told
        self.logs: dict[str, Log] = {}
        self.batches = self.records = self.paired = self.open = self.upstream = 0
        self._next: dict[tuple[str, str, str], int] = {}
        self._starts: dict[tuple[str, str, str, int], tuple[dict[str, Any], str]] = {}
        self._early: list[tuple[dict[str, Any], str]] = []
        self.records_erased = 0
        self._nameless: set[tuple[str, str, str, int]] = set()

    def _keys(self, origin: str, node: str) -> list[Vkey]:
        keys = {
            check_public_key(read_base64(each["requests_key"]))
            for _, root in self.releases.roots
            for each in root.value["nodes"]
            if each["name"] == node
        }
        if not keys:
            raise BrokenError("unknown_node", f"node {node[:60]!r} is enrolled in no root")
        return [Vkey(origin, 1, key) for key in sorted(keys)]

    def read(self) -> None:
        """Read and check all logs, heads, batches and records."""
        self._read_logs()
        self._check_heads()
        for name, log in self.logs.items():
            self._read_batches(name, log)
        self._check_erasures()
        for finish, where in self._early:
            self._finish(finish, where, last_chance=True)
        self._close_own()
        for start, where in self._starts.values():
            self.open += 1
            self.told.warn(
                "open_start", where, f"record {start['run']}/{start['seq']} has no finish here"
            )

    def _read_logs(self) -> None:
        source, name = self.releases.source, self.releases.root.name
        found = source.logs()
        for entry in self.releases.entries:
            if entry.header["kind"] == "head":
                where = f"{self.releases.log.folder}#{entry.index}"
                parts = entry.value["origin"].removeprefix(f"{name}/requests/").split("/")
                folder = "-".join(parts)
                with self.report.reading(where):
                    if len(parts) != 2 or self._origin(folder) != entry.value["origin"]:
                        raise BrokenError("bad_name", f"no origin: {entry.value['origin'][:120]!r}")
                    if folder not in found:
                        raise BrokenError(
                            "log_missing", f"requests/{folder} is anchored, and not here"
                        )
        for folder in found:
            with self.report.reading(f"requests/{folder}/checkpoint"):
                origin = self._origin(folder)
                note = read_note(source.read(f"requests/{folder}/checkpoint", MAX_NOTE_BYTES))
                checkpoint = verify_log_key(note, self._keys(origin, folder[:-8]))
                log = read_log(source, f"requests/{folder}", checkpoint, self.report)
                if log is not None:
                    self.logs[folder] = log

    def _origin(self, folder: str) -> str:
        found = LOG_NAME.fullmatch(folder)
        if found is None:
            raise BrokenError("bad_name", f"expected <node>-<yyyy-mm>, got {folder[:80]!r}")
        return f"{self.releases.root.name}/requests/{found[1]}/{found[2]}"

    def _check_heads(self) -> None:
        sizes = dict.fromkeys((log.checkpoint.origin for log in self.logs.values()), 0)
        by_origin = {log.checkpoint.origin: (name, log) for name, log in self.logs.items()}
        for entry in self.releases.entries:
            if entry.header["kind"] != "head" or entry.value["origin"] not in by_origin:
                continue
            origin = entry.value["origin"]
            name, log = by_origin[origin]
            with self.report.reading(f"{self.releases.log.folder}#{entry.index}"):
                note = read_note(entry.value["checkpoint"].encode("utf-8"))
                head = verify_log_key(note, self._keys(origin, name[:-8]))
                if head.size < sizes[origin]:
                    raise BrokenError(
                        "rolled_back", f"the head goes back from {sizes[origin]} to {head.size}"
                    )
                if head.size > len(log.entries):
                    raise BrokenError("log_truncated", f"the anchored head has {head.size} entries")
                if log.tree.root(head.size) != head.root:
                    raise BrokenError("split_view", f"the head at {head.size} is not of this log")
                sizes[origin] = head.size
        for origin, (name, log) in by_origin.items():
            if sizes[origin] < len(log.entries):
                self.report.warn(
                    "not_anchored", f"requests/{name}", f"only {sizes[origin]} batches are anchored"
                )

    def _read_batches(self, name: str, log: Log) -> None:
        path = f"records/{name}.jsonl"
        rows = self._rows(path)
        row = next(rows, None)
        for index, leaf in enumerate(log.entries):
            mine: list[dict[str, Any]] = []
            while row is not None and row["batch"] <= index:
                if (row["batch"], row["log"]) == (index, log.checkpoint.origin):
                    mine.append(row)
                else:
                    self.report.error(
                        "record_out_of_place", f"{path}#{row['batch']}", "of another batch"
                    )
                row = next(rows, None)
            where = f"requests/{name}#{index}"
            with self.report.reading(where):
                self._read_batch(read_shape(leaf, "batch"), name[:-8], mine, where)
        if row is not None:
            self.report.error("record_out_of_place", f"{path}#{row['batch']}", "committed nowhere")

    def _rows(self, path: str) -> Iterator[dict[str, Any]]:
        with self.report.reading(path):
            for number, line in enumerate(self.releases.source.lines(path), 1):
                with self.report.reading(f"{path}:{number}"):
                    try:
                        row = read_json(line)
                        is_erased = isinstance(row, dict) and "erasure" in row
                        row = check_shape(row, "erased" if is_erased else "line", "line")
                        row["line"] = line
                    except BrokenError as error:
                        raise BrokenError("bad_line", f"not a record line: {error}") from error
                    yield row

    def _read_batch(
        self, batch: dict[str, Any], node: str, rows: list[dict[str, Any]], where: str
    ) -> None:
        if batch["v"] != 1 or batch["n"] < 1 or batch["seq"] < 0 or batch["node"] != node:
            raise BrokenError("bad_batch", f"expected a batch of node {node!r} with records")
        if len(rows) != batch["n"] or any(row["i"] != i for i, row in enumerate(rows)):
            raise BrokenError(
                "record_missing", f"expected {batch['n']} records in order, got {len(rows)}"
            )
        leaves, records = [], []
        for row in rows:
            data = row["record"].encode("utf-8")
            if "erasure" in row:
                leaves.append(bytes.fromhex(check_digest(row["leaf"]).removeprefix("sha256:")))
                records.append(_read_record(data))
                continue
            salt = read_base64(row["salt"])
            if len(salt) != 32:
                raise BrokenError("bad_record", f"expected a salt of 32 bytes, got {len(salt)}")
            leaves.append(hashlib.sha256(b"\x00gatelift/record/v1\n" + salt + data).digest())
            records.append(_read_record(data))
        if f"sha256:{Tree(leaves).root().hex()}" != batch["root"]:
            raise BrokenError("batch_root", "the records lead to another root than the batch's")
        for offset, record in enumerate(records):
            place = [record[name] for name in ("v", "node", "worker", "run", "seq")]
            if place != [1, batch["node"], batch["worker"], batch["run"], batch["seq"] + offset]:
                raise BrokenError("record_place", f"record {offset} says that it is {place}")
        self.batches += 1
        self.records += len(records)
        for row in rows:
            if "erasure" in row:
                self._take_erased(batch, row, where)
        self._fold(batch, records, where)

    def _take_erased(self, batch: dict[str, Any], row: dict[str, Any], where: str) -> None:
        self.records_erased += 1
        held = self.releases.erased.get((row["erasure"], row["log"]))
        if held is None or not held.value["first"] <= row["batch"] <= held.value["last"]:
            self.report.error(
                "erased_without_entry",
                where,
                f"no logged erasure in force covers record {row['i']}",
            )
            return
        held.lines += 1
        held.digest.update(row["line"] + b"\n")
        if self.releases.erasures[row["erasure"]]["scope"] != "sessions":
            place = (batch["node"], batch["worker"], batch["run"], batch["seq"] + row["i"])
            self._nameless.add(place)

    def _check_erasures(self) -> None:
        for (name, origin), held in self.releases.erased.items():
            digest = f"sha256:{held.digest.hexdigest()}"
            if held.lines != held.value["records"] or digest != held.value["tombstones"]:
                self.report.error(
                    "tombstones_differ",
                    f"erasure {name[:60]}",
                    f"expected {held.value['records']} lines of {origin[:80]}, got {held.lines}, or others",
                )

    def _fold(self, batch: dict[str, Any], records: list[dict[str, Any]], where: str) -> None:
        run = (batch["node"], batch["worker"], batch["run"])
        expected = self._next.get(run, 0)
        if batch["seq"] != expected:
            code = "sequence_gap" if batch["seq"] > expected else "sequence_overlap"
            self.told.error(code, where, f"expected record {expected} of {run}, got {batch['seq']}")
        self._next[run] = batch["seq"] + batch["n"]
        for record in records:
            if record["kind"] == "start":
                self._starts[(*run, record["seq"])] = (record, where)
            elif record["kind"] == "finish":
                self._finish(record, where, last_chance=False)

    def _finish(self, finish: dict[str, Any], where: str, *, last_chance: bool) -> None:
        of = finish["of"]
        found = self._starts.pop((of["node"], of["worker"], of["run"], of["seq"]), None)
        if found is None and not last_chance:
            self._early.append((finish, where))
            return
        if found is None:
            self.told.error("finish_without_start", where, f"it finishes {of}, which is not there")
            return
        start = found[0]
        self.paired += 1
        for name in ("request_id", "release", "stage", "grant", "organisation", "session"):
            if start[name] != finish[name]:
                self.told.error("finish_differs", where, f"{name} is not that of its start")
        if finish.get("request") not in (None, start["request"]):
            self.told.error("finish_differs", where, "request is not that of its start")
        own = all(start[name] == finish[name] for name in ("node", "worker", "run"))
        aborted = finish["outcome"] == "aborted" and finish["node"] == start["node"]
        if not own and not (aborted and finish["spent"] == start["reserved"]):
            self.told.error(
                "foreign_finish", where, "expected an abort by the keeper, charged in full"
            )
        if finish["upstream"]:
            self.upstream += 1
            self._check_permission(start, finish, where)

    def _check_permission(self, start: dict[str, Any], finish: dict[str, Any], where: str) -> None:
        permit = self.releases.permits.get(start["certificate"] or "")
        if permit is None:
            self.told.error(
                "no_certificate", where, f"it went upstream under {start['certificate']}"
            )
            return
        value, at = permit.value, start["at"]
        if any(start[name] != value[name] for name in ("release", "stage", "fingerprint")):
            self.told.error("wrong_certificate", where, "its certificate is for another")
        opens = max(permit.at, value["not_before"]) - SLACK_MS
        if not opens <= at < value["not_after"] + SLACK_MS:
            self.told.error("outside_window", where, f"it started at {at}, outside its certificate")
        grant = self._grant(start)
        if self._is_stopped(permit, start, grant, at):
            self.told.error("served_under_stop", where, f"it started at {at}, under a stop")
        elif finish["outcome"] == "served" and self._is_stopped(permit, start, grant, finish["at"]):
            self.told.error(
                "outlived_stop", where, f"it was served until {finish['at']}, past a stop"
            )
        place = (start["node"], start["worker"], start["run"], start["seq"])
        if grant is None and place in self._nameless:
            return
        own = self._own(start)
        if own is not None:
            self._count_own(own, start, where)
            if own.grant is None:
                return
            grant = own.grant
        if grant is None:
            self.told.error(
                "no_grant", where, f"no grant {start['grant'][:60]!r} of it was in force"
            )
        elif (
            permit.plan.reach(start["stage"]) > permit.plan.reach(grant["stage"])
            or permit.plan.reach(grant["stage"]) == len(permit.plan.stages)
            or start["endpoint"] not in grant["endpoints"]
        ):
            self.told.error("outside_grant", where, f"its grant is for {grant['stage'][:60]!r}")

    def _own(self, start: dict[str, Any]) -> Own | None:
        """Return the overseer's own grant that admitted an exchange, sealed or disclosed."""
        own = self.releases.own.get(start["grant"])
        if own is None or own.value["release"] != start["release"]:
            return None
        opens, ends = own.value["not_before"] - SLACK_MS, own.value["not_after"] + SLACK_MS
        names = ("principal", "organisation", "stage")
        same = own.grant is None or all(own.grant[name] == start[name] for name in names)
        return own if same and opens <= start["at"] < ends else None

    def _count_own(self, own: Own, start: dict[str, Any], where: str) -> None:
        own.calls += 1
        mine = [
            each
            for each in start["reserved"]
            if each["counter"].partition(":")[2].startswith("principal.requests/d:")
        ]
        if not mine:
            self.told.error("cap_not_charged", where, "an own call that is not counted by day")
        for each in mine:
            window = each["window"]
            own.charged[window] = own.charged.get(window, 0) + each["amount"]

    def _close_own(self) -> None:
        for own in self.releases.own.values():
            most = own.value["requests_per_day"]
            if max(own.charged.values(), default=0) > most:
                self.told.error("own_calls_exceeded", own.place, f"more than {most} in one day")
            if own.said is not None and own.said < own.calls:
                said = f"{own.said} calls were disclosed, {own.calls} went to the model"
                self.told.warn("own_calls_undisclosed", own.place, said)

    def _grant(self, start: dict[str, Any]) -> dict[str, Any] | None:
        logged: list[Granted] = self.releases.grants.get(start["grant"], [])
        for each in reversed(logged):
            grant, names = each.value, ("principal", "organisation", "release")
            opens = max(each.at, grant["not_before"]) - SLACK_MS
            inside = opens <= start["at"] < grant["not_after"] + SLACK_MS
            if inside and all(grant[name] == start[name] for name in names):
                return grant
        return None

    def _is_stopped(
        self, permit: Permit, start: dict[str, Any], grant: dict[str, Any] | None, at: int
    ) -> bool:
        ids = [key["public_id"] for key in grant["keys"]] if grant else []
        names = {
            "organisation": [start["organisation"]],
            "principal": [start["principal"]],
            "key": ids,
        }
        for stop in self.releases.stops.values():
            order, kind = stop.value, stop.value["target"]["kind"]
            late = stop.at + permit.value["status_ttl_ms"] + SLACK_MS < at
            if order["ceiling"] is not None or not late or order["release"] != start["release"]:
                continue
            if kind in {"release", "stage"}:
                if _on_stage(order, permit.value) and order["id"] not in permit.value["clears"]:
                    return True
                continue
            ended = order.get("until") is not None and at >= order["until"] - SLACK_MS
            cleared = stop.cleared_at is not None and at >= stop.cleared_at - SLACK_MS
            if not ended and not cleared and names[kind] == [order["target"]["name"]]:
                return True
        return False


def _read_record(data: bytes) -> dict[str, Any]:
    value = read_json(data)
    if not isinstance(value, dict) or value.get("kind") not in {"start", "finish", "beat"}:
        raise BrokenError("bad_record", "expected a record of kind start, finish or beat")
    rest = {name: item for name, item in value.items() if name != "kind"}
    try:
        check_shape(rest, value["kind"], value["kind"])
    except BrokenError as error:
        raise BrokenError("bad_record", f"not a record: {error}") from error
    return value


# -- the whole (dossier.md, "Results") -----------------------------------------------------------------

ATTACHED = {
    "evidence": "results",
    "commit": "data_set",
    "placement": "baseline",
    "grant": "vetting",
    "incident_change": "retrospective",
    "export": "manifest",
}


class Audit:
    """One run over a dossier; `proved` holds a sentence for each part in which nothing was found."""

    def __init__(self, anchor: str | None, policy: bytes | None, now_ms: int) -> None:
        self.anchor = anchor
        self.policy = policy
        self.now_ms = now_ms
        self.input, self.ledger, self.granted, self.records, self.told, self.contents = (
            Report() for _ in range(6)
        )
        self.proved: list[str] = []
        self.counts: dict[str, int] = {}
        self.readable = False
        self.authenticated = False
        self.witnesses: dict[str, int] | None = None

    def run(self, path: str) -> int:
        """Verify the dossier at `path`; return the exit code."""
        source: Source | None = None
        with self.input.reading(Path(path).name):
            source = Source(path)
        if source is not None:
            self._read(source, path)
        return self.exit_code

    def _read(self, source: Source, path: str) -> None:
        with self.input.reading(Path(path).name, "unreadable"):
            source.inspect(self.input)
            self.counts["files"] = len(source.sizes)
            manifest = read_shape(source.read("dossier.json"), "manifest")
            if manifest["v"] != 1:
                raise BrokenError("unreadable", f"expected version 1, got {manifest['v']}")
            root = source.read("root.json")
            self.readable = True
            self._verify(source, manifest, root)

    @property
    def reports(self) -> tuple[Report, ...]:
        """Every part's findings, in the order of the parts."""
        return (self.input, self.ledger, self.granted, self.records, self.told, self.contents)

    @property
    def exit_code(self) -> int:
        """Return 0 holds and authenticated, 1 broken, 2 unreadable, 3 not authenticated."""
        if not self.readable:
            return 2
        if any(report.errors for report in self.reports):
            return 1
        return 0 if self.authenticated else 3

    def _verify(self, source: Source, manifest: dict[str, Any], root: bytes) -> None:
        releases: Releases | None = None
        with self.ledger.reading("root.json"):
            releases = self._open_releases(source, Root(root))
        if releases is None:
            return
        self._check_head(source, releases)
        self._check_anchor(releases)
        self._check_clock(releases)
        self._say_releases(releases)
        requests = Requests(releases, self.records, self.told)
        with self.records.reading("requests"):
            requests.read()
        self._say_requests(requests)
        with self.contents.reading("dossier.json"):
            self._check_contents(source, manifest, releases, requests)

    def _open_releases(self, source: Source, first: Root) -> Releases | None:
        with self.ledger.reading("releases/checkpoint"):
            note = read_note(source.read("releases/checkpoint", MAX_NOTE_BYTES))
            checkpoint = read_checkpoint(note)
            if checkpoint.origin != f"{first.name}/releases":
                raise BrokenError("wrong_origin", f"expected the releases log of {first.name!r}")
            log = read_log(source, "releases", checkpoint, self.ledger)
            if log is not None:
                releases = Releases(source, log, first)
                releases.open(self.ledger, self.granted)
                return releases
        return None

    def _check_head(self, source: Source, releases: Releases) -> None:
        until_s = (self.now_ms + CLOCK_SLACK_MS) // 1000
        with self.ledger.reading("releases/checkpoint"):
            note = read_note(source.read("releases/checkpoint", MAX_NOTE_BYTES))
            checkpoint, witnesses = releases.root.policy().verify(note, until_s)
            if self.policy is not None:
                checkpoint, witnesses = read_policy(self.policy).verify(note, until_s)
            if checkpoint != releases.log.checkpoint:
                raise BrokenError("wrong_origin", "the checkpoint changed while it was read")
            self.witnesses = witnesses

    def _check_anchor(self, releases: Releases) -> None:
        digests = [root.digest for _, root in releases.roots]
        if self.anchor is not None and self.anchor not in digests:
            self.ledger.error("wrong_root", "root.json", f"expected {self.anchor} among {digests}")
            return
        first = releases.entries[0] if releases.entries else None
        begins = first is not None and first.index == 0 and first.header["body"] == digests[0]
        named = self.anchor is not None or self.policy is not None
        vouched = self.anchor == digests[0] or (named and begins)
        if named and not vouched:
            self.ledger.warn(
                "root_not_vouched",
                "root.json",
                "the anchor does not vouch for it: the log begins otherwise",
            )
        self.authenticated = vouched and self.witnesses is not None

    def _check_clock(self, releases: Releases) -> None:
        if self.now_ms >= releases.root.expires_at:
            self.ledger.warn("root_expired_now", "root.json", "it judges this log's past only")
        if releases.entries and releases.entries[-1].header["at"] > self.now_ms + CLOCK_SLACK_MS:
            self.ledger.warn("from_the_future", "releases", "the last entry is from the future")

    def _say(self, sentence: str, *reports: Report) -> None:
        if not any(report.errors for report in (self.input, *reports)):
            self.proved.append(sentence)

    def _say_releases(self, releases: Releases) -> None:
        log, root = releases.log, releases.root
        self.counts["entries"] = len(log.entries)
        self.counts["certificates"] = releases.certificates
        self.counts["orders"] = len(releases.stops)
        self._say_copies(releases)
        if self.witnesses is None:
            return
        foreign = {w["name"] for w in root.value["witnesses"] if w["independent"]}
        told = []
        for name, at in self.witnesses.items():
            when = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(at))
            told.append(f"{name} (at {when}{'' if name in foreign else NOT_FOREIGN})")
        who = ", ".join(told) or "nobody"
        self._say(
            f"the releases log {log.checkpoint.origin} holds exactly these {len(log.entries)} entries, "
            f"under a checkpoint signed by its key and cosigned by {who}",
            self.ledger,
        )
        self._say(
            f"every entry is signed by people of the root of trust (version {root.version}) whose role "
            "may say it, and time never goes back",
            self.ledger,
        )
        self._say(
            f"each of the {releases.certificates} certificates was signed by its plan's quorum of "
            "distinct people, for this candidate and plan, and clears every stop before it",
            self.ledger,
            self.granted,
        )

    def _say_copies(self, releases: Releases) -> None:
        late = 0
        for entry in releases.copies.values():
            if self.now_ms >= entry.value["expires_at"]:
                late += 1
                self.granted.warn(
                    "copy_overdue",
                    f"releases#{entry.index}",
                    f"the copy with {entry.value['custodian'][:80]} was due back, and nobody signed that "
                    "it is gone",
                )
        self.counts["copies"] = len(releases.copies)
        if releases.registered:
            self._say(
                f"{len(releases.copies)} copies of the weights are known, {late} of them overdue; "
                "operator and security signed for each before it was made",
                self.ledger,
                self.granted,
            )

    def _say_requests(self, requests: Requests) -> None:
        self.counts |= {
            "requests_logs": len(requests.logs),
            "batches": requests.batches,
            "records": requests.records,
            "erasures": len(requests.releases.erasures),
            "records_erased": requests.records_erased,
            "exchanges": requests.paired + requests.open,
            "exchanges_open": requests.open,
            "exchanges_upstream": requests.upstream,
        }
        self._say(
            f"{requests.records} records in {requests.batches} batches of {len(requests.logs)} requests "
            "log(s) are exactly those that the nodes committed, and every head in the releases log is "
            "a prefix of its log",
            self.ledger,
            self.records,
        )
        if requests.releases.erasures:
            grounds = sorted(each["basis"] for each in requests.releases.erasures.values())
            counted = ", ".join(f"{grounds.count(each)} on {each}" for each in sorted(set(grounds)))
            self._say(
                f"{requests.records_erased:,} of {requests.records:,} records were erased, by "
                f"{len(grounds)} logged erasure(s) of two people each ({counted}): their leaves stand in "
                "their batches, what is left of them is what was signed, and no hold stood against it",
                *(self.ledger, self.granted, self.records),
            )
        self._say(
            f"no record is missing from any run; {requests.paired} exchanges have one start and one "
            f"finish, {requests.open} were open; each of the {requests.upstream} that went upstream lies "
            "under a certificate and grant that stood, and under no stop that must have arrived",
            *(self.ledger, self.granted, self.records, self.told),
        )

    def _check_contents(
        self, source: Source, manifest: dict[str, Any], releases: Releases, requests: Requests
    ) -> None:
        for entry in releases.entries:
            named = [entry.value.get(ATTACHED.get(entry.header["kind"], ""))]
            if entry.header["kind"] == "placement" and entry.value.get("tls"):
                named.append(entry.value["tls"]["ca"])
            if entry.header["kind"] == "placement" and entry.value.get("sidecar"):
                named.append(entry.value["sidecar"]["manifest"])
            for digest in filter(None, named):
                name = f"files/sha256/{digest.removeprefix('sha256:')}"
                source.unused.discard(name)
                if name not in source.sizes:
                    where = f"releases#{entry.index}"
                    self.contents.warn(
                        "attachment_missing", where, f"{digest} is not in the dossier"
                    )
        logs = {log.checkpoint.origin: len(log.entries) for log in requests.logs.values()}
        with self.contents.reading("tlog-policy"):
            if source.read("tlog-policy", MAX_POLICY_BYTES) != self._policy_of(releases, requests):
                self.contents.error("policy_differs", "tlog-policy", "expected the root's policy")
        told = {each["origin"]: each["size"] for each in manifest["requests"]}
        release = releases.plan[0]["release"] if releases.plan else ""
        if (
            told != logs
            or len(manifest["requests"]) != len(logs)
            or manifest["releases"] != {
                "origin": releases.log.checkpoint.origin, "size": len(releases.log.entries),
            }
            or manifest["root"] != releases.roots[0][1].digest
            or manifest["records"] != requests.records
            or manifest["files"] != sum(name.startswith("files/sha256/") for name in source.sizes)
            or manifest["release"] != release
        ):  # fmt: skip
            self.contents.error("manifest_differs", "dossier.json", "it is not what the files hold")
        if not any(report.errors for report in self.reports):
            for name in sorted(source.unused):
                self.contents.warn(
                    "unexpected_file", name, "nothing in the logs has a reason for it"
                )

    def _policy_of(self, releases: Releases, requests: Requests) -> bytes:
        keys = {
            node["name"]: read_base64(node["requests_key"]) for node in releases.root.value["nodes"]
        }
        newest: dict[bytes, str] = {}
        for name, log in requests.logs.items():
            key = keys.get(name[:-8])
            if key is not None:
                newest[key] = max(log.checkpoint.origin, newest.get(key, ""))
        logs = sorted((origin, key) for key, origin in newest.items())
        lines = [f"log {releases.root.value['releases_vkey']}"]
        lines += [f"log {Vkey(origin, 1, key).text}" for origin, key in logs]
        return "".join(f"{line}\n" for line in [*lines, *releases.root.policy_lines()]).encode()

    def result(self) -> dict[str, Any]:
        """Return the report as one JSON object, of the same fields as `gatelift verify --json`."""
        for report in self.reports:
            for code, count in report.by_code.items():
                if count > SHOWN_PER_CODE:
                    name = f"findings.{code}"
                    self.counts[name] = self.counts.get(name, 0) + count
        return {
            "ok": self.exit_code == 0,
            "exit_code": self.exit_code,
            "authenticated": self.authenticated,
            "readable": self.readable,
            "findings": [found for report in self.reports for found in report.findings],
            "proved": self.proved,
            "not_judged": NOT_JUDGED,
            "cannot_prove": CANNOT_PROVE,
            "counts": self.counts,
        }


VERDICTS = {
    0: "What is judged here holds, and it is the deployment that you named.",
    1: "It does NOT hold.",
    2: "It cannot be read.",
    3: "Consistent with itself, NOT authenticated: a forger could have made it. Give --root or "
    "--policy from elsewhere.",
}


def show(result: dict[str, Any]) -> None:
    """Print a report for people."""
    print(VERDICTS[result["exit_code"]])
    for title, name in (
        ("Proved:", "proved"),
        ("Found:", "findings"),
        ("Not judged by this verifier:", "not_judged"),
        ("What no dossier can prove:", "cannot_prove"),
    ):
        if result[name]:
            print(title)
        for each in result[name]:
            text = each if isinstance(each, str) else (
                f"{each['severity']} {each['where']}: {each['message']} [{each['code']}]"
            )  # fmt: skip
            print("  - " + "".join(c if c.isprintable() else "?" for c in text))


def main(arguments: list[str] | None = None) -> int:
    """Verify one dossier and say what was found; return the exit code."""
    parser = argparse.ArgumentParser(description="Verify a Gatelift dossier offline.")
    parser.add_argument("dossier", help="the dossier's folder, or its plain tar archive")
    parser.add_argument("--root", help="the digest of a root of trust, from elsewhere")
    parser.add_argument("--policy", help="a tlog policy, from elsewhere")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args(arguments)
    policy = None
    try:
        if given.root is not None:
            check_digest(given.root)
        if given.policy is not None:
            with Path(given.policy).open("rb") as file:
                policy = file.read(MAX_POLICY_BYTES + 1)
    except (BrokenError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    audit = Audit(given.root, policy, time.time_ns() // 1_000_000)
    audit.run(given.dossier)
    result = audit.result()
    if given.json:
        print(json.dumps(result))
    else:
        show(result)
    return audit.exit_code


if __name__ == "__main__":
    sys.exit(main())
