"""Manifests of weights: the files of a model by digest, signed, as OpenSSF model-signing writes them.

A manifest is an in-toto statement about one subject, the model, in a DSSE envelope inside a sigstore
bundle. The digest of the subject is the SHA-256 of the raw digests of all files, in the order of
their paths' segments: it names the weights, whoever signed for them and whenever.

Invariants
- Only verified bytes are parsed further, and what is parsed is checked again: the subject's digest is
  computed from the files that are listed, never believed.
- Every path is relative, leads nowhere else, stands once, and in its place; what is ignored is listed.
- Files, hashed whole with SHA-256, none through a symbolic link. A manifest of shards, of another
  hash or that follows links is refused, not read in part.
- One signature, ECDSA on P-256; who signed is told by the key that the caller pins, never by the
  bundle, whose `hint` only says which key to look for.

Does not read files (`wire.model_files`) and does not say who holds a key.

Follows OpenSSF model-signing 1.1 (predicate `https://model_signing/signature/v1.0`, method `files`),
sigstore bundle v0.3 with a public key, DSSE v1.0.2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gatelift.encoding import (
    Digest,
    decode_json,
    encode_base64,
    encode_json,
    parse_base64,
    parse_digest,
)
from gatelift.errors import CallerError
from gatelift.trust.dsse import STATEMENT_TYPE, pre_authentication_encoding
from gatelift.trust.ecdsa_p256 import verify_ecdsa_p256
from gatelift.trust.keys import SignatureError
from gatelift.trust.statement import STATEMENT_V1

__all__ = [
    "MANIFEST_PREDICATE",
    "MAX_MANIFEST_BYTES",
    "ManifestError",
    "ManifestSigner",
    "ModelManifest",
    "check_file_path",
    "key_hint",
    "path_order",
    "sign_manifest",
    "verify_manifest",
    "weights_digest",
]

MANIFEST_PREDICATE: Final = "https://model_signing/signature/v1.0"
MAX_MANIFEST_BYTES: Final = 64 * 1024 * 1024
_BUNDLE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
_MAX_PATH_BYTES: Final = 4096
_SHA256: Final = "sha256"


class ManifestError(CallerError):
    """A manifest of weights is malformed, says what is not read here, or is not signed by this key."""

    code = "bad_manifest"


class ManifestSigner(Protocol):
    """A P-256 key that signs manifests: its uncompressed point, and DER signatures."""

    @property
    def public(self) -> bytes:
        """The uncompressed point."""

    def sign(self, message: bytes) -> bytes:
        """Return a DER signature over `message`."""


class ModelManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What was sealed: the model's name, its files by path, and what was left out by name.

    `weights` is the digest that stands for all of them.
    """

    model: str
    weights: Digest
    files: dict[str, Digest]
    ignored: tuple[str, ...]


