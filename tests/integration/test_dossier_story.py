"""A story's figures are computed again from the dossier; tickets are checked against root and log."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gatelift.encoding import encode_base64, encode_json
from gatelift.errors import GateliftError
from gatelift.ledger.story import verify_story
from gatelift.ledger.verify_ticket import verify_receipt, verify_ticket_file
from gatelift.messages import EntryKind, encode_ticket
from gatelift.terms import Window, window_start_ms
from tests.integration.dossier_deployment import ORIGIN, Deployment
from tests.support.world import NOW, World, key

RELEASES = "test.example/releases"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Deployment, Path]]:
    home = tmp_path_factory.mktemp("story")
    deployment = Deployment(home / "deployment")
    deployment.tell_shortly()
    deployment.export(home / "dossier")
    return deployment, home / "dossier"


def index_of(deployment: Deployment, kind: EntryKind) -> int:
    return next(i for i, header in enumerate(deployment.headers) if header.kind is kind)


def story_of(figures: list[dict[str, Any]], release: str = "aurora") -> bytes:
    observed = [{"name": "seconds to stop", "value": 0.04, "by": "stopwatch"}]
    return json.dumps(
        {"v": 1, "release": release, "figures": figures, "observed": observed}
    ).encode()


def figure(value: object, **source: Any) -> dict[str, Any]:
    return {"name": "a figure", "value": value, "source": source}


def served_in(first: int, last: int, **more: Any) -> dict[str, Any]:
    return {
        "records": {"origin": ORIGIN, "first": first, "last": last},
        "count": {"kind": "finish", "outcome": "served", **more},
    }


def genuine(deployment: Deployment) -> list[dict[str, Any]]:
    # Counted by hand in `serve_some`: 12 served and a denial, then one served, then an abort.
    window = window_start_ms(Window.DAY, NOW)
    counter = "assess:stage.output_tokens/d:assess"
    return [
        figure(13, **served_in(0, 3)),
        figure(12, **served_in(0, 0)),
        figure(1, **served_in(1, 1, upstream=True, stage="assess")),
        figure(
            1,
            records={"origin": ORIGIN, "first": 0, "last": 3},
            count={"kind": "finish", "outcome": "aborted", "worker": "keeper"},
        ),
        figure(4, log=ORIGIN, figure="size"),
        figure(len(deployment.headers), log="releases", figure="size"),
        figure(len(deployment.headers), log=RELEASES, figure="size"),
        # 13 answers of 20 tokens, and 32 that were reserved by the exchange of the dead worker.
        figure(13 * 20 + 32, spent={"counter": counter, "window": window}),
        figure(
            1, entry=index_of(deployment, EntryKind.OBSERVATION), path="observation.organisations.0.s"
        ),
        figure("hold", entry=index_of(deployment, EntryKind.DECISION), path="decision.kind"),
        figure("assess", entry=index_of(deployment, EntryKind.CERTIFICATE), path="certificate.stage"),
    ]  # fmt: skip


def test_figures_that_the_dossier_gives_are_confirmed(told: tuple[Deployment, Path]) -> None:
    deployment, path = told
    figures = genuine(deployment)
    assert verify_story(story_of(figures), path) == ()


def test_each_changed_figure_is_found(told: tuple[Deployment, Path]) -> None:
    deployment, path = told
    figures = genuine(deployment)
    for changed in figures:
        value = changed["value"]
        changed["value"] = value + 1 if isinstance(value, int) else f"{value}x"
    found = verify_story(story_of(figures), path)
    assert [f.code for f in found] == ["figure_differs"] * len(figures)
    assert [f.where for f in found] == [f"story#{i}" for i in range(len(figures))]


UNKNOWN: list[tuple[str, dict[str, Any]]] = [
    ("no source", {}),
    ("two sources", {"log": "releases", "figure": "size", "entry": 0, "path": "root.name"}),
    ("unknown field", {"guess": "me"}),
    ("unknown log", {"log": "test.example/requests/n2/2026-09", "figure": "size"}),
    ("unknown figure", {"log": "releases", "figure": "beauty"}),
    ("entry beyond the log", {"entry": 999, "path": "decision.kind"}),
    ("entry of another kind", {"entry": 0, "path": "decision.kind"}),
    ("path to nothing", {"entry": 0, "path": "root.colour"}),
    ("path to many", {"entry": 0, "path": "root.people"}),
    ("records beyond the log", served_in(0, 99)),
    ("unknown record field", served_in(0, 1, mood="good")),
    ("no kind", {"records": {"origin": ORIGIN, "first": 0, "last": 0}, "count": {"stage": "x"}}),
]


@pytest.mark.parametrize("source", [row[1] for row in UNKNOWN], ids=[row[0] for row in UNKNOWN])
def test_a_figure_without_a_source_is_found(
    told: tuple[Deployment, Path], source: dict[str, Any]
) -> None:
    found = verify_story(story_of([figure(1, **source)]), told[1])
    assert [f.code for f in found] == ["unknown_source"]


def test_true_is_not_one(told: tuple[Deployment, Path]) -> None:
    found = verify_story(story_of([figure(True, **served_in(1, 1))]), told[1])
    assert [f.code for f in found] == ["figure_differs"]


def test_a_story_of_another_release_is_found(told: tuple[Deployment, Path]) -> None:
    assert [f.code for f in verify_story(story_of([], release="other"), told[1])] == [
        "wrong_release"
    ]


@pytest.mark.parametrize("story", [b"", b"[]", b'{"v":1}', b'{"v":1,"v":1}', b"\xff", b"[" * 5000])
def test_a_story_that_cannot_be_read_is_found(told: tuple[Deployment, Path], story: bytes) -> None:
    assert [f.code for f in verify_story(story, told[1])] == ["unreadable_story"]


def test_figures_of_a_broken_dossier_are_not_confirmed(
    told: tuple[Deployment, Path], tmp_path: Path
) -> None:
    copy = shutil.copytree(told[1], tmp_path / "dossier")
    (copy / "records/n1-2026-09.jsonl").write_bytes(b"")
    found = verify_story(story_of([figure(12, **served_in(0, 0))]), copy)
    assert [f.code for f in found] == ["unknown_source"]
    shutil.rmtree(copy / "releases")
    assert [f.code for f in verify_story(story_of([]), copy)] == ["not_confirmed"]


# -- tickets ------------------------------------------------------------------------------------


def test_a_ticket_and_its_receipt_hold(told: tuple[Deployment, Path]) -> None:
    deployment = told[0]
    root = deployment.world.root
    for index, ticket in enumerate(deployment.tickets):
        held = verify_ticket_file(encode_ticket(ticket).encode() + b"\n", root)
        assert held == verify_ticket_file(encode_json(ticket), root)
        assert held.batch.seq == held.record.seq
        head = verify_receipt(deployment.receipt(index), held, root)
        assert (head.origin, head.size) == (ORIGIN, len(deployment.batches))


def test_an_altered_ticket_is_refused(told: tuple[Deployment, Path]) -> None:
    root, ticket = told[0].world.root, told[0].tickets[0]
    other = told[0].tickets[1]
    for changed in (
        {"record": ticket.record.replace("aurora", "aurorb")},
        {"entry": ticket.entry.replace('"n":26', '"n":27')},
        {"entry": other.entry},
        {"signature": other.signature},
        {"salt": encode_base64(bytes(32))},
        {"index": 1},
        {"path": ()},
        {"path": (*ticket.path, ticket.path[0])},
    ):
        with pytest.raises(GateliftError):
            verify_ticket_file(encode_json(msgspec.structs.replace(ticket, **changed)), root)


@pytest.mark.parametrize("data", [b"", b"{}", b"!!", b"\xff\xff", b"A" * 2_000_000])
def test_what_is_no_ticket_is_refused(told: tuple[Deployment, Path], data: bytes) -> None:
    with pytest.raises(GateliftError):
        verify_ticket_file(data, told[0].world.root)


def test_a_ticket_of_an_unknown_node_is_refused(told: tuple[Deployment, Path]) -> None:
    root = told[0].world.root
    nodes = (msgspec.structs.replace(root.nodes[0], name="n2"),)
    with pytest.raises(GateliftError):
        verify_ticket_file(
            encode_json(told[0].tickets[0]), msgspec.structs.replace(root, nodes=nodes)
        )


def test_a_receipt_of_another_batch_or_log_is_refused(told: tuple[Deployment, Path]) -> None:
    deployment, root = told[0], told[0].world.root
    held = verify_ticket_file(encode_json(deployment.tickets[0]), root)
    with pytest.raises(GateliftError):
        verify_receipt(deployment.receipt(1), held, root)
    keys = msgspec.structs.replace(root.nodes[0], requests_key=key("someone").public_text)
    with pytest.raises(GateliftError):
        verify_receipt(deployment.receipt(0), held, msgspec.structs.replace(root, nodes=(keys,)))
    other = msgspec.structs.replace(World().root, name="other.example")
    with pytest.raises(GateliftError):
        verify_receipt(deployment.receipt(0), held, other)
