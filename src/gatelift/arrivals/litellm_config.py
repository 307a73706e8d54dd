"""LiteLLM's config.yaml: where its models run, what it limits, and what else it sets.

Read against `ConfigYAML` and the deployment parameters of LiteLLM 1.109.

Invariants
- Of a value that may be a secret (`api_key`, `master_key`, `database_url`, whatever stands under
  `environment_variables`) only where it comes from is kept: which variable, or which line.
- A setting that is not known here is named, never shown.
- An address that carries a user, a query or a reference is not kept.
"""

from __future__ import annotations

import enum
from decimal import Decimal
from urllib.parse import urlsplit

import msgspec

from gatelift.arrivals.errors import ArrivalError
from gatelift.arrivals.left import Left, Why
from gatelift.arrivals.limits import Limits, budget_ms
from gatelift.arrivals.yaml_values import Map, Text, load_yaml

__all__ = ["Address", "Config", "Deployment", "KeyFrom", "parse_config"]

_ENVIRONMENT = "os.environ/"
_MAX_NAME = 120
_SECTIONS = {
    "model_list": None,
    "litellm_settings": None,
    "general_settings": None,
    "router_settings": None,
    "environment_variables": Why.CREDENTIAL,
    "guardrails": Why.SAFEGUARD,
    "callback_settings": Why.LOGGING,
    "mcp_servers": Why.SETTING,
}
_WHY_BY_WORD = (
    (Why.SOFT_BUDGET, ("soft_budget",)),
    (Why.CREDENTIAL, ("key", "secret", "password", "token", "database_url", "credential", "redis")),
    (Why.ROUTING, ("fallback", "retries", "retry", "routing", "cooldown", "timeout", "alias")),
    (Why.SAFEGUARD, ("guardrail", "moderation", "content_filter", "presidio")),
    (Why.LOGGING, ("callback", "alert", "log", "otel", "spend_logs", "langfuse")),
)
_KNOWN_PARAMS = frozenset(
    {
        "model",
        "api_base",
        "base_url",
        "api_key",
        "rpm",
        "tpm",
        "tpd",
        "max_parallel_requests",
        "input_cost_per_token",
        "output_cost_per_token",
        "litellm_credential_name",
        "custom_llm_provider",
    }
)
# LiteLLM takes prices from either place of a deployment.
_PRICE_WORD = "cost"
_ROUTING_PARAMS = frozenset({"weight", "order", "timeout", "stream_timeout", "max_retries", "tags"})


class KeyFrom(enum.StrEnum):
    """Where a model's server credential stands in LiteLLM."""

    NOWHERE = "nowhere"
    ENVIRONMENT = "environment"
    FILE = "file"
    CREDENTIAL = "credential"


