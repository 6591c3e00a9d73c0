"""The life of one node: what it refuses to start with, what it serves, quarantine, the end."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cli import layout
from cli.client import AdminClient
from cli.output import CommandError
from cli.supervisor import environment, program
from eventlog.errors import OutcomeUnknown, UnknownEvent
from eventlog.record import NO_TENANT, By, Event, Record, new_id
from nodes.config.node import NodeConfig
from nodes.server import Node, OutOfMemory
from nodes.starting import StartError, read_cluster_key
from tests.nodes.conftest import MakeCell

Run = Callable[[Coroutine[Any, Any, Any]], Any]


async def start_and_stop(config: NodeConfig) -> None:
    async with Node(config).running():
        pass


def start_refusal(run: Run, config: NodeConfig) -> StartError:
    with pytest.raises(StartError) as caught:
        run(start_and_stop(config))
    return caught.value


@pytest.mark.parametrize("key", ["imap", "smtp", "pop3s", "http", "admin"])
def test_a_port_in_use_is_named_with_its_key(run: Run, make_cell: MakeCell, key: str) -> None:
    _, config = make_cell()
    address = str(getattr(config.listen, key))
    with closing(socket.create_server(("127.0.0.1", int(address.rpartition(":")[2])))):
        assert str(start_refusal(run, config)) == f"listen.{key} = {address}: the address is in use"


def test_an_address_of_another_machine_is_named_with_its_key(run: Run, make_cell: MakeCell) -> None:
    _, config = make_cell("listen.imap=192.0.2.1:143")
    assert str(start_refusal(run, config)).startswith("listen.imap = 192.0.2.1:143: can not listen there: ")


@pytest.mark.parametrize("text", ["", "abc", "00" * 31, "zz" * 32])
def test_a_cluster_key_of_another_shape_is_refused_without_showing_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "cluster.key").write_text(text)
    with pytest.raises(StartError) as caught:
        read_cluster_key(tmp_path / "cluster.key")
    path = tmp_path / "cluster.key"
    assert str(caught.value) == f"secrets.cluster_key_file: {path} must hold 32 bytes in hexadecimal"


def test_a_cluster_key_that_is_not_there_or_is_junk_is_found_before_the_database_is_made(
    run: Run, make_cell: MakeCell
) -> None:
    _, config = make_cell()
    path = config.secrets.cluster_key_file
    path.write_text("junk")
    assert str(start_refusal(run, config)) == f"secrets.cluster_key_file: {path} must hold 32 bytes in hexadecimal"
    path.unlink()
    missing = f"secrets.cluster_key_file: {path}: can not be read: No such file or directory"
    assert str(start_refusal(run, config)) == missing
    assert not list(config.node.data_dir.glob("*.mdb"))


def wait_for(reached: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def answers(address: str, path: str) -> tuple[int, Any]:
    """(status, JSON) of a request in clear; status 0 if nobody answers."""
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
    except OSError:
        return 0, None


@pytest.fixture
def start_process(request: pytest.FixtureRequest) -> Callable[..., subprocess.Popen[str]]:
    def start(node: layout.Node, *arguments: str) -> subprocess.Popen[str]:
        command = program("node", "run", "--config", str(node.config), *arguments)
        process = subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True)

        def end() -> None:
            process.kill()
            process.wait()
            if process.stderr is not None:
                process.stderr.close()

        request.addfinalizer(end)
        return process

    return start


Start = Callable[..., subprocess.Popen[str]]


def test_a_node_runs_alone_and_stops_cleanly_when_told_to(make_cell: MakeCell, start_process: Start) -> None:
    cluster, _ = make_cell()
    node = cluster.nodes[0]
    process = start_process(node)
    wait_for(lambda: answers(node.addresses["http"], "/readyz")[0] == 200)
    assert answers(node.addresses["http"], "/healthz") == (200, {"ok": True})
    assert node.pid_file.read_text() == f"{process.pid}\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0
    assert not node.pid_file.exists()
    _, said = process.communicate()
    assert "serving" in said
    assert "stopped" in said


def test_a_second_process_of_one_node_is_refused(make_cell: MakeCell, start_process: Start) -> None:
    cluster, _ = make_cell()
    node = cluster.nodes[0]
    first = start_process(node)
    wait_for(lambda: answers(node.addresses["http"], "/healthz")[0] == 200)
    second = start_process(node, "--set", "listen.http=", "--set", "listen.admin=")
    _, said = second.communicate(timeout=15)
    assert second.returncode == 1
    assert f"another process runs this node (pid {first.pid})" in said


def test_a_node_whose_parent_ends_stops(make_cell: MakeCell) -> None:
    cluster, _ = make_cell()
    node = cluster.nodes[0]
    command = program("node", "run", "--config", str(node.config), "--parent-pid")
    parent = subprocess.Popen(
        ["sh", "-c", '"$@" $$ 2>/dev/null & wait', "sh", *command],
        env=environment(),
    )
    wait_for(lambda: answers(node.addresses["http"], "/healthz")[0] == 200)
    pid = int(node.pid_file.read_text())
    parent.kill()
    parent.wait()
    wait_for(lambda: not Path(f"/proc/{pid}").exists() or Path(f"/proc/{pid}/cmdline").read_bytes() == b"")


def test_a_damaged_database_quarantines_the_node(make_cell: MakeCell, start_process: Start) -> None:
    cluster, config = make_cell()
    node = cluster.nodes[0]
    first = start_process(node)
    wait_for(lambda: answers(node.addresses["http"], "/readyz")[0] == 200)
    first.send_signal(signal.SIGTERM)
    assert first.wait(15) == 0
    damage(config.node.data_dir / "data.mdb")
    process = start_process(node)
    wait_for(lambda: "quarantined: " in str(answers(node.addresses["http"], "/readyz")[1]))
    assert answers(node.addresses["http"], "/healthz")[0] == 200
    assert answers(node.addresses["http"], "/readyz")[0] == 503
    with pytest.raises(CommandError, match="quarantined: "):
        AdminClient(cluster).change("POST", "/v1/tenants", {"name": "x", "domains": ["x.test"]})
    seen = AdminClient(cluster).status(node)
    assert (seen["role"], seen["ready"], seen["chain"]) == ("quarantined", False, None)
    with closing(socket.socket()) as probe:
        assert probe.connect_ex(("127.0.0.1", int(node.addresses["smtp"].rpartition(":")[2]))) != 0
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0
    assert "quarantined" in process.communicate()[1]


def test_a_node_that_was_removed_says_so_and_serves_nobody(make_cell: MakeCell, run: Run) -> None:
    _, config = make_cell()

    async def scenario() -> None:
        node = Node(config)
        async with node.running() as state:
            assert state.log is not None
            state.log._tell_removed(7)
            for _ in range(500):
                await asyncio.sleep(0.01)
                if await asyncio.to_thread(refuses_connections, config.listen.smtp):
                    break
            assert state.phase == "quarantined"
            assert state.unready()[0].startswith("quarantined: removed from the cell at position 7: ")
            code, _ = await asyncio.to_thread(answers, config.listen.http, "/healthz")
            assert code == 200
            assert await asyncio.to_thread(refuses_connections, config.listen.smtp)

    run(scenario())


def test_an_event_of_a_later_version_ends_the_node_which_says_at_what_position(make_cell: MakeCell, run: Run) -> None:
    _, config = make_cell()
    event = Event(NO_TENANT, bytes(16), "InventedLater", 1, b"\x90", bytes(16))
    record = Record(new_id(), int(time.time() * 1000) + 60_000, By("node", b"", ""), "a test", (), (event,))

    async def scenario() -> None:
        node = Node(config)
        async with node.running() as state:
            assert state.log is not None
            with pytest.raises(OutcomeUnknown):
                await state.log.propose(record)
            await asyncio.wait_for(node.stop.wait(), 20)
        assert isinstance(node.fatal, UnknownEvent)
        assert "holds an event type InventedLater of a later version of mailraft: start this node" in str(node.fatal)

    run(scenario())


def test_a_node_whose_event_loop_had_no_memory_ends(make_cell: MakeCell, run: Run) -> None:
    async def scenario() -> None:
        node = Node(make_cell()[1])
        async with node.running():
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(node.loop_failed)
            loop.call_soon(int, "a fault of one callback")
            await asyncio.sleep(0.05)
            assert not node.stop.is_set()
            loop.call_soon(out_of_memory)
            await asyncio.wait_for(node.stop.wait(), 20)
        assert isinstance(node.fatal, OutOfMemory)

    run(scenario())


def out_of_memory() -> None:
    raise MemoryError


def refuses_connections(address: str) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", int(address.rpartition(":")[2]))) != 0


def damage(database: Path) -> None:
    """Overwrites every page after the two meta pages."""
    size = database.stat().st_size
    with database.open("r+b") as file:
        file.seek(2 * 4096)
        file.write(os.urandom(max(4096, size - 2 * 4096)))


def test_gauges_follow_the_log(run: Run, make_cell: MakeCell) -> None:
    async def scrape() -> str:
        node = Node(make_cell()[1])
        async with node.running() as state:
            async with asyncio.timeout(15):
                while state.unready():
                    await asyncio.sleep(0.05)
            state.measure()
            return state.metrics.exposition().decode()

    text = run(scrape())
    assert 'mailraft_raft_role{role="leader"} 1.0' in text
    assert "mailraft_accepting_mail 1.0" in text
    assert "mailraft_fold_lag 0.0" in text
    assert "mailraft_queue_items 0.0" in text
