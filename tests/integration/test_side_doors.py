"""No side door: every route, method, way and state of a key, and every odd spelling, from outside.

The judge is always the same: what reached the model server is what the journal says was sent there,
and what was served has a start, a finish and a ticket under a grant that may.

Seen to fail: a router that strips a final slash, `permitted` without the grant's endpoints,
`inspect_prompt` that takes every verdict for harmless, and a dialect that is not asked for bait (each
red).

Here is one placement; trying another one is in `test_gateway_placements`. There are no aliases and
no shadows.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from urllib.parse import unquote

import pytest

from gatelift.gateway.honey_touch import MAX_RECORDS_A_MINUTE
from gatelift.gateway.refused_routes import REFUSED
from gatelift.gateway.routes import ROUTES
from gatelift.messages import Finish, Outcome, parse_ticket, verify_ticket
from gatelift.terms import Category
from gatelift.trust import TargetKind
from tests.integration.doors_house import (
    CALLERS,
    DOORS,
    EXCHANGES,
    HOSTILE,
    METHODS,
    OPENED,
    Counts,
    Door,
    DoorHouse,
    Reply,
    secrets_in,
)
from tests.support.world import key

WAYS = [
    pytest.param(door, stream, id=f"{door.path.strip('/')}{'-stream' if stream else ''}")
    for door in EXCHANGES
    for stream in door.ways()
]
MODEL_WAYS = [way for way in WAYS if way.values[0].model]  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DoorHouse]:
    made = DoorHouse(tmp_path_factory.mktemp("doors"))
    made.keeper.order(made.order(TargetKind.KEY, "suspended", "order_key"))
    made.keeper.order(made.order(TargetKind.ORGANISATION, "o-stopped", "order_org"))
    time.sleep(0.2)
    yield made
    made.close()


def settled(house: DoorHouse) -> Counts:
    """Return the counts, having checked that the two sides agree on what went to the model."""
    counts = house.counts()
    forwarded = [f for f in counts.finishes if f.upstream]
    assert len(forwarded) == counts.calls, "the model saw what no record says was sent"
    assert sorted(s.seq for s in counts.starts) == sorted(f.of.seq for f in counts.finishes)
    return counts


def nothing_happened(house: DoorHouse, before: Counts) -> None:
    after = settled(house)
    assert len(after.starts) == len(before.starts), "an exchange was begun"
    assert after.calls == before.calls, "the model was asked"


def recorded(house: DoorHouse, before: Counts, reply: Reply) -> Finish:
    """Return the finish of the one exchange since, which the reply's ticket opens to."""
    after = settled(house)
    assert len(after.starts) == len(before.starts) + 1
    finish: Finish = after.finishes[-1]
    start = next(s for s in after.starts if s.seq == finish.of.seq)
    assert reply.headers["x-request-id"] == finish.request_id == start.request_id
    _, opened = verify_ticket(parse_ticket(_ticket(reply)), key("batch").public)
    assert opened.request_id == finish.request_id  # type: ignore[union-attr]
    return finish


def _ticket(reply: Reply) -> str:
    return reply.headers["gatelift-ticket"]


def outsider(door: Door) -> str | None:
    """Return a caller whose grant is in force and does not open the door."""
    for endpoint in OPENED:
        if endpoint is not door.endpoint:
            return f"only-{endpoint.value}"
    return None


def test_every_route_of_the_gateway_is_in_the_table_of_doors() -> None:
    assert {door.path for door in DOORS} == set(ROUTES), "a new route: add its door to the table"
    assert all(door.needs_key for door in DOORS if door.path != "/healthz")


