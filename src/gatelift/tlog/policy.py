"""Trust policies: which logs are believed, and whose cosignatures it takes.

    log <vkey> [url]
    witness <name> <vkey> [url]
    group <name> all|any|<k> <names...>
    quorum <name>|none

A witness has witnessed a checkpoint if it cosigned it, a group if at least k of its members have.

Invariants
- Names are defined before they are used, each once, in one space for witnesses and groups; each is
  a member of at most one group, so that one witness counts in one way only.
- No public key stands twice, under whatever name; counting is by key bytes. Stricter than the
  specification, a log's key may not be a witness's key either.
- There is exactly one quorum line. `quorum none` must be written out; nothing defaults to it.
- A checkpoint that `verify_witnessed` returns is signed by a listed log whose name is its origin,
  and witnessed by the quorum; only cosignatures inside the caller's window of time count.

Not here: whether witnesses are independent of the operator (the root of trust says who they are),
and whether the checkpoint is the newest (the caller remembers the largest it has seen).

Follows C2SP tlog-policy. Names are opaque octets, held as surrogate-escaped UTF-8.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from gatelift.errors import CallerError
from gatelift.tlog.checkpoint import Checkpoint, parse_decimal, verify_log_signature
from gatelift.tlog.cosignature import Cosignature, verify_cosignatures
from gatelift.tlog.merkle import MAX_SIZE
from gatelift.tlog.note import parse_note
from gatelift.tlog.vkey import KeyKind, VerifierKey, parse_vkey

__all__ = [
    "MAX_POLICY_BYTES",
    "Policy",
    "PolicyError",
    "PolicyGroup",
    "PolicyLog",
    "PolicyWitness",
    "WitnessedCheckpoint",
    "format_policy",
    "parse_policy",
    "verify_witnessed",
]

MAX_POLICY_BYTES = 1_048_576
_NO_QUORUM = "none"
_BLANKS = re.compile(r"[ \t]+")


class PolicyError(CallerError):
    """The text is not a policy, or a checkpoint does not meet it."""

    code = "bad_policy"


class PolicyLog(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A log that is believed; its key's name is its origin."""

    key: VerifierKey
    url: str = ""


