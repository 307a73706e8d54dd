"""A root without the overseer's signature: 30 public days by the time of the root before it.

    announced --cosigned--> 30 days --a later cosigned head--> the same bytes take effect

Invariants
- What takes effect are the very bytes that the announcement holds: nothing is left open for later.
- Time is that of the witnesses which the root in force names, by its quorum: since when they confirm a
  head that holds the announcement, and until when one that still does. Neither the log's clock nor
  this host's is asked, and what the announced root says of witnesses measures nothing.
- Without witnesses nobody can say that 30 days have passed, and no such root takes effect.
- The announcement is younger than the root in force: another root in between voids it.

An objection is published and named beside the root that takes effect; it is no veto, for then the
overseer would be in office for ever. Whether all that were logged are named is judged by who has the
log (`decide`, auditors).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from gatelift.encoding import Digest, EncodingError, decode_json, sha256_digest
from gatelift.tlog import Policy, WitnessedCheckpoint, parse_proof, verify_proof
from gatelift.trust.dsse import parse_envelope
from gatelift.trust.errors import RootError
from gatelift.trust.root_shape import Root
from gatelift.trust.statement import parse_statement
from gatelift.trust.witnesses import witness_policy

__all__ = [
    "ROOT_ANNOUNCEMENT",
    "ROOT_NOTICE_MS",
    "NoticedRoot",
    "RootAnnouncement",
    "announced_envelope",
    "check_named_root",
    "check_root_notice",
    "check_witnessed",
    "open_root",
]

ROOT_NOTICE_MS = 30 * 86_400_000
ROOT_ANNOUNCEMENT = "root_announcement"


class RootAnnouncement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The root that is to follow: its envelope's digest and bytes, signed by all but the overseer."""

    root: Digest
    envelope: str
    reason: str


class NoticedRoot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file of a root that rides on its announcement, with the proofs of when; all as text.

    `announced` and `standing` are tlog-proofs of one leaf, under an early and a late cosigned head.
    `objections` are the digests of what the overseers said against it.
    """

    announcement: str
    leaf: str
    announced: str
    standing: str
    objections: tuple[Digest, ...]


class _Leaf(msgspec.Struct, frozen=True, kw_only=True):
    """What a notice rests on of an entry's header (`messages.EntryHeader`)."""

    kind: str
    body: Digest


def open_root(data: bytes) -> tuple[bytes, NoticedRoot | None]:
    """Return the envelope in a root's file, and the notice that it rides on, if it does.

    Nothing is verified. Raises `RootError` (`bad_notice`) if the announcement holds other bytes than
    it names; what is no such file is returned as it is.
    """
    try:
        held = decode_json(data, NoticedRoot)
    except EncodingError:
        return data, None
    payload = parse_envelope(held.announcement.encode("utf-8")).unverified_payload()
    value = parse_statement(payload, ROOT_ANNOUNCEMENT, RootAnnouncement).predicate
    return announced_envelope(value), held


def announced_envelope(value: RootAnnouncement) -> bytes:
    """Return the root's envelope in an announcement; raises `RootError` (`bad_notice`)."""
    envelope = value.envelope.encode("utf-8")
    if sha256_digest(envelope) != value.root:
        raise RootError("the announcement names another root than it holds", code="bad_notice")
    return envelope


def check_witnessed(previous: Root) -> Policy:
    """Return the policy that measures the days; raises `RootError` where nobody could."""
    policy = witness_policy(previous.releases_vkey, previous.witnesses, previous.witness_quorum)
    if policy.quorum is None:
        raise RootError(
            f"root {previous.version} asks for no witnesses, so nobody outside says how long its "
            "successor was public: the overseer has to sign",
            code="bad_notice",
        )
    return policy


def check_root_notice(held: NoticedRoot, previous: Root) -> None:
    """Return if 30 days of witnessed time have passed over an announcement under `previous`.

    Raises `RootError` (`bad_notice`, `notice_voided`, `notice_running`), or what the proof raises.
    """
    policy, leaf = check_witnessed(previous), held.leaf.encode("utf-8")
    header = decode_json(leaf, _Leaf)
    body = sha256_digest(held.announcement.encode("utf-8"))
    if header.kind != ROOT_ANNOUNCEMENT or header.body != body:
        raise RootError(
            f"the proofs are of a {header.kind} of {header.body[:24]}, not of this announcement",
            code="bad_notice",
        )
    first, last = (_proved(text, leaf, policy) for text in (held.announced, held.standing))
    since_s, until_s = first.known_since_s(policy), last.confirmed_at_s(policy)
    if since_s is None or until_s is None:
        raise RootError("expected a quorum of witnesses", code="bad_notice")
    if since_s * 1000 < previous.issued_at // 1000 * 1000:
        raise RootError(
            f"it was announced before root {previous.version} was issued, which voids it: "
            "announce it anew",
            code="notice_voided",
        )
    if (until_s - since_s) * 1000 < ROOT_NOTICE_MS:
        raise RootError(
            f"its announcement is public for {until_s - since_s} s by the witnesses of root "
            f"{previous.version}: it takes {ROOT_NOTICE_MS // 1000} s, or the overseer's signature",
            code="notice_running",
        )


def _proved(text: str, leaf: bytes, policy: Policy) -> WitnessedCheckpoint:
    return verify_proof(parse_proof(text.encode("utf-8")), leaf, policy)


def check_named_root(
    held: NoticedRoot,
    announced: Mapping[Digest, Digest],
    objections: Iterable[tuple[Digest, Digest]],
) -> None:
    """Return if a root rides on an announcement of this log and names what stands against it.

    Args:
        announced: the root that each announcement holds, of those logged under the root in force.
        objections: each that stands, with the announcement that it is against. One against another
            announcement of the same root counts as well.

    Raises `RootError` (`not_announced`, `objection_hidden`).
    """
    root = announced.get(sha256_digest(held.announcement.encode("utf-8")))
    if root is None:
        raise RootError(
            "its announcement is not on this log under the root in force: a root in between voids it; "
            "announce it anew",
            code="not_announced",
        )
    against = {digest for digest, against in objections if announced.get(against) == root}
    hidden = sorted(against - set(held.objections))
    if hidden:
        raise RootError(
            f"the root does not name the objections {hidden}: name all that stand against it",
            code="objection_hidden",
        )