@pytest.mark.parametrize(("door", "stream"), WAYS)
@pytest.mark.parametrize(
    "headers",
    [
        pytest.param((), id="none"),
        pytest.param(("authorization: Bearer",), id="empty"),
        pytest.param(("authorization: Bearer sk-123",), id="malformed"),
        pytest.param(("authorization: Bearer gl_" + "a_" * 90 + "b",), id="long"),
        pytest.param(("authorization: Bearer gl_nobody_" + "s" * 32,), id="foreign"),
        pytest.param(("authorization: Bearer gl_valid_" + "t" * 32,), id="wrong-secret"),
        pytest.param((f"authorization: bearer {CALLERS['valid'].key}",), id="other-scheme"),
        pytest.param((f"authorization: Basic {CALLERS['valid'].key}",), id="basic"),
        pytest.param((f"proxy-authorization: Bearer {CALLERS['valid'].key}",), id="proxy"),
        pytest.param((f"cookie: authorization=Bearer {CALLERS['valid'].key}",), id="cookie"),
        pytest.param((f"authorization: Bearer {CALLERS['valid'].key}\xe9",), id="not-ascii"),
        pytest.param(
            ("authorization: Bearer x", f"authorization: Bearer {CALLERS['valid'].key}"),
            id="twice",
        ),
    ],
)
def test_without_a_granted_key_nothing_begins(
    house: DoorHouse, door: Door, stream: bool, headers: tuple[str, ...]
) -> None:
    before = settled(house)
    reply = house.through(door, stream=stream, headers=headers)
    assert reply.status == (400 if len(headers) == 2 else 401), reply.body
    assert not secrets_in(reply.body)
    nothing_happened(house, before)


@pytest.mark.parametrize(("door", "stream"), WAYS)
@pytest.mark.parametrize(
    ("caller", "status", "code"),
    [
        ("expired", 403, "grant_expired"),
        ("early", 403, "grant_expired"),
        ("suspended", 403, "stopped"),
        ("stopped", 403, "stopped"),
        ("outsider", 403, "endpoint_not_granted"),
        ("capped", 429, "cap_reached"),
    ],
)
def test_a_key_that_may_not_is_denied_on_the_record_and_the_model_is_not_asked(
    house: DoorHouse, door: Door, stream: bool, caller: str, status: int, code: str
) -> None:
    name = outsider(door) if caller == "outsider" else caller
    if name is None:
        pytest.skip("every endpoint is this one")
    before = settled(house)
    reply = house.through(door, stream=stream, key=CALLERS[name].key)
    assert (reply.status, reply.code) == (status, code), reply.body
    finish = recorded(house, before, reply)
    assert (finish.upstream, finish.reason, finish.grant) == (
        False,
        code,
        f"grant_{CALLERS[name].name}",
    )
    assert finish.outcome in {Outcome.STOPPED, Outcome.CAPPED}
    assert (finish.output_tokens, finish.answer_bytes > 0) == (0, True)


@pytest.mark.parametrize(("door", "stream"), WAYS)
def test_what_is_served_was_admitted_reserved_and_recorded(
    house: DoorHouse, door: Door, stream: bool
) -> None:
    before = settled(house)
    reply = house.through(door, stream=stream, key=CALLERS["valid"].key)
    assert reply.status == 200, reply.body
    finish = recorded(house, before, reply)
    start = next(s for s in house.counts().starts if s.seq == finish.of.seq)
    assert (start.endpoint, start.stream, start.grant) == (door.endpoint, stream, "grant_valid")
    assert (finish.outcome, finish.upstream) == (Outcome.SERVED, door.model)
    units = {charge.counter.split(":")[1].split("/")[0] for charge in start.reserved}
    assert set(door.reserves) <= units, "a cap of the stage was not reserved"
    spent = {c.counter.split(":")[1].split("/")[0]: c.amount for c in finish.spent}
    assert spent["principal.requests"] == 1
    assert (spent.get("stage.output_tokens", 0) > 0) is door.speaks


