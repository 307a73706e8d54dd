"""LiteLLM's deployments of one model, as placements of the candidate.

Invariants
- Only servers that speak the OpenAI API by themselves, at an address that is written down.
- What credential a server asks for is said by where it stands in LiteLLM, never by value.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gatelift.arrivals.left import Left, Why
from gatelift.arrivals.litellm_config import Address, Deployment, KeyFrom

__all__ = ["CarriedPlacement", "placements_of"]

# Providers of LiteLLM whose server, at its api_base, answers /v1/chat/completions itself.
_SPEAKS_OPENAI = frozenset(
    {"openai", "hosted_vllm", "vllm", "llamafile", "lm_studio", "custom_openai", "litellm_proxy"}
)
_OPENAI_ITSELF = "https://api.openai.com"


class CarriedPlacement(msgspec.Struct, frozen=True, kw_only=True):
    """A placement to be enrolled, and where the credential that its server asks for stands now."""

    name: str
    base_url: str
    model: str
    credential: str


def _credential(deployment: Deployment) -> str:
    match deployment.key_from:
        case KeyFrom.ENVIRONMENT:
            return f"the value of {deployment.key_name} in LiteLLM's environment"
        case KeyFrom.FILE:
            return f"the api_key below line {deployment.line} of the configuration"
        case KeyFrom.CREDENTIAL:
            return f"LiteLLM's credential {deployment.key_name}"
        case KeyFrom.NOWHERE:
            return "none"


def _base_url(deployment: Deployment) -> str | Why:
    itself = deployment.provider in {"", "openai"}
    if deployment.address is Address.PROVIDER and itself:
        return _OPENAI_ITSELF
    if not itself and deployment.provider not in _SPEAKS_OPENAI:
        return Why.OTHER_API
    return deployment.base_url or Why.NO_ADDRESS


def placements_of(
    deployments: Iterable[Deployment], model: str
) -> tuple[tuple[CarriedPlacement, ...], tuple[Left, ...]]:
    """Return the placements of `model` and what is left of all deployments."""
    placements: list[CarriedPlacement] = []
    left: list[Left] = []
    for deployment in deployments:
        what = f"model {deployment.name}"
        if deployment.name != model:
            left.append(Left(what=what, why=Why.OTHER_MODEL, line=deployment.line))
            continue
        left += deployment.left
        found = _base_url(deployment)
        if isinstance(found, Why):
            left.append(Left(what=what, why=found, line=deployment.line))
            continue
        placements.append(
            CarriedPlacement(
                name=f"p{len(placements) + 1}",
                base_url=found,
                model=deployment.model,
                credential=_credential(deployment),
            )
        )
    return tuple(placements), tuple(left)
