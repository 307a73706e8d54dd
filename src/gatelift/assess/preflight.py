"""What is checked before anything is asked: that this would be the run that was committed.

Invariants
- A run that begins could be finished: the data set is here, every item fits, the measure that is to
  be tested is in force.
- The API key leaves only over TLS or on loopback.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from gatelift.assess.access import Terms
from gatelift.assess.data_sets import Assessment, Item, load_assessment
from gatelift.errors import CallerError
from gatelift.messages import Commit
from gatelift.plan import fingerprint, parse_candidate
from gatelift.terms import Category, Posture

__all__ = ["RunRefusedError", "canaries_of", "check_door", "check_terms", "committed_assessment"]

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_TOKENS_A_MESSAGE: Final = 16  # what the gateway adds to the bytes of a prompt, its stated bound


class RunRefusedError(CallerError):
    """The run may not begin: it would not be the one that was committed."""

    code = "run_refused"


def check_door(gateway_url: str, api_key: str) -> None:
    """Raise unless the key can go to this address and not be read on the way."""
    if not api_key or not api_key.isascii() or not api_key.isprintable() or " " in api_key:
        raise RunRefusedError("expected an API key of one printable ASCII word")
    parts = urlsplit(gateway_url)
    if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
        raise RunRefusedError("expected https, or http on loopback: the key would be readable")


def committed_assessment(commit: Commit) -> Assessment:
    """Return the assessment whose data set is the committed one."""
    data_set = load_assessment(commit.assessment)
    if data_set.digest != commit.data_set or data_set.assessment.metric != commit.metric:
        raise RunRefusedError(
            f"the commit names {commit.metric} of data set {commit.data_set}, this version holds "
            f"{data_set.assessment.metric} of {data_set.digest}: run the version that committed it"
        )
    return data_set.assessment


def canaries_of(assessment: Assessment, commit: Commit, candidate: bytes | None) -> tuple[str, ...]:
    """Return the planted strings of the committed candidate, none where none are looked for."""
    if not assessment.needs_canaries:
        return ()
    if candidate is None or fingerprint(candidate) != commit.fingerprint:
        raise RunRefusedError(
            f"{commit.assessment} looks for planted strings: expected the candidate file of "
            f"{commit.fingerprint}"
        )
    return parse_candidate(candidate).model_part.canaries


def check_terms(
    terms: Terms, commit: Commit, items: list[Item], demanded: dict[Category, Posture]
) -> None:
    """Raise unless the key reaches the committed candidate, whole items fit, and the measure is on."""
    if terms.candidate != commit.fingerprint:
        raise RunRefusedError(
            f"the commit is about {commit.fingerprint}, the gateway serves {terms.candidate}"
        )
    terms.refuse_unless(
        context_tokens=max(len(item.prompt.encode("utf-8")) for item in items) + _TOKENS_A_MESSAGE,
        output_tokens=max(item.max_tokens for item in items),
    )
    lacking = terms.lacks(demanded)
    if lacking:
        raise RunRefusedError(
            f"the measure is not in force at stage {terms.stage!r}: expected {list(lacking)}, got "
            f"{list(terms.under)}; a run without it would not count"
        )
