"""The folder that an import writes: drafts of grants, caps, placements, the report.

    DIR/grants/<id>.json  caps.yaml  placements.json  report.json  report.md  pseudonyms.json (0600)
    DIR/prices.yaml           only where caps on cost need prices that the plan lacks
    DIR/submitted/<id>.json   what `import sign` has submitted, signed

Invariants
- The folder is new and its owner's alone (0700): an earlier import is never mixed with a later one.
- Every draft lies inside the stage's envelope when it is written, and ends within 90 days.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from gatelift.arrivals import (
    Arrival,
    CarriedKey,
    Pseudonyms,
    caps_yaml,
    prices_yaml,
    render_report,
    report_value,
)
from gatelift.cli.errors import InputError
from gatelift.cli.grants import make_grant
from gatelift.cli.layout import read_bytes
from gatelift.encoding import decode_json, encode_base64, encode_json, parse_base64
from gatelift.plan import Plan
from gatelift.trust import Grant
from gatelift.wire.files import make_directory, replace_durably

__all__ = ["Drafts", "draft_grants", "read_salt", "write_drafts"]

_CAPS_HEAD = """\
# What LiteLLM's limits come to, met with the caps that the stage has. Put it in the stage of the plan
# in place of its caps:, and adopt that plan. Tighter caps need no new assessment.
"""
_PRICES_HEAD = """\
# What a million tokens cost in LiteLLM, rounded up. The caps on cost in caps.yaml count at these
# prices: put them beside stages: in the plan.
"""


class _Names(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """pseudonyms.json: the salt, and what each pseudonym stands for."""

    salt: str
    names: dict[str, str]


def read_salt(path: Path) -> bytes:
    """Return the salt of an earlier import, so that pseudonyms stay the same."""
    return parse_base64(decode_json(read_bytes(path), _Names).salt)


def draft_grants(
    plan: Plan, stage: str, keys: Iterable[CarriedKey], proofs: tuple[str, ...], at_ms: int
) -> tuple[Grant, ...]:
    """Return a grant for each key; raises `GrantError` where the stage does not admit it."""
    return tuple(
        make_grant(
            plan,
            stage=stage,
            principal=key.principal,
            organisation=key.organisation,
            project=key.project,
            proofs=proofs,
            keys=(key.key,),
            lasts_ms=key.not_after - at_ms,
            at_ms=at_ms,
        )
        for key in keys
    )


def write_drafts(
    out: Path, arrival: Arrival, grants: Iterable[Grant], names: Pseudonyms, salt: bytes
) -> None:
    """Write the folder; raises `InputError` when something is there already."""
    if out.exists():
        raise InputError(f"{out} exists: an import writes a new folder, name another with --out")
    make_directory(out)
    out.chmod(0o700)
    kept = _Names(salt=encode_base64(salt), names=dict(names.names))
    replace_durably(out / "pseudonyms.json", encode_json(kept) + b"\n", mode=0o600)
    make_directory(out / "grants")
    for grant in grants:
        replace_durably(out / "grants" / f"{grant.id}.json", encode_json(grant) + b"\n")
    caps = _CAPS_HEAD + caps_yaml(arrival.caps.caps, arrival.currency)
    replace_durably(out / "caps.yaml", caps.encode("utf-8"))
    if arrival.prices is not None and arrival.proposes_prices:
        prices = _PRICES_HEAD + prices_yaml(arrival.prices)
        replace_durably(out / "prices.yaml", prices.encode("utf-8"))
    replace_durably(out / "placements.json", encode_json(arrival.placements) + b"\n")
    replace_durably(out / "report.json", encode_json(report_value(arrival)) + b"\n")
    replace_durably(out / "report.md", render_report(arrival).encode("utf-8"))


class Drafts:
    """The drafts of a folder that are not submitted yet."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        if not (folder / "grants").is_dir():
            raise InputError(
                f"expected a folder that `gatelift import litellm` wrote, got {folder}"
            )

    def waiting(self) -> list[Grant]:
        """Return the drafts that wait for a signature, in order of their ids."""
        return [
            decode_json(read_bytes(path), Grant)
            for path in sorted((self._folder / "grants").glob("*.json"))
        ]

    def submitted(self, grant: Grant, envelope: bytes) -> None:
        """Keep the signed envelope and take the draft away."""
        make_directory(self._folder / "submitted")
        replace_durably(self._folder / "submitted" / f"{grant.id}.json", envelope)
        (self._folder / "grants" / f"{grant.id}.json").unlink()
