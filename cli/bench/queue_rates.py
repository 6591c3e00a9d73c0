"""`mailraft bench queue`: how many messages a second leave a full queue, into Postfix's smtp-sink.

Messages are submitted while nothing is sent; then sending begins, and what counts is the time from the first message
that the sink has to the last.
With a peer, both drain in the same run, a round each by turns, so that the ratio holds when the machine's speed drifts.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import secrets
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from chaos.cluster import Cluster, free_base_port
from cli.bench.postfix_peer import PostfixPeer
from cli.bench.results import Row
from cli.bench.smtp_rates import BenchError

ACCOUNT = "alice@bench.test"
DOMAIN = "sink.test"
SESSIONS = 32
ROUND_TIMEOUT_S = 300.0
ENVIRONMENT = {"MAILRAFT_AUTH_PLAINTEXT_WITHOUT_TLS": "loopback"}
QUEUEING = "master_service_disable = qmgr.unix\n"  # mail is taken and stays
POLL_S = 0.005
SETTLE_S = 1.0
MOST_SAID = 4096

_COUNTS = re.compile(rb"mesg=(\d+)\s")


@dataclass(frozen=True)
class Backlog:
    """What waits when sending begins: `messages` of `size_bytes` each, all for one domain."""

    messages: int = 3000
    size_bytes: int = 4096


def bench_queue(backlog: Backlog, rounds: int, nodes: int, with_postfix: bool) -> list[Row]:
    """Measures `rounds` rounds; rows with medians. Raises BenchError, ClusterError or PeerError."""
    for program in ("smtp-sink", "smtp-source"):
        if shutil.which(program) is None:
            raise BenchError(f"{program} not found: apt-get install postfix (it need not run)")
    theirs: list[float] = []
    ours: list[float] = []
    port = free_base_port(1)
    with _cluster(nodes, port) as (cluster, password):
        for _ in range(rounds):
            if with_postfix:
                theirs.append(_postfix_rate(backlog, port))
            ours.append(_rate(cluster, password, backlog, port))
    note = f"{backlog.messages} messages of {backlog.size_bytes} bytes to smtp-sink; median of {rounds} rounds"
    rows = [Row("queue drained", statistics.median(ours), "msg/s", True, f"{note}; {nodes} nodes")]
    if not with_postfix:
        return rows
    ratio = statistics.median(own / other for own, other in zip(ours, theirs, strict=True))
    return [
        *rows,
        Row("queue drained by Postfix", statistics.median(theirs), "msg/s", True, "same rounds, one copy, fsync"),
        Row("queue against Postfix", ratio, "ratio", True, f"median of {rounds} rounds; {nodes} copies against one"),
    ]


@contextmanager
def _cluster(nodes: int, sink_port: int) -> Iterator[tuple[Cluster, str]]:
    """A fresh cluster whose mail goes to the sink, and its account's password; nothing is left of it afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="mailraft-bench."))
    try:
        with Cluster(folder, nodes, environment=ENVIRONMENT) as cluster:
            password = cluster.add_accounts("bench", (ACCOUNT,))
            cluster.command("route", "add", "default", "--host", "127.0.0.1", "--port", str(sink_port))
            yield cluster, password
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _rate(cluster: Cluster, password: str, backlog: Backlog, sink_port: int) -> float:
    cluster.command("queue", "suspend", "--all")
    endpoints = [node.endpoints["submission"] for node in cluster.status().nodes]
    asyncio.run(_submit(endpoints, password, backlog))
    with _sink(sink_port) as sink:
        return _drained(sink, backlog, lambda: cluster.command("queue", "resume", "--all"))


