"""Signed notes: a text and the signatures under it.

    text, ending in a newline
    <empty line>
    - key name, base64(key id || signature)        one or more lines, each begun by an em dash

Invariants
- A note parses in exactly one way: UTF-8, no control character but newline, split at the *last*
  empty line, canonical base64. `format_note(parse_note(data)) == data`.
- Signatures by unknown keys are ignored, even if name or id (but not both) match a known key.
- A signature by a known key that fails rejects the whole note; a note without a signature by a
  known key is rejected too. So `verify_note` never returns an empty list of signers.
- Two known keys with the same name and id are refused: which of them signed could not be told.
- A note is at most `MAX_NOTE_BYTES` and `MAX_SIGNATURES` long, so that parsing hostile bytes is
  cheap; the specification demands that 16 signatures fit.

Not here: what the text says (`checkpoint`), and witnesses, who sign a time too (`cosignature`).

Follows C2SP signed-note.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatelift.encoding import EncodingError, encode_base64, parse_base64
from gatelift.errors import CallerError
from gatelift.tlog.ed25519 import public_key_of, verify_ed25519
from gatelift.tlog.vkey import KEY_ID_BYTES, KeyKind, VerifierKey, VkeyError, check_key_name

__all__ = [
    "MAX_NOTE_BYTES",
    "MAX_SIGNATURES",
    "Note",
    "NoteError",
    "NoteSignature",
    "NoteSigner",
    "add_signatures",
    "format_note",
    "format_signatures",
    "known_signatures",
    "parse_note",
    "parse_signatures",
    "sign_note",
    "verify_note",
]

MAX_NOTE_BYTES = 262_144
MAX_SIGNATURES = 100
_EM_DASH = "\N{EM DASH} "


class NoteError(CallerError):
    """The bytes are not a signed note, or not one signed by a key that we know."""

    code = "bad_note"


class NoteSignature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One signature line: whose it claims to be, and its bytes. Unverified."""

    name: str
    key_id: bytes
    signature: bytes

    def is_by(self, key: VerifierKey) -> bool:
        """Say whether this line claims to be by `key`, which decides who verifies it."""
        return self.name == key.name and self.key_id == key.key_id


