"""Lists come in pages that lose and repeat nothing, and cost what they show; JSON lines go by both their names."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from actors.bulk import Wanted, add_accounts
from actors.runtime import Context
from chaos.cluster import free_base_port
from cli import layout
from cli.client import AdminClient
from eventlog.record import By
from eventlog.store import TableView
from nodes.config import sources as config_sources
from nodes.http.admin import endpoints
from nodes.http.endpoint import Endpoint
from nodes.http.models import Page, PageQuery
from nodes.server import Node
from tests.nodes.http.one_node import Run, serving
from tests.peers import certificates

ACCOUNTS = 1000
# GETs with a list that are no pages of a list
OF_ONE_THING = {
    "/v1/accounts/{address}/credentials": "how one account logs in; at most as many app passwords as it may have",
    "/v1/certificate-findings": "what one node says of its certificates",
    "/v1/cluster-keys": "the keys of one cell, a few",
    "/v1/cluster/authority/succession": "the members of the cell, a few",
    "/v1/dkim/{domain}": "the keys of one domain",
    "/v1/doctor/{domain}": "what is found of one domain",
    "/v1/health": "the members of the cell, and the parts of a node",
    "/v1/log": "positions are the cursor: `after` goes on behind one",
    "/v1/mailboxes/{address}": "one document, which is streamed",
    "/v1/members": "the members of the cell, a few",
    "/v1/queue/items/{id}": "the recipients of one message",
}


def test_every_list_is_in_pages_or_of_one_thing() -> None:
    lists = {one.path for one in endpoints() if one.method == "GET" and _lists(one)}
    paged = {one.path for one in endpoints() if isinstance(one.answer, type) and issubclass(one.answer, Page)}
    assert lists - paged == set(OF_ONE_THING)
    asked = {one.path: one.query for one in endpoints() if one.method == "GET" and one.path in paged}
    assert all(query is not None and issubclass(query, PageQuery) for query in asked.values())


def _lists(one: Endpoint) -> bool:
    """Whether there are many things in its answer."""
    if not isinstance(one.answer, type):
        return False
    return any(str(field.annotation).startswith("list[nodes.") for field in one.answer.model_fields.values())


@pytest.fixture
def cell(tmp_path: Any) -> layout.Cluster:
    return layout.create(tmp_path / "cell", 1, free_base_port(1))


def populated(client: AdminClient) -> None:
    """Two or more of what can be made at one node."""
    for tenant in ("one", "two"):
        client.change("POST", "/v1/tenants", {"name": tenant, "domains": [f"{tenant}.test"]})
        for name in ("alice", "bob"):
            address = f"{name}@{tenant}.test"
            client.change("POST", "/v1/accounts", {"address": address, "password": "correct horse"})
            client.change("POST", "/v1/aliases", {"address": f"to-{address}", "targets": [address]})
            client.change("POST", "/v1/groups", {"address": f"all-{address}", "members": [address]})
            client.change("PUT", "/v1/roles", {"address": address, "role": "auditor"})
        client.change("POST", f"/v1/tenants/{tenant}/folders", {"name": "News"})
        client.change("POST", "/v1/tokens", {"tenant": tenant, "name": tenant})
        client.change("POST", "/v1/tokens", {"role": "auditor", "name": tenant})
        client.change("PUT", "/v1/roles", {"administrator": tenant, "role": "auditor"})
        client.change("PUT", "/v1/routes", {"for": f"{tenant}.example.test", "host": "relay.example.test"})
        pem = certificates.authority().pem.decode()
        client.change("PUT", f"/v1/client-authorities/{tenant}", {"certificates": pem})
        pair = certificates.server(f"imap.{tenant}.test")
        client.change("POST", "/v1/certificates", {"chain": pair.pem.decode(), "key": pair.key_pem.decode()})
        client.change("POST", f"/v1/queue/domains/{tenant}.example.test/suspend", {})
    client.change("POST", "/v1/tenants/one/folders", {"name": "News/Old"})


def test_pages_of_one_give_what_one_page_gives(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        populated(client)
        many = []
        for one in endpoints():
            if not isinstance(one.answer, type) or not issubclass(one.answer, Page) or one.method != "GET":
                continue
            path = one.path.replace("{place}", "one").replace("{address}", "alice@one.test")
            whole = client.get(path)
            name = next(key for key, value in whole.items() if isinstance(value, list))
            assert list(client.pages(f"{path}?limit=1", name)) == whole[name], path
            many += [path] if len(whole[name]) > 1 else []
        assert len(many) >= 11, many  # of which there are two or more here

    serving(run, cell, ask)


def test_a_page_of_accounts_reads_what_it_shows_and_nothing_that_it_skips(
    run: Run, cell: layout.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = counted_rows(monkeypatch)

    async def session() -> None:
        async with Node(config_sources.load(cell.nodes[0].config, {})).running() as state:
            while state.unready():
                await asyncio.sleep(0.05)
            assert state.services is not None
            context = Context(By("admin", bytes(16), "a test"), "a test")
            directory = state.services.directory
            await directory.add_tenant("example", ["example.test"], context)
            for first in range(1, ACCOUNTS, 200):
                some = [Wanted(f"a{number}@example.test", None, None) for number in range(first, first + 200)]
                await add_accounts(directory, some[: ACCOUNTS - first], context, None)
            found, costs = await asyncio.to_thread(read_in_pages, AdminClient(cell), rows)
            assert len(set(found)) == len(found) == ACCOUNTS
            assert max(costs) - min(costs) <= 2  # the last page as the first
            assert max(costs) < 120  # for ten accounts, each some rows: never the hundreds before them

    run(session())


def read_in_pages(client: AdminClient, rows: Callable[[], int]) -> tuple[list[str], list[int]]:
    found: list[str] = []
    costs: list[int] = []
    after = ""
    while True:
        rows()
        page = client.get(f"/v1/accounts?limit=10&after={after}")
        costs.append(rows())
        found += [one["address"] for one in page["accounts"]]
        after = page["next"]
        if after is None:
            return found, costs[:-1]


def counted_rows(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many rows requests have read since it was called before."""
    count = [0]

    def in_request() -> bool:
        with contextlib.suppress(RuntimeError):
            task = asyncio.current_task()
            return task is not None and "RequestHandler" in repr(task.get_coro())
        return False

    def counting(read: Any) -> Any:
        def get(view: Any, *arguments: Any) -> Any:
            count[0] += in_request()
            return read(view, *arguments)

        return get

    def counting_all(read: Any) -> Any:
        def rows(view: Any, *arguments: Any) -> Iterator[Any]:
            for row in read(view, *arguments):
                count[0] += in_request()
                yield row

        return rows

    for name in ("get", "peek"):
        monkeypatch.setattr(TableView, name, counting(getattr(TableView, name)))
    monkeypatch.setattr(TableView, "range", counting_all(TableView.range))

    def taken() -> int:
        found, count[0] = count[0], 0
        return found

    return taken


def exchanged(client: AdminClient, path: str, body: bytes, headers: dict[str, str]) -> tuple[str, bytes]:
    connection = client._connect(client.cluster.nodes[0], 30.0)
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    return answer.headers["Content-Type"], answer.read()


def test_lines_of_json_are_sent_and_taken_under_both_names(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        client.change("POST", "/v1/tenants", {"name": "example", "domains": ["example.test"]})
        for accept, sent in (
            ("application/jsonl", "application/jsonl"),
            ("text/html, application/x-ndjson;q=0.5", "application/x-ndjson"),
            ("*/*", "application/x-ndjson"),
        ):
            kind, text = exchanged(client, "/v1/log/verify", b"", {"Accept": accept})
            assert kind == sent
            assert json.loads(text.splitlines()[-1])["result"]["ok"]
        for number, kind in enumerate(("application/jsonl", "application/x-ndjson")):
            lines = b'{"address": "a%d@example.test"}\n\n{"address": "b%d@example.test"}\n' % (number, number)
            _, text = exchanged(client, "/v1/accounts/batch", lines, {"Content-Type": kind})
            assert [one["outcome"] for one in json.loads(text)["accounts"]] == ["added", "added"]

    serving(run, cell, ask)
