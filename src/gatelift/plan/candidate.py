"""The candidate: what answers, as far as the operator can say, and its fingerprint.

Invariants
- The fingerprint is the SHA-256 of the stored `candidate.json` bytes; those are kept, never made
  again to compare.
- The same plan and prompt give the same bytes: fixed field order, decimals in their shortest form.
- A part that nobody stated is null and listed by `unknown_parts`; it is never filled by a guess.
- The prompt's digest stands beside its text, and `parse_candidate` refuses one that does not fit.
- A prompt file marks its planted strings as `[[canary: two words]]`. The marks are taken out here:
  the model reads the words, `canaries` lists them, and every one stands in the prompt.

What the gateway sends is made of this value: prompt, sampling, limits. That the upstream runs these
weights is not shown by it (binding `claimed`), but where a sidecar measures them (docs/reference/weights.md).
"""

from __future__ import annotations

import re
from decimal import Decimal

import msgspec

from gatelift.encoding import Digest, decode_json, encode_json, sha256_digest
from gatelift.errors import CallerError
from gatelift.plan.model import Plan, Sampling

__all__ = [
    "Candidate",
    "CandidateError",
    "ModelPart",
    "ServingPart",
    "encode_candidate",
    "fingerprint",
    "make_candidate",
    "parse_candidate",
]

MAX_PROMPT_BYTES = 256 * 1024
_CANARY_MARK = re.compile(r"\[\[canary: ([^\[\]\n]{1,200})\]\]")


class CandidateError(CallerError):
    """The candidate's parts contradict each other."""

    code = "bad_candidate"


class ModelPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Weights and all that changes how they answer. `system_prompt` is the text itself.

    `canaries` are the strings planted in it; whoever reads this value knows them.
    """

    model: str
    weights: str | None
    adapters: None = None
    tokenizer: None = None
    chat_template: None = None
    quantisation: None = None
    system_prompt: str | None
    system_prompt_digest: str | None
    canaries: tuple[str, ...] = ()


class ServingPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How it is served: the widest limits of any stage of the plan."""

    dialect: str
    engine: str | None
    engine_flags: None = None
    sampling: Sampling
    max_context_tokens: int | None
    max_output_tokens: int | None
    tools: tuple[str, ...] | None


class Candidate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What answers, in two parts."""

    v: int = 1
    model_part: ModelPart
    serving_part: ServingPart

    def __post_init__(self) -> None:
        if self.v != 1:
            raise CandidateError(f"expected a candidate of version 1, got {self.v}")
        prompt = self.model_part.system_prompt
        if self.model_part.system_prompt_digest != _prompt_digest(prompt):
            raise CandidateError(
                "expected the digest of the system prompt beside it: make the candidate again"
            )
        if any(canary not in (prompt or "") for canary in self.model_part.canaries):
            raise CandidateError("expected every canary to stand in the system prompt")

    def unknown_parts(self) -> tuple[str, ...]:
        """Return the parts that nobody stated, as `model_part.weights`, in order.

        The prompt is never unknown: without one, null says that none is sent.
        """
        return tuple(
            f"{part}.{name}"
            for part, names in (
                ("model_part", _UNKNOWN_MODEL_PARTS),
                ("serving_part", _UNKNOWN_SERVING_PARTS),
            )
            for name in names
            if getattr(getattr(self, part), name) is None
        )


_UNKNOWN_MODEL_PARTS = ("weights", "adapters", "tokenizer", "chat_template", "quantisation")
_UNKNOWN_SERVING_PARTS = ("engine", "engine_flags")


def _prompt_digest(prompt: str | None) -> Digest | None:
    return None if prompt is None else sha256_digest(prompt.encode("utf-8"))


def _shortest(value: Decimal) -> Decimal:
    # 0.70 and 0.7 are one sampling, so they must be the same bytes; no exponent: 10, not 1E+1.
    return Decimal(format(value.normalize(), "f"))


def _widest(limits: list[int | None]) -> int | None:
    known = [limit for limit in limits if limit is not None]
    return max(known) if len(known) == len(limits) else None


def make_candidate(plan: Plan, system_prompt: str | None) -> Candidate:
    """Return the candidate of a plan with the text of its system prompt.

    Raises `CandidateError` when the plan names a prompt file and no text came, or the reverse.
    """
    source = plan.candidate
    if (source.system_prompt_file is None) != (system_prompt is None):
        named = source.system_prompt_file or "no system prompt"
        came = "no text" if system_prompt is None else "a text"
        raise CandidateError(f"expected what the plan says ({named}), got {came}")
    canaries: tuple[str, ...] = ()
    if system_prompt is not None:
        _check_prompt(system_prompt)
        canaries = tuple(sorted(set(_CANARY_MARK.findall(system_prompt))))
        system_prompt = _CANARY_MARK.sub(r"\1", system_prompt)
    scopes = [stage.envelope.scope for stage in plan.stages]
    offered = [scope.tools for scope in scopes if scope.tools is not None]
    return Candidate(
        model_part=ModelPart(
            model=source.model,
            weights=source.weights,
            system_prompt=system_prompt,
            system_prompt_digest=_prompt_digest(system_prompt),
            canaries=canaries,
        ),
        serving_part=ServingPart(
            dialect=source.dialect,
            engine=source.engine,
            sampling=Sampling(
                temperature=_shortest(source.sampling.temperature),
                top_p=_shortest(source.sampling.top_p),
            ),
            max_context_tokens=_widest([scope.context_tokens for scope in scopes]),
            max_output_tokens=_widest([scope.output_tokens for scope in scopes]),
            tools=(
                tuple(sorted({tool for tools in offered for tool in tools}))
                if len(offered) == len(scopes)
                else None
            ),
        ),
    )


def _check_prompt(prompt: str) -> None:
    try:
        size = len(prompt.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise CandidateError("expected a system prompt in UTF-8, got a lone surrogate") from error
    if not prompt.strip() or size > MAX_PROMPT_BYTES:
        raise CandidateError(
            f"expected a system prompt of 1 to {MAX_PROMPT_BYTES} bytes, got {size}; a plan "
            "without one says system_prompt: null"
        )


def encode_candidate(candidate: Candidate) -> bytes:
    """Return the bytes of `candidate.json`, to be stored once and kept."""
    return encode_json(candidate)


def parse_candidate(data: bytes) -> Candidate:
    """Return the candidate of stored bytes, or raise `EncodingError` or `CandidateError`."""
    return decode_json(data, Candidate)


def fingerprint(data: bytes) -> Digest:
    """Return the fingerprint of stored `candidate.json` bytes."""
    return sha256_digest(data)
