"""One connection to a milter: the shell around nodes/filters/milter_protocol.py."""

from __future__ import annotations

import asyncio
import contextlib
from typing import NamedTuple

from nodes.filters import milter_protocol as protocol
from nodes.filters import sockets
from nodes.filters.health import Garbage
from nodes.filters.milter_protocol import CONTINUE, Change, Command, Decision, Macros, Packet, Steps

READ_BYTES = 64 * 1024
MOST_CHANGES = 1000  # of one message


class Limits(NamedTuple):
    """Seconds."""

    connect_s: float
    command_s: float
    message_s: float


class MilterConnection:
    """Opened with `open`. What it raises (OSError, EOFError, TimeoutError, Garbage) ends it: `close` is then due."""

    def __init__(self, streams: sockets.Streams, limits: Limits) -> None:
        self._reader, self._writer = streams
        self._decoder = protocol.Decoder()
        self._waiting: list[Packet] = []
        self.agreed = protocol.Agreed(protocol.Actions(0), Steps(0), {})
        self.limits = limits

    @classmethod
    async def open(cls, address: str, limits: Limits) -> MilterConnection:
        """Connects and negotiates. Raises OSError, EOFError, TimeoutError, Garbage."""
        async with asyncio.timeout(limits.connect_s):
            opened = cls(await sockets.connect(address), limits)
            try:
                await sockets.send(opened._writer, protocol.negotiate())
                opened.agreed = protocol.agreed(await opened._packet())
            except BaseException:
                opened.close()
                raise
        return opened

    def has_ended(self) -> bool:
        """The other side closed it, while nobody asked it anything; or it spoke without being asked."""
        return self._reader.at_eof() or self._writer.is_closing() or bool(self._waiting)

    async def tell(self, command: Command, data: bytes, macros: Macros | None = None) -> Decision:
        """Tells a command, unless it does not want it, and gives its decision. Raises as above."""
        steps = self.agreed.steps
        if command.declined and command.declined in steps:
            return CONTINUE
        await self._expect_silence()
        before = protocol.macros(command, macros) if macros else b""
        async with asyncio.timeout(self.limits.command_s) as limit:
            await sockets.send(self._writer, before, protocol.packet(command.letter, data))
            if command.silent and command.silent in steps:
                return CONTINUE
            decision = protocol.decision(await self._answer(limit))
        if decision.move == "skip" and command is not protocol.BODY:
            raise Garbage("only a body can be skipped")
        return decision

    async def end(self, macros: Macros) -> tuple[Decision, list[Change]]:
        """The end of the message: what it decides, and what it wants changed. Raises as above."""
        changes: list[Change] = []
        await self._expect_silence()
        async with asyncio.timeout(self.limits.command_s) as limit:
            await sockets.send(
                self._writer, protocol.macros(protocol.END, macros), protocol.packet(protocol.END.letter)
            )
            while True:
                answer = await self._answer(limit)
                wanted = protocol.change(answer)
                if wanted is None:
                    break
                if len(changes) >= MOST_CHANGES:
                    raise Garbage("too many changes")
                changes.append(wanted)
        decision = protocol.decision(answer)
        if decision.move == "skip":
            raise Garbage("nothing is left to be skipped")
        return decision, changes

    def abort(self) -> None:
        """The transaction under way is over; the connection stays."""
        self._writer.write(protocol.ABORT)

    def close(self) -> None:
        """Says goodbye, if the other side takes it at once."""
        transport = self._writer.transport
        if not transport.is_closing() and not transport.get_write_buffer_size():
            self._writer.write(protocol.QUIT)
        if transport.get_write_buffer_size():
            transport.abort()
        else:
            transport.close()

    async def _expect_silence(self) -> None:
        """What it says before it is asked would be taken for an answer to something else."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):
                while True:  # what has arrived, no more
                    await self._receive()
        if self._waiting:
            raise Garbage("it speaks without being asked")

    async def _answer(self, limit: asyncio.Timeout) -> Packet:
        """The next packet that is not just a sign of life, which begins the time anew."""
        while (answer := await self._packet()).letter == protocol.PROGRESS:
            limit.reschedule(asyncio.get_running_loop().time() + self.limits.command_s)
        return answer

    async def _packet(self) -> Packet:
        while not self._waiting:
            await self._receive()
        return self._waiting.pop(0)

    async def _receive(self) -> None:
        data = await self._reader.read(READ_BYTES)
        if not data:
            raise EOFError
        self._waiting += self._decoder.feed(data)
