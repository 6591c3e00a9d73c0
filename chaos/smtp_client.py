"""A small SMTP client whose answers say exactly how far an attempt came: before the final dot, or after it.

One connection carries one message at a time. It is written against RFC 5321 and knows nothing of the server's code.
"""

import asyncio
from dataclasses import dataclass, field

from chaos.history import Outcome
from chaos.messages import Message, dot_stuffed

LINE_LIMIT = 4096


class SmtpRefused(Exception):
    """The server answered something else than was hoped for; the text is its reply."""


@dataclass
class SmtpConnection:
    """One open session after EHLO."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    usable: bool = field(default=True)

    @classmethod
    async def open(cls, endpoint: str) -> "SmtpConnection":
        """Connects to host:port and says EHLO. Raises OSError, SmtpRefused or asyncio.IncompleteReadError."""
        host, _, port = endpoint.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=LINE_LIMIT)
        connection = cls(reader, writer)
        try:
            await connection._expect("220")
            await connection._command("EHLO workload.test", "250")
        except BaseException:
            connection.close()
            raise
        return connection

    async def deliver(self, message: Message) -> tuple[Outcome, str]:
        """Sends one message; the outcome and the reply that it rests on. Does not raise what the network raises."""
        sent = False
        try:
            await self._command(f"MAIL FROM:<{message.sender}> SIZE={len(message.data)}", "250")
            for recipient in message.recipients:
                await self._command(f"RCPT TO:<{recipient}>", "250")
            await self._command("DATA", "354")
            sent = True
            self.writer.write(dot_stuffed(message.data))
            await self.writer.drain()
            return Outcome.ACKNOWLEDGED, await self._expect("250")
        except SmtpRefused as refused:
            reply = str(refused)
            self.usable = False  # a fresh session costs little, and proves that one can be had
            return (Outcome.UNKNOWN if sent and reply.startswith("4") else Outcome.REFUSED), reply
        except (OSError, EOFError, asyncio.LimitOverrunError) as error:
            self.usable = False
            return (Outcome.UNKNOWN if sent else Outcome.REFUSED), f"{type(error).__name__}: {error}"
        except asyncio.CancelledError:
            self.usable = False
            raise

    def close(self) -> None:
        self.usable = False
        self.writer.close()

    async def _command(self, line: str, hoped_for: str) -> str:
        self.writer.write(line.encode() + b"\r\n")
        return await self._expect(hoped_for)

    async def _expect(self, hoped_for: str) -> str:
        while True:
            line = (await self.reader.readuntil(b"\r\n")).decode("utf-8", "replace").rstrip()
            if line[3:4] != "-":
                break
        if not line.startswith(hoped_for):
            raise SmtpRefused(line)
        return line
