"""Members and checkpoints over the admin API: who may ask, what is refused, and a node that joins from what it got."""

import asyncio
import http.client
import json
import ssl
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import pytest

from chaos.cluster import free_base_port
from cli import layout, layout_changes
from cli.client import AdminClient
from cli.output import CommandError
from eventlog.checkpoint import CheckpointError
from eventlog.store import LOG, POSITION, Store
from eventlog.verify import verify
from nodes import joining
from nodes.config import sources as config_sources
from nodes.config.node import NodeConfig
from nodes.http import checkpoint
from nodes.joining import Source, fetch
from nodes.server import Node
from tests.nodes.http.one_node import Run, serving


@pytest.fixture
def cell(tmp_path: Path) -> layout.Cluster:
    return layout.create(tmp_path / "cell", 1, free_base_port(2))


def refused(call: Callable[[], Any]) -> str:
    with pytest.raises(CommandError) as caught:
        call()
    return str(caught.value)


def add(client: AdminClient, name: str, address: str) -> Any:
    return client.change("POST", "/v1/members", {"name": name, "address": address})


def newcomer(cell: layout.Cluster) -> NodeConfig:
    """The configuration of a node that has its folder, and that the cell does not know yet."""
    return config_sources.load(layout_changes.write(cell, "n2").config, {})


def source(config: NodeConfig) -> Source:
    return Source.of(config, config.raft.join[0])


