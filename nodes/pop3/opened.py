"""A maildrop that a session has open: what is read and removed there, and that it is given back in the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from actors.errors import CommandRefused
from actors.mailbox import Expunge
from eventlog.errors import LogError
from nodes.pop3 import multiline
from nodes.pop3.events import Answer, refusing
from nodes.reading import body_of

if TYPE_CHECKING:
    from actors.directory import Target
    from actors.runtime import Context
    from nodes.pop3.exclusive import Hold
    from nodes.pop3.maildrop import Entry, Maildrop
    from nodes.services import Services

GONE = refusing("The message is no longer there", "SYS/PERM", "no_such_message")
IN_UTF8 = refusing("Its header is in UTF-8: say UTF8 before log-in", "UTF8")


class Text(NamedTuple):
    """What is sent of a message: `first` is a line of its own, `parts` are to be stuffed (nodes/pop3/multiline.py)."""

    first: bytes
    parts: tuple[bytes, bytes]
    read_bytes: int


class Opened:
    """`hold`: where nobody else may have it open. `refuses_utf8`: see RFC 6856 2. `context`: on whose behalf it is."""

    def __init__(
        self,
        services: Services,
        target: Target,
        maildrop: Maildrop,
        context: Context,
        *,
        hold: Hold | None = None,
        refuses_utf8: bool = False,
    ) -> None:
        self.target = target
        self.maildrop = maildrop
        self.hold = hold
        self._services = services
        self._context = context
        self._refuses_utf8 = refuses_utf8
        self._leave: Callable[[], None] = lambda: None

    def enter(self, put_out: Callable[[str], None]) -> None:
        """Takes a place among those who are logged in; `put_out` is called when they are not to be served any more."""
        self._leave = self._services.sessions.enter(self.target, put_out)

    def read(self, entry: Entry, lines: int | None, *, utf8: bool) -> Text | Answer:
        """The message, or its header and so many lines; else why not. `utf8`: the client said that it takes it."""
        with self._services.log.snapshot() as snapshot:
            body = body_of(snapshot, self.maildrop.tenant, entry.digest)
        if body is None:
            return GONE
        if self._refuses_utf8 and not utf8 and multiline.is_utf8(multiline.top(body, 0)):
            return IN_UTF8
        read_bytes = len(entry.trace) + len(body)
        if lines is None:
            return Text(f"+OK {entry.size} octets\r\n".encode(), (entry.trace, body), read_bytes)
        return Text(b"+OK Top follows\r\n", (b"", multiline.top(entry.trace + body, lines)), read_bytes)

    async def remove(self, uids: tuple[int, ...]) -> bool:
        """False where nothing was, or it is not known; nothing is when the maildrop is another session's by now."""
        if self.hold is not None and not await self.hold.is_held():
            return False
        command = Expunge(self.maildrop.folder_id, uids, force=True)
        try:
            await self._services.runtime.ask(self.maildrop.account, command, self._context)
        except (CommandRefused, LogError):
            return False
        return True

    async def let_go(self) -> None:
        """The session has ended."""
        self._leave()
        if self.hold is not None:
            await self.hold.release()
