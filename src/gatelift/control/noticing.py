"""The notice of a certificate or root that could take effect now: what was announced, objected to, and when.

Invariants
- The proofs are the earliest that there are: under the first cosigned heads that hold each entry.
- The file of proofs is kept by digest, so that signers, gateways and auditors read the same bytes.
- A root's notice has a second proof, under the newest cosigned head: whether 30 days lie between the
  two is judged by whoever takes the root (`trust.verify_root`).
"""

from __future__ import annotations

from collections.abc import Callable

from gatelift.control.errors import ControlError
from gatelift.decide import State, announced, objections_to, root_objections
from gatelift.encoding import Digest, encode_json
from gatelift.messages import LoggedStatement, NoticeProofs
from gatelift.terms import Envelope
from gatelift.trust import Notice, NoticedRoot, Root
from gatelift.wire.files import FileStore

__all__ = ["make_notice", "make_noticed_root"]

Prove = Callable[[int, Root], tuple[bytes, bytes] | None]


def make_notice(
    state: State, stage_name: str, envelope: Envelope, *, files: FileStore, prove: Prove
) -> Notice | None:
    """Return the notice of a stage, null where it takes none or not all of it is cosigned yet."""
    root, plan = state.root, state.plan
    if root is None or plan is None or not plan.stage(stage_name).notice_ms:
        return None
    entry = announced(state, plan.stage(stage_name), envelope)
    if entry is None:
        return None
    against = objections_to(state, entry.digest)
    places = [(entry.digest, entry.index), *((each.digest, each.index) for each in against)]
    told = [_logged(digest, index, root, files, prove) for digest, index in places]
    whole = [each for each in told if each is not None]
    if len(whole) < len(told):
        return None
    proofs = NoticeProofs(announcement=whole[0], objections=tuple(whole[1:]))
    return Notice(
        announcement=entry.digest,
        objections=tuple(each.digest for each in against),
        proofs=files.put(encode_json(proofs)),
    )


def make_noticed_root(
    state: State, root: Digest, *, files: FileStore, prove: Prove, prove_now: Callable[[int], bytes]
) -> NoticedRoot:
    """Return the file with which an announced root takes effect, whether or not it may do so yet.

    `root` is the digest of the root's envelope. Raises `ControlError` (`not_found`, `not_cosigned`).
    """
    held = [(d, each.index) for d, each in state.root_announcements.items() if each.root == root]
    if state.root is None or not held:
        raise ControlError(
            f"no announcement of root {root} is on the log under the root in force: announce it first",
            code="not_found",
        )
    digest, index = min(held, key=lambda each: each[1])
    told = _logged(digest, index, state.root, files, prove)
    if told is None:
        raise ControlError(
            f"the announcement in entry {index} is not cosigned yet: wait for the witnesses",
            code="not_cosigned",
        )
    return NoticedRoot(
        announcement=told.envelope,
        leaf=told.leaf,
        announced=told.proof,
        standing=prove_now(index).decode("utf-8"),
        objections=root_objections(state, root),
    )


def _logged(
    digest: Digest, index: int, root: Root, files: FileStore, prove: Prove
) -> LoggedStatement | None:
    found = prove(index, root)
    if found is None:
        return None
    leaf, proof = (each.decode("utf-8") for each in found)
    return LoggedStatement(envelope=files.get(digest).decode("utf-8"), leaf=leaf, proof=proof)
