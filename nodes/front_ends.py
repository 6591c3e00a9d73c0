"""The front ends that mail clients and servers meet, by what is said to listen in `[listen]`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes import imap, pop3, smtp

if TYPE_CHECKING:
    from nodes.config.node import ListenerKind
    from nodes.services import StartListener

FRONT_ENDS: dict[ListenerKind, StartListener] = {
    "smtp": smtp.start,
    "submission": smtp.start,
    "submissions": smtp.start,
    "lmtp": smtp.start,
    "imap": imap.start,
    "imaps": imap.start,
    "pop3": pop3.start,
    "pop3s": pop3.start,
}
