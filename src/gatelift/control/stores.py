"""Does the node keep its records where the plan says: asked before a certificate is drafted or logged.

Invariants
- A plan that says `replicated` is certified only while the node that control serves is connected and
  has said in its hello that it keeps a second copy. Silence is no.
- What a node says is its own word, and it only ever refuses here: whether each record is on two
  stores is seen to by whoever writes it, and a worker with one store serves nothing under such a plan.
"""

from __future__ import annotations

from gatelift.control.errors import ControlError
from gatelift.control.keepers import NodeSeen
from gatelift.plan import Plan
from gatelift.terms import Durability

__all__ = ["check_stores"]

_WHAT_TO_DO = (
    "start keeper and workers with --replica DIR, a folder on another disk "
    "(`gatelift up --replica DIR`), then ask again"
)


def check_stores(plan: Plan | None, node: NodeSeen) -> None:
    """Return if the node keeps its records as the plan says; raises `ControlError`."""
    if plan is None or plan.trust.durability is not Durability.REPLICATED or node.is_replicated:
        return
    if node.name is None:
        seen = "no node has connected yet"
    elif not node.is_connected:
        seen = f"node {node.name!r} is not connected"
    else:
        seen = f"node {node.name!r} keeps its records on one store"
    raise ControlError(
        f"trust.durability of the plan is replicated, and {seen}: {_WHAT_TO_DO}",
        code="not_replicated",
    )
