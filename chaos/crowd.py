"""A crowd of clients that mean no good, in a process of its own: `python -m chaos.crowd KIND COUNT HOST:PORT ...`.

It ends when its standard input does. The crowd has addresses of its own on loopback (127.66.0.0/16), so that limits a
node keeps for each address tell it from everybody else. It never completes a message or a log-in.
"""

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable
from itertools import count
from random import Random

import uvloop

READ_BYTES = 64 * 1024
ANSWER_TIMEOUT_S = 5.0
FLOOD_LINES = (
    b"NOOP\r\n",
    b"EHLO crowd.test\r\n",
    b"a1 CAPABILITY\r\n",
    b"STAT\r\n",
    b"GET / HTTP/1.0\r\n",
    b"x" * 4000 + b"\r\n",
)
SLOW_BYTES = b"EHLO a-name-that-never-ends."
SLOW_EVERY_S = 0.5
PAUSE_S = 0.05

Client = Callable[[str, int, str, Random], Awaitable[None]]


async def flood(host: str, port: int, source: str, rng: Random) -> None:
    """Connects, asks for something as fast as answers come, whatever the protocol is, and leaves without a word."""
    reader, writer = await asyncio.open_connection(host, port, local_addr=(source, 0))
    try:
        for _ in range(rng.randrange(1, 30)):
            writer.write(rng.choice(FLOOD_LINES) * rng.randrange(1, 20))
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await writer.drain()
                if not await reader.read(READ_BYTES):
                    return
    finally:
        writer.transport.abort()


async def slowloris(host: str, port: int, source: str, rng: Random) -> None:
    """Connects and says one command, a byte at a time, for ever."""
    _, writer = await asyncio.open_connection(host, port, local_addr=(source, 0))
    try:
        while not writer.is_closing():
            writer.write(b"a")
            await writer.drain()
            await asyncio.sleep(SLOW_EVERY_S * rng.uniform(0.5, 1.5))
    finally:
        writer.transport.abort()


async def strangers(host: str, port: int, source: str, rng: Random) -> None:
    """Says hello from an address that was not seen before, and leaves; the node looks up who that was."""
    reader, writer = await asyncio.open_connection(host, port, local_addr=(source, 0))
    try:
        writer.write(b"EHLO stranger.test\r\nMAIL FROM:<a@stranger.test>\r\nQUIT\r\n")
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            while await reader.read(READ_BYTES):
                pass
    finally:
        writer.transport.abort()


CLIENTS: dict[str, Client] = {"flood": flood, "slowloris": slowloris, "strangers": strangers}


def source_of(kind: str, number: int) -> str:
    """One address for a whole flood; strangers have one each."""
    return f"127.66.{1 + number // 250 % 250}.{1 + number % 250}" if kind == "strangers" else "127.66.0.1"


async def crowd(kind: str, size: int, addresses: list[str]) -> None:
    """So many clients at a time, over all addresses, until it is cancelled."""
    numbers = count()

    async def one(seat: int) -> None:
        host, _, port = addresses[seat % len(addresses)].rpartition(":")
        rng = Random(f"{kind}:{seat}")
        while True:
            with contextlib.suppress(OSError, EOFError, TimeoutError):
                await CLIENTS[kind](host, int(port), source_of(kind, next(numbers)), rng)
            await asyncio.sleep(PAUSE_S)

    await asyncio.gather(*(one(seat) for seat in range(size)))


async def until_input_ends(kind: str, size: int, addresses: list[str]) -> None:
    """The crowd, and the wait for its end."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    gathered = asyncio.create_task(crowd(kind, size, addresses))
    await asyncio.wait({gathered, asyncio.create_task(reader.read())}, return_when=asyncio.FIRST_COMPLETED)
    gathered.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await gathered


if __name__ == "__main__":
    uvloop.run(until_input_ends(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
