"""Reading a whole command (RFC 3501 9, command): a framed command in, a tag and one of commands.py out.

Raises BadCommand for what can not be understood and Refusal for what is understood and not served; `read_tag` first,
so that either can be answered under the client's tag. How each command reads is in the module of its family, whose
tables are put together here.
"""

import re

from nodes.imap import (
    acl_grammar,
    append_grammar,
    folder_grammar,
    login_grammar,
    message_grammar,
    metadata_grammar,
    notify_grammar,
    search_command_grammar,
    sync_grammar,
)
from nodes.imap.commands import Command
from nodes.imap.cursor import Cursor, Readers
from nodes.imap.errors import BadCommand

_TAG = re.compile(rb"([!#$&',\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]{1,128})(?: |\r?\n|\Z)")

COMMANDS: Readers = {
    **login_grammar.COMMANDS,
    **folder_grammar.COMMANDS,
    **append_grammar.COMMANDS,
    **sync_grammar.COMMANDS,
    **notify_grammar.COMMANDS,
    **metadata_grammar.COMMANDS,
    **acl_grammar.COMMANDS,
    **message_grammar.COMMANDS,
    **search_command_grammar.COMMANDS,
}
UID_COMMANDS: Readers = {
    **append_grammar.UID_COMMANDS,
    **message_grammar.UID_COMMANDS,
    **search_command_grammar.UID_COMMANDS,
}


def read_tag(text: bytes) -> bytes | None:
    """The command's tag, None where there is none (answer with `* BAD`)."""
    found = _TAG.match(text)
    return found[1] if found else None


def read_command(cursor: Cursor, tag: bytes) -> Command:
    """The command behind the tag. Raises BadCommand, Refusal."""
    cursor.at = len(tag)
    cursor.space()
    name = cursor.keyword()
    table = COMMANDS
    if name == "UID":
        cursor.space()
        name, table = cursor.keyword(), UID_COMMANDS
    read = table.get(name)
    if read is None:
        raise BadCommand("unknown command")
    command = read(cursor)
    cursor.end()
    return command