def _postfix_rate(backlog: Backlog, sink_port: int) -> float:
    port = free_base_port(1)
    settings = f"default_transport = smtp:\nrelay_transport = smtp:\nrelayhost = [127.0.0.1]:{sink_port}\n"
    with PostfixPeer(port, settings + QUEUEING) as peer:
        amounts = ["-s", str(SESSIONS), "-l", str(backlog.size_bytes), "-m", str(backlog.messages)]
        addresses = ["-f", "alice@bench.test", "-t", f"someone@{DOMAIN}"]
        source = subprocess.run(["smtp-source", *amounts, *addresses, peer.endpoint], timeout=ROUND_TIMEOUT_S)
        if source.returncode != 0:
            raise BenchError("smtp-source failed against Postfix")
        with _sink(sink_port) as sink:
            return _drained(sink, backlog, lambda: peer.restart(settings))


@contextmanager
def _sink(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """smtp-sink, which tells what it has had."""
    sink = subprocess.Popen(
        ["smtp-sink", "-c", "-u", "nobody", f"127.0.0.1:{port}", "1000"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    try:
        yield sink
    finally:
        sink.kill()
        sink.wait()


def _drained(sink: subprocess.Popen[bytes], backlog: Backlog, begin: Callable[[], object]) -> float:
    """Messages a second from the first that the sink had to the last. Raises BenchError."""
    with ThreadPoolExecutor(1) as beside:  # sending goes on while the command that begins it still ends
        begun = beside.submit(begin)
        rate = _counted(sink, backlog)
        begun.result()
    return rate


def _counted(sink: subprocess.Popen[bytes], backlog: Backlog) -> float:
    assert sink.stdout is not None
    os.set_blocking(sink.stdout.fileno(), False)
    began: float | None = None
    had, said, deadline = 0, b"", time.monotonic() + ROUND_TIMEOUT_S
    while had < backlog.messages:
        if time.monotonic() > deadline:
            raise BenchError(f"smtp-sink had {had} of {backlog.messages} messages in {ROUND_TIMEOUT_S:.0f} s")
        time.sleep(POLL_S)
        said = (said + (sink.stdout.read() or b""))[-MOST_SAID:]
        had = max([int(count) for count in _COUNTS.findall(said)], default=had)
        began = began or (time.monotonic() if had else None)
    assert began is not None
    took_s = time.monotonic() - began
    time.sleep(SETTLE_S)  # the last replies are on their way, and recorded
    return backlog.messages / max(took_s, POLL_S)


# Submitting, which is not what is measured


async def _submit(endpoints: list[str], password: str, backlog: Backlog) -> None:
    """All messages, over SESSIONS connections. Raises BenchError."""
    left = iter(range(backlog.messages))
    sessions = [_session(endpoints[number % len(endpoints)], password, backlog, left) for number in range(SESSIONS)]
    async with asyncio.timeout(ROUND_TIMEOUT_S):
        await asyncio.gather(*sessions)


async def _session(endpoint: str, password: str, backlog: Backlog, left: Iterator[int]) -> None:
    host, _, port = endpoint.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))

    async def ask(line: str, expected: str) -> None:
        writer.write(f"{line}\r\n".encode())
        await answer(expected)

    async def answer(expected: str) -> None:
        while (reply := (await reader.readline()).decode())[3:4] == "-":
            pass
        if not reply.startswith(expected):
            raise BenchError(f"a message could not be submitted: {reply.strip() or 'the connection was closed'}")

    login = base64.b64encode(f"\0{ACCOUNT}\0{password}".encode()).decode()
    await answer("220")
    await ask("EHLO bench.test", "250")
    await ask(f"AUTH PLAIN {login}", "235")
    for number in left:
        await ask(f"MAIL FROM:<{ACCOUNT}>", "250")
        await ask(f"RCPT TO:<user{number}@{DOMAIN}>", "250")
        await ask("DATA", "354")
        writer.write(_message(number, backlog.size_bytes))
        await answer("250")
    writer.close()


def _message(number: int, size_bytes: int) -> bytes:
    """Different each time, as mail is: the same body would be stored once."""
    head = f"From: {ACCOUNT}\r\nTo: user{number}@{DOMAIN}\r\nSubject: bench\r\n\r\n".encode()
    text = secrets.token_hex(max(0, size_bytes - len(head)) // 2).encode()
    return head + b"".join(text[at : at + 76] + b"\r\n" for at in range(0, len(text), 76)) + b".\r\n"
