"""Reading the commands that need no mailbox (RFC 3501 6.1, 6.2): those of every state, and logging in."""

from nodes.imap import commands
from nodes.imap.commands import Command
from nodes.imap.cursor import Cursor, Readers
from nodes.imap.errors import BadCommand


def _id(cursor: Cursor) -> Command:
    cursor.space()
    if cursor.accept(b"NIL"):
        return commands.Id(())
    facts: list[tuple[str, str]] = []
    cursor.expect(b"(")
    while not cursor.accept(b")"):
        if facts:
            cursor.space()
        key = cursor.string().decode("utf-8", "replace")
        cursor.space()
        facts.append((key, (cursor.nstring() or b"").decode("utf-8", "replace")))
        if len(facts) > 30:  # RFC 2971 3.3
            raise BadCommand("more than 30 fields")
    return commands.Id(tuple(facts))


def _authenticate(cursor: Cursor) -> Command:
    cursor.space()
    mechanism = cursor.keyword()
    if cursor.peek() != b" ":
        return commands.Authenticate(mechanism, None)
    cursor.space()
    initial = cursor.take_base64()
    return commands.Authenticate(mechanism, b"" if initial == b"=" else initial)


def _login(cursor: Cursor) -> Command:
    cursor.space()
    login = cursor.text()
    cursor.space()
    return commands.Login(login, cursor.text())


COMMANDS: Readers = {
    "CAPABILITY": lambda _: commands.Capability(),
    "NOOP": lambda _: commands.Noop(),
    "LOGOUT": lambda _: commands.Logout(),
    "STARTTLS": lambda _: commands.StartTls(),
    "ID": _id,
    "AUTHENTICATE": _authenticate,
    "LOGIN": _login,
}
