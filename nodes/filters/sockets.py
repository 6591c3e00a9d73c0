"""Connections to filters: host:port or unix:/path."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from nodes.addresses import split_address
from nodes.config.filters import UNIX

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connect(address: str) -> Streams:
    """A connection. Raises OSError."""
    if address.startswith(UNIX):
        return await asyncio.open_unix_connection(address.removeprefix(UNIX))
    return await asyncio.open_connection(*split_address(address))


@contextlib.asynccontextmanager
async def connected(address: str) -> AsyncIterator[Streams]:
    """A connection that ends with the block, at once. Raises OSError."""
    reader, writer = await connect(address)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def send(writer: asyncio.StreamWriter, *pieces: bytes) -> None:
    """Sends all of it, as fast as the other side takes it. Raises OSError."""
    writer.writelines(pieces)
    await writer.drain()
