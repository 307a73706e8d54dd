"""Proof that an entry is in the releases log of a root, under a head that its witnesses cosigned.

Invariant: a proof of something else proves nothing. The leaf is rebuilt from the bytes given, and must
name the body that was asked for.
"""

from __future__ import annotations

from gatelift.encoding import Digest, decode_json
from gatelift.errors import CallerError
from gatelift.messages.entries import EntryHeader, EntryKind
from gatelift.tlog import Policy, WitnessedCheckpoint, parse_proof, verify_proof
from gatelift.trust import Root, witness_policy

__all__ = ["LoggedError", "releases_policy", "verify_logged"]


class LoggedError(CallerError):
    """The log entry is of something else."""

    code = "not_logged"


def releases_policy(root: Root) -> Policy:
    """Return the tlog policy of a root: its releases log, and its quorum of organisations."""
    return witness_policy(root.releases_vkey, root.witnesses, root.witness_quorum)


def verify_logged(
    kind: EntryKind, body: Digest, leaf: bytes, proof: bytes, policy: Policy
) -> WitnessedCheckpoint:
    """Return the witnessed checkpoint of a log that holds `body` as an entry of `kind`.

    The leaf is rebuilt from the bytes given and must name this body: a proof of something else
    proves nothing. Raises `LoggedError` or the error of the log layer that failed.
    """
    header = decode_json(leaf, EntryHeader)
    if header.kind is not kind or header.body != body:
        raise LoggedError(
            f"the log entry is a {header.kind.value} of {header.body[:24]}, "
            f"not a {kind.value} of {body[:24]}",
        )
    return verify_proof(parse_proof(proof), leaf, policy)
