"""Signing with an SSH key: `ssh-keygen` asks the agent, the file beside the public key, or a token.

Invariants
- Only the public half is named. The private half stays with the agent, the token or `ssh-keygen`,
  which asks for a passphrase on the terminal itself; none passes through here.
- The program gets a list of arguments and the message on its standard input: no shell, no file.
- What comes back is verified against the public key before it is used.
- It has a deadline: who does not touch the token in time signs nothing.

Follows `ssh-keygen(1)`, `-Y sign`, and OpenSSH's PROTOCOL.sshsig.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from gatelift.errors import CallerError, PeerError
from gatelift.trust import (
    SSH_NAMESPACE,
    KeyId,
    Scheme,
    SignatureError,
    VerifyingKey,
    parse_ssh_armour,
    parse_ssh_public_key,
    verify_signature,
)
from gatelift.wire.keyfiles import KeyFileError

__all__ = ["SshSigner", "SshSigningError", "load_ssh_key"]

_DEADLINE_S = 120.0


class SshSigningError(PeerError):
    """`ssh-keygen` did not sign."""

    code = "ssh_not_signed"


class SshSigner:
    """Signs through `ssh-keygen` under the key of a `.pub` file."""

    def __init__(self, path: Path, key: VerifyingKey) -> None:
        self._path = path.resolve()
        self.key = key

    @property
    def id(self) -> KeyId:
        """The id of the public key."""
        return self.key.id

    def sign(self, message: bytes) -> bytes:
        """Return an `sshsig` signature over `message`; raises `SshSigningError`."""
        command = ["ssh-keygen", "-q", "-Y", "sign", "-n", SSH_NAMESPACE, "-f", str(self._path)]
        try:
            # Its standard error is the person's: it asks there for a touch.
            done = subprocess.run(
                command, input=message, stdout=subprocess.PIPE, timeout=_DEADLINE_S, check=False
            )
        except FileNotFoundError as error:
            raise SshSigningError("expected ssh-keygen on this machine: install OpenSSH") from error
        except subprocess.TimeoutExpired as error:
            raise SshSigningError(f"ssh-keygen did not sign within {_DEADLINE_S:g} s") from error
        if done.returncode != 0:
            raise SshSigningError(
                f"ssh-keygen did not sign with {self._path.name}: is the key in the agent "
                "(`ssh-add -l`), or its private file beside it?"
            )
        try:
            signature = parse_ssh_armour(done.stdout.decode("ascii"))
            verify_signature(self.key, signature, message)
        except (UnicodeDecodeError, SignatureError) as error:
            raise SshSigningError(
                f"what ssh-keygen gave back is no signature by {self._path.name}: {error}"
            ) from error
        return signature


def load_ssh_key(path: Path, text: bytes) -> VerifyingKey:
    """Return the key of a `.pub` file's bytes; raises `KeyFileError`."""
    try:
        held = parse_ssh_public_key(text.decode("utf-8"))
    except (UnicodeDecodeError, CallerError) as error:
        raise KeyFileError(f"{path}: {error}") from error
    return VerifyingKey(scheme=Scheme.SSHSIG, public=held.raw, rp_id=held.application)
