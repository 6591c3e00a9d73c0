"""IDLE, for `mailraft bench imap`: how soon a delivery is told to who waits, and what a connection that waits costs.

A delivery is timed from the moment at which all of it is sent until the notice is there, so the commit is part of it.
Where there are several nodes, the mail comes in at one and the client waits at another.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing

from cli.bench.imap_client import ImapClient, message
from cli.bench.imap_servers import DOVECOT, KIB, Server, servers
from cli.bench.results import Row
from cli.bench.smtp_rates import BenchError
from nodes.process import raise_file_limit

BETWEEN_S = 0.02
SETTLE_S = 2.0
WARM_UP = 50  # connections that idle before memory is looked at
MOST_OF_DOVECOT = 200  # a process each: so many tell what one costs
FILES_BESIDE = 300
MESSAGES = 20


def notices(found: Sequence[Server], count: int, data: bytes) -> list[Row]:
    """The median time of each server in ms. Raises ImapFailed or OSError."""
    rows = []
    for server in found:
        times = _notice_times(server, count, data)
        where = "at another node" if len(server.endpoints) > 1 else "at the same server"
        note = f"{count} deliveries, the client {where}; the longest {max(times) * 1000:.1f} ms"
        rows.append(Row(f"IDLE notice, {server.name}", statistics.median(times) * 1000, "ms", False, note))
    return rows


def _notice_times(server: Server, count: int, data: bytes) -> list[float]:
    times = []
    with closing(server.open()) as sender, closing(server.open(1)) as waiting:
        _idle(waiting)
        for _ in range(count):
            time.sleep(BETWEEN_S)
            sender.send(b"APPEND INBOX", data)
            began_s = time.perf_counter()
            waiting.until(b" EXISTS")
            times.append(time.perf_counter() - began_s)
            sender.answer()
        _wake(waiting)
        waiting.answer()
    return times


def _idle(client: ImapClient) -> None:
    client.do("SELECT INBOX")
    client.send(b"IDLE")
    client.until(b"+ ")


def _wake(client: ImapClient) -> None:
    client.socket.sendall(b"DONE\r\n")


def idle_memory(count: int, with_dovecot: bool) -> list[Row]:
    """KiB of each connection that idles in a small mailbox, at one node. Raises as `servers` does, and BenchError."""
    raise_file_limit()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if most < count + FILES_BESIDE:
        raise BenchError(
            f"{count} connections need {count + FILES_BESIDE} open files, and the limit is {most}: "
            "raise it (ulimit -Hn), or ask for fewer by --idle"
        )
    with servers((1,), with_dovecot, count) as found:
        return [
            _memory_row(server, min(count, MOST_OF_DOVECOT) if server.name == DOVECOT else count) for server in found
        ]


def _memory_row(server: Server, count: int) -> Row:
    with ExitStack() as opened:
        filler = opened.enter_context(closing(server.open()))
        for number in range(MESSAGES):
            filler.send(b"APPEND INBOX", message(number, KIB))
            filler.answer()
        clients = [_idling(server, opened) for _ in range(min(count, WARM_UP))]
        time.sleep(SETTLE_S)
        before_kib = server.memory_kib()
        clients += [_idling(server, opened) for _ in range(count)]
        time.sleep(SETTLE_S)
        each = (server.memory_kib() - before_kib) / count
        for client in clients:
            _wake(client)
        for client in clients:
            client.answer()
    return Row(f"Memory of a connection in IDLE, {server.name}", each, "KiB", False, f"{count} of them")


def _idling(server: Server, opened: ExitStack) -> ImapClient:
    client = opened.enter_context(closing(server.open()))
    _idle(client)
    return client
