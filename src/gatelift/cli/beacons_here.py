"""Beacons that `up` runs on the operator's own machine: for development, and as a way to try them.

Invariant: such a beacon proves nothing to anybody, as whoever holds this machine holds its key. Only
one whose key file lies here, at an address of loopback, is started.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from gatelift.cli.cast import BeaconSeat
from gatelift.cli.errors import InputError
from gatelift.cli.health import get_health
from gatelift.cli.layout import Deployment, Settings
from gatelift.cli.supervisor import Supervisor
from gatelift.trust import Root

__all__ = ["add_beacons", "parse_beacons"]


def parse_beacons(texts: Iterable[str]) -> tuple[BeaconSeat, ...]:
    """Return the seats written as `organisation=URL`; raises `InputError`."""
    found = []
    for text in texts:
        organisation, equals, url = text.partition("=")
        if not (organisation and equals and url):
            raise InputError(
                f"expected organisation=URL, such as oversight.example=http://127.0.0.1:8083, got {text!r}"
            )
        found.append(BeaconSeat(organisation=organisation, url=url))
    return tuple(found)


def add_beacons(
    supervisor: Supervisor, deployment: Deployment, settings: Settings, root: Root, wait_s: float
) -> None:
    """Start the beacons of `root` whose keys lie here, and wait until they answer."""
    for number, url in enumerate(root.beacon_urls, start=1):
        name, parts = f"beacon-{number}", urlsplit(url)
        if not deployment.key(name).exists() or parts.hostname != "127.0.0.1" or not parts.port:
            continue
        port = parts.port
        supervisor.add(
            name,
            [
                *("beacon", "serve", "--folder", str(deployment.path(name))),
                *("--root", str(deployment.path("root.json"))),
                *("--root-digest", deployment.read_root_digest()),
                *("--key", str(deployment.key(name)), "--control", settings.admin_url),
                *("--token-file", str(deployment.token("overseer")), "--port", str(port)),
            ],
        )

        def answers(port: int = port) -> bool:
            return get_health(port, "/") is not None

        supervisor.wait_until(answers, f"the {name}", wait_s)
