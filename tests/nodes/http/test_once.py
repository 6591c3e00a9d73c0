"""A request that is sent again under its key is carried out once: at any node, after a restart, whatever it made."""

import asyncio
import http.client
import json
from typing import Any

import pytest

from chaos.cluster import free_base_port
from cli import layout
from cli.client import AdminClient
from nodes.config import sources as config_sources
from nodes.server import Node
from tests.nodes.http.one_node import Run

Said = tuple[int, dict[str, Any]]
ACCOUNT = {"address": "alice@example.test", "password": "correct horse battery"}
PATH = "/v1/accounts/alice@example.test"


@pytest.fixture
def cell(tmp_path: Any) -> layout.Cluster:
    return layout.create(tmp_path / "cell", 1, free_base_port(1))


class Site(AdminClient):
    """Asks the one node once, under a key."""

    def keyed(self, key: str, method: str, path: str, body: Any = None) -> Said:
        (node,) = self._cluster.nodes
        connection = self._connect(node, 5.0)
        try:
            answer = self._exchange(connection, method, path, body, 20.0, key)
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def matching(self, etag: str, path: str, body: Any, method: str = "PUT") -> Said:
        """Changes what it has seen."""
        (node,) = self._cluster.nodes
        connection = self._connect(node, 5.0)
        headers = {"If-Match": etag, "Content-Type": "application/json"}
        connection.request(method, path, json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    def etag(self, path: str) -> str:
        response = self._first_response("GET", path, None, None)
        response.read()
        return response.headers["ETag"]

    def count(self, type_: str) -> int:
        records = self.get("/v1/log?last=1000")["records"]
        return sum(event["type"] == type_ for record in records for event in record.get("events", ()))


def during(run: Run, cell: layout.Cluster, *stories: Any) -> None:
    """Each story while the node runs; it is stopped and started between them."""

    async def session(story: Any) -> None:
        async with Node(config_sources.load(cell.nodes[0].config, {})).running() as state:
            while state.unready():
                await asyncio.sleep(0.05)
            await asyncio.to_thread(story, Site(cell))

    for story in stories:
        run(session(story))


def with_tenant(site: Site) -> None:
    site.change("POST", "/v1/tenants", {"name": "example", "domains": ["example.test"]})


def test_what_was_carried_out_is_known_after_a_restart_and_answers_the_same(run: Run, cell: layout.Cluster) -> None:
    said: list[Said] = []

    def before(site: Site) -> None:
        with_tenant(site)
        said.append(site.keyed("one", "POST", "/v1/accounts", ACCOUNT))

    def after(site: Site) -> None:
        said.append(site.keyed("one", "POST", "/v1/accounts", ACCOUNT))
        assert site.count("AccountAdded") == 2  # the postmaster's, and this one
        other = site.keyed("two", "POST", "/v1/accounts", ACCOUNT)
        assert (other[0], other[1]["code"]) == (409, "name_taken")

    during(run, cell, before, after)
    assert said[0][0] == 201
    assert said[0] == said[1]


def test_a_key_is_of_one_request_alone(run: Run, cell: layout.Cluster) -> None:
    def story(site: Site) -> None:
        with_tenant(site)
        assert site.keyed("one", "POST", "/v1/accounts", ACCOUNT)[0] == 201
        status, problem = site.keyed("one", "POST", "/v1/accounts", {**ACCOUNT, "address": "bob@example.test"})
        assert (status, problem["code"]) == (422, "key_reused")
        status, problem = site.keyed("x" * 256, "POST", "/v1/accounts", ACCOUNT)
        assert (status, problem["errors"][0]["field"]) == (400, "Idempotency-Key")

    during(run, cell, story)


def test_what_was_refused_may_be_asked_for_again_under_the_same_key(run: Run, cell: layout.Cluster) -> None:
    def story(site: Site) -> None:
        assert site.keyed("one", "POST", "/v1/accounts", ACCOUNT)[1]["code"] == "no_such_domain"
        with_tenant(site)
        assert site.keyed("one", "POST", "/v1/accounts", ACCOUNT)[0] == 201

    during(run, cell, story)


def test_a_deletion_that_is_repeated_answers_as_the_first_and_a_secret_is_told_once(
    run: Run, cell: layout.Cluster
) -> None:
    def story(site: Site) -> None:
        with_tenant(site)
        site.keyed("one", "POST", "/v1/accounts", ACCOUNT)
        phone = {"name": "phone", "scopes": ["imap"]}
        assert site.keyed("two", "POST", f"{PATH}/app-passwords", phone)[0] == 201
        status, problem = site.keyed("two", "POST", f"{PATH}/app-passwords", phone)
        assert (status, problem["code"]) == (409, "answer_not_kept")
        assert site.count("AppPasswordAdded") == 1
        assert site.keyed("three", "DELETE", PATH) == (200, {})
        assert site.keyed("three", "DELETE", PATH) == (200, {})
        assert site.keyed("four", "DELETE", PATH)[0] == 404
        status, problem = site.keyed("one", "POST", "/v1/accounts", ACCOUNT)
        assert (status, problem["code"]) == (409, "already_carried_out")

    during(run, cell, story)


def test_one_request_that_comes_many_times_at_once_is_carried_out_once(run: Run, cell: layout.Cluster) -> None:
    def story(site: Site) -> None:
        with_tenant(site)
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(8) as pool:
            said = list(pool.map(lambda _: site.keyed("one", "POST", "/v1/accounts", ACCOUNT), range(8)))
        assert {status for status, _ in said} == {201}
        assert len({body["id"] for _, body in said}) == 1
        assert site.count("RequestCarriedOut") == 2  # the tenant's, by the client, and this one

    during(run, cell, story)


def test_a_repeated_answer_says_that_nothing_was_done_now(run: Run, cell: layout.Cluster) -> None:
    def story(site: Site) -> None:
        with_tenant(site)
        found: list[http.client.HTTPResponse] = []
        for _ in range(2):
            connection = site._connect(cell.nodes[0], 5.0)
            found.append(site._exchange(connection, "POST", "/v1/accounts", ACCOUNT, 20.0, "one"))
            found[-1].read()
        assert [one.headers.get("Idempotency-Replayed") for one in found] == [None, "true"]

    during(run, cell, story)


@pytest.mark.parametrize(
    ("path", "method", "bodies"),
    [
        ("/v1/tenants/example/policy", "PUT", [{"set": {"dmarc": "mark"}}, {"set": {"dmarc": "enforce"}}]),
        ("/v1/verdicts", "PUT", [{"dmarc": "mark"}, {"dmarc": "enforce"}]),
        ("/v1/reports/settings", "PUT", [{"organisation": "One"}, {"organisation": "Two"}]),
        ("/v1/tenants/example", "PATCH", [{"time_travel": False}, {"time_travel": True}]),
    ],
)
def test_what_has_changed_since_it_was_read_is_left_alone(
    run: Run, cell: layout.Cluster, path: str, method: str, bodies: list[Any]
) -> None:
    def story(site: Site) -> None:
        with_tenant(site)
        etag = site.etag(path)
        assert site.matching(etag, path, bodies[0], method)[0] == 200
        changed = site.get(path)
        status, problem = site.matching(etag, path, bodies[1], method)
        assert (status, problem["code"]) == (412, "has_changed")
        assert site.get(path) == changed
        assert site.matching(f'"x", {site.etag(path)}', path, bodies[1], method)[0] == 200
        status, problem = site.matching(etag, PATH, None, "DELETE")
        assert status in (404, 412)

    during(run, cell, story)