class PolicyWitness(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A witness under the name that groups use."""

    name: str
    key: VerifierKey
    url: str = ""


class PolicyGroup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """At least `threshold` of `members` must have witnessed."""

    name: str
    threshold: int
    members: tuple[str, ...]


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole policy, made by `parse_policy`. `quorum` is None for the line `quorum none`."""

    logs: tuple[PolicyLog, ...]
    witnesses: tuple[PolicyWitness, ...]
    groups: tuple[PolicyGroup, ...]
    quorum: str | None

    def is_met_by(self, cosigners: Sequence[VerifierKey]) -> bool:
        """Say whether cosignatures by these keys, each verified, make up the quorum."""
        if self.quorum is None:
            return True
        keys = {key.public_key for key in cosigners}
        witnessed = {w.name for w in self.witnesses if w.key.public_key in keys}
        for group in self.groups:  # members stand on earlier lines, so one pass is enough
            if sum(name in witnessed for name in group.members) >= group.threshold:
                witnessed.add(group.name)
        return self.quorum in witnessed


class WitnessedCheckpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A verified checkpoint with the cosignatures that were counted, in note order."""

    checkpoint: Checkpoint
    log_key: VerifierKey
    cosignatures: tuple[Cosignature, ...]
    witnesses: tuple[str, ...]
    """Their names in the policy, beside `cosignatures`."""

    def known_since_s(self, policy: Policy) -> int | None:
        """Return the earliest time (s) by which a quorum had cosigned; None without a quorum."""
        if policy.quorum is None:
            return None
        by_time = sorted(self.cosignatures, key=lambda cosignature: cosignature.time_s)
        for count, cosignature in enumerate(by_time, start=1):
            if policy.is_met_by([c.key for c in by_time[:count]]):
                return cosignature.time_s
        raise PolicyError("the quorum of this policy is not met: verify with the same policy")

    def confirmed_at_s(self, policy: Policy) -> int | None:
        """Return the latest time (s) from which on a quorum cosigned; None without a quorum.

        All of that quorum said at this time, or later, that they had seen nothing larger.
        """
        if policy.quorum is None:
            return None
        by_time = sorted(self.cosignatures, key=lambda cosignature: -cosignature.time_s)
        for count, cosignature in enumerate(by_time, start=1):
            if policy.is_met_by([c.key for c in by_time[:count]]):
                return cosignature.time_s
        raise PolicyError("the quorum of this policy is not met: verify with the same policy")


class _Reader:
    """Collects lines into a policy and refuses each that breaks a rule."""

    def __init__(self) -> None:
        self.logs: list[PolicyLog] = []
        self.witnesses: list[PolicyWitness] = []
        self.groups: list[PolicyGroup] = []
        self.quorums: list[str | None] = []
        self._names: set[str] = set()
        self._members: set[str] = set()
        self._keys: dict[bytes, str] = {}

    def take(self, words: list[str]) -> None:
        match words:
            case ["log", vkey, *url] if len(url) <= 1:
                key = self._take_key(vkey, KeyKind.NOTE)
                self.logs.append(PolicyLog(key=key, url="".join(url)))
            case ["witness", name, vkey, *url] if len(url) <= 1:
                self._define(name)
                key = self._take_key(vkey, KeyKind.COSIGNATURE)
                self.witnesses.append(PolicyWitness(name=name, key=key, url="".join(url)))
            case ["group", name, rule, *members]:
                self._take_group(name, rule, members)
            case ["quorum", name]:
                if name != _NO_QUORUM and name not in self._names:
                    raise PolicyError(f"quorum {name!r} is not defined above: define it first")
                self.quorums.append(None if name == _NO_QUORUM else name)
            case _:
                raise PolicyError(
                    "expected 'log <vkey> [url]', 'witness <name> <vkey> [url]', "
                    "'group <name> all|any|<k> <names...>' or 'quorum <name>|none', "
                    f"got {' '.join(words)[:80]!r}"
                )

    def _take_group(self, name: str, rule: str, members: list[str]) -> None:
        for member in members:
            if member not in self._names:
                raise PolicyError(f"member {member!r} is not defined above: define it first")
            if member in self._members:
                raise PolicyError(f"member {member!r} is in a group already: list it once")
            self._members.add(member)
        self._define(name)
        threshold = {"all": len(members), "any": 1}.get(rule)
        if threshold is None:
            threshold = parse_decimal(rule)
        if not 1 <= threshold <= len(members):
            raise PolicyError(
                f"expected a threshold from 1 to {len(members)} for group {name!r}, got {rule!r}"
            )
        self.groups.append(PolicyGroup(name=name, threshold=threshold, members=tuple(members)))

    def _define(self, name: str) -> None:
        if name == _NO_QUORUM or name in self._names:
            raise PolicyError(f"the name {name!r} is taken: choose another")
        self._names.add(name)

    def _take_key(self, vkey: str, kind: KeyKind) -> VerifierKey:
        key = parse_vkey(vkey)
        if key.kind is not kind:
            raise PolicyError(
                f"expected a key of type {kind:02x} here, {key.name!r} is of type {key.kind:02x}"
            )
        if key.public_key in self._keys:
            raise PolicyError(
                f"the key of {key.name!r} stands twice, first as "
                f"{self._keys[key.public_key]!r}: one key, one line"
            )
        self._keys[key.public_key] = key.name
        return key


def parse_policy(data: bytes) -> Policy:
    """Return the policy, or raise an error that names the line."""
    if len(data) > MAX_POLICY_BYTES:
        raise PolicyError(f"expected a policy of at most {MAX_POLICY_BYTES} bytes")
    if any((octet < 0x20 and octet not in b"\t\n") or octet == 0x7F for octet in data):
        raise PolicyError("expected no control characters other than tab and newline in a policy")
    if not data.endswith(b"\n"):
        raise PolicyError("expected the last line of a policy to end in a newline: add one")
    reader = _Reader()
    lines = data.decode("utf-8", "surrogateescape")[:-1].split("\n")
    for number, line in enumerate(lines, start=1):
        stripped = line.strip(" \t")
        if not stripped or stripped.startswith("#"):
            continue
        try:
            reader.take(_BLANKS.split(stripped))
        except CallerError as error:
            raise PolicyError(f"policy line {number}: {error}", code=error.code) from error
    if len(reader.quorums) != 1:
        raise PolicyError(f"expected exactly one quorum line, got {len(reader.quorums)}")
    return Policy(
        logs=tuple(reader.logs),
        witnesses=tuple(reader.witnesses),
        groups=tuple(reader.groups),
        quorum=reader.quorums[0],
    )


def format_policy(policy: Policy) -> bytes:
    """Return the text of a policy, which parses back to it."""
    lines = [f"log {log.key.vkey} {log.url}" for log in policy.logs]
    lines += [f"witness {w.name} {w.key.vkey} {w.url}" for w in policy.witnesses]
    lines += [f"group {g.name} {g.threshold} {' '.join(g.members)}" for g in policy.groups]
    lines.append(f"quorum {policy.quorum or _NO_QUORUM}")
    data = "".join(f"{line.rstrip()}\n" for line in lines).encode("utf-8", "surrogateescape")
    if parse_policy(data) != policy:
        raise PolicyError("this policy has no text that means the same: build it by parsing text")
    return data


def verify_witnessed(
    data: bytes, policy: Policy, *, cosigned_from_s: int = 0, cosigned_until_s: int = MAX_SIZE
) -> WitnessedCheckpoint:
    """Return the checkpoint of note `data` once it meets `policy`.

    Only cosignatures with a time from `cosigned_from_s` to `cosigned_until_s` (seconds since 1970,
    both included) count; a caller that wants fresh ones passes its own clock minus a maximal age.
    Raises `PolicyError` (`code` "quorum_not_met") and the errors of the layers below.
    """
    note = parse_note(data)
    checkpoint, log_key = verify_log_signature(note, [log.key for log in policy.logs])
    verified = verify_cosignatures(note, [witness.key for witness in policy.witnesses])
    counted = tuple(c for c in verified if cosigned_from_s <= c.time_s <= cosigned_until_s)
    names = {witness.key: witness.name for witness in policy.witnesses}
    witnesses = tuple(names[cosignature.key] for cosignature in counted)
    if not policy.is_met_by([cosignature.key for cosignature in counted]):
        late = len(verified) - len(counted)
        raise PolicyError(
            f"expected the quorum {policy.quorum!r}, got cosignatures by "
            f"{', '.join(witnesses) or 'nobody'} ({late} more outside the window of time): "
            "ask the missing witnesses to cosign this checkpoint",
            code="quorum_not_met",
        )
    return WitnessedCheckpoint(
        checkpoint=checkpoint, log_key=log_key, cosignatures=counted, witnesses=witnesses
    )
