"""Reading NOTIFY (RFC 5465 8)."""

from typing import cast, get_args

from nodes.imap.commands import Command, FetchItem
from nodes.imap.cursor import ITEMS_LIMIT, Cursor, Readers
from nodes.imap.errors import BadCommand, Refusal
from nodes.imap.message_grammar import fetch_item
from nodes.imap.notify_commands import EVENTS, MESSAGE_EVENTS, EventGroup, Notify, Which


def _notify(cursor: Cursor) -> Command:
    cursor.space()
    if cursor.accept(b"NONE"):
        return Notify(())
    cursor.expect(b"SET")
    status = cursor.accept(b" STATUS")
    groups: list[EventGroup] = []
    while cursor.accept(b" ("):
        groups.append(_group(cursor))
        if len(groups) > ITEMS_LIMIT:
            raise Refusal("too many event groups", "LIMIT")
    if not groups:
        raise BadCommand("NOTIFY SET what?")
    if sum(group.is_selected for group in groups) > 1:
        raise BadCommand("the selected mailbox is named twice")  # RFC 5465 6
    return Notify(tuple(groups), status)


def _group(cursor: Cursor) -> EventGroup:
    """What follows the parenthesis of one event-group."""
    which = cursor.keyword()
    if which not in get_args(Which):
        raise BadCommand(f"unknown mailboxes {which[:40]}")
    names: frozenset[str] = frozenset()
    if which in ("SUBTREE", "MAILBOXES"):
        cursor.space()
        names = _names(cursor)
    cursor.space()
    events: frozenset[str] = frozenset()
    fetched: tuple[FetchItem, ...] = ()
    if not cursor.accept(b"NONE"):
        events, fetched = _events(cursor)
    cursor.expect(b")")
    group = EventGroup(cast(Which, which), names, events, fetched)
    _check(group)
    return group


def _names(cursor: Cursor) -> frozenset[str]:
    if not cursor.accept(b"("):
        return frozenset((cursor.mailbox(),))
    names = {cursor.mailbox()}
    while not cursor.accept(b")"):
        cursor.space()
        names.add(cursor.mailbox())
        if len(names) > ITEMS_LIMIT:
            raise Refusal("too many mailboxes", "LIMIT")
    return frozenset(names)


def _events(cursor: Cursor) -> tuple[frozenset[str], tuple[FetchItem, ...]]:
    cursor.expect(b"(")
    events: set[str] = set()
    fetched: tuple[FetchItem, ...] = ()
    while not cursor.accept(b")"):
        if events:
            cursor.space()
        event = cursor.keyword()
        if event not in EVENTS:
            raise Refusal(f"no such event: {event[:40]}", f"BADEVENT ({' '.join(EVENTS.values())})")  # RFC 5465 5
        events.add(event)
        if event == "MESSAGENEW" and cursor.accept(b" ("):
            fetched = _items(cursor)
    return frozenset(events), fetched


def _items(cursor: Cursor) -> tuple[FetchItem, ...]:
    items = [fetch_item(cursor)]
    while not cursor.accept(b")"):
        cursor.space()
        items.append(fetch_item(cursor))
        if len(items) > ITEMS_LIMIT:
            raise Refusal("too many items", "LIMIT")
    return tuple(dict.fromkeys(items))


def _check(group: EventGroup) -> None:
    """RFC 5465 5: what goes together; 6.1: the selected mailbox has events of messages only."""
    told = group.events & MESSAGE_EVENTS
    if told and not {"MESSAGENEW", "MESSAGEEXPUNGE"} <= told:
        raise BadCommand("MessageNew and MessageExpunge go together, and FlagChange with both")
    if group.is_selected and group.events - MESSAGE_EVENTS:
        raise BadCommand("the selected mailbox has events of messages only")
    if group.fetched and not group.is_selected:
        raise BadCommand("only messages of the selected mailbox are fetched")


COMMANDS: Readers = {"NOTIFY": _notify}
