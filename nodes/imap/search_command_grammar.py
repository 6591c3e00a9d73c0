"""Reading SEARCH, SORT, THREAD, ESEARCH and CANCELUPDATE: what stands around the SEARCH program.

RFC 3501 9, RFC 4731 4, RFC 5182 4, RFC 5256 5, RFC 5267 5, RFC 5957 4, RFC 7377 5 and RFC 9394 4.
"""

import re
from collections.abc import Callable
from typing import cast, get_args

from nodes.imap.commands import Command
from nodes.imap.cursor import Cursor, Readers
from nodes.imap.errors import BadCommand, Refusal
from nodes.imap.search import Numbers, parts_of
from nodes.imap.search_commands import (
    CancelUpdate,
    Filter,
    MultiSearch,
    ResultOption,
    Returned,
    Search,
    Sort,
    SortBy,
    SortKey,
    Sources,
    Thread,
)
from nodes.imap.search_grammar import charset_and_program, search_program

SORT_KEYS_LIMIT = 20
TAGS_LIMIT = 100
SOURCES_LIMIT = 200  # names and filters of one ESEARCH

_OPTIONS = frozenset(get_args(ResultOption))
_SORT_KEYS = frozenset(get_args(SortBy))
_FILTERS = frozenset(get_args(Filter))
_WITH_NAMES = frozenset({"subtree", "subtree-one", "mailboxes"})
_PARTIAL = re.compile(rb"(-?)([1-9]\d{0,9}):(-?)([1-9]\d{0,9})(?=[ )])")


def _tag(cursor: Cursor) -> bytes:
    """The command's own tag: responses name it."""
    return cursor.text_since(0).partition(b" ")[0]


def _search(by_uid: bool) -> Callable[[Cursor], Command]:
    def read(cursor: Cursor) -> Command:
        tag = _tag(cursor)
        cursor.space()
        returned = _returned(cursor)
        return Search(search_program(cursor), by_uid, returned, tag)

    return read


def _sort(by_uid: bool) -> Callable[[Cursor], Command]:
    def read(cursor: Cursor) -> Command:
        tag = _tag(cursor)
        cursor.space()
        returned = _returned(cursor)
        keys = _sort_keys(cursor)
        cursor.space()
        return Sort(keys, charset_and_program(cursor), by_uid, returned, tag)

    return read


def _sort_keys(cursor: Cursor) -> tuple[SortKey, ...]:
    """sort-criteria"""
    cursor.expect(b"(")
    keys = [_sort_key(cursor)]
    while not cursor.accept(b")"):
        cursor.space()
        keys.append(_sort_key(cursor))
        if len(keys) > SORT_KEYS_LIMIT:
            raise Refusal("too many sort keys", "LIMIT")
    return tuple(keys)


def _sort_key(cursor: Cursor) -> SortKey:
    reverse = cursor.accept(b"REVERSE ")
    name = cursor.keyword()
    if name not in _SORT_KEYS:
        raise BadCommand(f"unknown sort key {name[:40]}")
    return SortKey(cast(SortBy, name), reverse)


def _thread(by_uid: bool) -> Callable[[Cursor], Command]:
    def read(cursor: Cursor) -> Command:
        cursor.space()
        algorithm = cursor.keyword()
        if algorithm not in ("ORDEREDSUBJECT", "REFERENCES"):
            raise BadCommand(f"unknown threading algorithm {algorithm[:40]}")
        cursor.space()
        return Thread(algorithm, charset_and_program(cursor), by_uid)  # type: ignore[arg-type]

    return read


