"""A node under a service manager: what it says to it, sockets that it is passed, its units; drained without a cut."""

from __future__ import annotations

import asyncio
import imaplib
import os
import select
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from chaos.cluster import free_base_port
from cli import layout
from cli.client import AdminClient
from cli.node_doctor import drain
from cli.supervisor import environment, program
from cli.systemd_unit import systemd_unit
from eventlog.writer import Writer
from nodes.config.node import split_address
from nodes.server import Node
from nodes.systemd import Notifier, passed_socket, passed_sockets
from tests.nodes.conftest import MakeCell

Run = Callable[[Coroutine[Any, Any, Any]], Any]

MOST_EXPOSED = 20  # tenths, of 100: "OK" ends at 50
LISTEN = """
import os, socket, sys
for at, fd in enumerate(map(int, sys.argv[1].split(","))):
    os.dup2(fd, 3 + at)
    os.set_inheritable(3 + at, True)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The service manager's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(30)
        yield listening


def hear(manager: socket.socket, wanted: str) -> list[str]:
    """What was said up to a message with that line, that one included."""
    heard = []
    while True:
        heard.append(manager.recv(4096).decode())
        if any(line.startswith(wanted) for line in heard[-1].splitlines()):
            return heard


def wait_for(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_node_says_when_it_is_ready_lives_reloads_and_stops(tmp_path: Path, manager: socket.socket) -> None:
    node = layout.create(tmp_path / "cell", 1, free_base_port(1)).nodes[0]
    told = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"}
    command = program("node", "run", "--config", str(node.config))
    process = subprocess.Popen(command, env=environment() | told, stderr=subprocess.DEVNULL)
    try:
        assert "READY=1\nSTATUS=n1: " in hear(manager, "READY")[-1]
        hear(manager, "WATCHDOG=1")
        process.send_signal(signal.SIGHUP)
        assert "MONOTONIC_USEC=" in hear(manager, "RELOADING=1")[-1]
        hear(manager, "READY=1")
        process.terminate()
        hear(manager, "STOPPING=1")
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


def test_without_a_manager_nothing_is_said() -> None:
    Notifier({}).ready("well")
    Notifier({"NOTIFY_SOCKET": "/nowhere/at/all"}).ready("well")
    assert Notifier({"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}).watchdog_s == 0


def heard(manager: socket.socket) -> list[str]:
    """What has been said and not heard yet."""
    found = []
    while select.select([manager], [], [], 0)[0]:
        found.append(manager.recv(4096).decode())
    return found


async def until(reached: Callable[[], bool]) -> None:
    while not reached():
        await asyncio.sleep(0.01)


def test_a_watchdog_hears_nothing_of_an_event_loop_that_hangs(run: Run, tmp_path: Path, manager: socket.socket) -> None:
    async def session() -> None:
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000"})
        watching = asyncio.create_task(notifier.watch(lambda: True, lambda: ""))
        await asyncio.to_thread(hear, manager, "WATCHDOG=1")
        heard(manager)
        time.sleep(0.2)  # noqa: ASYNC251  the loop hangs
        assert heard(manager) == []
        await asyncio.to_thread(hear, manager, "WATCHDOG=1")
        watching.cancel()

    run(session())


def test_a_watchdog_hears_nothing_while_the_consensus_thread_hangs_at_its_disk(
    run: Run, tmp_path: Path, manager: socket.socket, make_cell: MakeCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = threading.Event()
    disk.set()
    write = Writer._make_durable

    def slowly(writer: Writer, now: float) -> None:
        disk.wait(60)
        write(writer, now)

    monkeypatch.setattr(Writer, "_make_durable", slowly)

    async def session() -> None:
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"})
        node = Node(make_cell()[1])
        async with node.running() as state:
            await until(lambda: not state.unready())
            watching = asyncio.create_task(notifier.watch(lambda: node.is_well(notifier.watchdog_s), lambda: ""))
            await asyncio.to_thread(hear, manager, "WATCHDOG=1")
            try:
                disk.clear()
                await until(lambda: not node.is_well(notifier.watchdog_s))
                heard(manager)
                await asyncio.sleep(notifier.watchdog_s)  # in which it would be told three times
                assert heard(manager) == []
            finally:
                disk.set()
            await asyncio.to_thread(hear, manager, "WATCHDOG=1")
            watching.cancel()

    run(session())


@pytest.mark.parametrize("workers", [0, 2])
def test_a_node_serves_on_sockets_that_it_is_passed(tmp_path: Path, workers: int) -> None:
    node = layout.create(tmp_path / "cell", 1, free_base_port(1)).nodes[0]
    with socket.create_server(("127.0.0.1", 0)) as smtp, socket.create_server(("127.0.0.1", 0)) as imaps:
        names = ("smtp", "imaps", "submissions", "http")
        sockets = [smtp, imaps, *(socket.create_server(("127.0.0.1", 0)) for _ in names[2:])]
        flags = [word for name in names for word in ("--set", f"listen.{name}=fd:{name}")]
        run = program("node", "run", "--config", str(node.config), *flags, "--set", f"node.workers={workers}")
        fds = [one.fileno() for one in sockets]
        env = environment() | {"LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": ":".join(names)}
        process = subprocess.Popen(
            [sys.executable, "-c", LISTEN, ",".join(map(str, fds)), *run],
            env=env,
            stderr=subprocess.DEVNULL,
            pass_fds=fds,
        )
        try:
            with smtplib.SMTP("127.0.0.1", smtp.getsockname()[1], timeout=30) as client:
                assert client.noop()[0] == 250
            context = ssl._create_unverified_context()
            for one in (sockets[1], sockets[2]):
                with socket.create_connection(one.getsockname()) as plain, context.wrap_socket(plain) as secure:
                    assert secure.recv(10)
        finally:
            process.terminate()
            process.wait(20)
            for one in sockets:
                one.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_node_that_systemd_starts_at_its_first_client_serves_it(tmp_path: Path, workers: int) -> None:
    activate = shutil.which("systemd-socket-activate") or pytest.skip("systemd-socket-activate is not installed")
    node = layout.create(tmp_path / "cell", 1, free_base_port(1)).nodes[0]
    kinds = ("smtp", "imap")
    sockets = [word for kind in kinds for word in ("-l", node.addresses[kind])]
    flags = [word for kind in kinds for word in ("--set", f"listen.{kind}=fd:{kind}")]
    run = program("node", "run", "--config", str(node.config), *flags, "--set", f"node.workers={workers}")
    passed = [word for name in ("PATH", "PYTHONPATH") for word in ("-E", name)]
    command = [activate, *passed, *sockets, f"--fdname={':'.join(kinds)}", *run]
    process = subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL)
    addresses = {kind: split_address(node.addresses[kind]) for kind in kinds}
    try:
        wait_for(lambda: _listens(process.pid, addresses["smtp"][1]))
        with smtplib.SMTP(*addresses["smtp"], timeout=30) as client:  # waits in the kernel until the node is there
            assert client.noop()[0] == 250
        with imaplib.IMAP4(*addresses["imap"], timeout=30) as reader:
            assert reader.noop()[0] == "OK"
    finally:
        process.terminate()
        assert process.wait(20) == 0


def _listens(pid: int, port: int) -> bool:
    """Asked of the kernel: to connect would start the node."""
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)


def test_a_socket_that_was_not_passed_is_named() -> None:
    mine = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "smtp:imaps"}
    assert passed_sockets(mine) == {"smtp": 3, "imaps": 4}
    assert passed_sockets(mine | {"LISTEN_PID": "1"}) == {}
    assert passed_socket("127.0.0.1:25", mine) is None
    with pytest.raises(OSError, match=r"no socket of that name was passed to this process \(smtp, imaps\)"):
        passed_socket("fd:pop3", mine)


def test_the_units_hold_before_systemd_and_the_service_is_well_confined(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    config = tmp_path / "mailraft.toml"
    config.touch()
    options = ["--config", str(config), "--user", "mail", "--directory", str(tmp_path), "--socket", "smtp"]
    done = CliRunner().invoke(systemd_unit, [*options, "--socket", "imaps"])
    assert done.exit_code == 0, done.output
    units = sorted(map(str, tmp_path.glob("mailraft*.s*")))
    assert [Path(one).name for one in units] == ["mailraft-imaps.socket", "mailraft-smtp.socket", "mailraft.service"]
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *units],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    looked_at = [
        "systemd-analyze",
        "security",
        "--offline=true",
        "--no-pager",
        f"--threshold={MOST_EXPOSED}",
        units[-1],
    ]
    judged = subprocess.run(looked_at, capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stdout
    assert "Overall exposure level for mailraft.service" in judged.stdout


@contextmanager
def _ready(folder: Path) -> Iterator[tuple[layout.Cluster, subprocess.Popen[bytes]]]:
    """A node that serves, and its process."""
    cluster = layout.create(folder, 1, free_base_port(1))
    node, client = cluster.nodes[0], AdminClient(cluster)
    command = program("node", "run", "--config", str(node.config))
    process = subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: _is_ready(client, node))
        yield cluster, process
    finally:
        process.kill()
        process.wait()


def test_a_drained_node_lets_its_clients_finish_and_ends(tmp_path: Path) -> None:
    with _ready(tmp_path / "cell") as (cluster, process):
        node, client = cluster.nodes[0], AdminClient(cluster)
        session = imaplib.IMAP4(*split_address(node.addresses["imap"]))
        assert client.change("POST", "/v1/drain", {"timeout_s": 60})["connections"] == 1
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(split_address(node.addresses["imap"]))
        assert "draining" in client.status(node)["reasons"][0]
        assert session.noop()[0] == "OK"
        assert process.poll() is None
        session.logout()
        assert process.wait(20) == 0


def test_who_does_not_go_is_asked_to_when_the_time_is_up(tmp_path: Path) -> None:
    with _ready(tmp_path / "cell") as (cluster, process):
        session = imaplib.IMAP4(*split_address(cluster.nodes[0].addresses["imap"]))
        done = CliRunner().invoke(drain, ["n1", "--cluster", str(cluster.folder), "--timeout", "0.5"])
        assert done.exit_code == 0, done.output
        assert b"BYE" in session.readline()
        assert process.wait(20) == 0


def _is_ready(client: AdminClient, node: layout.Node) -> bool:
    try:
        return bool(client.status(node)["ready"])
    except Exception:
        return False
