"""One node of `mailraft bench log`: a process with the event log and nothing else, under its real configuration.

    python -m cli.bench.member DIR/n1/mailraft.toml

Takes one JSON request a line on standard input and gives one JSON answer a line on standard output; the end of the
input ends it. The load is made here, in the process whose log is measured, so that no client stands between.
"""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import uvloop

from actors.directory import Directory, Target
from actors.registry import fold_event
from actors.runtime import Runtime
from cli.bench import load
from cli.bench.put_client import KEY_BYTES
from eventlog.errors import LogError
from eventlog.log import Committed, EventLog
from eventlog.record import Event, Stamp
from eventlog.views import View
from nodes import logs
from nodes.config.node import NodeConfig
from nodes.config.sources import load as load_config
from nodes.node_log import log_config
from nodes.process import tune_memory
from nodes.starting import read_cluster_key
from nodes.tls.contexts import peer_node_name, raft_contexts

Answer = dict[str, Any]


def evolve(view: View, event: Event, stamp: Stamp) -> tuple[Any, Any]:
    """Mail events as in a node; an opaque one changes nothing, so that it measures the log alone; a put has a row."""
    if event.type == load.OPAQUE:
        return None, None
    if event.type == load.PUT:
        view.put(event.data[:KEY_BYTES], stamp.position)
        return None, None
    return fold_event(view, event, stamp)


def open_log(config: NodeConfig) -> EventLog:
    """The event log that a node with this configuration would open."""
    server_ssl, client_ssl = raft_contexts(config)
    return EventLog.open(
        log_config(config),
        evolve=evolve,
        server_ssl=server_ssl,
        client_ssl=client_ssl,
        peer_name=lambda peer: peer_node_name(peer, config.node.cluster_id),
    )


class Putting(asyncio.Protocol):
    """A connection of cli/bench/put_client.py: length, key, value; one byte in answer, 0 if committed."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._rest = b""  # of a put that has not come whole
        self._answers = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        received = self._rest + data
        at = 0
        while len(received) >= at + 4:
            end = at + 4 + int.from_bytes(received[at : at + 4], "big")
            if len(received) < end:
                break
            self._put(received[at + 4 : end])
            at = end
        self._rest = received[at:]

    def _put(self, put: bytes) -> None:
        try:
            self._log.submit(load.put_record(put)).add_done_callback(self._done)
        except LogError:
            self._answer(1)

    def _done(self, outcome: asyncio.Future[Committed]) -> None:
        self._answer(0 if outcome.exception() is None else 1)

    def _answer(self, answer: int) -> None:
        """Answers of one turn of the loop leave together."""
        if not self._answers:
            asyncio.get_running_loop().call_soon(self._flush)
        self._answers.append(answer)

    def _flush(self) -> None:
        answers, self._answers = self._answers, bytearray()
        self._transport.write(answers)


class Member:
    """Answers requests; each method below is one of them."""

    def __init__(self, log: EventLog, cluster_key: bytes) -> None:
        self._log = log
        self._runtime = Runtime(log)
        self._servers: list[asyncio.Server] = []
        self._directory = Directory(log, self._runtime, cluster_key)
        self._answers: dict[str, Callable[..., Awaitable[Answer]]] = {
            "status": self._status,
            "listen": self._listen,
            "opaque": self._opaque,
            "latency": self._latency,
            "open": self._open,
            "deliver": self._deliver,
            "history": self._history,
        }

    async def answer(self, request: Answer) -> Answer:
        """The answer to one request; a failure is an answer too."""
        try:
            return await self._answers[request.pop("do")](**request)
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}"}

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
        await self._directory.stop()
        await self._runtime.stop()
        await self._log.stop()

    async def _status(self) -> Answer:
        status = self._log.status()
        return {"role": status.role, "leader": status.leader, "applied": status.applied}

    async def _listen(self) -> Answer:
        """Takes puts through a socket from now on."""
        server = await asyncio.get_running_loop().create_server(lambda: Putting(self._log), "127.0.0.1", 0)
        self._servers.append(server)
        host, port = server.sockets[0].getsockname()[:2]
        return {"address": f"{host}:{port}"}

    async def _opaque(self, count: int, in_flight: int, size_bytes: int) -> Answer:
        return {"seconds": await load.opaque(self._log, count, in_flight, size_bytes)}

    async def _latency(self, count: int, size_bytes: int) -> Answer:
        return {"ms": await load.latencies_ms(self._log, count, size_bytes)}

    async def _open(self, tenant: str, accounts: int) -> Answer:
        targets = await load.open_mailboxes(self._log, self._directory, tenant, accounts)
        return {"targets": [[t.tenant.hex(), t.account.hex(), t.address] for t in targets]}

    async def _deliver(self, targets: list[list[str]], count: int, in_flight: int, size_bytes: int) -> Answer:
        seconds = await load.deliveries(self._runtime, [*map(_target, targets)], count, in_flight, size_bytes)
        return {"seconds": seconds}

    async def _history(self, target: list[str], events: int) -> Answer:
        return {"position": await load.write_history(self._log, _target(target), events)}


def _target(raw: list[str]) -> Target:
    return Target(bytes.fromhex(raw[0]), bytes.fromhex(raw[1]), raw[2])


async def serve(config_file: Path) -> None:
    """Runs until standard input ends."""
    config = load_config(config_file, os.environ)
    logs.configure(config.log)
    tune_memory()
    sys.setswitchinterval(config.node.switch_interval_ms / 1000)
    log = open_log(config)
    await log.start()
    member = Member(log, read_cluster_key(config.secrets.cluster_key_file))
    loop = asyncio.get_running_loop()
    try:
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            print(json.dumps(await member.answer(json.loads(line))), flush=True)
    finally:
        await member.stop()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])))