class _Resource(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    algorithm: str
    digest: str


class _Serialization(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    method: str
    hash_type: str
    allow_symlinks: bool
    ignore_paths: tuple[str, ...] = ()


class _Predicate(msgspec.Struct, frozen=True, kw_only=True):
    serialization: _Serialization
    resources: tuple[_Resource, ...]


class _Subject(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    digest: dict[str, str]


class _Statement(msgspec.Struct, frozen=True, kw_only=True):
    type_: str = msgspec.field(name="_type")
    subject: tuple[_Subject, ...]
    predicate_type: str = msgspec.field(name="predicateType")
    predicate: _Predicate


class _PublicKey(msgspec.Struct, frozen=True, kw_only=True):
    hint: str = ""


class _Material(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    public_key: _PublicKey
    tlog_entries: tuple[object, ...] = ()


class _Signature(msgspec.Struct, frozen=True, kw_only=True):
    sig: str
    keyid: str = ""


class _Envelope(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    payload: str
    payload_type: str
    signatures: tuple[_Signature, ...]


class _Bundle(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    media_type: str
    verification_material: _Material
    dsse_envelope: _Envelope


def path_order(path: str) -> tuple[str, ...]:
    """Return what paths are sorted by: their segments, so that `a/b` comes before `a-b`."""
    return tuple(path.split("/"))


def check_file_path(path: str) -> str:
    """Return a path that leads to one place below the model's folder; raises `ManifestError`."""
    segments = path.split("/")
    plain = path.isprintable() and "\\" not in path and len(path.encode("utf-8")) <= _MAX_PATH_BYTES
    if not plain or any(segment in {"", ".", ".."} for segment in segments):
        raise ManifestError(
            f"expected a relative path of plain segments, such as sub/model.gguf, got {path[:80]!r}",
            code="bad_path",
        )
    return path


def weights_digest(files: Mapping[str, Digest]) -> Digest:
    """Return the digest that stands for all `files`: of their raw digests, in the order of paths."""
    hasher = hashlib.sha256()
    for path in sorted(files, key=path_order):
        hasher.update(bytes.fromhex(files[path].removeprefix("sha256:")))
    return parse_digest(f"sha256:{hasher.hexdigest()}")


def key_hint(public: bytes) -> str:
    """Return how a bundle names a key: the SHA-256 of its PEM, in hex."""
    point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public)
    pem = point.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(pem).hexdigest()


def sign_manifest(
    model: str, files: Mapping[str, Digest], ignored: Iterable[str], key: ManifestSigner
) -> bytes:
    """Return the bytes of the signed manifest of a model's `files`."""
    if not files:
        raise ManifestError("expected a model of at least one file, got none")
    names = sorted((check_file_path(path) for path in files), key=path_order)
    statement = _Statement(
        type_=STATEMENT_V1,
        subject=(_Subject(name=model, digest={_SHA256: _hex(weights_digest(files))}),),
        predicate_type=MANIFEST_PREDICATE,
        predicate=_Predicate(
            serialization=_Serialization(
                method="files",
                hash_type=_SHA256,
                allow_symlinks=False,
                ignore_paths=tuple(sorted(map(check_file_path, ignored), key=path_order)),
            ),
            resources=tuple(
                _Resource(name=name, algorithm=_SHA256, digest=_hex(files[name])) for name in names
            ),
        ),
    )
    payload = encode_json(statement)
    signature = key.sign(pre_authentication_encoding(STATEMENT_TYPE, payload))
    return encode_json(
        _Bundle(
            media_type=_BUNDLE,
            verification_material=_Material(public_key=_PublicKey(hint=key_hint(key.public))),
            dsse_envelope=_Envelope(
                payload=encode_base64(payload),
                payload_type=STATEMENT_TYPE,
                signatures=(_Signature(sig=encode_base64(signature)),),
            ),
        )
    )


def verify_manifest(data: bytes, public: bytes) -> ModelManifest:
    """Return the manifest in a bundle that the P-256 key `public` signed; raises `ManifestError`."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise ManifestError(f"expected at most {MAX_MANIFEST_BYTES} bytes, got {len(data)}")
    bundle = decode_json(data, _Bundle)
    envelope = bundle.dsse_envelope
    if bundle.media_type != _BUNDLE or envelope.payload_type != STATEMENT_TYPE:
        raise ManifestError(
            f"expected a {_BUNDLE} around {STATEMENT_TYPE}, got {bundle.media_type[:80]!r} around "
            f"{envelope.payload_type[:80]!r}"
        )
    hint = bundle.verification_material.public_key.hint
    if hint != key_hint(public):
        raise ManifestError(
            f"the manifest names key {hint[:16]!r}, pinned is {key_hint(public)[:16]}: sealed by "
            "another key than the one that is trusted here",
            code="other_signer",
        )
    if len(envelope.signatures) != 1:
        raise ManifestError(f"expected one signature, got {len(envelope.signatures)}")
    payload = parse_base64(envelope.payload)
    message = pre_authentication_encoding(STATEMENT_TYPE, payload)
    try:
        verify_ecdsa_p256(public, parse_base64(envelope.signatures[0].sig), message)
    except SignatureError as error:
        raise ManifestError(
            f"the manifest's signature does not hold: {error}", code="forged"
        ) from error
    return _read(decode_json(payload, _Statement))


def _read(statement: _Statement) -> ModelManifest:
    if statement.type_ != STATEMENT_V1 or statement.predicate_type != MANIFEST_PREDICATE:
        raise ManifestError(
            f"expected a statement of {MANIFEST_PREDICATE}, got {statement.predicate_type[:80]!r}"
        )
    how = statement.predicate.serialization
    if (how.method, how.hash_type, how.allow_symlinks) != ("files", _SHA256, False):
        raise ManifestError(
            "expected files hashed whole with sha256 and no symbolic links, got method "
            f"{how.method[:20]!r}, hash {how.hash_type[:20]!r}, links {how.allow_symlinks}: seal "
            "the model again that way",
            code="manifest_kind",
        )
    resources = statement.predicate.resources
    names = [check_file_path(each.name) for each in resources]
    if not names or names != sorted(set(names), key=path_order):
        raise ManifestError("expected at least one file, each once, in the order of paths")
    if any(each.algorithm != _SHA256 for each in resources):
        raise ManifestError("expected the sha256 of every file", code="manifest_kind")
    files = {each.name: parse_digest(f"sha256:{each.digest}") for each in resources}
    whole = weights_digest(files)
    if len(statement.subject) != 1 or statement.subject[0].digest != {_SHA256: _hex(whole)}:
        raise ManifestError(
            f"the files that are listed make {whole}, the manifest's subject says otherwise"
        )
    return ModelManifest(
        model=statement.subject[0].name,
        weights=whole,
        files=files,
        ignored=tuple(map(check_file_path, how.ignore_paths)),
    )


def _hex(digest: Digest) -> str:
    return digest.removeprefix("sha256:")
