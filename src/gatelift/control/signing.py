"""What control signs for the log with its own key: counts, heads, probes, ticks, orders, decisions.

Invariants
- Control signs only kinds that `messages.may_sign` lists for it; anything else is refused here
  before a signature exists.
- The subject is what the statement is about: the candidate where there is one, else the plan, else
  the root of the deployment.
"""

from __future__ import annotations

import msgspec

from gatelift.control.errors import ControlError
from gatelift.encoding import Digest
from gatelift.messages import EntryKind, may_sign
from gatelift.trust import STATEMENT_TYPE, SigningKey, Subject, encode_statement, sign_envelope

__all__ = ["Draft", "sign_draft", "subject_of"]


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """An entry to be logged: its kind and the bytes of its envelope."""

    kind: EntryKind
    body: bytes


def sign_draft(
    kind: EntryKind, predicate: msgspec.Struct, subject: Subject, key: SigningKey
) -> Draft:
    """Return a draft of `kind` signed by control; raises `ControlError` for a kind of people."""
    if "control" not in may_sign(kind):
        raise ControlError(f"control may not sign a {kind.value}", code="role_not_allowed")
    payload = encode_statement(kind.value, (subject,), predicate)
    return Draft(kind=kind, body=sign_envelope(payload, STATEMENT_TYPE, [key]))


def subject_of(
    release: str, candidate: Digest | None, plan: Digest | None, root: Digest
) -> Subject:
    """Return what control's statements are about, the most specific that is known."""
    if candidate is not None:
        return Subject(name=f"candidate:{release}", digest=candidate)
    if plan is not None:
        return Subject(name=f"plan:{release}", digest=plan)
    return Subject(name="root", digest=root)
