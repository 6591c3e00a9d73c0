"""What one connection and one transaction know: aiosmtpd's Session and Envelope with our own facts added."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiosmtpd.smtp

from nodes.smtp.states import State

if TYPE_CHECKING:
    from actors.directory import Target


class Session(aiosmtpd.smtp.Session):
    """One client from the greeting, or from STARTTLS, on."""

    def __init__(self, loop: asyncio.AbstractEventLoop, cause: str) -> None:
        super().__init__(loop)
        self.client = ""  # IP address without port, "" for a Unix socket
        self.origin = ""  # the same with port, for the audit trail
        self.cause = cause
        self.state = State.CONNECTED
        self.secure = False
        self.account: Target | None = None
        self.host_name: str = ""  # as the client gave it in EHLO

    def set_peer(self, peer: object) -> None:
        """Where the client is, from the transport's peer name."""
        if isinstance(peer, tuple):
            self.client, self.origin = peer[0], f"{peer[0]}:{peer[1]}"


class Envelope(aiosmtpd.smtp.Envelope):
    """One transaction. `local` holds each mailbox once, with the recipient address that led to it first."""

    def __init__(self) -> None:
        super().__init__()
        self.size_bytes = 0
        self.accepted: list[tuple[str, list[Target]]] = []  # in the order of RCPT, as LMTP answers (RFC 2033 4.2)
        self.remote: dict[str, list[str]] = {}
