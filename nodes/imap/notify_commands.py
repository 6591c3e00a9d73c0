"""What a client may ask to be told of by itself: NOTIFY (RFC 5465)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from nodes.imap.commands import FetchItem

Which = Literal["SELECTED", "SELECTED-DELAYED", "INBOXES", "PERSONAL", "SUBSCRIBED", "SUBTREE", "MAILBOXES"]

MESSAGE_EVENTS = frozenset({"MESSAGENEW", "MESSAGEEXPUNGE", "FLAGCHANGE"})
EVENTS = {
    name.upper(): name
    for name in (
        "MessageNew",
        "MessageExpunge",
        "FlagChange",
        "MailboxName",
        "SubscriptionChange",
        "MailboxMetadataChange",
        "ServerMetadataChange",
    )
}


@dataclass(frozen=True, slots=True)
class EventGroup:
    """Events (in capitals) of some mailboxes; `fetched`: what MessageNew tells of a message in the selected one."""

    which: Which
    names: frozenset[str]
    events: frozenset[str]
    fetched: tuple[FetchItem, ...] = ()

    @property
    def is_selected(self) -> bool:
        return self.which in ("SELECTED", "SELECTED-DELAYED")


@dataclass(frozen=True, slots=True)
class Notify:
    """NOTIFY SET, or NOTIFY NONE without groups; `status`: how things stand is told at once."""

    groups: tuple[EventGroup, ...]
    status: bool = False
