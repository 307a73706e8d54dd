"""What is bait here: keys, model names and paths that nobody has an honest reason to touch.

The operator lists them in `DIR/keys/honey.json`, a file of mode 0600 on the gateway's host, read
when a worker starts. They stand in no plan, because plans are public:

    {"keys": ["<public id>"], "models": ["aurora-2-unfiltered"], "paths": ["/v1/internal/keys"]}

A honey key is the key of an ordinary grant that was handed to nobody and left where a thief would
look: admissions signed it, so that a touch has a stage and an organisation.

Invariants
- To the caller a touch is the ordinary refusal: nobody's key, no such model, no such route.
- Listing something here only refuses; it opens nothing.
- No address is kept: the source is a tag, made of the address's prefix with a key of this node. Who
  holds the node can test a suspected prefix against a tag; nobody else can.

`honey_touch` records what was touched.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from pathlib import Path

import msgspec

from gatelift.encoding import decode_json
from gatelift.wire.keyfiles import load_secret_text

__all__ = ["HoneyList", "load_honey", "source_tag"]

_LABEL = b"gatelift/honey-source/v1\n"
_TAG_CHARS = 16


class HoneyList(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys by public id, models by name, paths as they are asked for."""

    keys: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    paths: frozenset[str] = frozenset()


def load_honey(path: Path) -> HoneyList:
    """Return the list in a file, an empty one if there is none; raises on any other fault."""
    if not path.exists():
        return HoneyList()
    return decode_json(load_secret_text(path).encode("utf-8"), HoneyList)


def source_tag(peer: str, secret: bytes) -> str:
    """Return the tag of an `address:port`: the same for a /24 of IPv4 and a /48 of IPv6."""
    host = peer.rpartition(":")[0].strip("[]")
    try:
        address = ipaddress.ip_address(host)
        bits = 24 if address.version == 4 else 48
        prefix = str(ipaddress.ip_network((address, bits), strict=False))
    except ValueError:
        prefix = "unknown"
    return hmac.digest(secret, _LABEL + prefix.encode("ascii"), hashlib.sha256).hex()[:_TAG_CHARS]