def test_members_are_listed_added_once_and_removed(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        address = cell.nodes[0].addresses["raft"]
        only = {"name": "n1", "address": address, "voter": True}
        assert client.get("/v1/members") == {"leader": "n1", "members": [only], "removed": []}
        learner = {"name": "n2", "address": "127.0.0.1:1", "voter": False}
        assert add(client, "n2", "127.0.0.1:1")["members"] == [only, learner]
        position = client.get("/v1/log?last=1")["position"]
        assert add(client, "n2", "127.0.0.1:1")["members"] == [only, learner]
        assert client.get("/v1/log?last=1")["position"] == position
        gone = client.change("DELETE", "/v1/members/n2")
        assert (gone["members"], gone["removed"]) == ([only], ["n2"])
        assert client.change("POST", "/v1/members/n1/lead")["leader"] == "n1"

    serving(run, cell, ask)


def test_what_would_harm_the_cell_is_refused(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        add(client, "n2", "127.0.0.1:1")
        assert "is a member of the cell already" in refused(lambda: add(client, "n2", "127.0.0.1:2"))
        assert "the address of another member" in refused(lambda: add(client, "n3", "127.0.0.1:1"))
        assert "must be host:port" in refused(lambda: add(client, "n3", "nowhere"))
        assert "lower-case letters" in refused(lambda: add(client, "N 3", "127.0.0.1:3"))
        assert "n9 is no member" in refused(lambda: client.change("DELETE", "/v1/members/n9"))
        assert "the last member that votes" in refused(lambda: client.change("DELETE", "/v1/members/n1"))
        assert "no member that votes" in refused(lambda: client.change("POST", "/v1/members/n2/lead"))
        client.change("DELETE", "/v1/members/n2")
        assert "was a member once" in refused(lambda: add(client, "n2", "127.0.0.1:1"))

    serving(run, cell, ask)


def test_a_change_of_the_members_says_which_administrator_made_it(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        add(client, "n2", "127.0.0.1:1")
        changed = client.get("/v1/log?last=1")["records"][0]
        assert changed["by"]["kind"] == "admin"
        assert changed["cause"].startswith("POST /v1/members session ")
        assert [event["type"] for event in changed["events"]] == ["MembersChanged"]

    serving(run, cell, ask)


def test_a_new_member_gets_a_database_that_verifies(run: Run, cell: layout.Cluster) -> None:
    config = newcomer(cell)

    def ask(client: AdminClient) -> None:
        client.change("POST", "/v1/tenants", {"name": "example", "domains": ["example.test"]})
        add(client, "n2", config.raft.listen)
        seen: list[tuple[int, int]] = []
        head = fetch(config.node.data_dir, source(config), lambda done, total: seen.append((done, total)))
        assert [(member.name, member.voter) for member in head.members] == [("n1", True), ("n2", False)]
        assert all(done <= total for done, total in seen)
        report = verify(config.node.data_dir)
        assert (report.ok, report.head) == (True, head.chain)
        assert head.position == client.get("/v1/log?last=1")["position"]

    assert joining.is_due(config)
    serving(run, cell, ask)
    assert not joining.is_due(config)


def test_a_node_that_had_a_database_does_not_get_another(cell: layout.Cluster) -> None:
    config = newcomer(cell)
    (config.node.data_dir.parent / "data.joined").touch()
    assert not joining.is_due(config)
    assert not joining.is_due(config_sources.load(cell.nodes[0].config, {}))


def test_a_node_that_the_cell_has_not_added_gets_no_checkpoint(run: Run, cell: layout.Cluster) -> None:
    config = newcomer(cell)

    def ask(_client: AdminClient) -> None:
        with pytest.raises(CheckpointError, match="n2 is no member of the cell"):
            fetch(config.node.data_dir, source(config), lambda _done, _total: None)
        assert not (config.node.data_dir / "data.mdb").exists()

    serving(run, cell, ask)


@pytest.mark.parametrize("once_a_member", [False, True])
def test_no_byte_of_the_cell_is_sent_to_a_node_that_is_no_member(
    run: Run, cell: layout.Cluster, once_a_member: bool
) -> None:
    config = newcomer(cell)

    def ask(client: AdminClient) -> None:
        if once_a_member:
            add(client, "n2", config.raft.listen)
            client.change("DELETE", "/v1/members/n2")
        with closing(joining.connect(source(config))) as connection:
            with pytest.raises(ssl.SSLError, match="CERTIFICATE_REVOKED") if once_a_member else nullcontext():
                connection.request("GET", "/v1/checkpoint")
                response = connection.getresponse()
                assert (response.status, json.loads(response.read())["category"]) == (403, "forbidden")

    serving(run, cell, ask)


def test_a_node_of_another_cell_gets_no_checkpoint(run: Run, cell: layout.Cluster, tmp_path: Path) -> None:
    elsewhere = layout.create(tmp_path / "elsewhere", 1, free_base_port(1))
    config = newcomer(elsewhere)

    def ask(_client: AdminClient) -> None:
        foreign = source(config)._replace(address=cell.nodes[0].addresses["admin"])
        with pytest.raises((OSError, http.client.HTTPException)):
            fetch(config.node.data_dir, foreign, lambda _done, _total: None)

    serving(run, cell, ask)


def test_a_nodes_certificate_opens_nothing_but_the_checkpoint(run: Run, cell: layout.Cluster) -> None:
    config = newcomer(cell)

    def ask(client: AdminClient) -> None:
        add(client, "n2", config.raft.listen)
        with closing(joining.connect(source(config))) as connection:
            for method, path in (("GET", "/v1/status"), ("GET", "/v1/log?last=1"), ("DELETE", "/v1/members/n1")):
                connection.request(method, path)
                response = connection.getresponse()
                assert (response.status, json.loads(response.read())["category"]) == (403, "forbidden")

    serving(run, cell, ask)


def test_a_node_sends_few_checkpoints_at_once(run: Run, cell: layout.Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    config = newcomer(cell)
    monkeypatch.setattr(checkpoint, "MOST_AT_ONCE", 0)

    def ask(client: AdminClient) -> None:
        add(client, "n2", config.raft.listen)
        with pytest.raises(CheckpointError, match="sending checkpoints already"):
            fetch(config.node.data_dir, source(config), lambda _done, _total: None)

    serving(run, cell, ask)


def test_a_checkpoint_that_can_not_be_made_to_its_end_leaves_no_database(run: Run, cell: layout.Cluster) -> None:
    config = newcomer(cell)

    async def session() -> None:
        async with Node(config_sources.load(cell.nodes[0].config, {})).running() as state:
            async with asyncio.timeout(15):
                while state.unready():
                    await asyncio.sleep(0.05)
            await asyncio.to_thread(add, AdminClient(cell), "n2", config.raft.listen)
            assert state.log is not None
            lose_record(state.log.store, 2)
            with pytest.raises((CheckpointError, OSError, http.client.HTTPException)):
                await asyncio.to_thread(fetch, config.node.data_dir, source(config), lambda _done, _total: None)

    run(session())
    assert joining.is_due(config)
    assert not (config.node.data_dir.parent / "data.joining").exists()


def lose_record(store: Store, position: int) -> None:
    with store.env.begin(write=True) as txn:
        txn.delete(POSITION.pack(position), db=store.db[LOG])


def test_a_node_joins_says_how_far_it_is_and_serves(run: Run, cell: layout.Cluster) -> None:
    config = newcomer(cell)

    async def session() -> None:
        joiner = Node(config)
        life = asyncio.create_task(_live(joiner))
        async with asyncio.timeout(30):
            while not joiner.state.unready()[0].startswith("joining: 127.0.0.1"):
                await asyncio.sleep(0.02)  # nobody is there to answer
            assert joiner.state.status()["role"] == "learner"
            async with Node(config_sources.load(cell.nodes[0].config, {})).running() as first:
                while first.unready():
                    await asyncio.sleep(0.05)
                await asyncio.to_thread(add, AdminClient(cell), "n2", config.raft.listen)
                while joiner.state.unready():
                    await asyncio.sleep(0.05)
                while joiner.state.status()["role"] != "follower":
                    await asyncio.sleep(0.05)
                assert joiner.state.status()["leader"] == "n1"
                joiner.stop.set()
                await life

    run(session())


async def _live(node: Node) -> None:
    async with node.running():
        await node.stop.wait()
