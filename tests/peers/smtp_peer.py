"""An SMTP server on loopback that says and does what a test tells it: the far end of mail on its way out.

    with SmtpPeer({"RCPT": "450 4.2.0 Later"}) as peer:      # what it answers, by command; "connect", "end", "*" too,
                                                             # and "handshake", in place of the one of TLS
    with SmtpPeer({"DATA": STALL}) as peer:                  # or does: STALL, CLOSE, or the bytes to send

It keeps each message that it took in `taken`, and every line in `lines`. It runs in a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import NamedTuple, Self

STALL = "\0stall"
CLOSE = "\0close"
EXTENSIONS = ("PIPELINING", "SIZE 10000000", "8BITMIME", "ENHANCEDSTATUSCODES", "DSN", "SMTPUTF8")
DEFAULTS = {
    "connect": "220 peer.test ESMTP",
    "MAIL": "250 2.1.0 Ok",
    "RCPT": "250 2.1.5 Ok",
    "DATA": "354 Go ahead",
    "end": "250 2.0.0 Taken",
    "BDAT": "250 2.0.0 Taken",
    "RSET": "250 2.0.0 Ok",
    "QUIT": "221 2.0.0 Bye",
    "STARTTLS": "220 2.0.0 Go ahead",
}

Reply = str | bytes | Callable[[str], str]


class Taken(NamedTuple):
    """A message as it came; `tls`: its session was."""

    mail: str
    rcpts: tuple[str, ...]
    data: bytes
    session: int
    tls: bool


class SmtpPeer:
    """`replies` by command. `port`: where it listens. `sessions`: how many connections there were."""

    def __init__(
        self,
        replies: Mapping[str, Reply] | None = None,
        *,
        extensions: tuple[str, ...] = EXTENSIONS,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.replies: dict[str, Reply] = {**DEFAULTS, **(replies or {})}
        self.extensions = (*extensions, "STARTTLS") if tls else extensions
        self.taken: list[Taken] = []
        self.lines: list[str] = []
        self.sessions = 0
        self.closed_sessions = 0
        self.port = port
        self.clients: list[str] = []
        self._tls = tls
        self._host = host
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, self._host, self.port, limit=2**20)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        self._server.close()
        tasks = [one for one in asyncio.all_tasks() if one is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sessions += 1
        self.clients.append(writer.get_extra_info("peername")[0])
        try:
            gone = (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError, asyncio.CancelledError)
            with contextlib.suppress(*gone):
                await _Dialogue(self, reader, writer, self.sessions, self._tls).run()
        finally:
            self.closed_sessions += 1
            writer.close()


class _Dialogue:
    """One connection."""

    def __init__(
        self,
        peer: SmtpPeer,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        number: int,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._peer, self._reader, self._writer, self._number, self._tls = peer, reader, writer, number, tls
        self._mail = ""
        self._rcpts: list[str] = []
        self._secure = False
        self._chunks = b""

    async def run(self) -> None:
        await self._say("connect", "")
        while data := await self._reader.readline():
            line = data.decode("utf-8", "surrogateescape").rstrip("\r\n")
            self._peer.lines.append(line)
            if not await self._command(line.partition(" ")[0].upper(), line):
                return

    async def _command(self, verb: str, line: str) -> bool:
        if verb in ("EHLO", "HELO") and verb not in self._peer.replies:
            hidden = ("STARTTLS",) if self._secure else ()
            offered = ["peer.test", *(one for one in self._peer.extensions if one not in hidden)]
            lines = offered if verb == "EHLO" else offered[:1]
            text = "".join(f"250{'-' if n < len(lines) - 1 else ' '}{one}\r\n" for n, one in enumerate(lines))
            self._writer.write(text.encode())
            return True
        if verb == "BDAT":
            self._chunks += await self._reader.readexactly(int(line.split()[1]))
        if (verb == "RCPT" and not self._mail) or (verb == "DATA" and not self._rcpts):
            self._writer.write(b"503 5.5.1 Out of order\r\n")
            return True
        reply = await self._say(verb, line)
        if verb in ("MAIL", "RSET"):
            self._mail, self._rcpts, self._chunks = line if reply.startswith("2") and verb == "MAIL" else "", [], b""
        elif verb == "RCPT" and reply.startswith("2"):
            self._rcpts.append(line)
        elif verb == "STARTTLS" and reply.startswith("220"):
            if "handshake" in self._peer.replies:
                await self._say("handshake", "")
                await self._reader.read()
                return False
            assert self._tls is not None
            await self._writer.start_tls(self._tls)
            self._secure = True
        elif verb == "DATA" and reply.startswith("354"):
            await self._content()
        elif verb == "BDAT" and line.upper().endswith("LAST") and reply.startswith("2"):
            self._take(self._chunks)
        return verb != "QUIT"

    async def _content(self) -> None:
        lines = []
        while (line := await self._reader.readuntil(b"\r\n")) != b".\r\n":
            lines.append(line[1:] if line.startswith(b".") else line)
        if (await self._say("end", "")).startswith("2"):
            self._take(b"".join(lines))
        self._mail, self._rcpts = "", []

    def _take(self, data: bytes) -> None:
        self._peer.taken.append(Taken(self._mail, tuple(self._rcpts), data, self._number, self._secure))

    async def _say(self, stage: str, line: str) -> str:
        reply = self._peer.replies.get(stage) or self._peer.replies.get("*", "500 5.5.2 What?")
        if callable(reply):
            reply = reply(line)
        if reply == STALL:
            await asyncio.Event().wait()
        if reply == CLOSE:
            raise ConnectionError
        self._writer.write(reply if isinstance(reply, bytes) else f"{reply}\r\n".encode())
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()
        return reply.decode("utf-8", "replace") if isinstance(reply, bytes) else reply
