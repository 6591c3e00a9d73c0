"""Reading a whole command (RFC 3501 9, command): a framed command in, a tag and one of commands.py out.

Raises BadCommand for what can not be understood and Refusal for what is understood and not served; `read_tag` first,
so that either can be answered under the client's tag. What only one command knows is in its own function below.
"""

import re
from collections.abc import Callable
from typing import cast

from nodes.imap import commands
from nodes.imap.commands import Attribute, Command, Section, SectionKind
from nodes.imap.cursor import Cursor
from nodes.imap.errors import BadCommand, Refusal
from nodes.imap.search_grammar import search_program

_TAG = re.compile(rb"([!#$&',\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]{1,128})(?: |\r?\n|\Z)")

ITEMS_LIMIT = 200  # of one FETCH, LIST or STATUS
PART_DEPTH_LIMIT = 50

STATUS_ITEMS = ("MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "SIZE", "APPENDLIMIT")
SPECIAL_USES = ("\\All", "\\Archive", "\\Drafts", "\\Flagged", "\\Junk", "\\Sent", "\\Trash")


def read_tag(text: bytes) -> bytes | None:
    """The command's tag, None where there is none (answer with `* BAD`)."""
    found = _TAG.match(text)
    return found[1] if found else None


def read_command(cursor: Cursor, tag: bytes) -> Command:
    """The command behind the tag. Raises BadCommand, Refusal."""
    cursor.at = len(tag)
    cursor.space()
    name = cursor.keyword()
    table = _COMMANDS
    if name == "UID":
        cursor.space()
        name, table = cursor.keyword(), _UID_COMMANDS
    read = table.get(name)
    if read is None:
        raise BadCommand("unknown command")
    command = read(cursor)
    cursor.end()
    return command


# -- log-in, folders


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


def _mailbox(cursor: Cursor) -> str:
    cursor.space()
    return cursor.mailbox()


def _select(read_only: bool) -> Callable[[Cursor], Command]:
    return lambda cursor: commands.Select(_mailbox(cursor), read_only)


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
_RETURN = frozenset({"SUBSCRIBED", "CHILDREN", "SPECIAL-USE"})


def _list(cursor: Cursor) -> Command:
    """LIST of RFC 3501, and list-extended of RFC 5258 6."""
    cursor.space()
    selection: frozenset[str] = frozenset()
    if cursor.peek() == b"(":
        selection = frozenset(_words(cursor, _SELECTION))
        if "RECURSIVEMATCH" in selection and not selection - {"RECURSIVEMATCH", "REMOTE"}:
            raise BadCommand("RECURSIVEMATCH needs another selection option")  # RFC 5258 3.1
        cursor.space()
    reference = cursor.mailbox()
    cursor.space()
    patterns = _patterns(cursor)
    returned: set[str] = set()
    status: tuple[str, ...] = ()
    if cursor.accept(b" RETURN ("):
        while not cursor.accept(b")"):
            if returned:
                cursor.space()
            option = cursor.keyword()
            if option == "STATUS":  # RFC 5819
                cursor.space()
                status = _words(cursor, frozenset(STATUS_ITEMS))
            elif option not in _RETURN:
                raise BadCommand(f"unknown return option {option[:40]}")
            returned.add(option)
    return commands.List(reference, patterns, False, selection, frozenset(returned), status)


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
    return commands.Status(name, _words(cursor, frozenset(STATUS_ITEMS)))


def _append(cursor: Cursor) -> Command:
    name = _mailbox(cursor)
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


# -- messages


def _expunge(cursor: Cursor) -> Command:
    return commands.Expunge(None)


def _uid_expunge(cursor: Cursor) -> Command:
    cursor.space()
    return commands.Expunge(cursor.sequence_set())


def _search(by_uid: bool) -> Callable[[Cursor], Command]:
    def read(cursor: Cursor) -> Command:
        cursor.space()
        return commands.Search(search_program(cursor), by_uid)

    return read


def _store(by_uid: bool) -> Callable[[Cursor], Command]:
    def read(cursor: Cursor) -> Command:
        cursor.space()
        messages = cursor.sequence_set()
        cursor.space()
        mode: commands.Mode = "add" if cursor.accept(b"+") else "remove" if cursor.accept(b"-") else "replace"
        cursor.expect(b"FLAGS")
        silent = cursor.accept(b".SILENT")
        cursor.space()
        if cursor.peek() == b"(":
            return commands.Store(messages, mode, cursor.flag_list(), silent, by_uid)
        flags = [cursor.flag()]
        while cursor.accept(b" "):
            flags.append(cursor.flag())
        return commands.Store(messages, mode, tuple(f for f in flags if f != "\\Recent"), silent, by_uid)

    return read


def _copy(move: bool, by_uid: bool) -> Callable[[Cursor], Command]:
    def read(cursor: Cursor) -> Command:
        cursor.space()
        messages = cursor.sequence_set()
        return commands.Copy(messages, _mailbox(cursor), move, by_uid)

    return read


def _fetch(by_uid: bool) -> Callable[[Cursor], Command]:
    def read(cursor: Cursor) -> Command:
        cursor.space()
        messages = cursor.sequence_set()
        cursor.space()
        items = _fetch_items(cursor)
        if by_uid and "UID" not in items:  # RFC 3501 6.4.8
            items = ("UID", *items)
        return commands.Fetch(messages, items, by_uid)

    return read


_MACROS: dict[str, tuple[Attribute, ...]] = {
    "ALL": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"),
    "FAST": ("FLAGS", "INTERNALDATE", "RFC822.SIZE"),
    "FULL": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"),
}
_ATTRIBUTES = frozenset({"UID", "FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODYSTRUCTURE", "BODY"})
_OLD_SECTIONS: dict[str, Section] = {
    "RFC822": Section(b"RFC822", (), "", frozenset(), None, peek=False),
    "RFC822.HEADER": Section(b"RFC822.HEADER", (), "HEADER", frozenset(), None, peek=True),
    "RFC822.TEXT": Section(b"RFC822.TEXT", (), "TEXT", frozenset(), None, peek=False),
}


def _fetch_items(cursor: Cursor) -> tuple[Attribute | Section, ...]:
    if not cursor.accept(b"("):
        macro = next((name for name in _MACROS if cursor.accept(name.encode())), None)
        return _MACROS[macro] if macro else (_fetch_item(cursor),)
    items = [_fetch_item(cursor)]
    while not cursor.accept(b")"):
        cursor.space()
        items.append(_fetch_item(cursor))
        if len(items) > ITEMS_LIMIT:
            raise Refusal("too many items", "LIMIT")
    return tuple(dict.fromkeys(items))


def _fetch_item(cursor: Cursor) -> Attribute | Section:
    if cursor.accept(b"BODY.PEEK["):
        return _section(cursor, peek=True)
    if cursor.accept(b"BODY["):
        return _section(cursor, peek=False)
    name = cursor.keyword()
    if name in _OLD_SECTIONS:
        return _OLD_SECTIONS[name]
    if name not in _ATTRIBUTES:
        raise BadCommand(f"unknown item {name[:40]}")
    return cast(Attribute, name)


def _section(cursor: Cursor, peek: bool) -> Section:
    """What follows BODY[ (section-spec), the partial too."""
    start = cursor.at
    numbers = _part_numbers(cursor)
    kind: SectionKind = ""
    fields: list[bytes] = []
    if cursor.peek() != b"]":
        kind = _section_kind(cursor.keyword(), numbers)
    if kind.startswith("HEADER.FIELDS"):
        fields = _field_names(cursor)
    cursor.expect(b"]")
    label = b"BODY[" + _label(kind, numbers, fields, cursor.text_since(start)) + b"]"
    partial = _partial(cursor)
    return Section(label, numbers, kind, frozenset(f.lower() for f in fields), partial, peek)


def _section_kind(name: str, numbers: tuple[int, ...]) -> SectionKind:
    match name:
        case "HEADER" | "HEADER.FIELDS" | "HEADER.FIELDS.NOT" | "TEXT":
            return name
        case "MIME" if numbers:
            return "MIME"
        case _:
            raise BadCommand(f"unknown section {name[:40]}")


def _part_numbers(cursor: Cursor) -> tuple[int, ...]:
    numbers: list[int] = []
    while cursor.peek().isdigit():
        numbers.append(cursor.number())
        if numbers[-1] == 0 or len(numbers) > PART_DEPTH_LIMIT:
            raise BadCommand("malformed part number")
        if not cursor.accept(b"."):
            break
    return tuple(numbers)


def _field_names(cursor: Cursor) -> list[bytes]:
    cursor.expect(b" (")
    names = [cursor.astring()]
    while not cursor.accept(b")"):
        cursor.space()
        names.append(cursor.astring())
    return names


def _label(kind: str, numbers: tuple[int, ...], fields: list[bytes], written: bytes) -> bytes:
    """The section as the response repeats it; a field name that was a literal comes back quoted."""
    if not fields:
        return written[:-1].upper()
    spec = ".".join([*map(str, numbers), kind]).encode("ascii")
    return spec + b" (" + b" ".join(_field_label(name) for name in fields) + b")"


def _field_label(name: bytes) -> bytes:
    if re.fullmatch(rb"[!#$&'+,\-./0-9;<=>?@A-Z^_`a-z|}~]+", name):
        return name
    return b'"' + re.sub(rb'([\\"])', rb"\\\1", re.sub(rb"[^\x20-\x7e]", b"?", name)) + b'"'


def _partial(cursor: Cursor) -> tuple[int, int] | None:
    if not cursor.accept(b"<"):
        return None
    origin = cursor.number()
    cursor.expect(b".")
    count = cursor.number()
    cursor.expect(b">")
    if count == 0:
        raise BadCommand("a partial fetch of nothing")
    return origin, count


_COMMANDS: dict[str, Callable[[Cursor], Command]] = {
    "CAPABILITY": lambda _: commands.Capability(),
    "NOOP": lambda _: commands.Noop(),
    "LOGOUT": lambda _: commands.Logout(),
    "STARTTLS": lambda _: commands.StartTls(),
    "CHECK": lambda _: commands.Check(),
    "CLOSE": lambda _: commands.Close(),
    "UNSELECT": lambda _: commands.Unselect(),
    "IDLE": lambda _: commands.Idle(),
    "NAMESPACE": lambda _: commands.Namespace(),
    "ID": _id,
    "AUTHENTICATE": _authenticate,
    "LOGIN": _login,
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
    "APPEND": _append,
    "EXPUNGE": _expunge,
    "SEARCH": _search(False),
    "FETCH": _fetch(False),
    "STORE": _store(False),
    "COPY": _copy(False, False),
    "MOVE": _copy(True, False),
}
_UID_COMMANDS: dict[str, Callable[[Cursor], Command]] = {
    "EXPUNGE": _uid_expunge,
    "SEARCH": _search(True),
    "FETCH": _fetch(True),
    "STORE": _store(True),
    "COPY": _copy(False, True),
    "MOVE": _copy(True, True),
}
COMMAND_NAMES = frozenset(_COMMANDS)
