"""A stage whose plan says `replicated` is certified only where a node keeps its records twice."""

from __future__ import annotations

from pathlib import Path

import httpx
import msgspec
import pytest

from gatelift.control.errors import ControlError
from gatelift.control.keepers import NodeSeen
from gatelift.control.stores import check_stores
from gatelift.messages import EntryKind
from gatelift.plan import parse_plan
from gatelift.terms import Durability
from gatelift.trust import Certificate
from tests.integration.control_house import (
    PLAN,
    Deployment,
    FakeKeeper,
    keeper_of,
    probe,
    running,
    wait_for,
)

REPLICATED = PLAN.replace("durability: node", "durability: replicated")


@pytest.mark.parametrize(
    ("node", "says"),
    [
        (NodeSeen(None, is_connected=False, is_replicated=False), "no node has connected yet"),
        (NodeSeen("n1", is_connected=False, is_replicated=False), "node 'n1' is not connected"),
        (NodeSeen("n1", is_connected=True, is_replicated=False), "node 'n1' keeps its records on"),
    ],
    ids=["never seen", "away", "one store"],
)
def test_the_refusal_names_field_and_node_and_what_to_do(node: NodeSeen, says: str) -> None:
    with pytest.raises(ControlError, match=says) as caught:
        check_stores(parse_plan(REPLICATED.encode()), node)
    assert caught.value.code == "not_replicated"
    assert "trust.durability" in str(caught.value)
    assert "gatelift up --replica DIR" in str(caught.value)


def test_a_plan_of_one_store_asks_nothing_of_the_node() -> None:
    check_stores(parse_plan(PLAN.encode()), NodeSeen("n1", is_connected=True, is_replicated=False))
    check_stores(None, NodeSeen(None, is_connected=False, is_replicated=False))


def up(it: Deployment, keeper: FakeKeeper) -> None:
    keeper.send(probe())
    wait_for(lambda: it.state()["last_decision"]["decision"]["kind"] == "advance")


def draft(it: Deployment) -> httpx.Response:
    return it.call("GET", "draft/certificate", "reader", params={"stage": "assess"})


def test_a_certificate_of_two_stores_is_neither_drafted_nor_logged_over_one(tmp_path: Path) -> None:
    with running(tmp_path, adopt=False) as it:
        it.adopt(REPLICATED)
        with keeper_of(it, replicated=True) as keeper:
            up(it, keeper)
            drafted = draft(it)
            assert drafted.status_code == 200, drafted.text
            assert drafted.json()["certificate"]["levels"]["durability"] == Durability.REPLICATED
        wait_for(lambda: not it.state()["node_connected"])
        # Signed in good time, and handed in when the second store is gone.
        made = msgspec.convert(drafted.json()["certificate"], Certificate)
        signed = it.sign(EntryKind.CERTIFICATE, made, ("operator", "safety"), it.fingerprint)
        for refused in (draft(it), it.submit(EntryKind.CERTIFICATE, signed)):
            assert (refused.status_code, refused.json()["code"]) == (400, "not_replicated")
            assert "node 'n1' is not connected" in refused.json()["message"]
        with keeper_of(it) as keeper:
            wait_for(lambda: it.state()["node_connected"])
            refused = it.submit(EntryKind.CERTIFICATE, signed)
            assert (refused.status_code, refused.json()["code"]) == (400, "not_replicated")
            assert "--replica DIR" in refused.json()["message"]
        assert it.state()["stages"][0]["certificate"] is None
        with keeper_of(it, replicated=True) as keeper:
            wait_for(lambda: it.state()["node_connected"])
            taken = it.submit(EntryKind.CERTIFICATE, signed, cosigned=True)
            assert taken.status_code == 201, taken.text
            wait_for(lambda: keeper.certified_status(it.root))
