"""What does not come along, and why: a closed list of reasons.

Invariants
- Whatever was found and not carried is named by one `Left`; nothing is dropped in silence.
- `what` names a thing by pseudonym, public id, setting or model; never by a value that may be secret.
"""

from __future__ import annotations

import enum

import msgspec

__all__ = ["Left", "Why"]


class Why(enum.StrEnum):
    """Why something is not carried. The sentences are in `REASONS`."""

    KEY_BLOCKED = "key_blocked"
    KEY_EXPIRED = "key_expired"
    KEY_BUDGET_SPENT = "key_budget_spent"
    KEY_OTHER_MODEL = "key_other_model"
    KEY_NOT_DIGEST = "key_not_digest"
    KEY_MANAGEMENT = "key_management"
    KEY_DASHBOARD = "key_dashboard"
    KEY_UNKNOWN_OWNER = "key_unknown_owner"
    MONEY = "money"
    PRICES_DIFFER = "prices_differ"
    PRICE_ZERO = "price_zero"
    PLAN_PRICES = "plan_prices"
    PLAN_CURRENCY = "plan_currency"
    OTHER_PRICE = "other_price"
    NO_WINDOW = "no_window"
    BUDGET_SHARE = "budget_share"
    BUDGET_SMALL = "budget_small"
    SOFT_BUDGET = "soft_budget"
    PROJECT_LIMIT = "project_limit"
    KEY_SETTING = "key_setting"
    OTHER_MODEL = "other_model"
    OTHER_API = "other_api"
    NO_ADDRESS = "no_address"
    MODEL_PARAMETER = "model_parameter"
    MODELS_IN_DATABASE = "models_in_database"
    CREDENTIAL = "credential"
    ROUTING = "routing"
    SAFEGUARD = "safeguard"
    LOGGING = "logging"
    SETTING = "setting"

    @property
    def reason(self) -> str:
        """The reason as a sentence, and what to do instead."""
        return _REASONS[self]


_REASONS = {
    Why.KEY_BLOCKED: "the key, its team or its project is blocked there",
    Why.KEY_EXPIRED: "the key has expired there",
    Why.KEY_BUDGET_SPENT: "its budget is spent there, so it is refused there now; import again "
    "after the reset, or admit its owner with a key of ours",
    Why.KEY_OTHER_MODEL: "the key does not open this model by name; a wildcard or an access group "
    "is not followed",
    Why.KEY_NOT_DIGEST: "what is stored is not a SHA-256 in hex, so nothing says which key it is; "
    "hand out a key of ours",
    Why.KEY_MANAGEMENT: "the key may not call chat completions there",
    Why.KEY_DASHBOARD: "it is a session of the dashboard, not a caller's key",
    Why.KEY_UNKNOWN_OWNER: "its team, user, project or organisation is not in the database",
    Why.MONEY: "a budget needs the price of a token in and out, and no usable one is known for every "
    "deployment of the model; give --input-price and --output-price",
    Why.PRICES_DIFFER: "deployments of the model have different prices, and a plan has one; give "
    "--input-price and --output-price, the dearest if nothing is to get wider",
    Why.PRICE_ZERO: "at prices of 0 no cap on cost is ever reached",
    Why.PLAN_PRICES: "the plan's prices are below those there, so the same money would buy more; "
    "raise the plan's prices first",
    Why.PLAN_CURRENCY: "the plan counts in another currency and budgets there are in USD; write the "
    "cap on cost by hand",
    Why.OTHER_PRICE: "a plan has one price for tokens in and one for tokens out; what LiteLLM adds by "
    "this one is not counted",
    Why.NO_WINDOW: "a budget for ever is no cap: caps count in windows of a minute, an hour, a day",
    Why.BUDGET_SHARE: "its duration is no window of ours: the cap is its share of one window, rounded "
    "down; what a window leaves unspent does not go over to the next",
    Why.BUDGET_SMALL: "its share of a window is below a millionth of a dollar, the least that a plan "
    "can write",
    Why.SOFT_BUDGET: "a soft budget warns and refuses nothing; a cap always refuses",
    Why.PROJECT_LIMIT: "caps count by principal, organisation, audience and stage, not by team "
    "inside an organisation or by project",
    Why.KEY_SETTING: "a grant carries no such setting",
    Why.OTHER_MODEL: "a release has one candidate; make another deployment for another model",
    Why.OTHER_API: "this provider's server does not speak the OpenAI API by itself; put a server "
    "that does between, or leave it behind LiteLLM (docs/how-to/in-front-of-litellm.md)",
    Why.NO_ADDRESS: "its address is not in the file as a plain http or https URL; enrol it by hand",
    Why.MODEL_PARAMETER: "what is sent with every request is part of the candidate; write it in "
    "the plan (candidate.sampling, system_prompt) if it is meant",
    Why.MODELS_IN_DATABASE: "models in the database are encrypted with LiteLLM's own key and are "
    "not read; enrol their servers by hand",
    Why.CREDENTIAL: "secrets are not read; put each in a file of mode 0600 where it is needed",
    Why.ROUTING: "Gatelift does not route between providers: every attempt goes to an enrolled "
    "placement of the candidate",
    Why.SAFEGUARD: "safeguards are the plan's: choose postures for the stage",
    Why.LOGGING: "records are the requests log; content goes to nobody else",
    Why.SETTING: "there is nothing here that it would set",
}


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that does not come along. `line` is in the configuration file."""

    what: str
    why: Why
    line: int | None = None
