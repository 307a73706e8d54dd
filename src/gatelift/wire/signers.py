"""Which signer a file stands for: a key file, an SSH public key, or a card.

Invariants
- A file is told by how it begins, never by its name; what begins otherwise is read as a key file.
- A private key of another program is refused, not taken for something else.
- A card and an SSH public key hold nothing secret; a key file does, and must be its owner's alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import assert_never

from gatelift.trust import MessageSigner, P256Key, Scheme, VerifyingKey
from gatelift.wire.keyfiles import KeyFileError
from gatelift.wire.kms_signer import KmsSigner, read_kms
from gatelift.wire.p256_files import load_key_file
from gatelift.wire.passkey_signer import PasskeySigner
from gatelift.wire.signer_cards import KMS_SCHEME, PasskeyCard, TokenCard, parse_card
from gatelift.wire.ssh_signer import SshSigner, load_ssh_key
from gatelift.wire.token_signer import TokenSigner, read_token

__all__ = ["load_signer", "load_verifying_key", "read_card"]

_MAX_BYTES = 16_384
_PUBLIC = (b"ssh-", b"sk-", b"ecdsa-sha2-")
_PRIVATE = b"-----BEGIN"
_CARD = b"{"


def load_signer(path: Path) -> MessageSigner:
    """Return what signs for a file: its own key, or the agent, token or browser that it names.

    Raises `KeyFileError`. Nothing is asked of agent, token, service or browser yet.
    """
    head = _head(path)
    if head.startswith(_PUBLIC):
        return SshSigner(path, load_ssh_key(path, head))
    if head.startswith(_PRIVATE):
        raise KeyFileError(
            f"{path} is a private key of another program: give its public half ({path.name}.pub), "
            "ssh-keygen asks the agent for the rest"
        )
    if head.startswith(_CARD):
        match parse_card(path, head):
            case TokenCard() as card:
                return KmsSigner(card) if card.uri.startswith(KMS_SCHEME) else TokenSigner(card)
            case PasskeyCard() as passkey:
                return PasskeySigner(passkey)
            case _ as never:
                assert_never(never)
    return load_key_file(path)


def load_verifying_key(path: Path) -> VerifyingKey:
    """Return the public half of a key file, an SSH `.pub` file or a card; raises `KeyFileError`."""
    head = _head(path)
    if head.startswith(_PUBLIC):
        return load_ssh_key(path, head)
    if head.startswith(_CARD):
        return parse_card(path, head).key
    held = load_key_file(path)
    scheme = Scheme.ECDSA_P256 if isinstance(held, P256Key) else Scheme.ED25519
    return VerifyingKey(scheme=scheme, public=held.public)


def read_card(uri: str) -> TokenCard:
    """Return the card of the key that `uri` names in a token or service.

    Raises `TokenError`, `KmsError`, and `KeyFileError` if it is not on P-256.
    """
    return read_kms(uri) if uri.startswith(KMS_SCHEME) else read_token(uri)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES)
    except FileNotFoundError as error:
        raise KeyFileError(f"no key file at {path}: create it", code="key_file_missing") from error
