"""A small IMAP client (RFC 3501, RFC 4315, RFC 6851) that knows exactly how far a command came.

One session does one thing at a time. Everything that arrives is bounded and parsed strictly: what this client does not
understand ends the session, because a checker that guesses is none. It knows nothing of the server's code.
"""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from chaos.history import Outcome

LINE_LIMIT = 64 * 1024
LITERAL_LIMIT = 4 * 1024 * 1024
UNTAGGED_LIMIT = 100_000

_LITERAL = re.compile(rb"\{(\d{1,10})\}$")
_FETCH = re.compile(rb"\* (\d+) FETCH \((.*)\)", re.DOTALL)
_EXPUNGE = re.compile(rb"\* (\d+) EXPUNGE")
_EXISTS = re.compile(rb"\* (\d+) EXISTS")
_UID = re.compile(rb"(?:^| )UID (\d+)")
_FLAGS = re.compile(rb"(?:^| )FLAGS \(([^()]*)\)")
_CODE = re.compile(r"\[([A-Z]+)([^\]]*)\]")


class ImapBroken(Exception):
    """The session is of no more use; `asked` says whether the command had begun to leave."""

    def __init__(self, text: str, asked: bool) -> None:
        super().__init__(text)
        self.asked = asked


class Line(NamedTuple):
    """One response: its text with every literal cut out (`{n}` stays), and the literals."""

    text: bytes
    literals: tuple[bytes, ...]


class Answer(NamedTuple):
    """What one command got: the tagged status and text, and everything that came before it."""

    status: str
    text: str
    untagged: tuple[Line, ...]

    @property
    def outcome(self) -> Outcome:
        """NO [UNAVAILABLE] is how this server says that it does not know (docs/guarantees.md)."""
        if self.status == "OK":
            return Outcome.ACKNOWLEDGED
        return Outcome.UNKNOWN if self.code("UNAVAILABLE") is not None else Outcome.REFUSED

    def code(self, name: str) -> list[str] | None:
        """The arguments of a response code in the tagged line or an untagged OK; None where there is none."""
        for text in (self.text, *(line.text.decode("latin-1") for line in self.untagged if line.text[:4] == b"* OK")):
            found = _CODE.search(text)
            if found and found[1] == name:
                return found[2].split()
        return None

    def fetched(self) -> list["Fetched"]:
        """Every FETCH response that names its UID, in the order in which they came."""
        found = []
        for line in self.untagged:
            match = _FETCH.fullmatch(line.text)
            uid = _UID.search(match[2]) if match else None
            if match and uid:
                flags = _FLAGS.search(match[2])
                named = None if flags is None else _flags(flags[1])
                found.append(Fetched(int(match[1]), int(uid[1]), named, line.literals))
        return found

    def expunged(self) -> list[int]:
        """The sequence numbers of the EXPUNGE responses."""
        return [int(match[1]) for line in self.untagged if (match := _EXPUNGE.fullmatch(line.text))]

    def exists(self) -> int:
        """The last EXISTS, 0 where there was none."""
        counts = [int(match[1]) for line in self.untagged if (match := _EXISTS.fullmatch(line.text))]
        return counts[-1] if counts else 0


class Fetched(NamedTuple):
    """One message of a FETCH response. `flags`: None where they were not told; \\Recent is not among them."""

    number: int
    uid: int
    flags: tuple[str, ...] | None
    literals: tuple[bytes, ...]


def _flags(text: bytes) -> tuple[str, ...]:
    return tuple(sorted(flag for flag in text.decode("ascii").split() if flag != "\\Recent"))


@dataclass
class ImapSession:
    """One connection. `usable` is False once anything went wrong."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    usable: bool = True
    selected: str = ""
    _tags: int = field(default=0)

    @classmethod
    async def open(cls, endpoint: str) -> "ImapSession":
        """Connects to host:port and takes the greeting. Raises OSError or ImapBroken."""
        host, _, port = endpoint.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=LINE_LIMIT)
        session = cls(reader, writer)
        try:
            if not (await session._line(asked=False)).text.startswith(b"* OK"):
                raise ImapBroken("no greeting", asked=False)
        except BaseException:
            session.close()
            raise
        return session

    async def login(self, account: str, password: str) -> Answer:
        return await self.command(f"LOGIN {quoted(account)} {quoted(password)}")

    async def select(self, folder: str) -> Answer:
        self.selected = ""
        answer = await self.command(f"SELECT {quoted(folder)}")
        if answer.status == "OK":
            self.selected = folder
        return answer

    async def append(self, folder: str, data: bytes, flags: Sequence[str] = ()) -> Answer:
        """RFC 7888: the literal goes without waiting."""
        return await self.command(f"APPEND {quoted(folder)} ({' '.join(flags)})", data)

    async def command(self, text: str, literal: bytes | None = None) -> Answer:
        """Sends one command and reads to its tagged answer. Raises ImapBroken."""
        self._tags += 1
        tag = f"a{self._tags}"
        asked = False
        try:
            data = f"{tag} {text}".encode()
            if literal is not None:
                data += b" {%d+}\r\n" % len(literal) + literal
            asked = True
            self.writer.write(data + b"\r\n")
            await self.writer.drain()
            return await self._answer(tag.encode())
        except (OSError, EOFError, ValueError) as error:
            self.usable = False
            raise ImapBroken(f"{type(error).__name__}: {error}", asked) from None
        except BaseException:
            self.usable = False
            raise

    def close(self) -> None:
        self.usable = False
        self.writer.close()

    async def _answer(self, tag: bytes) -> Answer:
        untagged: list[Line] = []
        while True:
            line = await self._line(asked=True)
            if line.text.startswith(tag + b" "):
                status, _, text = line.text[len(tag) + 1 :].decode("utf-8", "replace").partition(" ")
                if status not in ("OK", "NO", "BAD"):
                    raise ImapBroken(f"not a status: {status[:40]!r}", asked=True)
                return Answer(status, text, tuple(untagged))
            if line.text.startswith(b"* BYE"):
                raise ImapBroken(line.text.decode("utf-8", "replace"), asked=True)
            if not line.text.startswith(b"* ") or len(untagged) >= UNTAGGED_LIMIT:
                raise ImapBroken(f"not a response: {line.text[:80]!r}", asked=True)
            untagged.append(line)

    async def _line(self, asked: bool) -> Line:
        text = b""
        literals: list[bytes] = []
        while True:
            try:
                text += (await self.reader.readuntil(b"\r\n"))[:-2]
            except (asyncio.LimitOverrunError, asyncio.IncompleteReadError) as error:
                raise ImapBroken(f"{type(error).__name__}: {error}", asked) from None
            found = _LITERAL.search(text)
            if found is None:
                return Line(text, tuple(literals))
            size = int(found[1])
            if size > LITERAL_LIMIT:
                raise ImapBroken(f"a literal of {size} bytes", asked)
            literals.append(await self.reader.readexactly(size))


def quoted(text: str) -> str:
    """A quoted string (RFC 3501 4.3). Raises ValueError for what it can not hold."""
    if not text.isascii() or not text.isprintable():
        raise ValueError(f"not for a quoted string: {text!r}")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