class Note(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A parsed note. Its text means nothing until a signature was verified."""

    text: bytes
    signatures: tuple[NoteSignature, ...]


class NoteSigner:
    """Signs notes with an Ed25519 key under a name; the key never shows in a repr."""

    __slots__ = ("_private_key", "key")

    def __init__(self, name: str, private_key: Ed25519PrivateKey) -> None:
        self._private_key = private_key
        self.key = VerifierKey(name=name, kind=KeyKind.NOTE, public_key=public_key_of(private_key))

    @property
    def name(self) -> str:
        """The key name in signature lines."""
        return self.key.name

    @property
    def vkey(self) -> str:
        """The written form of the key that verifies."""
        return self.key.vkey

    def sign(self, text: bytes) -> NoteSignature:
        """Return the signature over the note text `text`."""
        _check_text(text)
        return NoteSignature(
            name=self.name, key_id=self.key.key_id, signature=self._private_key.sign(text)
        )


def sign_note(text: bytes, signers: Sequence[NoteSigner]) -> bytes:
    """Return the note with `text` signed by each of `signers`, in order."""
    return format_note(
        Note(text=_check_text(text), signatures=tuple(signer.sign(text) for signer in signers))
    )


def format_note(note: Note) -> bytes:
    """Return the note's bytes."""
    if not note.signatures:
        raise NoteError("expected at least one signature under a note, got none: sign it first")
    data = _check_text(note.text) + b"\n" + format_signatures(note.signatures)
    if len(data) > MAX_NOTE_BYTES or len(note.signatures) > MAX_SIGNATURES:
        raise NoteError(
            f"expected at most {MAX_NOTE_BYTES} bytes and {MAX_SIGNATURES} signatures, got "
            f"{len(data)} and {len(note.signatures)}",
            code="note_too_large",
        )
    return data


def format_signatures(signatures: Iterable[NoteSignature]) -> bytes:
    """Return signature lines as they stand under a note."""
    return b"".join(
        f"{_EM_DASH}{check_key_name(line.name)} "
        f"{encode_base64(line.key_id + line.signature)}\n".encode()
        for line in signatures
    )


def parse_note(data: bytes) -> Note:
    """Return the text and signatures of a note, none of them verified."""
    if len(data) > MAX_NOTE_BYTES:
        raise NoteError(
            f"expected a note of at most {MAX_NOTE_BYTES} bytes, got {len(data)}",
            code="note_too_large",
        )
    cut = data.rfind(b"\n\n")
    if cut < 0:
        raise NoteError("expected a text, an empty line and signatures, found no empty line")
    text = _check_text(data[: cut + 1])
    return Note(text=text, signatures=parse_signatures(data[cut + 2 :]))


def parse_signatures(data: bytes) -> tuple[NoteSignature, ...]:
    """Return one or more signature lines, none of them verified."""
    if not data.endswith(b"\n"):
        raise NoteError("expected signature lines that each end in a newline")
    try:
        lines = data.decode("utf-8")[:-1].split("\n")
    except UnicodeDecodeError as error:
        raise NoteError(
            f"expected signature lines in UTF-8, byte {error.start} of them is not"
        ) from error
    if len(lines) > MAX_SIGNATURES:
        raise NoteError(
            f"expected at most {MAX_SIGNATURES} signatures, got {len(lines)}",
            code="note_too_large",
        )
    return tuple(_parse_signature(line) for line in lines)


def add_signatures(data: bytes, signatures: Iterable[NoteSignature]) -> bytes:
    """Return the note `data` with more signatures below those that it has."""
    note = parse_note(data)
    added = tuple(line for line in signatures if line not in note.signatures)
    return format_note(Note(text=note.text, signatures=note.signatures + added))


def known_signatures(
    note: Note, keys: Sequence[VerifierKey]
) -> list[tuple[VerifierKey, NoteSignature]]:
    """Return each signature that claims to be by one of `keys`, with that key, in note order."""
    by_mark: dict[tuple[str, bytes], VerifierKey] = {}
    for key in keys:
        mark = (key.name, key.key_id)
        if by_mark.setdefault(mark, key) != key:
            raise NoteError(
                f"two known keys share the name {key.name!r} and id {key.key_id.hex()}: "
                "rename one of them",
                code="ambiguous_key",
            )
    found = ((by_mark.get((line.name, line.key_id)), line) for line in note.signatures)
    return [(key, line) for key, line in found if key is not None]


def verify_note(note: Note, keys: Sequence[VerifierKey]) -> tuple[VerifierKey, ...]:
    """Return those of `keys` that signed the note, each once, in note order.

    `keys` sign note texts (type 0x01). Raises `SignatureError` if one of their signatures fails
    and `NoteError` (`code` "unsigned") if there is none.
    """
    for key in keys:
        if key.kind is not KeyKind.NOTE:
            raise NoteError(f"expected keys that sign notes, got a witness key {key.name!r}")
    signers: dict[VerifierKey, None] = {}
    for key, line in known_signatures(note, keys):
        verify_ed25519(key.public_key, line.signature, note.text)
        signers[key] = None
    if not signers:
        wanted = ", ".join(sorted({key.name for key in keys})) or "nobody"
        raise NoteError(
            f"expected a signature by one of the known keys ({wanted}), got none of theirs",
            code="unsigned",
        )
    return tuple(signers)


def _parse_signature(line: str) -> NoteSignature:
    shown = line[:80]
    name, space, encoded = line.removeprefix(_EM_DASH).partition(" ")
    if not line.startswith(_EM_DASH) or not space:
        raise NoteError(f"expected a signature line of em dash, name and base64, got {shown!r}")
    try:
        check_key_name(name)
        raw = parse_base64(encoded)
    except (VkeyError, EncodingError) as error:
        raise NoteError(f"in the signature line {shown!r}: {error}") from error
    if len(raw) <= KEY_ID_BYTES:
        raise NoteError(f"expected a key id and a signature, got {len(raw)} bytes in {shown!r}")
    return NoteSignature(name=name, key_id=raw[:KEY_ID_BYTES], signature=raw[KEY_ID_BYTES:])


def _check_text(text: bytes) -> bytes:
    if not text.endswith(b"\n"):
        raise NoteError("expected a note text that ends in a newline")
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NoteError(
            f"expected a note text in UTF-8, byte {error.start} of it is not"
        ) from error
    if any(char < " " and char != "\n" for char in decoded):
        raise NoteError("expected a note text without control characters other than newline")
    return text
