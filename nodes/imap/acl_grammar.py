"""Reading the commands of ACL (RFC 4314 3 and 7)."""

from actors.errors import InvalidName
from actors.mailbox_acl import Mode, parsed
from nodes.imap.acl_commands import GetAcl, ListRights, MyRights, SetAcl
from nodes.imap.commands import Command
from nodes.imap.cursor import Cursor, Readers
from nodes.imap.errors import BadCommand


def _mailbox(cursor: Cursor) -> str:
    cursor.space()
    return cursor.mailbox()


def _identifier(cursor: Cursor) -> tuple[str, bool]:
    """Whom, and whether negative rights are meant."""
    cursor.space()
    text = cursor.text()
    return text.removeprefix("-"), text.startswith("-")


def _set_acl(cursor: Cursor) -> Command:
    name = _mailbox(cursor)
    identifier, negative = _identifier(cursor)
    cursor.space()
    text = cursor.text()
    mode: Mode = "add" if text[:1] == "+" else "remove" if text[:1] == "-" else "replace"
    return SetAcl(name, identifier, negative, _rights(text if mode == "replace" else text[1:]), mode)


def _rights(text: str) -> str:
    try:
        return parsed(text)
    except InvalidName as error:
        raise BadCommand(str(error)) from None  # RFC 4314 3.1


def _delete_acl(cursor: Cursor) -> Command:
    name = _mailbox(cursor)
    identifier, negative = _identifier(cursor)
    return SetAcl(name, identifier, negative, "", "replace")


def _list_rights(cursor: Cursor) -> Command:
    name = _mailbox(cursor)
    return ListRights(name, _identifier(cursor)[0])


COMMANDS: Readers = {
    "SETACL": _set_acl,
    "DELETEACL": _delete_acl,
    "GETACL": lambda cursor: GetAcl(_mailbox(cursor)),
    "LISTRIGHTS": _list_rights,
    "MYRIGHTS": lambda cursor: MyRights(_mailbox(cursor)),
}
