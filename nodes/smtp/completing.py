"""What a submitted message lacks stands in front of it: From, Date and Message-ID (RFC 6409 8.2 and 8.3).

As header lines beside the message, like trace fields, so that the client's bytes stay what they were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.mime.header import fields, header_end
from nodes.smtp import trace
from nodes.smtp.checks import Check, Incoming
from nodes.smtp.grammar import domain_of

if TYPE_CHECKING:
    from nodes.smtp.session import Envelope, Session

HEADER_BYTES = 1024 * 1024


class CompleteSubmissions(Check):
    """Completes what a logged-in client submits; before it is signed."""

    async def message(self, session: Session, envelope: Envelope, incoming: Incoming) -> None:
        if session.account is not None:
            sender = envelope.mail_from or session.account.address
            incoming.added = missing_fields(incoming, sender)
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