@pytest.mark.parametrize(("door", "stream"), MODEL_WAYS)
def test_safeguards_stand_on_both_sides_of_every_door_to_the_model(
    house: DoorHouse, door: Door, stream: bool
) -> None:
    before = settled(house)
    reply = house.through(door, stream=stream, text=HOSTILE, key=CALLERS["valid"].key)
    assert (reply.status, reply.code) == (403, "refused"), reply.body
    finish = recorded(house, before, reply)
    assert (finish.outcome, finish.upstream) == (Outcome.REFUSED, False)
    if not door.speaks:
        return
    words, house.upstream.words = house.upstream.words, ["is AK", "IAABCDEF", "GHIJKLMNOP", " more"]
    try:
        before = settled(house)
        reply = house.through(door, stream=stream, key=CALLERS["valid"].key)
    finally:
        house.upstream.words = words
    assert b"AKIA" not in reply.body
    assert b" more" not in reply.body
    finish = recorded(house, before, reply)
    assert (finish.outcome, finish.upstream) == (Outcome.CUT, True)


@pytest.mark.parametrize("door", DOORS, ids=lambda d: d.path)
@pytest.mark.parametrize("caller", [None, "valid", "suspended"])
def test_no_other_method_reaches_a_handler(
    house: DoorHouse, door: Door, caller: str | None
) -> None:
    before = settled(house)
    secret = CALLERS[caller].key if caller else None
    for method in METHODS:
        if method == door.method:
            continue
        for body in (b"", next(d for d in EXCHANGES if d.model).send()):
            reply = house.ask(method, door.url, body, key=secret)
            assert reply.status == 405, (method, reply.body)
    for method in ("CONNECT", "get", "PROPFIND", "PRI", "QUERY"):
        assert house.ask(method, door.url, key=secret).status in {400, 501}
    nothing_happened(house, before)


OVERRIDES = (
    ("x-http-method-override", "{method}"),
    ("x-http-method", "{method}"),
    ("x-method-override", "{method}"),
    ("x-original-url", "{path}"),
    ("x-rewrite-url", "{path}"),
    ("x-original-uri", "{path}"),
    ("x-forwarded-uri", "{path}"),
    ("x-forwarded-prefix", "/v1"),
    ("x-envoy-original-path", "{path}"),
    ("x-accel-redirect", "{path}"),
)


@pytest.mark.parametrize(("name", "value"), OVERRIDES)
def test_no_header_turns_one_route_or_method_into_another(
    house: DoorHouse, name: str, value: str
) -> None:
    for door in EXCHANGES:
        header = f"{name}: {value.format(method=door.method, path=door.url)}"
        before = settled(house)
        body = door.send()
        other = "POST" if door.method == "GET" else "GET"
        secret = CALLERS["valid"].key
        assert house.ask(other, door.url, body, key=secret, headers=(header,)).status == 405
        assert house.ask("POST", "/healthz", body, key=secret, headers=(header,)).status == 405
        assert house.ask("POST", "/v1/none", body, key=secret, headers=(header,)).status == 404
        health = house.ask("GET", "/healthz", body, key=secret, headers=(header,))
        assert json.loads(health.body) == {"status": "ok"}
        nothing_happened(house, before)


SPELLINGS = (
    "/{path}",
    "//x{path}",
    "{path}/",
    "{path}//",
    "{path}/.",
    "{path}/..",
    "{path}.",
    "{path}..;/",
    "{path};a=b",
    "{path};",
    "{path}%00",
    "{path}%20",
    "{path}%2f",
    "{path}%3fx=1",
    "{path}%23",
    "{path}.json",
    "{path}~",
    "{path}\\",
    "/.{path}",
    "/..{path}",
    "/%2e{path}",
    "/%2e%2e{path}",
    "/x/..{path}",
    "/x/%2e%2e{path}",
    "/healthz/..{path}",
    "/healthz{path}",
    "/v1/access/..{path}",
    "/v1/receipts/..{path}",
    "/admin{path}",
    "{double}",
    "{encoded}",
    "{slashes}",
    "{twice}",
    "{backslashes}",
    "{upper}",
    "{title}",
    "{overlong}",
)


