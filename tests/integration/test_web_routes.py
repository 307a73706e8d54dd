"""The page over HTTP, on the admin port of a real control."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from gatelift.control import Control, make_app
from gatelift.encoding import encode_base64, sha256_digest
from gatelift.messages import EntryHeader, EntryKind, PlanAdoption
from gatelift.plan import encode_candidate, make_candidate, parse_plan
from gatelift.web import HEADERS, page_routes
from gatelift.web.glance import MAX_DECISIONS, LogReader
from tests.integration.control_house import PLAN, PROMPT, Deployment
from tests.integration.web_scenes import Outline, halted

# How the admin API declares its bodies is not this file's to judge.
pytestmark = pytest.mark.filterwarnings("ignore:.*Reserved kwarg 'data'")


class Clock:
    """Seconds that pass when a test says so."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@asynccontextmanager
async def admin(
    tmp_path: Path,
) -> AsyncIterator[tuple[Deployment, httpx.AsyncClient, Clock]]:
    """A control in this process, with the page mounted on its admin API."""
    made, clock = Deployment(tmp_path), Clock()
    made.client.close()
    control = Control(made.folder)
    async with control.running():
        await control.until_cosigned(1, 5)
        app = make_app(control, page_routes(control, clock))
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
            yield made, client, clock


async def adopt(made: Deployment, client: httpx.AsyncClient) -> None:
    plan = PLAN.encode()
    candidate = encode_candidate(make_candidate(parse_plan(plan), PROMPT))
    value = PlanAdoption(
        release="aurora", plan=sha256_digest(plan), candidate=sha256_digest(candidate)
    )
    answer = await client.post(
        "/admin/v1/entries",
        headers={"authorization": f"Bearer {made.tokens['submitter']}"},
        json={
            "kind": "plan",
            "envelope": made.sign(EntryKind.PLAN, value, ("operator",)),
            "attachments": [encode_base64(plan), encode_base64(candidate)],
        },
    )
    assert answer.status_code == 201, answer.text


def test_anybody_reads_the_page_and_it_follows_the_log(tmp_path: Path) -> None:
    async def story() -> None:
        async with admin(tmp_path) as (made, client, clock):
            answer = await client.get("/")
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "text/html; charset=utf-8"
            assert "No release yet" in Outline(answer.text).words
            assert made.root_digest in answer.text
            await adopt(made, client)
            clock.now_s += 2
            words = Outline((await client.get("/")).text).words
            assert "Release aurora" in words
            assert "No placement is enrolled for this candidate" in words
            assert "Last decisions hold" in words
            assert PROMPT.strip() not in words

    asyncio.run(story())


def test_the_page_carries_a_strict_policy_and_is_never_stored(tmp_path: Path) -> None:
    async def story() -> None:
        async with admin(tmp_path) as (_, client, _clock):
            for method in ("GET", "HEAD"):
                answer = await client.request(method, "/")
                assert answer.status_code == 200
                for name, value in HEADERS.items():
                    assert answer.headers[name] == value
            assert answer.content == b""
            assert HEADERS["cache-control"] == "no-store"
            assert HEADERS["x-content-type-options"] == "nosniff"
            assert HEADERS["referrer-policy"] == "no-referrer"
            assert (await client.post("/")).status_code == 405

    asyncio.run(story())


def test_many_readers_cost_one_page_a_second(tmp_path: Path) -> None:
    async def story() -> None:
        async with admin(tmp_path) as (made, client, clock):
            pages = await asyncio.gather(*(client.get("/") for _ in range(20)))
            assert len({page.text for page in pages}) == 1
            await adopt(made, client)
            assert (await client.get("/")).text == pages[0].text
            clock.now_s += 1
            assert (await client.get("/")).text != pages[0].text

    asyncio.run(story())


def test_links_of_the_page_lead_somewhere(tmp_path: Path) -> None:
    async def story() -> None:
        async with admin(tmp_path) as (_, client, _clock):
            page = Outline((await client.get("/")).text)
            away = [a["href"] for a in page.named("a") if not (a["href"] or "").startswith("#")]
            assert away
            for href in away:
                assert (await client.get(href or "")).status_code == 200

    asyncio.run(story())


def test_the_log_is_read_backwards_and_each_entry_once() -> None:
    story = halted()
    headers = [header for group in story.groups for header, _ in group]
    asked: list[tuple[int, int]] = []
    decided = story.world.sign("decision", story.decisions[0], "control:machine")

    async def read(first: int, stop: int) -> list[tuple[EntryHeader, bytes]]:
        asked.append((first, stop))
        return [(header, decided) for header in headers[first:stop]]

    async def run() -> None:
        reader = LogReader(read)
        half = len(headers) // 2
        indices = [i for i, h in enumerate(headers) if h.kind is EntryKind.DECISION]
        found = await reader.decisions(half)
        assert [each.index for each in found] == [i for i in reversed(indices) if i < half]
        found = await reader.decisions(len(headers))
        assert [each.index for each in found] == list(reversed(indices))[:MAX_DECISIONS]
        assert asked == [(0, half), (half, len(headers))]
        assert await reader.decisions(len(headers)) == found
        assert len(asked) == 2
        assert await reader.signers([0]) == {0: headers[0].actor}
        assert await reader.signers([0]) == {0: headers[0].actor}
        assert asked[2:] == [(0, 1)]

    asyncio.run(run())
