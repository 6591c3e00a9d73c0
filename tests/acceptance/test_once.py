"""A request that a node took with it when it was killed is carried out once, whichever node it is sent to again."""

import http.client
import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from chaos.cluster import Cluster
from cli import layout
from cli.client import AdminClient

ROUNDS = 4
Said = tuple[int, Any]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("once") / "cluster") as found:
        yield found


class Keyed(AdminClient):
    """Asks one node once, under a key."""

    def add(self, node: layout.Node, number: int) -> Said | None:
        """Status and answer; None where the node was lost."""
        body = {"address": f"a{number}@once.test", "password": "correct horse battery"}
        try:
            connection = self._connect(node, 3.0)
            answer = self._exchange(connection, "POST", "/v1/accounts", body, 20.0, f"key-{number}")
            return answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError):
            return None


def test_a_request_is_carried_out_once_though_its_node_is_killed(cluster: Cluster) -> None:
    found = layout.load(cluster.folder)
    client = Keyed(found)
    client.change("POST", "/v1/tenants", {"name": "once", "domains": ["once.test"]})
    for number in range(ROUNDS):
        victim, other = found.nodes[number % 3], found.nodes[(number + 1) % 3]
        process = cluster.status().node(victim.name).pid
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(client.add, victim, number)
            time.sleep(0.04 * number)  # from before it is proposed to after it is answered
            os.kill(process, signal.SIGKILL)
        again = client.add(other, number)
        while again is None or again[0] in (503, 504):
            again = client.add(other, number)
        assert again[0] == 201, again
        assert first.result() in (None, again)
        cluster.wait_ready(60)
    added = [one["address"] for one in client.pages("/v1/accounts?tenant=once", "accounts")]
    assert sorted(added) == [*(f"a{number}@once.test" for number in range(ROUNDS)), "postmaster@once.test"]
