"""Reading the commands on mailboxes (RFC 3501 6.3; RFC 5258, 5819, 6154), but for APPEND."""

from collections.abc import Callable

from nodes.imap import commands
from nodes.imap.commands import Command
from nodes.imap.cursor import ITEMS_LIMIT, Cursor, Readers
from nodes.imap.errors import BadCommand, Refusal
from nodes.imap.metadata_grammar import entries
from nodes.imap.sync_grammar import select_parameters

STATUS_ITEMS = (
    "MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "SIZE", "APPENDLIMIT", "DELETED", "DELETED-STORAGE",
    "HIGHESTMODSEQ", "MAILBOXID",
)  # fmt: skip
SPECIAL_USES = ("\\All", "\\Archive", "\\Drafts", "\\Flagged", "\\Junk", "\\Sent", "\\Trash")


def _mailbox(cursor: Cursor) -> str:
    cursor.space()
    return cursor.mailbox()


def _select(read_only: bool) -> Callable[[Cursor], Command]:
    return lambda cursor: commands.Select(_mailbox(cursor), read_only, *select_parameters(cursor))


def _create(cursor: Cursor) -> Command:
    name = _mailbox(cursor)
    special_use = None
    if cursor.accept(b" (USE ("):
        uses = [use for use in SPECIAL_USES if cursor.accept(use.upper().encode())]
        if len(uses) != 1 or not cursor.accept(b"))"):
            raise Refusal("a mailbox has one special use, of those of RFC 6154", "USEATTR")
        special_use = uses[0]
    # RFC 3501 6.3.3: a trailing delimiter only says that inferior names will follow.
    return commands.Create(name[:-1] if name.endswith("/") else name, special_use)


def _rename(cursor: Cursor) -> Command:
    name = _mailbox(cursor)
    return commands.Rename(name, _mailbox(cursor))


def _subscribe(subscribed: bool) -> Callable[[Cursor], Command]:
    return lambda cursor: commands.Subscribe(_mailbox(cursor), subscribed)


def _lsub(cursor: Cursor) -> Command:
    reference = _mailbox(cursor)
    cursor.space()
    return commands.List(reference, (cursor.list_mailbox(),), lsub=True)


_SELECTION = frozenset({"SUBSCRIBED", "REMOTE", "RECURSIVEMATCH", "SPECIAL-USE"})
_RETURN = frozenset({"SUBSCRIBED", "CHILDREN", "SPECIAL-USE", "MYRIGHTS"})


def _list(cursor: Cursor) -> Command:
    """LIST of RFC 3501, and list-extended of RFC 5258 6, which has no special meaning for an empty pattern (3)."""
    cursor.space()
    selection: frozenset[str] = frozenset()
    is_extended = cursor.peek() == b"("
    if is_extended:
        selection = frozenset(_words(cursor, _SELECTION))
        if "RECURSIVEMATCH" in selection and not selection - {"RECURSIVEMATCH", "REMOTE"}:
            raise BadCommand("RECURSIVEMATCH needs another selection option")  # RFC 5258 3.1
        cursor.space()
    reference = cursor.mailbox()
    cursor.space()
    is_extended |= cursor.peek() == b"("
    patterns = _patterns(cursor)
    returned: set[str] = set()
    status: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()
    if cursor.accept(b" RETURN ("):
        is_extended = True
        while not cursor.accept(b")"):
            if returned:
                cursor.space()
            option = cursor.keyword()
            if option == "STATUS":  # RFC 5819
                cursor.space()
                status = _status_items(cursor)
            elif option == "METADATA":  # RFC 9590
                cursor.space()
                metadata = entries(cursor)
            elif option not in _RETURN:
                raise BadCommand(f"unknown return option {option[:40]}")
            returned.add(option)
    if is_extended:
        patterns = tuple(filter(None, patterns))
    return commands.List(reference, patterns, False, selection, frozenset(returned), status, metadata)


def _patterns(cursor: Cursor) -> tuple[str, ...]:
    if not cursor.accept(b"("):
        return (cursor.list_mailbox(),)
    patterns = [cursor.list_mailbox()]
    while not cursor.accept(b")"):
        cursor.space()
        patterns.append(cursor.list_mailbox())
        if len(patterns) > ITEMS_LIMIT:
            raise BadCommand("too many patterns")
    return tuple(patterns)


def _words(cursor: Cursor, known: frozenset[str]) -> tuple[str, ...]:
    """A list in parentheses of words that are all in `known`."""
    words: list[str] = []
    cursor.expect(b"(")
    while not cursor.accept(b")"):
        if words:
            cursor.space()
        word = cursor.keyword()
        if word not in known or len(words) > ITEMS_LIMIT:
            raise BadCommand(f"unknown option {word[:40]}")
        words.append(word)
    return tuple(dict.fromkeys(words))


def _status(cursor: Cursor) -> Command:
    name = _mailbox(cursor)
    cursor.space()
    return commands.Status(name, _status_items(cursor))


def _status_items(cursor: Cursor) -> tuple[str, ...]:
    items = _words(cursor, frozenset(STATUS_ITEMS))
    if not items:
        raise BadCommand("the status of what?")  # RFC 3501 9: status-att is not optional
    return items


COMMANDS: Readers = {
    "IDLE": lambda _: commands.Idle(),
    "NAMESPACE": lambda _: commands.Namespace(),
    "SELECT": _select(False),
    "EXAMINE": _select(True),
    "CREATE": _create,
    "DELETE": lambda cursor: commands.Delete(_mailbox(cursor)),
    "RENAME": _rename,
    "SUBSCRIBE": _subscribe(True),
    "UNSUBSCRIBE": _subscribe(False),
    "LIST": _list,
    "LSUB": _lsub,
    "STATUS": _status,
}
