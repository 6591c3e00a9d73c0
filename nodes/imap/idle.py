"""IDLE (RFC 2177): a client that waits is told of changes as they happen."""

from __future__ import annotations

import asyncio

from nodes.imap import commands
from nodes.imap.errors import BadCommand, Farewell
from nodes.imap.framing import NEED_MORE
from nodes.imap.session import Session
from nodes.imap.shared import Handler

STILL_HERE_S = 120.0  # how often an idling client is told something, for the sake of what stands in between


async def idle(session: Session, _: commands.Idle) -> str:
    session.write(b"+ idling\r\n")
    session.idling = True
    try:
        line = await _until_line(session)
    finally:
        session.idling = False
    if line.strip().upper() != b"DONE":
        raise BadCommand("expected DONE")
    return "IDLE completed"


async def _until_line(session: Session) -> bytes:
    """The client's next line. Raises Farewell, ConnectionLost."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + session.limits.imap_idle_s
    while True:
        if session.selected is not None:
            session.tell(session.selected, expunges=True, with_uid=False)
        found = session.framer.next_line()
        if isinstance(found, bytes):
            return found
        if found is not NEED_MORE:
            raise Farewell("line too long", "TOOBIG", "line_too_long")
        await session.drain()
        if session.notices is not None:
            await session.notices.tell_all()
        if session.stopping:
            raise Farewell(session.stopping, error="stopping")
        if session.selected is not None and session.selected.has_news:
            continue  # it came while the client was taking what came before
        left_s = until_s - loop.time()
        if not await session.connection.wait(max(0.0, min(left_s, STILL_HERE_S))):
            if left_s <= STILL_HERE_S:
                raise Farewell("you were silent for too long", error="timed_out")
            session.write(b"* OK still here\r\n")
        if session.connection.has_input or session.connection.ended:
            session.take_input()


HANDLERS: dict[type, Handler] = {commands.Idle: idle}
