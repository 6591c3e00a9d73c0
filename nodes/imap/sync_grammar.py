"""Reading ENABLE (RFC 5161) and what CONDSTORE and QRESYNC (RFC 7162 7) put into other commands."""

from typing import NamedTuple

from nodes.imap.commands import Command
from nodes.imap.cursor import ITEMS_LIMIT, Cursor, Readers
from nodes.imap.errors import BadCommand
from nodes.imap.search_command_grammar import partial_range
from nodes.imap.sequence import NUMBER_LIMIT, STAR, SequenceSet
from nodes.imap.sync_commands import Compress, Enable, Resync


class Since(NamedTuple):
    """FETCH's modifiers."""

    modseq: int | None = None
    vanished: bool = False
    partial: tuple[int, int] | None = None


def _enable(cursor: Cursor) -> Command:
    names: list[str] = []
    while cursor.peek() == b" " and len(names) < ITEMS_LIMIT:
        cursor.space()
        names.append(cursor.keyword())
    if not names:
        raise BadCommand("ENABLE what?")
    return Enable(tuple(names))


def _compress(cursor: Cursor) -> Command:
    cursor.space()
    return Compress(cursor.keyword())


def select_parameters(cursor: Cursor) -> tuple[bool, Resync | None]:
    """What stands behind the mailbox of SELECT: whether CONDSTORE, and QRESYNC."""
    condstore, resync = False, None
    if not cursor.accept(b" ("):
        return condstore, resync
    while True:
        if cursor.accept(b"QRESYNC ("):
            resync = _resync(cursor)
        else:
            cursor.expect(b"CONDSTORE")
            condstore = True
        if cursor.accept(b")"):
            return condstore, resync
        cursor.space()


def _resync(cursor: Cursor) -> Resync:
    uidvalidity = cursor.number()
    cursor.space()
    modseq = cursor.modseq()
    known = matches = None
    if not uidvalidity or not modseq:
        raise BadCommand("neither UIDVALIDITY nor MODSEQ is ever 0")
    if cursor.peek() == b" ":
        cursor.space()
        if cursor.peek() != b"(":
            known = _without_star(cursor.sequence_set())
            if cursor.peek() == b" ":
                cursor.space()
        if cursor.accept(b"("):
            matches = _matches(cursor)
    cursor.expect(b")")
    return Resync(uidvalidity, modseq, known, matches)


def _matches(cursor: Cursor) -> tuple[SequenceSet, SequenceSet]:
    numbers = _without_star(cursor.sequence_set())
    cursor.space()
    uids = _without_star(cursor.sequence_set())
    cursor.expect(b")")
    if _size(numbers) != _size(uids):
        raise BadCommand("as many sequence numbers as UIDs are to be matched")
    return numbers, uids


def _size(numbers: SequenceSet) -> int:
    return sum(last - first + 1 for first, last in numbers.spans(NUMBER_LIMIT))


def _without_star(numbers: SequenceSet) -> SequenceSet:
    if any(STAR in pair for pair in numbers.ranges):
        raise BadCommand("* is not known to both sides here")  # RFC 7162 7, known-uids
    return numbers


def fetch_modifiers(cursor: Cursor, by_uid: bool) -> Since:
    """What stands behind the items of FETCH."""
    since, vanished, partial = None, False, None
    if not cursor.accept(b" ("):
        return Since()
    while True:
        if cursor.accept(b"CHANGEDSINCE "):
            since = cursor.modseq()
        elif cursor.accept(b"PARTIAL"):
            partial = partial_range(cursor)  # RFC 9394 3.2
        else:
            cursor.expect(b"VANISHED")
            vanished = True
        if cursor.accept(b")"):
            break
        cursor.space()
    if vanished and (since is None or not by_uid):
        raise BadCommand("VANISHED is for UID FETCH with CHANGEDSINCE")  # RFC 7162 3.2.6
    return Since(since, vanished, partial)


def store_modifiers(cursor: Cursor) -> int | None:
    """STORE's UNCHANGEDSINCE, with the blank behind it."""
    if not cursor.accept(b"("):
        return None
    cursor.expect(b"UNCHANGEDSINCE ")
    modseq = cursor.modseq()
    cursor.expect(b") ")
    return modseq


COMMANDS: Readers = {"ENABLE": _enable, "COMPRESS": _compress}