class Address(enum.StrEnum):
    """What can be said of a deployment's address."""

    GIVEN = "given"
    PROVIDER = "provider"
    UNUSABLE = "unusable"


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of model_list. `key_name` is a variable's or a credential's name, never a value."""

    name: str
    line: int
    provider: str
    model: str
    address: Address
    base_url: str | None
    key_from: KeyFrom
    key_name: str | None
    limits: Limits
    input_price: Decimal | None
    output_price: Decimal | None
    left: tuple[Left, ...]


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """What a config.yaml says. `each_key` and `all_keys` are limits of the whole proxy."""

    deployments: tuple[Deployment, ...]
    each_key: Limits
    all_keys: Limits
    left: tuple[Left, ...]


def parse_config(data: bytes) -> Config:
    """Return what the file says; raises `ArrivalError` with the line."""
    root = load_yaml(data)
    if "include" in root.pairs:
        raise ArrivalError(
            "include: give the file with its includes merged into it",
            line=root.pairs["include"].line,
        )
    if not root.pairs.keys() & _SECTIONS.keys():
        raise ArrivalError(
            f"expected one of {', '.join(sorted(_SECTIONS))}: this is no LiteLLM config"
        )
    deployments = []
    for item in root.items("model_list"):
        if not isinstance(item, Map):
            raise ArrivalError("model_list: expected a mapping", line=item.line)
        deployments.append(_deployment(item))
    each_key, all_keys, left = _proxy_limits(root)
    for name, value in root.pairs.items():
        why = _SECTIONS.get(name, Why.SETTING)
        if why is not None:
            left.append(Left(what=_shown(name), why=why, line=value.line))
    return Config(
        deployments=tuple(deployments), each_key=each_key, all_keys=all_keys, left=tuple(left)
    )


def _shown(name: str) -> str:
    # A key of the file is a word by its grammar; what is none may be a value that slipped.
    usable = len(name) <= _MAX_NAME and name.replace("_", "").replace("-", "").isalnum()
    return name if usable else "a setting"


def _why(name: str) -> Why:
    for why, words in _WHY_BY_WORD:
        if any(word in name for word in words):
            return why
    return Why.SETTING


def _proxy_limits(root: Map) -> tuple[Limits, Limits, list[Left]]:
    each_key = all_keys = Limits()
    left: list[Left] = []
    for section in ("general_settings", "litellm_settings", "router_settings"):
        found = root.map(section)
        if found is None:
            continue
        used: set[str] = set()
        if section == "general_settings":
            used = {"max_parallel_requests", "global_max_parallel_requests"}
            each_key = Limits(parallel=found.whole("max_parallel_requests"))
            all_keys = msgspec.structs.replace(
                all_keys, parallel=found.whole("global_max_parallel_requests")
            )
        elif section == "litellm_settings":
            used = {"max_budget", "budget_duration"}
            all_keys = msgspec.structs.replace(
                all_keys,
                budget=found.number("max_budget"),
                budget_duration_ms=budget_ms(found.text("budget_duration")),
            )
        left += [
            Left(
                what=f"{section}.{_shown(name)}",
                why=Why.ROUTING if section == "router_settings" else _why(name),
                line=value.line,
            )
            for name, value in found.pairs.items()
            if name not in used
        ]
    return each_key, all_keys, left


def _deployment(item: Map) -> Deployment:
    name, params = item.text("model_name"), item.map("litellm_params")
    if not name or params is None:
        raise ArrivalError("expected model_name and litellm_params", line=item.line)
    model = params.text("model")
    if not model:
        raise ArrivalError("litellm_params: expected model", line=params.line)
    given = params.text("custom_llm_provider")
    provider, slash, inner = model.partition("/")
    if given is not None:
        provider, inner = given, inner if slash and provider == given else model
    elif not slash:
        provider, inner = "", model
    address, base_url = _address(params.text("api_base") or params.text("base_url"))
    key_from, key_name = _key_from(params)
    info = item.map("model_info")
    return Deployment(
        name=name,
        line=item.line,
        provider=provider,
        model=inner,
        address=address,
        base_url=base_url,
        key_from=key_from,
        key_name=key_name,
        limits=Limits(
            requests_min=params.whole("rpm"),
            tokens_min=params.whole("tpm"),
            tokens_day=params.whole("tpd"),
            parallel=params.whole("max_parallel_requests"),
        ),
        input_price=_price("input_cost_per_token", params, info),
        output_price=_price("output_cost_per_token", params, info),
        left=(*_left_of(name, params), *_prices_left(name, info)),
    )


def _price(name: str, *places: Map | None) -> Decimal | None:
    for place in places:
        found = None if place is None else place.number(name)
        if found is not None:
            return found
    return None


def _address(text: str | None) -> tuple[Address, str | None]:
    if text is None:
        return Address.PROVIDER, None
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return Address.UNUSABLE, None
    plain = parts.scheme in {"http", "https"} and parts.hostname and "@" not in parts.netloc
    if not plain or parts.query or parts.fragment or not text.isprintable():
        return Address.UNUSABLE, None
    host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else str(parts.hostname)
    place = host if port is None else f"{host}:{port}"
    path = parts.path.rstrip("/").removesuffix("/v1")
    return Address.GIVEN, f"{parts.scheme}://{place}{path}"


def _key_from(params: Map) -> tuple[KeyFrom, str | None]:
    text = params.text("api_key")
    if text is not None and text.startswith(_ENVIRONMENT):
        return KeyFrom.ENVIRONMENT, _shown(text.removeprefix(_ENVIRONMENT))
    if text is not None:
        return KeyFrom.FILE, None
    credential = params.text("litellm_credential_name")
    if credential is not None:
        return KeyFrom.CREDENTIAL, _shown(credential)
    return KeyFrom.NOWHERE, None


def _left_of(name: str, params: Map) -> tuple[Left, ...]:
    found = []
    for key, value in params.pairs.items():
        if key in _KNOWN_PARAMS or (isinstance(value, Text) and value.is_null):
            continue
        why = _why(key) if _why(key) is Why.CREDENTIAL else Why.MODEL_PARAMETER
        if key in _ROUTING_PARAMS:
            why = Why.ROUTING
        elif _PRICE_WORD in key:
            why = Why.OTHER_PRICE
        found.append(Left(what=f"model {name}: {_shown(key)}", why=why, line=value.line))
    return tuple(found)


def _prices_left(name: str, info: Map | None) -> tuple[Left, ...]:
    return tuple(
        Left(what=f"model {name}: {_shown(key)}", why=Why.OTHER_PRICE, line=value.line)
        for key, value in (info.pairs if info is not None else {}).items()
        if _PRICE_WORD in key
        and key not in _KNOWN_PARAMS
        and not (isinstance(value, Text) and value.is_null)
    )
