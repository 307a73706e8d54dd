"""What commands need to reach a sealed upstream: the pinned server, and certificates to show it.

Only who can read the node's upstream CA key can reach such an upstream from a terminal; that is the
gateway's own host.
"""

from __future__ import annotations

from pathlib import Path

from gatelift.cli.errors import InputError
from gatelift.cli.layout import Deployment, SealSettings, Settings, read_bytes
from gatelift.encoding import sha256_digest
from gatelift.messages import UpstreamTls
from gatelift.wire.sealing import (
    Bearer,
    PinnedServer,
    ProbeIdentities,
    load_upstream_ca,
    pinned_certificates,
    upstream_ca_paths,
)

__all__ = ["identities_of", "parse_seal", "pinned_of", "upstream_tls_of"]

_TERMINAL = "terminal"


def parse_seal(server_name: str | None, ca: Path | None) -> SealSettings | None:
    """Return what two options say of the upstream's server, null when neither is given."""
    if server_name is None and ca is None:
        return None
    if server_name is None or ca is None:
        raise InputError("expected the upstream's server name and its certificates together")
    pinned_certificates(read_bytes(ca))
    return SealSettings(server_name=server_name, ca=str(ca.absolute()))


def pinned_of(seal: SealSettings | None) -> PinnedServer | None:
    """Return the pinned server, null when the upstream is not sealed."""
    if seal is None:
        return None
    return PinnedServer(server_name=seal.server_name, ca=read_bytes(Path(seal.ca)))


def upstream_tls_of(pinned: PinnedServer | None) -> UpstreamTls | None:
    """Return what an enrolment says of a pinned server."""
    if pinned is None:
        return None
    return UpstreamTls(server_name=pinned.server_name, ca=sha256_digest(pinned.ca))


def identities_of(deployment: Deployment, settings: Settings) -> ProbeIdentities | None:
    """Return certificates of this deployment's node, null without an upstream CA."""
    key, _ = upstream_ca_paths(deployment.directory, settings.node)
    if not key.exists():
        return None
    bearer = Bearer(node=settings.node, worker=_TERMINAL, release=settings.release)
    return ProbeIdentities(load_upstream_ca(key, settings.node), bearer)
