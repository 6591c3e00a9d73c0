"""Every endpoint of the admin API, as every role of one tenant: nothing of another is shown, counted, guessed, touched.

The endpoints are walked as they are declared, so that a new one is in here without being named. What belongs to the
other tenant must be answered like what nobody has: the same status, the same words, the same hashing and look-ups.
"""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import re
import smtplib
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode
from weakref import WeakKeyDictionary

import pytest
from pydantic import BaseModel

from actors.passwords import PasswordActor
from cli import layout
from cli.client import AdminClient
from eventlog.store import TableView
from nodes.config import sources as config_sources
from nodes.config.node import split_address
from nodes.http import admin
from nodes.http.endpoint import ANYBODY, ANYBODY_KNOWN, Endpoint
from nodes.http.places import CLUSTER, OWN
from nodes.logins.callers import CLUSTER_TOPICS, ROLES
from nodes.server import Node
from tests.isolation import tenants_two
from tests.isolation.tenants_two import EVE, NOBODY, OTHER, World
from tests.nodes.http.one_node import cell as cell

Run = Callable[[Coroutine[Any, Any, Any]], Any]

# what stands for a thing of the other tenant, and for the like of it that nobody has
THEIRS = {"address": EVE, "name": OTHER, "domain": "zweiter.test", "place": EVE, "tenant": OTHER, "account": EVE}
NOBODYS = {"address": NOBODY, "name": "zweitel", "domain": "zweitel.test", "place": NOBODY, "tenant": "zweitel"} | {
    "account": NOBODY
}
OF_THE_KIND = {  # where an address is no account's
    "aliases": ("info@zweiter.test", "inform@zweiter.test"),
    "groups": ("all@zweiter.test", "al@zweiter.test"),
}
ADDRESSES_OF_A_DOMAIN = ("/v1/accounts", "/v1/aliases", "/v1/groups")  # POST: it is the domain that is somebody's


SESSION = re.compile(r"urn:mailraft:session:[0-9a-f]{32}")  # of each connection


class Answered(NamedTuple):
    """An answer, and what it cost the node."""

    status: int
    text: str
    work: Counter[str]


class Asked(NamedTuple):
    path: str
    body: Any


def names_of(endpoint: Endpoint, world: World, *, theirs: bool) -> dict[str, str]:
    """What the request's path, query and body are filled with."""
    found = dict(THEIRS if theirs else NOBODYS)
    if endpoint.topic in OF_THE_KIND:
        found["address"] = OF_THE_KIND[endpoint.topic][0 if theirs else 1]
    if endpoint.method == "POST" and endpoint.path in ADDRESSES_OF_A_DOMAIN:
        found["address"] = f"new@{found['domain']}"
    found["id"] = world.other_token if theirs else world.other_token[::-1]
    return found


def asked(endpoint: Endpoint, names: dict[str, str]) -> Asked:
    def in_path(match: re.Match[str]) -> str:
        name, _, pattern = match[1].partition(":")
        if name == "name" and endpoint.path.count("{") > 1 and match.start() > endpoint.path.index("{"):
            return "phone"
        return quote(names.get(name, "1" if pattern else "x"), safe="")

    path = re.sub(r"\{([^{}]+(?:\{[^}]*\})?)\}", in_path, endpoint.path)
    for chosen in ("swagger-ui.css",):
        path = path.replace("/explorer/1", f"/explorer/{chosen}")
    query = tenants_two.filled(endpoint.query, names.get) if endpoint.query is not None else {}
    query = {name: str(value) for name, value in query.items()}
    body: Any = None
    if isinstance(endpoint.body, type) and issubclass(endpoint.body, BaseModel):
        body = tenants_two.filled(endpoint.body, names.get)
    return Asked(path + (f"?{urlencode(query)}" if query else ""), body)


