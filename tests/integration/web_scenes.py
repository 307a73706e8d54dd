"""Releases as the page meets them, told entry by entry and signed with real keys."""

from __future__ import annotations

from html.parser import HTMLParser

import msgspec

from gatelift.encoding import sha256_digest
from gatelift.messages import EntryKind
from gatelift.plan import parse_candidate
from gatelift.terms import Endpoint, Severity, Tier
from gatelift.trust import Grant, GrantKey, TargetKind
from gatelift.web import Glance, LoggedDecision, build_view, render_release
from tests.support.world import HOUR
from tests.unit.decide.build import Story, at

HOSTILE = "<script>alert(1)</script>\"'&{{ 7 * 7 }}</title><img src=x onerror=alert(2)>"
SECRETS = ("princess-irulan", "Harkonnen Ltd", "project-spice", "k3yk3yk3y")


def glance_of(story: Story) -> Glance:
    """What control would read beside the state of a story."""
    decisions, signers, index = [], {}, 0
    for group in (*story.groups, tuple(story.open)):
        for header, body in group:
            if header.kind is EntryKind.DECISION:
                found = LoggedDecision(index=index, at=header.at, decision=body.value)
                decisions.append(found)
            signers[index] = tuple(sorted(f"{s.role}:{s.person}" for s in body.signers))
            index += 1
    return Glance(
        candidate=parse_candidate(story.world.candidate_bytes),
        cosigned=(index, "q0Yt3m1lN9Gm9v4b6U1m8m7sYc1qk0m5q3n2b8w0Zx4=", "test.example/releases"),
        signers=signers,
        decisions=tuple(reversed(decisions))[:12],
    )


def page_of(story: Story) -> str:
    return render_release(build_view(story.state, story.now, glance_of(story)))


def title_as(story: Story, title: str) -> None:
    """Give every incident a title, as control or a person would have written it."""
    changed = {
        name: msgspec.structs.replace(each, title=title)
        for name, each in story.state.incidents.items()
    }
    story.state = msgspec.structs.replace(story.state, incidents=changed)


def waiting() -> Story:
    """Stage internal stands; the next one lacks traffic and reviews."""
    story = at("internal")
    story.traffic("internal", {f"org{k}": (4, 0) for k in range(4)})
    story.settle()
    return story.later(6_000)


def ready() -> Story:
    """Stage internal stands and the gate of the next one is open."""
    story = at("internal")
    story.serve_clean("internal").review_all("researchers").settle()
    return story


def halted() -> Story:
    """Three stages certified, and the overseer stopped the release."""
    story = at("researchers")
    story.order(TargetKind.RELEASE, "aurora", by="overseer:vera", reasons=("weights may be out",))
    story.incident(Severity.SEV_1)
    story.act()
    return story


def hostile() -> Story:
    """People write markup wherever they may write."""
    story = at("internal")
    story.order(TargetKind.STAGE, "internal", reasons=(HOSTILE,))
    story.review("researchers", "security:sue", approves=False, note=HOSTILE)
    story.incident(Severity.SEV_2, source=HOSTILE)
    story.act()
    title_as(story, HOSTILE)
    return story


def admitted() -> Story:
    """Somebody is admitted, suspended, and named in what people wrote."""
    story = at("internal")
    principal, organisation, project, public_id = SECRETS
    grant = Grant(
        id=story.id("grant"),
        release="aurora",
        stage="internal",
        principal=principal,
        organisation=organisation,
        project=project,
        tier=Tier.INTERNAL,
        endpoints=(Endpoint.CHAT,),
        proofs=("identity",),
        vetting=None,
        keys=(GrantKey(public_id=public_id, digest=sha256_digest(b"key")),),
        not_before=story.now,
        not_after=story.now + HOUR,
    )
    story.log(EntryKind.GRANT, grant, "admissions:ada")
    story.order(TargetKind.ORGANISATION, organisation)
    story.order(TargetKind.KEY, public_id)
    said = (f"{principal} of {organisation.upper()} ({project}) used {public_id}",)
    story.order(TargetKind.STAGE, "internal", reasons=said)
    story.act()
    return story


class Outline(HTMLParser):
    """Every tag with its attributes in order, the text, and whether all tags were closed."""

    VOID = frozenset({"meta", "br", "link", "img", "input"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.unclosed: list[str] = []
        self.wrong: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.unclosed.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.unclosed or self.unclosed.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        if not self.unclosed or self.unclosed[-1] != "style":
            self.text.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())
