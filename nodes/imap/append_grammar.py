"""Reading APPEND and REPLACE (RFC 3501 6.3.11, RFC 3502, RFC 4466 2.6, RFC 4469, RFC 6855 4, RFC 8508)."""

from collections.abc import Callable

from nodes.imap.append_commands import Append, AppendMessage, Replace, Url
from nodes.imap.commands import Command
from nodes.imap.cursor import Cursor, Readers
from nodes.imap.errors import BadCommand, Refusal

MESSAGES_LIMIT = 1000
PIECES_LIMIT = 1000  # of one message that is put together


def _append(cursor: Cursor) -> Command:
    cursor.space()
    name = cursor.mailbox()
    messages = [_message(cursor)]
    while _goes_on(cursor):
        messages.append(_message(cursor))
        if len(messages) > MESSAGES_LIMIT:
            raise Refusal(f"at most {MESSAGES_LIMIT} messages at once", "LIMIT")
    return Append(name, tuple(messages))


def _goes_on(cursor: Cursor) -> bool:
    """Whether another message follows; IMAPClient has two blanks in front of it."""
    if cursor.starts_with(b"  "):
        cursor.space()
    return any(cursor.starts_with(token) for token in (b" (", b' "', b" {", b" ~{", b" CATENATE (", b" UTF8 ("))


def _replace(by_uid: bool) -> Callable[[Cursor], Command]:
    def read(cursor: Cursor) -> Command:
        cursor.space()
        old = cursor.sequence_set()
        if len(old.ranges) != 1 or old.ranges[0][0] != old.ranges[0][1]:
            raise BadCommand("one message is replaced, not several")
        cursor.space()
        name = cursor.mailbox()
        return Replace(old, name, _message(cursor), by_uid)

    return read


def _message(cursor: Cursor) -> AppendMessage:
    """append-message, with the blank in front of it"""
    cursor.space()
    flags: tuple[str, ...] = ()
    internaldate_ms = None
    if cursor.peek() == b"(":
        flags = cursor.flag_list()
        cursor.space()
    if cursor.peek() == b'"':
        internaldate_ms = cursor.date_time_ms()
        cursor.space()
    if cursor.accept(b"CATENATE ("):
        return AppendMessage(flags, internaldate_ms, _pieces(cursor))
    return AppendMessage(flags, internaldate_ms, (_data(cursor),))


def _data(cursor: Cursor) -> bytes:
    """literal, literal8 (RFC 3516 7), or a literal8 that is said to be UTF-8 (RFC 6855 4)"""
    if cursor.accept(b"UTF8 ("):
        cursor.expect(b"~")
        data = cursor.literal()
        cursor.expect(b")")
        return data
    cursor.accept(b"~")
    return cursor.literal()


def _pieces(cursor: Cursor) -> tuple[bytes | Url, ...]:
    pieces = [_piece(cursor)]
    while not cursor.accept(b")"):
        cursor.space()
        pieces.append(_piece(cursor))
        if len(pieces) > PIECES_LIMIT:
            raise Refusal(f"at most {PIECES_LIMIT} pieces of one message", "LIMIT")
    return tuple(pieces)


def _piece(cursor: Cursor) -> bytes | Url:
    if cursor.accept(b"URL "):
        return Url(cursor.text())
    if cursor.accept(b"TEXT "):
        cursor.accept(b"~")
        return cursor.literal()
    return _data(cursor)


COMMANDS: Readers = {"APPEND": _append, "REPLACE": _replace(False)}
UID_COMMANDS: Readers = {"REPLACE": _replace(True)}