def spelled(spelling: str, path: str) -> str:
    head, _, tail = path.rpartition("/")
    return spelling.format(
        path=path,
        double=f"{head}//{tail}",
        encoded=f"{head}/%{ord(tail[0]):02x}{tail[1:]}",
        slashes="/" + path[1:].replace("/", "%2f"),
        twice="/" + path[1:].replace("/", "%252f"),
        backslashes="/" + path[1:].replace("/", "\\"),
        upper=path.upper(),
        title=f"{head}/{tail.title()}",
        overlong="/" + path[1:].replace("/", "%c0%af"),
    )


def same_route(door: Door, target: str) -> bool:
    """Say whether a spelling of the door's path is its own route with another name at its end."""
    route = door.url.rpartition("/")[0] + "/"
    return door.named and target.startswith(route) and "/" not in target.removeprefix(route)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_another_spelling_of_a_path_is_no_route(house: DoorHouse, spelling: str) -> None:
    for door in EXCHANGES:
        target = spelled(spelling, door.url)
        if same_route(door, target):
            continue
        before = settled(house)
        for secret in (None, CALLERS["valid"].key, CALLERS["suspended"].key):
            reply = house.ask(door.method, target, door.send(), key=secret)
            got = (reply.status, reply.code)
            # A receipt's path takes any tail, which must be a digest; it is no exchange.
            assert got in {
                (404, "not_found"),
                (405, "method_not_allowed"),
                (401, "invalid_api_key"),
            } | {(400, "invalid_request")}, (target, reply.body)
            if not spelling.startswith("/v1/receipts"):
                assert reply.status == 404
        nothing_happened(house, before)


@pytest.mark.parametrize(
    ("door", "spelling"),
    [
        pytest.param(door, spelling, id=f"{door.path}-{spelling}")
        for door in EXCHANGES
        for spelling in SPELLINGS
        if same_route(door, spelled(spelling, door.url))
    ],
)
def test_another_spelling_of_a_name_is_another_name(
    house: DoorHouse, door: Door, spelling: str
) -> None:
    target = spelled(spelling, door.url)
    before = settled(house)
    assert house.ask(door.method, target).status == 401
    nothing_happened(house, before)
    denied = house.ask(door.method, target, key=CALLERS["suspended"].key)
    assert (denied.status, denied.code) == (403, "stopped")
    recorded(house, before, denied)
    before = settled(house)
    reply = house.ask(door.method, target, key=CALLERS["valid"].key)
    # Percent-encoded once it is the same name: clients write names so.
    assert reply.status == (200 if unquote(target) == door.url else 404), reply.body
    assert not recorded(house, before, reply).upstream


KEYED = [door for door in DOORS if door.needs_key]
OWN, OTHER = (str(CALLERS[name].segment) for name in ("private", "neighbour"))


@pytest.mark.parametrize("door", KEYED, ids=lambda d: d.path)
def test_a_private_endpoint_takes_its_own_grants_keys_and_no_others(
    house: DoorHouse, door: Door
) -> None:
    def at(caller: str | None, prefix: str) -> Reply:
        secret = CALLERS[caller].key if caller else None
        return house.ask(door.method, prefix + door.url, door.send(), key=secret)

    before = settled(house)
    for caller, prefix in (
        ("private", ""),
        ("private", f"/e/{OTHER}"),
        ("neighbour", f"/e/{OWN}"),
        ("valid", f"/e/{OWN}"),
        ("expired", f"/e/{OWN}"),
        ("suspended", f"/e/{OTHER}"),
        ("private", f"/e/{'a' * 32}"),
    ):
        reply = at(caller, prefix)
        assert (reply.status, reply.code) == (404, "not_found"), (caller, prefix, reply.body)
        message = json.loads(reply.body)["error"]["message"]
        family = "/v1/messages/none" if door.url.startswith("/v1/messages") else "/v1/none"
        unknown = house.ask("GET", prefix + family)
        assert message == f"no route {(prefix + door.url)[:80]!r} here"
        assert reply.headers.keys() == unknown.headers.keys()
    for prefix in (f"/e/{OWN}", f"/e/{OTHER}", f"/e/{'a' * 32}"):
        assert at(None, prefix).status == 401, "who has no key learns nothing of segments"
    nothing_happened(house, before)
    reply = at("private", f"/e/{OWN}")
    if door.endpoint is None:
        assert reply.status in {200, 404}
        assert b"no route" not in reply.body
        return
    assert reply.status == 200, reply.body
    assert recorded(house, before, reply).grant == "grant_private"


