"""A relay that misbehaves on order: `python -m chaos.proxy` carries TCP connections between nodes.

It is a process of its own, so that the workload does not slow it, and needs no rights. Orders come as lines of JSON on
its standard input, one answer each on standard output; when the input ends, so does it. It never looks into what it
carries: which node connects is asked of the kernel. `chaos.network` is its other half.
"""

import asyncio
import contextlib
import json
import socket
import struct
import sys
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Any

import uvloop

from chaos.sockets import holder, socket_inside

CHUNK_BYTES = 16 * 1024
HELD_BYTES = 8 * 1024 * 1024  # of one direction of one connection; beyond it the sender has to wait
CONNECT_TIMEOUT_S = 5.0
RESET = struct.pack("ii", 1, 0)  # SO_LINGER of zero seconds: closing sends RST


class Way(StrEnum):
    """What becomes of bytes in one direction."""

    PASS = "pass"
    HOLD = "hold"  # kept, and delivered when the way passes again, as TCP does after a short outage
    SWALLOW = "swallow"  # lost while the connection stays; it is reset when the way passes again


@dataclass(frozen=True)
class Condition:
    """How a link is. Forward is from the side that connects; delays and the rate hold in both directions."""

    forward: Way = Way.PASS
    backward: Way = Way.PASS
    refuse: bool = False  # connections are reset, and new ones too
    delay_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float = 0.0  # 0: no limit

    @classmethod
    def of(cls, fields: dict[str, Any]) -> "Condition":
        """A condition of JSON. Raises TypeError or ValueError."""
        ways: dict[str, Any] = {name: Way(fields[name]) for name in ("forward", "backward") if name in fields}
        return cls(**(fields | ways))


GOOD = Condition()


@dataclass
class Link:
    """One directed pair: what one node's connections to another are like."""

    name: str
    host: str
    port: int
    namespace: str = ""  # in which the target is, if not in ours
    condition: Condition = GOOD
    carried_bytes: int = 0
    connections: set["Connection"] = field(default_factory=set)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def set(self, condition: Condition) -> None:
        """From now on the link is so. A connection that lost bytes can not go on once bytes pass again."""
        self.condition = condition
        for connection in list(self.connections):
            if condition.refuse or connection.is_torn():
                connection.reset()
        self.changed.set()
        self.changed = asyncio.Event()

    def reset(self) -> None:
        for connection in list(self.connections):
            connection.reset()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the target. Raises OSError."""
        if not self.namespace:
            return await asyncio.open_connection(self.host, self.port)
        inside = socket_inside(self.namespace)
        try:
            await asyncio.get_running_loop().sock_connect(inside, (self.host, self.port))
        except BaseException:
            inside.close()
            raise
        return await asyncio.open_connection(sock=inside)

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carries one connection from its beginning to its end."""
        connection = Connection(self, reader, writer)
        self.connections.add(connection)
        try:
            if not self.condition.refuse:
                await connection.run()
        finally:
            self.connections.discard(connection)
            connection.reset()


