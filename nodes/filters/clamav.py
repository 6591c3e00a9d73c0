"""ClamAV over the socket of its daemon: INSTREAM of clamd(8). A connection a message, which ends with the answer."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from typing import TYPE_CHECKING

from nodes.config.filters import ClamavSection
from nodes.filters import sockets
from nodes.filters.check import Filter, Opinion, TooLarge, content_for
from nodes.filters.health import Garbage, Health
from nodes.filters.slots import Room, Slots
from nodes.filters.text import MOST_NAME, plain
from nodes.smtp.replies import reply

if TYPE_CHECKING:
    from nodes.smtp.checks import Incoming
    from nodes.smtp.session import Envelope, Session

CHUNK_BYTES = 64 * 1024
MOST_ANSWER = 64 * 1024

_FOUND = re.compile(rb"stream: (.+?)(?:\([^()]*\))? FOUND", re.DOTALL)
_TOO_LARGE = b"INSTREAM size limit exceeded"


class ClamavFilter(Filter):
    """A clamd."""

    def __init__(self, address: str, section: ClamavSection, health: Health, room: Room) -> None:
        super().__init__(section, health, room)
        self._address = address
        self._timeout_s = section.timeout_s
        self._slots = Slots(section.at_once)
        self._on_found = section.found

    async def judge(self, session: Session, envelope: Envelope, incoming: Incoming) -> Opinion:
        """Raises Down."""
        async with self._slots.one(self._timeout_s), self.health.asked(self._timeout_s):
            answer = await scan(self._address, b"".join(content_for(incoming)))
            name = virus_in(answer) if not answer.startswith(_TOO_LARGE) else None
        if answer.startswith(_TOO_LARGE):
            raise TooLarge  # outside: that clamd refuses what is large is no failure of it
        if name is None:
            return Opinion("accept", {"found": ""})
        if self._on_found == "junk":
            return Opinion("junk", {"found": name})
        return Opinion("refuse", {}, reply=reply(550, "5.7.1", f"The message contains {name}", error="filter_refused"))

    async def look(self) -> None:
        async with sockets.connected(self._address) as (reader, writer):
            await sockets.send(writer, b"zPING\0")
            answer = await _answer(reader)
        if answer != b"PONG":
            raise Garbage("no PONG")


async def scan(address: str, data: bytes) -> bytes:
    """What the clamd says of it. Raises OSError, EOFError, Garbage."""
    async with sockets.connected(address) as (reader, writer):
        behind = writer.get_extra_info("socket").dup()
        sending = asyncio.ensure_future(_stream(writer, data))
        try:
            return await _answer(reader)  # it may answer before it has read all, and then it closes
        except (OSError, EOFError):
            # what is written to a connection that it closed ends our streams, though its answer be there unread
            if answer := _left(behind):
                return answer
            raise
        finally:
            behind.close()
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


def virus_in(answer: bytes) -> str | None:
    """What was found; None: nothing. Raises Garbage for what is neither."""
    if answer == b"stream: OK":
        return None
    found = _FOUND.fullmatch(answer)
    if found is not None:
        return plain(found[1].decode("utf-8", "replace"), MOST_NAME) or "a virus"
    raise Garbage(plain(answer.decode("utf-8", "replace"), MOST_NAME) or "an empty answer")


async def _stream(writer: asyncio.StreamWriter, data: bytes) -> None:
    view = memoryview(data)
    await sockets.send(writer, b"zINSTREAM\0")
    for at in range(0, len(view), CHUNK_BYTES):
        piece = view[at : at + CHUNK_BYTES]
        await sockets.send(writer, struct.pack(">I", len(piece)), bytes(piece))
    await sockets.send(writer, struct.pack(">I", 0))


async def _answer(reader: asyncio.StreamReader) -> bytes:
    """Up to the NUL that ends it. Raises EOFError, Garbage."""
    try:
        answer = await reader.readuntil(b"\0")
    except asyncio.LimitOverrunError:
        raise Garbage("a line without an end") from None
    return answer[:-1]


def _left(connection: socket.socket) -> bytes:
    """The answer that a socket still holds; empty: none."""
    with contextlib.suppress(OSError):
        answer, end, _ = connection.recv(MOST_ANSWER, socket.MSG_DONTWAIT).partition(b"\0")
        if end:
            return answer
    return b""