def _returned(cursor: Cursor) -> Returned | None:
    """[RETURN SP "(" [search-return-opt *(SP search-return-opt)] ")" SP]"""
    if not cursor.accept(b"RETURN ("):
        return None
    options: set[ResultOption] = set()
    partial: tuple[int, int] | None = None
    first = True
    while not cursor.accept(b")"):
        if not first:
            cursor.space()
        first = False
        name = cursor.keyword()
        if name == "PARTIAL":
            if partial is not None:
                raise BadCommand("PARTIAL may stand there once")
            partial = partial_range(cursor)
        elif name in _OPTIONS:
            options.add(cast(ResultOption, name))
        else:
            raise BadCommand(f"unknown result option {name[:40]}")
    cursor.space()
    if partial is not None and "ALL" in options:
        raise BadCommand("PARTIAL and ALL exclude each other")  # RFC 9394 3.1
    if not options - {"UPDATE", "CONTEXT"} and partial is None:
        options.add("ALL")  # RFC 4731 3.1: an empty list means ALL
    return Returned(frozenset(options), partial)


def partial_range(cursor: Cursor) -> tuple[int, int]:
    """SP partial-range (RFC 9394 4): both ends from the beginning, or both from the end."""
    cursor.space()
    found = _PARTIAL.match(cursor.rest())
    if found is None or found[1] != found[3]:
        raise BadCommand("expected a range, as in 1:100 or -1:-100")
    cursor.at += found.end()
    sign = -1 if found[1] else 1
    return sign * int(found[2]), sign * int(found[4])


def _multi_search(cursor: Cursor) -> Command:
    tag = _tag(cursor)
    cursor.space()
    sources = _sources(cursor) if cursor.accept(b"IN (") else (Sources("selected"),)
    returned = _returned(cursor) or Returned(frozenset({"ALL"}))
    program = search_program(cursor)
    if returned.options & {"UPDATE", "CONTEXT"}:
        raise BadCommand("a search of several mailboxes has no updates")  # RFC 7377 2.1
    only_selected = all(source.filter in ("selected", "selected-delayed") for source in sources)
    if not only_selected:
        if "SAVE" in returned.options:
            raise BadCommand("only a search of the selected mailbox can be saved")  # RFC 7377 2.1
        if any(isinstance(key, Numbers) and (not key.by_uid or key.numbers.saved) for key in parts_of(program)):
            raise BadCommand("sequence numbers are those of the selected mailbox alone")
    return MultiSearch(sources, program, returned, tag)


def _sources(cursor: Cursor) -> tuple[Sources, ...]:
    """source-mbox, behind `IN (`; scope options (RFC 7377 2.3) are there for extensions: none is known."""
    sources = [_source(cursor)]
    while not cursor.accept(b")"):
        cursor.space()
        if cursor.peek() == b"(":
            raise BadCommand("no scope option is known")
        sources.append(_source(cursor))
    if sum(1 + len(source.names) for source in sources) > SOURCES_LIMIT:
        raise Refusal("too many mailboxes are named", "LIMIT")
    cursor.space()
    return tuple(sources)


def _source(cursor: Cursor) -> Sources:
    """filter-mailboxes (RFC 5465 8)"""
    name = cursor.atom().lower()
    if name not in _FILTERS:
        raise BadCommand(f"unknown mailbox filter {name[:40]}")
    if name not in _WITH_NAMES:
        return Sources(cast(Filter, name))
    cursor.space()
    names: list[str] = []
    if cursor.accept(b"("):
        names.append(cursor.mailbox())
        while not cursor.accept(b")"):
            cursor.space()
            names.append(cursor.mailbox())
    else:
        names.append(cursor.mailbox())
    return Sources(cast(Filter, name), tuple(names))


def _cancel_update(cursor: Cursor) -> Command:
    cursor.space()
    tags = [cursor.string()]
    while cursor.accept(b" "):
        tags.append(cursor.string())
        if len(tags) > TAGS_LIMIT:
            raise Refusal("too many tags", "LIMIT")
    return CancelUpdate(tuple(tags))


COMMANDS: Readers = {
    "SEARCH": _search(False),
    "SORT": _sort(False),
    "THREAD": _thread(False),
    "ESEARCH": _multi_search,
    "CANCELUPDATE": _cancel_update,
}
UID_COMMANDS: Readers = {
    "SEARCH": _search(True),
    "SORT": _sort(True),
    "THREAD": _thread(True),
}
