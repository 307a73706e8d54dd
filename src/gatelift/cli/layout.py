"""Where everything of a deployment lies, and the few settings that its processes share.

    DIR/plan.yaml  prompt.txt  candidate.json  root.json  root.sha256  root.first  tlog-policy  deployment.json
    DIR/keys/  files/  store/  heads/  journal/  logs/  run/  incoming/  witness/

Invariants
- `deployment.json` holds no secret: the node's name, the port, how many workers.
- Keys are files of mode 0600 in `keys/`, itself of mode 0700.
- Gateway on `port`, admin API on `port` + 1, witness on `port` + 2.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from gatelift.cli.errors import InputError
from gatelift.encoding import Digest, decode_json, encode_json, parse_digest
from gatelift.wire.files import make_directory, replace_durably
from gatelift.wire.tls import TlsFiles

__all__ = ["Deployment", "SealSettings", "Settings", "TlsSettings", "parse_tls_files", "read_bytes"]

_FOLDERS = ("files", "store", "journal", "logs", "run", "incoming", "witness")


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes; raises `InputError` that says why not."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


class SealSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the upstream's server proves itself: its name, and a file of PEM certificates."""

    server_name: str
    ca: str


class TlsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the listener's TLS files lie; the files themselves stay where they are renewed."""

    certificate: str
    key: str
    client_ca: str | None = None


def parse_tls_files(
    certificate: Path | None, key: Path | None, client_ca: Path | None
) -> TlsFiles | None:
    """Return the TLS files of three options, null when none is given; raises `InputError`."""
    if certificate is None and key is None and client_ca is None:
        return None
    if certificate is None or key is None:
        raise InputError("expected --tls-cert and --tls-key together")
    return TlsFiles(
        certificate=certificate.absolute(),
        key=key.absolute(),
        client_ca=None if client_ca is None else client_ca.absolute(),
    )


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the processes of a deployment share. `release` is also the root's first label."""

    release: str
    node: str
    port: int
    workers: int
    upstream: str
    placement: str
    model: str
    tls: TlsSettings | None = None
    seal: SealSettings | None = None

    @property
    def tls_files(self) -> TlsFiles | None:
        """The listener's TLS files, null when it serves in the clear."""
        if self.tls is None:
            return None
        ca = self.tls.client_ca
        return TlsFiles(
            certificate=Path(self.tls.certificate),
            key=Path(self.tls.key),
            client_ca=None if ca is None else Path(ca),
        )

    @property
    def base_url(self) -> str:
        """What a caller's SDK is given."""
        return f"{self.gateway_url}/v1"

    @property
    def gateway_url(self) -> str:
        """The gateway itself."""
        return f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self.port}"

    @property
    def admin_url(self) -> str:
        """The admin API and the web."""
        return f"http://127.0.0.1:{self.port + 1}"

    @property
    def witness_url(self) -> str:
        """The witness of this deployment."""
        return f"http://127.0.0.1:{self.port + 2}"


class Deployment:
    """A deployment's folder."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, *parts: str) -> Path:
        """Return a path inside the folder."""
        return self.directory.joinpath(*parts)

    def key(self, name: str) -> Path:
        """Return the path of a key file by its name without the ending."""
        return self.path("keys", f"{name}.key")

    def token(self, role: str) -> Path:
        """Return the path of an admin token file."""
        return self.path("keys", f"{role}.token")

    @property
    def exists(self) -> bool:
        """Whether a ceremony was held here."""
        return self.path("root.sha256").exists()

    def make_folders(self) -> None:
        """Make the folders that are missing."""
        for name in _FOLDERS:
            make_directory(self.path(name))
        self.path("keys").mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path("keys").chmod(0o700)
        self.path("run").chmod(0o700)

    def write(self, name: str, data: bytes, *, mode: int = 0o644) -> None:
        """Put a file in the folder, durably."""
        replace_durably(self.path(name), data, mode=mode)

    def read(self, name: str) -> bytes:
        """Return a file's bytes; raises `InputError`."""
        return read_bytes(self.path(name))

    def read_root_digest(self) -> Digest:
        """Return the pinned root digest."""
        if not self.exists:
            raise InputError(
                f"no deployment in {self.directory}: make one with `gatelift init` or `up`"
            )
        return parse_digest(self.read("root.sha256").decode("ascii", "replace").strip())

    def read_settings(self) -> Settings:
        """Return the shared settings; raises `InputError` when there are none."""
        if not self.path("deployment.json").exists():
            raise InputError(
                f"no deployment.json in {self.directory}: make a deployment with `gatelift init`"
            )
        return decode_json(self.read("deployment.json"), Settings)

    def write_settings(self, settings: Settings) -> None:
        """Keep the shared settings."""
        self.write("deployment.json", encode_json(settings) + b"\n")