class Direction:
    """The bytes of one connection that go one way."""

    def __init__(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, forward: bool):
        self._link, self._reader, self._writer, self._forward = link, reader, writer, forward
        self._held: deque[tuple[float, bytes]] = deque()
        self._held_bytes = 0
        self._moved = asyncio.Event()  # something was taken in, or given out
        self._jitter = Random(f"{link.name}:{forward}")
        self.lost = False

    @property
    def way(self) -> Way:
        return self._link.condition.forward if self._forward else self._link.condition.backward

    async def take_in(self) -> None:
        """Reads to the end of the stream, which is held as an empty chunk."""
        loop, last_due_s = asyncio.get_running_loop(), 0.0
        while True:
            data = await self._reader.read(CHUNK_BYTES)
            condition = self._link.condition
            due_s = loop.time() + condition.delay_s + self._jitter.uniform(0, condition.jitter_s)
            last_due_s = max(last_due_s, due_s)  # a stream keeps its order
            self._held.append((last_due_s, data))
            self._held_bytes += len(data)
            self._signal()
            if not data:
                return
            while self._held_bytes > HELD_BYTES:
                await self._moved.wait()

    async def give_out(self) -> None:
        """Writes what was read, when it is due and as the link is then; returns after the stream's end."""
        loop = asyncio.get_running_loop()
        while True:
            while not self._held:
                await self._moved.wait()
            due_s, data = self._held[0]
            await asyncio.sleep(max(0.0, due_s - loop.time()))
            if not await self._passes(data):
                data = b""
            elif not data:
                self._writer.write_eof()
                return
            self._held_bytes -= len(self._held.popleft()[1])
            self._signal()
            self._writer.write(data)
            await self._writer.drain()
            self._link.carried_bytes += len(data)
            if data and self._link.condition.bytes_per_s:
                await asyncio.sleep(len(data) / self._link.condition.bytes_per_s)

    async def _passes(self, data: bytes) -> bool:
        """Waits while the way holds; False if these bytes are lost. The end of a stream is never lost, only late."""
        while self.way is Way.HOLD or (self.way is Way.SWALLOW and not data):
            await self._link.changed.wait()
        self.lost = self.lost or self.way is Way.SWALLOW
        return self.way is Way.PASS

    def _signal(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()


class Connection:
    """One accepted connection and the one that was made for it."""

    def __init__(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._link, self._reader = link, reader
        self._writers = [writer]
        self._directions: list[Direction] = []

    async def run(self) -> None:
        """Returns when both sides have ended, or either was lost."""
        try:
            reader, writer = await asyncio.wait_for(self._link.connect(), CONNECT_TIMEOUT_S)
        except (OSError, TimeoutError):
            return  # the caller resets: as a port where nobody listens
        self._writers.append(writer)
        there = Direction(self._link, self._reader, writer, forward=True)
        back = Direction(self._link, reader, self._writers[0], forward=False)
        self._directions = [there, back]
        parts = (there.take_in(), there.give_out(), back.take_in(), back.give_out())
        tasks = [asyncio.create_task(part) for part in parts]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def is_torn(self) -> bool:
        return any(direction.lost and direction.way is not Way.SWALLOW for direction in self._directions)

    def reset(self) -> None:
        for writer in self._writers:
            if writer.is_closing():
                continue
            with contextlib.suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()


@dataclass(frozen=True)
class Inlet:
    """Where a node's peers connect to instead; `sources` tells them by a word of their command lines."""

    links: dict[str, Link]
    sources: dict[str, str]
    others: Link

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carries one connection on the link of the node that made it."""
        ends = writer.get_extra_info("peername"), writer.get_extra_info("sockname")
        source = await asyncio.to_thread(holder, *ends, self.sources)
        await (self.links[source] if source else self.others).take(reader, writer)


class Proxy:
    """All links, and the orders that change them."""

    def __init__(self) -> None:
        self._links: dict[str, Link] = {}

    async def obey(self, order: dict[str, Any]) -> Any:
        """Carries out one order; its result. Raises KeyError, ValueError or OSError for one that can not be."""
        links = [self._links[name] for name in order.get("links", ())]
        match order["do"]:
            case "open":
                return await self._open(order["target"], order["host"], order["port"], order["sources"])
            case "enter":
                link = Link(order["namespace"], order["host"], order["port"], order["namespace"])
                await asyncio.start_server(link.take, order["host"], order["port"], limit=CHUNK_BYTES)
            case "set":
                condition = Condition.of(order["condition"])
                for link in links:
                    link.set(condition)
            case "reset":
                for link in links:
                    link.reset()
            case "carried":
                return {name: link.carried_bytes for name, link in self._links.items()}
            case other:
                raise ValueError(f"no such order: {other}")
        return None

    async def _open(self, target: str, host: str, port: int, sources: dict[str, str]) -> int:
        links = {source: Link(f"{source}>{target}", host, port) for source in sources}
        self._links.update({link.name: link for link in links.values()})
        inlet = Inlet(links, sources, Link(f">{target}", host, port))
        server = await asyncio.start_server(inlet.take, "127.0.0.1", 0, limit=CHUNK_BYTES)
        listening: int = server.sockets[0].getsockname()[1]
        return listening


async def serve() -> None:
    """Obeys until standard input ends."""
    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    proxy = Proxy()
    while line := await orders.readline():
        try:
            answer = {"result": await proxy.obey(json.loads(line))}
        except (KeyError, ValueError, TypeError, OSError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    uvloop.run(serve())
