"""`mailraft bench connections`: what a connection costs a node in memory, idle ones and busy ones at the same time.

The node's resident memory is read before, with the idle connections open, and at its height while smtp-source keeps the
busy ones at work. At the end every idle connection must still answer.
"""

import resource
import shutil
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from chaos.cluster import Cluster
from cli.bench.results import Row
from cli.bench.smtp_rates import ACCOUNT, BenchError, Load, rate
from nodes.process import raise_file_limit

FILES_BESIDE = 300  # of a node, or of this process, beside the connections
WARM_UP = Load(messages=2000, sessions=32)
SAMPLE_S = 0.05
SETTLE_S = 2.0
ANSWER_TIMEOUT_S = 30.0
KIB = 1024


def bench_connections(idle: int, busy: int, messages: int, tls: bool) -> list[Row]:
    """Rows in KiB for each connection, and the rate of the busy ones. Raises BenchError, ClusterError, OSError.

    `tls`: the idle connections are submitters over TLS.
    """
    _check_files(idle + busy)
    if busy and shutil.which("smtp-source") is None:
        raise BenchError("smtp-source not found: apt-get install postfix (it need not run)")
    with _node(idle + busy) as (endpoints, pid), ExitStack() as opened:
        endpoint, context = endpoints["smtp"], _anyone() if tls else None
        idle_endpoint = endpoints["submissions" if tls else "smtp"]
        rate([endpoint], WARM_UP)
        time.sleep(SETTLE_S)
        before = _resident_bytes(pid)
        clients = [opened.enter_context(_greeted(idle_endpoint, context)) for _ in range(idle)]
        time.sleep(SETTLE_S)
        with_idle = _resident_bytes(pid)
        rows = [
            _row(
                "Memory of an idle SMTP connection",
                (with_idle - before) / idle,
                f"{idle} of them{' over TLS' * tls}, after EHLO",
            )
        ]
        if busy:
            with _peak(pid) as peak:
                busy_rate = rate([endpoint], Load(messages, busy))
            each = (peak[0] - before) / (idle + busy)
            rows.append(
                _row("Memory of an SMTP connection under load", each, f"{idle} idle, {busy} busy, at its height")
            )
            rows.append(Row("SMTP accepted beside them", busy_rate, "msg/s", True, f"{busy} sessions, one node"))
        _ask_all(clients)
    return rows


def _row(name: str, size_bytes: float, note: str) -> Row:
    return Row(name, size_bytes / KIB, "KiB", False, note)


def _check_files(connections: int) -> None:
    raise_file_limit()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if most < connections + FILES_BESIDE:
        raise BenchError(
            f"{connections} connections need {connections + FILES_BESIDE} open files, and the limit is {most}: "
            f"raise it (ulimit -Hn), or ask for fewer connections"
        )


@contextmanager
def _node(connections: int) -> Iterator[tuple[Mapping[str, str], int]]:
    """The endpoints and the process id of a fresh node that lets in so many from one address."""
    folder = Path(tempfile.mkdtemp(prefix="mailraft-bench."))
    limits = {
        "MAILRAFT_LIMITS_CONNECTIONS": str(connections + FILES_BESIDE),
        "MAILRAFT_LIMITS_CONNECTIONS_PER_ADDRESS": str(connections + FILES_BESIDE),
        "MAILRAFT_LIMITS_SMTP_IDLE_S": "3600",
    }
    try:
        with Cluster(folder, 1, environment=limits) as cluster:
            cluster.add_accounts("bench", (ACCOUNT,))
            node = cluster.status().nodes[0]
            yield node.endpoints, node.pid
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _anyone() -> ssl.SSLContext:
    """The node is ours and on this machine: its certificate need not be checked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@contextmanager
def _greeted(endpoint: str, context: ssl.SSLContext | None) -> Iterator[socket.socket]:
    """A connection that has said EHLO and then says nothing."""
    host, _, port = endpoint.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), ANSWER_TIMEOUT_S) as plain:
        client = plain if context is None else context.wrap_socket(plain)
        _expect(client, b"220 ")
        client.sendall(b"EHLO idle.test\r\n")
        _expect(client, b"250 ")
        yield client


def _expect(client: socket.socket, last_line: bytes) -> None:
    """Reads one reply. Raises BenchError when it is another one."""
    data = b""
    while not (data.endswith(b"\r\n") and data[:-2].rpartition(b"\r\n")[2][3:4] == b" "):
        part = client.recv(4096)
        if not part:
            raise BenchError("the node closed a connection that should be idle")
        data += part
    if not data[:-2].rpartition(b"\r\n")[2].startswith(last_line):
        raise BenchError(f"the node answered {data[:200]!r}")


def _ask_all(clients: Sequence[socket.socket]) -> None:
    for client in clients:
        client.sendall(b"NOOP\r\n")
    for client in clients:
        _expect(client, b"250 ")


def _resident_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * KIB for line in lines if line.startswith("VmRSS:"))


@contextmanager
def _peak(pid: int) -> Iterator[list[int]]:
    """The largest resident memory while the block runs, in a list of one."""
    peak, ended = [_resident_bytes(pid)], threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLE_S):
            peak[0] = max(peak[0], _resident_bytes(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()
