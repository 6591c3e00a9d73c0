"""What one connection and one transaction know: aiosmtpd's Session and Envelope with our own facts added."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiosmtpd.smtp

from actors.mail_options import NO_OPTIONS, RecipientOptions
from eventlog.record import NO_TENANT
from nodes.smtp.extensions import NOTHING
from nodes.smtp.states import State
from nodes.trail import Trail

if TYPE_CHECKING:
    from actors.directory import Target
    from actors.runtime import Context
    from nodes.smtp.profile import Profile


class Session(aiosmtpd.smtp.Session):
    """One client from the greeting, or from STARTTLS, on."""

    def __init__(self, loop: asyncio.AbstractEventLoop, trail: Trail, profile: Profile) -> None:
        super().__init__(loop)
        self.trail = trail
        self.cause = trail.cause
        self.profile = profile  # the listener: policy differs for other servers and for our own users
        self.client = ""  # IP address without port, "" for a Unix socket
        self.origin = ""  # the same with port, for the audit trail
        self.client_name = ""  # as a trusted peer told it by XCLIENT
        self.state = State.CONNECTED
        self.secure = False
        self.cipher: tuple[str, str, int] | None = None  # of TLS: cipher, protocol, bits
        self.account: Target | None = None
        self.put_out = ""  # why the account may send no more, said at the end of what is under way
        self.host_name: str = ""  # as the client gave it in EHLO
        self.offer = NOTHING  # by EHLO
        self.context: tuple[Target | None, Context] | None = None  # of its last message, and for which account
        self._notes: dict[str, Any] | None = None

    @property
    def notes(self) -> dict[str, Any]:
        """What checks remember of this client, each under its own key."""
        if self._notes is None:
            self._notes = {}
        return self._notes

    def succeed(self, earlier: Session) -> None:
        """STARTTLS and XCLIENT begin anew, but the client and what checks know of it stay."""
        self.client, self.origin, self.client_name = earlier.client, earlier.origin, earlier.client_name
        self.trail, self.cause = earlier.trail, earlier.cause
        self._notes = earlier._notes

    def set_peer(self, peer: object) -> None:
        """Where the client is, from the transport's peer name."""
        if isinstance(peer, tuple):
            self.client, self.origin = peer[0], f"{peer[0]}:{peer[1]}"
            self.trail.client = self.client


class Envelope(aiosmtpd.smtp.Envelope):
    """One transaction. `local` holds each mailbox once, with the recipient address that led to it first."""

    def __init__(self) -> None:
        super().__init__()
        self.size_bytes = 0
        self.accepted: list[tuple[str, list[Target]]] = []  # in the order of RCPT, as LMTP answers (RFC 2033 4.2)
        self.tenants: dict[bytes, None] = {}  # whose mailboxes here these lead to
        self.leads_outside = False  # one of these does, through an alias
        self.remote: dict[str, list[str]] = {}
        self.tenant = NO_TENANT  # of the mailbox that the recipient being named leads to
        self.options = NO_OPTIONS
        self.recipient_options: dict[str, RecipientOptions] = {}  # of those that have any

    def accept(self, address: str, targets: list[Target]) -> None:
        """A recipient whose mail goes to these mailboxes here, and addresses outside."""
        self.accepted.append((address, targets))
        for target in targets:
            self.tenants[target.tenant] = None
            if target.is_outside:
                self.leads_outside = True
