"""Reading APPEND (RFC 3501 6.3.11)."""

from nodes.imap import commands
from nodes.imap.commands import Command
from nodes.imap.cursor import Cursor, Readers


def _append(cursor: Cursor) -> Command:
    cursor.space()
    name = cursor.mailbox()
    cursor.space()
    flags: tuple[str, ...] = ()
    internaldate_ms = None
    if cursor.peek() == b"(":
        flags = cursor.flag_list()
        cursor.space()
    if cursor.peek() == b'"':
        internaldate_ms = cursor.date_time_ms()
        cursor.space()
    message = cursor.literal()
    return commands.Append(name, flags, internaldate_ms, message)


COMMANDS: Readers = {"APPEND": _append}