@pytest.mark.parametrize(
    "prefix",
    [
        f"/e/{OWN.upper()}",
        f"/E/{OWN}",
        f"//e/{OWN}",
        f"/e//{OWN}",
        f"/e/{OWN}/",
        f"/e/{OWN}/.",
        f"/e/{OWN[:-1]}",
        f"/e/{OWN}a",
        f"/e/{OWN};a",
        f"/e/%{ord(OWN[0]):02x}{OWN[1:]}",
        f"/e/{OWN}/e/{OWN}",
        f"/e/{OTHER}/../{OWN}",
        "/e/",
        "/e",
    ],
)
def test_no_other_spelling_reaches_a_private_endpoint(house: DoorHouse, prefix: str) -> None:
    for door in EXCHANGES:
        before = settled(house)
        for name in ("private", "valid", None):
            secret = CALLERS[name].key if name else None
            reply = house.ask(door.method, prefix + door.url, door.send(), key=secret)
            assert (reply.status, reply.code) == (404, "not_found"), reply.body
        nothing_happened(house, before)
    assert house.ask("GET", f"/e/{OWN}/healthz", key=CALLERS["private"].key).status == 404


def touches(house: DoorHouse, before: Counts, rule: str, grant: str) -> None:
    """Wait for the one record since: a touch of bait, and nothing went to the model."""
    until = time.monotonic() + 3
    while len((after := settled(house)).finishes) == len(before.finishes):
        assert time.monotonic() < until, "no touch was recorded"
        time.sleep(0.01)
    assert len(after.finishes) == len(before.finishes) + 1
    finish = after.finishes[-1]
    (verdict,) = finish.verdicts
    assert verdict.rule.split("@")[0] == rule
    assert len(verdict.rule.split("@")[1]) == 16
    assert (verdict.category, finish.grant, finish.upstream) == (Category.HONEY, grant, False)
    assert after.calls == before.calls


def alike(touched: Reply, plain: Reply) -> None:
    """Assert that two replies differ in nothing but what differs between any two requests."""
    own = {"x-request-id", "request-id", "gatelift-ticket", "date"}
    assert (touched.status, touched.wording) == (plain.status, plain.wording)
    assert list(touched.headers) == list(plain.headers)
    assert {k: v for k, v in touched.headers.items() if k not in own} == {
        k: v for k, v in plain.headers.items() if k not in own
    }


@pytest.mark.parametrize("door", KEYED, ids=lambda d: d.path)
def test_a_honey_key_reads_as_nobodys_and_is_recorded_under_its_grant(
    house: DoorHouse, door: Door
) -> None:
    nobody = "gl_nobody_" + "s" * 32
    for stream in door.ways():
        before = settled(house)
        touched = house.through(door, stream=stream, key=CALLERS["honey"].key)
        touches(house, before, "honey:key", "grant_honey")
        alike(touched, house.through(door, stream=stream, key=nobody))
    before = settled(house)
    assert house.through(door, key="gl_honey_" + "t" * 32).status == 401
    assert house.ask(door.method, f"/e/{OWN}{door.url}", key=CALLERS["honey"].key).status == 401
    touches(house, before, "honey:key", "grant_honey")


