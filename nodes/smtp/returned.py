"""Mail that comes back to an address made for one recipient (VERP): to whoever sent it, and counted for that domain."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from actors.kind import Command
from actors.queue import NoteReturn, queue_stream
from nodes.delivery.verp import Verp

if TYPE_CHECKING:
    from nodes.smtp.checks import Incoming
    from nodes.smtp.session import Envelope

REPORT_BYTES = 256 * 1024  # a report's fields stand in front of the original
_ACTION = re.compile(rb"^action[ \t]*:[ \t]*([a-z]+)", re.IGNORECASE | re.MULTILINE)


def returns(verp: Verp, envelope: Envelope, incoming: Incoming) -> list[tuple[bytes, Command]]:
    """What to transact beside the delivery: one for each recipient whose mail has failed.

    Only what comes from nobody counts (RFC 5321 4.5.5): others answer by themselves. Nor does a report that says that
    the mail is late, or arrived.
    """
    if envelope.mail_from or not is_failure(incoming.data):
        return []
    found = [verp.read(address) for address, targets in envelope.accepted if targets]
    return [
        (queue_stream(one.domain), NoteReturn(targets_tenant(envelope), one.recipient, one.item))
        for one in found
        if one is not None
    ]


def targets_tenant(envelope: Envelope) -> bytes:
    """Whose mail it was: that of the first mailbox here."""
    return next(iter(envelope.tenants))


def is_failure(data: bytes) -> bool:
    """Whether a report tells of a failure, or tells nothing that a program understands."""
    actions = {one.lower() for one in _ACTION.findall(data, 0, REPORT_BYTES)}
    return not actions or b"failed" in actions
