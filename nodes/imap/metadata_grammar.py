"""Reading the commands of METADATA (RFC 5464 5) and QUOTA (RFC 9208 7)."""

from nodes.imap.commands import Command
from nodes.imap.cursor import ITEMS_LIMIT, Cursor, Readers
from nodes.imap.errors import BadCommand
from nodes.imap.metadata_commands import GetMetadata, GetQuota, GetQuotaRoot, SetMetadata, SetQuota


def _get_metadata(cursor: Cursor) -> Command:
    """Options stand in front of the mailbox by the grammar and behind it in the examples: both are taken."""
    options: dict[str, int | None] = {}
    cursor.space()
    if cursor.peek() == b"(":
        _options(cursor, options)
        cursor.space()
    name = cursor.mailbox()
    cursor.space()
    if cursor.starts_with(b"(DEPTH ") or cursor.starts_with(b"(MAXSIZE "):
        _options(cursor, options)
        cursor.space()
    return GetMetadata(name, entries(cursor), options.get("DEPTH", 0), options.get("MAXSIZE"))


def _options(cursor: Cursor, options: dict[str, int | None]) -> None:
    cursor.expect(b"(")
    while not cursor.accept(b")"):
        if options:
            cursor.space()
        option = cursor.keyword()
        cursor.space()
        if option == "DEPTH" and cursor.accept(b"INFINITY"):
            options[option] = None
        elif option in ("DEPTH", "MAXSIZE"):
            options[option] = cursor.number()
        else:
            raise BadCommand(f"unknown option {option[:40]}")
    if options.get("DEPTH") not in (None, 0, 1):
        raise BadCommand("the depth is 0, 1 or infinity")


def entries(cursor: Cursor) -> tuple[str, ...]:
    """entries: one name, or several in parentheses"""
    if not cursor.accept(b"("):
        return (_entry(cursor),)
    found = [_entry(cursor)]
    while not cursor.accept(b")"):
        cursor.space()
        found.append(_entry(cursor))
        if len(found) > ITEMS_LIMIT:
            raise BadCommand("too many entries")
    return tuple(dict.fromkeys(found))


def _entry(cursor: Cursor) -> str:
    """Compared without case (RFC 5464 3.2)."""
    return cursor.text().lower()


def _set_metadata(cursor: Cursor) -> Command:
    cursor.space()
    name = cursor.mailbox()
    cursor.expect(b" (")
    changes = [_change(cursor)]
    while not cursor.accept(b")"):
        cursor.space()
        changes.append(_change(cursor))
        if len(changes) > ITEMS_LIMIT:
            raise BadCommand("too many entries")
    return SetMetadata(name, tuple(changes))


def _change(cursor: Cursor) -> tuple[str, bytes | None]:
    """entry-value; the value is nstring or literal8"""
    entry = _entry(cursor)
    cursor.space()
    return entry, cursor.literal() if cursor.accept(b"~") else cursor.nstring()


def _get_quota(cursor: Cursor) -> Command:
    cursor.space()
    return GetQuota(cursor.text())


def _get_quota_root(cursor: Cursor) -> Command:
    cursor.space()
    return GetQuotaRoot(cursor.mailbox())


def _set_quota(cursor: Cursor) -> Command:
    cursor.space()
    root = cursor.text()
    cursor.expect(b" (")
    while not cursor.accept(b")"):
        cursor.atom()
        cursor.accept(b" ")
    return SetQuota(root)


COMMANDS: Readers = {
    "GETMETADATA": _get_metadata,
    "SETMETADATA": _set_metadata,
    "GETQUOTA": _get_quota,
    "GETQUOTAROOT": _get_quota_root,
    "SETQUOTA": _set_quota,
}
