"""What a submitted message lacks stands in front of it: From, Date, Message-ID and Sender (RFC 6409 8.1 to 8.3).

As header lines beside the message, like trace fields, so that the client's bytes stay what they were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.mime.header import fields, header_end
from nodes.smtp import trace
from nodes.smtp.authors import HEADER_BYTES, sender_line
from nodes.smtp.checks import Check, Incoming
from nodes.smtp.grammar import domain_of

if TYPE_CHECKING:
    from eventlog.log import EventLog
    from nodes.smtp.session import Envelope, Session


class CompleteSubmissions(Check):
    """Completes what a logged-in client submits, and refuses authors whom it may not speak for; before it is signed."""

    def __init__(self, log: EventLog) -> None:
        self._event_log = log

    def wants(self, session: Session, envelope: Envelope, incoming: Incoming) -> bool:
        return session.account is not None

    async def message(self, session: Session, envelope: Envelope, incoming: Incoming) -> None:
        if session.account is not None:
            sender = envelope.mail_from or session.account.address
            added = missing_fields(incoming, sender)
            header = added + incoming.data[: header_end(incoming.data, 0, min(len(incoming.data), HEADER_BYTES))]
            incoming.added = sender_line(self._event_log, session.account, header) + added
            incoming.lines += [incoming.added] if incoming.added else []


def missing_fields(incoming: Incoming, author: str) -> bytes:
    """Header lines for what the message lacks; `author` is in From where nobody is."""
    data = incoming.data
    end = header_end(data, 0, min(len(data), HEADER_BYTES))
    present = {one.name for one in fields(data, 0, end)}
    lines = {
        b"from": f"From: <{author}>\r\n",
        b"date": f"Date: {trace.date(int(incoming.received_s))}\r\n",
        b"message-id": f"Message-ID: <{incoming.message_id.hex()}@{domain_of(author)}>\r\n",
    }
    return "".join(line for name, line in lines.items() if name not in present).encode()
