"""Which command is legal in which state (RFC 3501 3): a table; an illegal one is a lookup that misses."""

from enum import Enum
from typing import get_args

from nodes.imap import append_commands, commands, search_commands
from nodes.imap.commands import Command


class State(Enum):
    NOT_AUTHENTICATED = "not authenticated"
    AUTHENTICATED = "authenticated"
    SELECTED = "selected"
    LOGOUT = "logout"


_ALWAYS = frozenset(get_args(commands.AnyState))
_AUTHENTICATED = _ALWAYS | frozenset(get_args(commands.Authenticated))

_ON_SELECTED = frozenset(get_args(commands.Selected))

LEGAL: dict[State, frozenset[type]] = {
    State.NOT_AUTHENTICATED: _ALWAYS | frozenset(get_args(commands.NotAuthenticated)),
    State.AUTHENTICATED: _AUTHENTICATED,
    State.SELECTED: _AUTHENTICATED | frozenset(get_args(commands.Selected)),
    State.LOGOUT: frozenset(),
}

# RFC 3501 7.4.1: no EXPUNGE response to these, or sequence numbers would be ambiguous. Their UID forms may have them.
_NUMBERED = (commands.Fetch, commands.Store, search_commands.Search, search_commands.Sort, search_commands.Thread)


def is_legal(state: State, command: Command) -> bool:
    return type(command) in LEGAL[state]


def names_numbers(command: Command) -> bool:
    """Whether the command names messages by sequence number, or is answered by them (RFC 9586 3)."""
    resync = command.resync if isinstance(command, commands.Select) else None
    return getattr(command, "by_uid", True) is False or (resync is not None and resync.matches is not None)


def adds_messages(command: Command | None) -> bool:
    """Whether asking for it again, once it was done, would leave messages twice."""
    return isinstance(command, append_commands.Append | append_commands.Replace | commands.Copy)


def works_on_selected(command: Command) -> bool:
    """Whether it is about the mailbox that is selected."""
    return type(command) in _ON_SELECTED


def may_announce_expunges(command: Command) -> bool:
    """Whether untagged EXPUNGE responses may precede the tagged reply to this command."""
    return not isinstance(command, _NUMBERED) or command.by_uid