@pytest.mark.parametrize(("door", "stream"), MODEL_WAYS)
def test_a_honey_model_reads_as_no_model_and_is_on_its_exchanges_record(
    house: DoorHouse, door: Door, stream: bool
) -> None:
    def ask(model: str) -> Reply:
        body = json.dumps(json.loads(door.send(stream)) | {"model": model}).encode()
        return house.ask(door.method, door.url, body, key=CALLERS["valid"].key)

    before = settled(house)
    touched = ask("aurora-unfiltered")
    touches(house, before, "honey:model", "grant_valid")
    plain = ask("aurora-unfiltereD")
    touched.body = touched.body.replace(b"aurora-unfiltered", b"aurora-unfiltereD")
    alike(touched, plain)
    assert plain.status == 404
    assert settled(house).finishes[-1].verdicts == ()


@pytest.mark.parametrize("bait", ["aurora-unfiltered", "aurora%2Dunfiltered"])
def test_a_honey_model_looked_up_by_its_name_is_on_the_record_too(
    house: DoorHouse, bait: str
) -> None:
    before = settled(house)
    touched = house.ask("GET", f"/v1/models/{bait}", key=CALLERS["valid"].key)
    touches(house, before, "honey:model", "grant_valid")
    plain = house.ask("GET", "/v1/models/aurora-unfiltereD", key=CALLERS["valid"].key)
    touched.body = touched.body.replace(b"aurora-unfiltered", b"aurora-unfiltereD")
    alike(touched, plain)
    assert plain.status == 404
    assert settled(house).finishes[-1].verdicts == ()
    before = settled(house)
    assert house.ask("GET", f"/v1/models/{bait}").status == 401
    nothing_happened(house, before)


def test_a_honey_path_reads_as_no_route_and_is_recorded_for_who_has_a_key(
    house: DoorHouse,
) -> None:
    plain = house.ask("POST", "/v1/internal/keyz", b"{}")
    before = settled(house)
    for caller in (None, "valid"):
        secret = CALLERS[caller].key if caller else None
        touched = house.ask("POST", "/v1/internal/keys", b"{}", key=secret)
        touched.body = touched.body.replace(b"keys", b"keyz")
        alike(touched, plain)
        if caller is None:
            time.sleep(0.1)
            nothing_happened(house, before)
    touches(house, before, "honey:path", "grant_valid")
    until = time.monotonic() + 4
    while not {"honey_key", "honey_model", "honey_path"} <= set(house.counts().refused):
        assert time.monotonic() < until, "touches are counted in the beat"
        time.sleep(0.1)


def test_a_flood_of_touches_is_counted_and_recorded_to_a_bound(house: DoorHouse) -> None:
    before = settled(house)
    for _ in range(80):
        assert house.through(EXCHANGES[0], key=CALLERS["honey"].key).status == 401
    time.sleep(1.5)
    after = settled(house)
    assert len(after.finishes) - len(before.finishes) <= 2 * MAX_RECORDS_A_MINUTE
    assert after.refused["honey_key"] - before.refused["honey_key"] >= 79


def test_what_is_refused_says_what_to_use_instead_and_asks_no_model(house: DoorHouse) -> None:
    before = settled(house)
    body = EXCHANGES[0].send()
    for route in REFUSED:
        for target in (route.path, f"{route.path}/x", f"{route.path}/x/y"):
            if target in ROUTES or target == "/v1/models/x":
                continue
            for secret in (None, CALLERS["valid"].key):
                reply = house.ask("POST", target, body, key=secret)
                assert (reply.status, reply.code) == (404, "not_found"), target
                assert route.instead in json.loads(reply.body)["error"]["message"]
    nothing_happened(house, before)


@pytest.mark.parametrize(
    "form",
    [
        "http://gateway.example{path}",
        "https://gateway.example{path}",
        "http://127.0.0.1{path}",
        "//gateway.example{path}",
        "gateway.example:443",
        "*",
        "{path}#x",
        "?{path}",
        "{tail}",
        "\\{path}",
        "{path}\t",
        "{path}\x7f",
        "{path}\xe9",
    ],
)
def test_a_target_in_another_form_reaches_no_handler(house: DoorHouse, form: str) -> None:
    for door in EXCHANGES:
        before = settled(house)
        target = form.format(path=door.url, tail=door.url[1:])
        reply = house.ask(door.method, target, door.send(), key=CALLERS["valid"].key)
        assert reply.status in {400, 404}, (target, reply.status)
        nothing_happened(house, before)