class Meter:
    """Counts hashing, and reads of rows in the tasks that answer requests."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counts: Counter[str] = Counter()
        hashed = PasswordActor.on_receive

        def on_receive(actor: PasswordActor, message: Any) -> Any:
            self.counts[type(message).__name__] += 1
            return hashed(actor, message)

        monkeypatch.setattr(PasswordActor, "on_receive", on_receive)
        for name in ("get", "peek"):
            monkeypatch.setattr(TableView, name, self._counting(getattr(TableView, name)))

    def _counting(self, read: Callable[..., Any]) -> Callable[..., Any]:
        def counted(view: Any, *arguments: Any) -> Any:
            task = _task()
            if task is not None and "RequestHandler" in repr(task.get_coro()):
                self.counts["reads"] += 1
            return read(view, *arguments)

        return counted


def _task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def ask(client: AdminClient, meter: Meter, method: str, wanted: Asked) -> Answered:
    """On the connection that the caller has: thousands of handshakes would take most of the time."""
    meter.counts.clear()
    connection = _CONNECTIONS.get(client)
    if connection is None:
        connection = _CONNECTIONS[client] = client._connect(client._cluster.nodes[0], 10.0)
    data = None if wanted.body is None else json.dumps(wanted.body).encode()
    connection.request(method, wanted.path, data, client._headers)
    response: http.client.HTTPResponse = connection.getresponse()
    text = SESSION.sub("urn:mailraft:session", response.read().decode("utf-8", "replace"))
    if response.will_close:
        del _CONNECTIONS[client]
    return Answered(response.status, text, Counter(meter.counts))


_CONNECTIONS: WeakKeyDictionary[AdminClient, http.client.HTTPConnection] = WeakKeyDictionary()


@pytest.fixture(scope="module")
def endpoints() -> list[Endpoint]:
    return admin.endpoints()


def with_world(
    run: Run,
    cell: layout.Cluster,
    monkeypatch: pytest.MonkeyPatch,
    work: Callable[[World, Meter], None],
    *,
    touched: bool = False,
) -> None:
    """Does `work` in a thread, while the node runs; then the other tenant has what it had."""
    meter = Meter(monkeypatch)

    async def session() -> None:
        async with Node(config_sources.load(cell.nodes[0].config, {})).running() as state:
            while state.unready():
                await asyncio.sleep(0.05)
            world = await asyncio.to_thread(tenants_two.build, AdminClient(cell), cell)
            assert state.log is not None
            with state.log.snapshot() as snapshot:
                before = tenants_two.rows_of(snapshot, OTHER)
            await asyncio.to_thread(work, world, meter)
            with state.log.snapshot() as snapshot:
                assert touched or tenants_two.rows_of(snapshot, OTHER) == before

    run(session())


def test_what_another_tenant_has_is_answered_like_what_nobody_has(
    run: Run, cell: layout.Cluster, monkeypatch: pytest.MonkeyPatch, endpoints: list[Endpoint]
) -> None:
    def work(world: World, meter: Meter) -> None:
        wrong: list[tuple[Any, ...]] = []
        for endpoint in endpoints:
            for role, client in world.callers.items():
                theirs, nobodys = (names_of(endpoint, world, theirs=mine) for mine in (True, False))
                first = ask(client, meter, endpoint.method, asked(endpoint, theirs))
                second = ask(client, meter, endpoint.method, asked(endpoint, nobodys))
                if _same(first, theirs) != _same(second, nobodys) or first.work != second.work:
                    wrong.append((endpoint.method, endpoint.path, role, first, second))
                is_somebodys = endpoint.place is not OWN and endpoint.permission not in (ANYBODY, ANYBODY_KNOWN)
                if endpoint.method != "GET" and first.status < 300 and is_somebodys:
                    wrong.append((endpoint.method, endpoint.path, role, first, "was done"))
        assert not wrong, "\n".join(map(str, wrong))

    with_world(run, cell, monkeypatch, work)


def test_as_of_a_moment_another_tenant_is_no_more_there_than_now(
    run: Run, cell: layout.Cluster, monkeypatch: pytest.MonkeyPatch, endpoints: list[Endpoint]
) -> None:
    """Of every endpoint that takes a moment, known by its field `at_ms`; nothing is shown of another in one's own."""
    looking_back = [one for one in endpoints if _takes_a_moment(one)]
    assert {one.path for one in looking_back} == {"/v1/mailboxes/{address}", "/v1/mailboxes/{address}/restore"}

    def work(world: World, meter: Meter) -> None:
        wrong: list[tuple[Any, ...]] = []
        last = world.admin.get("/v1/log?last=1")["position"]
        now_ms = time.time_ns() // 1_000_000
        moments = ({"position": last // 2}, {"position": last}, {"position": last + 9}, {"at_ms": now_ms}, {"at_ms": 1})
        for endpoint, moment in itertools.product(looking_back, moments):
            for role, client in world.callers.items():
                both = (names_of(endpoint, world, theirs=mine) for mine in (True, False))
                told = [(ask(client, meter, endpoint.method, _as_of(asked(endpoint, of), moment)), of) for of in both]
                alike = [(_same(answer, of), answer.work) for answer, of in told]
                if alike[0] != alike[1] or told[0][0].status < 300:
                    wrong.append((endpoint.path, moment, role, *alike))
        own = ask(world.callers["user"], meter, "GET", Asked(f"/v1/mailboxes/carol@example.test?position={last}", None))
        assert own.status == 200
        assert not any(marker in own.text for marker in world.markers)
        assert not wrong, "\n".join(map(str, wrong))

    with_world(run, cell, monkeypatch, work)


def _takes_a_moment(endpoint: Endpoint) -> bool:
    models = (one for one in (endpoint.query, endpoint.body) if isinstance(one, type) and issubclass(one, BaseModel))
    return any("at_ms" in one.model_fields for one in models)


def _as_of(wanted: Asked, moment: dict[str, int]) -> Asked:
    if wanted.body is not None:
        return Asked(wanted.path, wanted.body | moment)
    return Asked(f"{wanted.path}?{urlencode(moment)}", None)


def _same(answer: Answered, names: dict[str, str]) -> tuple[int, str]:
    """The answer with the names taken out that were asked for."""
    text = answer.text
    for name in sorted(set(names.values()), key=len, reverse=True):
        text = text.replace(name, "NAME")
    return answer.status, text if answer.status >= 400 else ""


# what a request about one's own things may name besides, and which must not tell who is there elsewhere
REFERENCES: tuple[tuple[str, str, Callable[[str], Any]], ...] = (
    ("POST", "/v1/groups", lambda who: {"address": "new@example.test", "members": [who]}),
    ("PATCH", "/v1/groups/all@example.test", lambda who: {"add": [who]}),
    ("PUT", "/v1/shared/alice@example.test/rights", lambda who: {"name": "INBOX", "whom": who, "rights": "lr"}),
    ("PUT", "/v1/shared/example/rights", lambda who: {"name": "News", "whom": who, "rights": "lr"}),
    ("PUT", "/v1/accounts/alice@example.test/senders", lambda who: {"whom": who, "how": "send-as"}),
    ("POST", "/v1/log/records", lambda who: {"account": who}),
    ("POST", "/v1/tokens", lambda who: {"account": who}),
    ("PUT", "/v1/roles", lambda who: {"address": who, "role": "auditor"}),
    ("POST", "/v1/accounts", lambda who: {"address": who, "password": tenants_two.PASSWORD}),
    ("POST", "/v1/aliases", lambda who: {"address": who, "targets": ["alice@example.test"]}),
    ("POST", "/v1/tenants/example/domains", lambda who: {"domain": who.rpartition("@")[2]}),
)


def test_a_name_inside_of_a_request_tells_nothing_of_who_is_there_at_another_tenant(
    run: Run, cell: layout.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(world: World, meter: Meter) -> None:
        wrong = []
        for method, path, body in REFERENCES:
            for role, client in world.callers.items():
                for spelled in (str, str.upper):
                    found = []
                    for who in (EVE, NOBODY):
                        wanted = Asked(path, body(spelled(who)))
                        answer = ask(client, meter, method, wanted)
                        text = answer.text.replace(spelled(who), "NAME").replace(who, "NAME")
                        found.append((answer.status, text, answer.work))
                    if found[0] != found[1] or found[0][0] < 300:
                        wrong.append((method, path, role, spelled.__name__, *found))
        assert not wrong, "\n".join(map(str, wrong))

    with_world(run, cell, monkeypatch, work)


def test_an_alias_to_another_tenant_is_made_whoever_is_there(
    run: Run, cell: layout.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(world: World, meter: Meter) -> None:
        found = []
        for number, who in enumerate((EVE, NOBODY)):
            body = {"address": f"to{number}@example.test", "targets": [who]}
            found.append(ask(world.callers["tenant-admin"], meter, "POST", Asked("/v1/aliases", body)).status)
        own = {"address": "to@example.test", "targets": ["nil@example.test"]}
        found.append(ask(world.callers["tenant-admin"], meter, "POST", Asked("/v1/aliases", own)).status)
        assert found == [201, 201, 404]

    with_world(run, cell, monkeypatch, work)


def test_no_answer_shows_anything_of_another_tenant(
    run: Run, cell: layout.Cluster, monkeypatch: pytest.MonkeyPatch, endpoints: list[Endpoint]
) -> None:
    """Lists, the log, searches: asked for without naming anybody."""

    def work(world: World, meter: Meter) -> None:
        shown: list[tuple[Any, ...]] = []
        answered = Counter[int]()
        for endpoint in endpoints:
            if endpoint.method != "GET" and endpoint.path not in ("/v1/log/records",):
                continue
            for role, client in world.callers.items():
                own = {"address": "alice@example.test", "name": "example", "domain": "example.test"}
                found = ask(client, meter, endpoint.method, asked(endpoint, own | {"place": "example"}))
                answered[found.status] += 1
                if any(marker in found.text for marker in world.markers):
                    shown.append((endpoint.path, role, found.text[:2000]))
        for position in range(1, world.admin.get("/v1/log?last=1")["position"] + 1):
            found = ask(world.callers["auditor"], meter, "GET", Asked(f"/v1/log/{position}", None))
            answered[found.status] += 1
            if any(marker in found.text for marker in world.markers):
                shown.append((position, "auditor", found.text[:2000]))
        assert not shown, "\n".join(map(str, shown))
        assert answered[200] > 60

    with_world(run, cell, monkeypatch, work)


def test_who_sent_a_message_from_another_tenant_and_from_where_is_not_in_the_log_that_an_auditor_reads(
    run: Run, cell: layout.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(world: World, meter: Meter) -> None:
        with smtplib.SMTP(*split_address(cell.nodes[0].addresses["submission"])) as smtp:
            smtp.login(EVE, tenants_two.PASSWORD)
            smtp.sendmail(EVE, ["alice@example.test"], f"From: {EVE}\r\nTo: alice@example.test\r\n\r\nhello\r\n")
        records = world.callers["auditor"].get("/v1/log?last=1000")["records"]
        delivered = [one for one in records if any(event["type"] == "MessageDelivered" for event in one["events"])]
        assert [one["by"]["origin"] for one in delivered] == ["another tenant"]
        assert all(marker not in str(one["by"]) for one in records for marker in world.markers)

    with_world(run, cell, monkeypatch, work, touched=True)


def test_each_role_does_what_it_may_in_its_own_tenant_and_nothing_else(
    run: Run, cell: layout.Cluster, monkeypatch: pytest.MonkeyPatch, endpoints: list[Endpoint]
) -> None:
    def work(world: World, meter: Meter) -> None:
        own = {"address": "bob@example.test", "name": "example", "domain": "example.test", "place": "example"}
        own |= {"account": "bob@example.test", "tenant": "example", "id": "00" * 8}
        wrong = []
        for endpoint in endpoints:
            if endpoint.permission in (ANYBODY, ANYBODY_KNOWN):
                continue
            for role, client in world.callers.items():
                if _may(role, endpoint):
                    continue
                found = ask(client, meter, endpoint.method, asked(endpoint, own))
                if found.status not in (400, 403, 404):
                    wrong.append((endpoint.method, endpoint.path, role, found))
        assert not wrong, "\n".join(map(str, wrong))

    with_world(run, cell, monkeypatch, work)


def _may(role: str, endpoint: Endpoint) -> bool:
    topic, _, what = endpoint.permission.partition(":")
    if endpoint.place is CLUSTER or topic in CLUSTER_TOPICS:
        return False
    if role == "scoped":
        return what == "read"
    return endpoint.permission in ROLES[role]


def test_all_that_is_served_is_declared(endpoints: list[Endpoint]) -> None:
    """An old-fashioned route would be in no matrix."""
    import importlib

    from nodes.http.admin import PARTS

    routes = [importlib.import_module(f"nodes.http.{part}") for part in PARTS]
    assert [module.__name__ for module in routes if getattr(module, "ROUTES", None)] == []
    assert len(endpoints) > 100
