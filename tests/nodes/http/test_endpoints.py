"""What is declared is what is served: validation, problems, pages, ETags, and whose things a caller may know of."""

import asyncio
import gc
import json
import re
from typing import Any

import pytest
import structlog

from chaos.cluster import free_base_port
from cli import layout
from cli.client import AdminClient
from cli.output import CommandError
from eventlog.store import Snapshot
from nodes.config.node import NodeConfig
from nodes.http.admin import endpoints
from nodes.http.errors import ApiError
from nodes.http.models import PageQuery
from nodes.http.openapi import document
from nodes.http.pages import cursor, page
from tests.nodes.http.one_node import Run, refused, serving

NUMBERS = ["five", "four", "one", "three", "two"]


@pytest.fixture
def cell(tmp_path: Any) -> layout.Cluster:
    return layout.create(tmp_path / "cell", 1, free_base_port(1))


def test_every_schema_that_is_referred_to_is_there_and_every_operation_is_told_from_others() -> None:
    found = document()
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(found)))
    assert named <= set(found["components"]["schemas"])
    operations = [one for path in found["paths"].values() for one in path.values()]
    names = [one["operationId"] for one in operations]
    assert len(set(names)) == len(names)
    assert all(one["summary"] and "\n" not in one["summary"] for one in operations)


def test_an_endpoint_s_permission_is_of_a_topic_that_exists() -> None:
    from nodes.logins.callers import PERMISSIONS

    assert {one.permission for one in endpoints()} - {"", "*"} <= PERMISSIONS


def test_a_list_is_read_in_pages_though_items_come_and_go_meanwhile() -> None:
    def some(items: list[str], after: str) -> tuple[list[Any], str | None]:
        return page(items, lambda one: (one,), PageQuery(limit=2, after=after), lambda one: one)

    first, following = some(NUMBERS, "")
    assert (first, following) == (["five", "four"], cursor(("four",)))
    added = ["eight", *[one for one in NUMBERS if one != "four"], "six"]
    assert following is not None
    second, following = some(added, following)
    assert second == ["one", "six"]
    assert following is not None
    assert some(added, following) == (["three", "two"], None)


@pytest.mark.parametrize("after", ["x", "!!!!", "e30", "W10", cursor((1,)), "ZGVlcA", "\ud800"])
def test_a_cursor_that_no_page_gave_is_refused(after: str) -> None:
    with pytest.raises(ApiError) as caught:
        page(NUMBERS, lambda one: (one,), PageQuery.model_construct(limit=2, after=after), str)
    assert caught.value.code == "invalid_cursor"


def test_pages_of_accounts_give_each_account_once(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        for tenant in ("one", "two"):
            client.change("POST", "/v1/tenants", {"name": tenant, "domains": [f"{tenant}.test", f"also-{tenant}.test"]})
        found = [one["address"] for one in client.pages("/v1/accounts?limit=1", "accounts")]
        wanted = [f"postmaster@{name}.test" for name in ("also-one", "also-two", "one", "two")]
        assert (sorted(found), found) == (wanted, [one["address"] for one in client.pages("/v1/accounts", "accounts")])
        found = [one["name"] for one in client.pages("/v1/tenants?limit=1", "tenants")]
        assert found == ["one", "two"]
        wrong = refused(lambda: client.get("/v1/accounts?after=x"))
        assert (wrong.code, str(wrong)) == ("invalid_cursor", "after: is not the `next` of a page of this list")

    serving(run, cell, ask)


def problem(error: CommandError) -> tuple[str, str]:
    return error.code, str(error)


def test_a_problem_names_every_field_that_is_wrong_and_the_nearest_right_name(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        body = {"adress": "a@b.test", "password": 1, "quota_bytes": 0}
        found = problem(refused(lambda: client.change("POST", "/v1/accounts", body)))
        assert found == (
            "invalid_request",
            "address: is missing; password: must be text; quota_bytes: must be above 0; "
            "adress: there is no such field; did you mean address?",
        )
        found = problem(refused(lambda: client.get("/v1/accounts?limi=3")))
        assert found == ("invalid_request", "limi: there is no such field; did you mean limit?")
        assert problem(refused(lambda: client.get("/v1/tenants/nobody"))) == (
            "no_such_tenant",
            "there is no tenant nobody",
        )

    serving(run, cell, ask)


def test_what_is_known_already_is_not_sent_again(run: Run, cell: layout.Cluster) -> None:
    async def ask() -> None:
        import aiohttp

        from nodes.config import sources as config_sources
        from nodes.server import Node
        from nodes.tls.contexts import admin_client_context

        admin = cell.folder / "admin"
        tls = admin_client_context(cell.folder / "ca" / "ca.pem", admin / "admin.pem", admin / "admin.key")
        async with Node(config_sources.load(cell.nodes[0].config, {})).running() as state:
            while state.unready():
                await asyncio.sleep(0.05)
            base = f"https://{cell.nodes[0].addresses['admin']}/v1/tenants"
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session:
                async with session.get(base) as first:
                    etag = first.headers["ETag"]
                async with session.get(base, headers={"If-None-Match": f'"x", W/{etag}'}) as again:
                    assert (again.status, await again.read(), again.headers["ETag"]) == (304, b"", etag)
                async with session.post(base, json={"name": "one", "domains": ["one.test"]}) as added:
                    assert added.status == 201
                async with session.get(base, headers={"If-None-Match": etag}) as changed:
                    assert changed.status == 200
                    assert changed.headers["ETag"] != etag

    run(ask())


def test_a_refused_request_leaves_nothing_that_waits_for_the_collector(run: Run, cell: layout.Cluster) -> None:
    """An exception and a frame of its traceback that keep each other keep what was read, and its reader slot."""

    def snapshots() -> int:
        return sum(isinstance(one, Snapshot) for one in gc.get_objects())

    def ask(client: AdminClient) -> None:
        refused(lambda: client.get("/v1/tenants/nobody"))
        gc.collect()
        gc.disable()
        try:
            before = snapshots()
            for _ in range(40):
                refused(lambda: client.get("/v1/tenants/nobody"))
                refused(lambda: client.get("/v1/accounts?after=x"))
            assert snapshots() - before < 10  # what else the node reads meanwhile
        finally:
            gc.enable()

    serving(run, cell, ask)


def test_nothing_is_served_that_is_not_declared() -> None:
    from nodes.http.admin import ENDPOINT, application
    from nodes.metrics import Metrics
    from nodes.state import NodeState

    app = application(NodeState(NodeConfig.model_construct(), Metrics("n1")), structlog.get_logger())
    routes = [route for route in app.router.routes() if not hasattr(route.handler, ENDPOINT)]
    assert [f"{route.method} {route.resource}" for route in routes] == []
    served = {(route.method, route.handler.mailraft_endpoint.path) for route in app.router.routes()}  # type: ignore[attr-defined]
    assert served == {(one.method, one.path) for one in endpoints()}