@pytest.mark.parametrize(
    "query", ["", "x=1", "path=/v1/models", "stream=true&model=other", "/../../healthz", "%00", "?"]
)
def test_a_query_changes_neither_handler_nor_checks(house: DoorHouse, query: str) -> None:
    for door in EXCHANGES:
        target = f"{door.url}?{query}"
        before = settled(house)
        assert house.ask(door.method, target, door.send()).status == 401
        nothing_happened(house, before)
        denied = house.ask(door.method, target, door.send(), key=CALLERS["suspended"].key)
        assert (denied.status, denied.code) == (403, "stopped")
        recorded(house, before, denied)
        before = settled(house)
        served = house.ask(door.method, target, door.send(), key=CALLERS["valid"].key)
        assert served.status == 200
        assert recorded(house, before, served).outcome is Outcome.SERVED


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("host: localhost", 401),
        ("host: 127.0.0.1:1", 401),
        ("host: [::1]:8080", 401),
        ("host: gateway.example.", 401),
        ("host: admin.internal", 401),
        ("", 400),
        ("host: a b", 400),
        ("host: a/v1/models", 400),
        ("host: user@a", 400),
        ("host: a\r\nhost: b", 400),
        ("host: a,b", 400),
    ],
)
def test_a_host_opens_nothing(house: DoorHouse, host: str, status: int) -> None:
    for door in EXCHANGES:
        before = settled(house)
        assert house.through(door, host=host).status == status
        nothing_happened(house, before)


def test_what_is_read_without_an_exchange_needs_a_key_and_asks_no_model(house: DoorHouse) -> None:
    for door in DOORS:
        if door.endpoint is not None:
            continue
        before = settled(house)
        bare = house.through(door)
        assert bare.status == (401 if door.needs_key else 200)
        for name, caller in CALLERS.items():
            if caller.segment or name == "honey":
                continue
            reply = house.through(door, key=caller.key)
            assert reply.status in {200, 404}, (name, reply.body)
            assert not secrets_in(reply.body)
        nothing_happened(house, before)


def test_what_is_turned_away_before_identify_is_counted_by_reason(house: DoorHouse) -> None:
    house.ask("GET", "/v1/none")
    house.ask("GET", EXCHANGES[0].url)
    house.through(EXCHANGES[0])
    until = time.monotonic() + 4
    wanted = {"invalid_api_key", "not_found", "method_not_allowed"}
    while not wanted <= set(house.counts(settle=False).refused):
        assert time.monotonic() < until
        time.sleep(0.1)


def test_no_secret_is_in_the_journal(house: DoorHouse) -> None:
    for path in (house.directory / "journal").rglob("*.seg"):
        data = path.read_bytes()
        assert not secrets_in(data)
        assert HOSTILE.encode() not in data


def test_a_stop_of_the_release_shuts_every_door_at_once(house: DoorHouse) -> None:
    """The last one: it can't be undone here."""
    house.keeper.order(house.order(TargetKind.RELEASE, house.world.plan.name, "order_release"))
    time.sleep(0.3)
    for door in EXCHANGES:
        for stream in door.ways():
            before = settled(house)
            reply = house.through(door, stream=stream, key=CALLERS["valid"].key)
            assert (reply.status, reply.code) == (403, "stopped")
            assert not recorded(house, before, reply).upstream
    house.keeper.answering = False
    until = time.monotonic() + 8
    while house.through(EXCHANGES[0], key=CALLERS["valid"].key).code != "status_lapsed":
        assert time.monotonic() < until
        time.sleep(0.1)
    for door in EXCHANGES:
        reply = house.through(door, key=CALLERS["valid"].key)
        assert (reply.status, reply.code) == (503, "status_lapsed")
    assert house.ask("GET", "/healthz").status == 503
