"""What a key may do, as its gateway tells it: the terms that a run is made under.

Invariants
- `under` names every safeguard in force as `category:posture` and every block rule as
  `block_rule:<id>`, sorted; a rule's id can never pass for a posture.
- A key that may do nothing makes no terms: `parse_access` raises with the gateway's own reason.
"""

from __future__ import annotations

import msgspec

from gatelift.encoding import Digest, EncodingError, decode_json, parse_digest
from gatelift.errors import CallerError, PeerError
from gatelift.safeguards.block_rules import block_rule_id
from gatelift.terms import CapUnit, Category, Endpoint, Envelope, Posture, meet_posture

__all__ = ["AccessError", "NotAdmittedError", "Terms", "parse_access"]


class AccessError(PeerError):
    """The gateway did not say what this key may do."""

    code = "bad_access"


class NotAdmittedError(CallerError):
    """The key may not do what the run needs."""

    code = "not_admitted"


class _Grant(msgspec.Struct, frozen=True, kw_only=True):
    id: str


class _Reason(msgspec.Struct, frozen=True, kw_only=True):
    code: str = ""
    message: str = ""


class _Access(msgspec.Struct, frozen=True, kw_only=True):
    grant: _Grant
    release: str
    may: bool
    candidate: str = ""
    model: str = ""
    stage: str = ""
    reason: _Reason = _Reason()
    envelope: Envelope | None = None
    orders: tuple[str, ...] = ()


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What is in force for one key: equal terms are the same conditions for a measurement."""

    grant: str
    release: str
    stage: str
    candidate: Digest
    model: str
    envelope: Envelope
    orders: tuple[str, ...]

    @property
    def under(self) -> tuple[str, ...]:
        """What evidence says was in force."""
        safeguards = self.envelope.safeguards
        postures = {f"{kind.value}:{each.value}" for kind, each in safeguards.postures.items()}
        return tuple(sorted(postures | {block_rule_id(rule) for rule in safeguards.block_rules}))

    @property
    def parallel(self) -> int | None:
        """How many requests may be open at a time, null where nothing limits them."""
        limits = [c.limit for c in self.envelope.caps if c.unit is CapUnit.PARALLEL]
        return min(limits, default=None)

    def lacks(self, demanded: dict[Category, Posture]) -> tuple[str, ...]:
        """Return the demanded postures that are not in force, or not as tight."""
        postures = self.envelope.safeguards.postures
        return tuple(
            f"{category.value}:{posture.value}"
            for category, posture in sorted(demanded.items())
            if category not in postures
            or meet_posture(postures[category], posture) is not postures[category]
        )

    def refuse_unless(self, *, context_tokens: int, output_tokens: int) -> None:
        """Raise `NotAdmittedError` unless chat is open for prompts and answers of these sizes."""
        scope = self.envelope.scope
        if scope.endpoints is not None and Endpoint.CHAT not in scope.endpoints:
            raise NotAdmittedError(f"expected chat to be open at stage {self.stage!r}")
        for name, need, limit in (
            ("context_tokens", context_tokens, scope.context_tokens),
            ("output_tokens", output_tokens, scope.output_tokens),
        ):
            if limit is not None and need > limit:
                raise NotAdmittedError(
                    f"expected {name} of at least {need} at stage {self.stage!r}, got {limit}: "
                    "the items would be cut short and say nothing"
                )


def parse_access(data: bytes) -> Terms:
    """Return the terms in the body of `/v1/access`; raises `AccessError`, `NotAdmittedError`."""
    try:
        access = decode_json(data, _Access)
        if not access.may:
            raise NotAdmittedError(f"{access.reason.code}: {access.reason.message}")
        candidate = parse_digest(access.candidate)
    except EncodingError as error:
        raise AccessError(f"expected what this key may do: {error}") from error
    if access.envelope is None or not access.model or not access.stage:
        raise AccessError("expected stage, model and envelope of a key that may ask")
    return Terms(
        grant=access.grant.id,
        release=access.release,
        stage=access.stage,
        candidate=candidate,
        model=access.model,
        envelope=access.envelope,
        orders=access.orders,
    )
