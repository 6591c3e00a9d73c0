"""What tenants say of messages themselves: how large they may be, and where those go that a check calls spam.

A reply is given to all recipients of a message together, so it is refused as spam only where each tenant that gets it
refuses spam; otherwise those tenants have it in Junk.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from nodes.policy.tenants import TenantPolicies
from nodes.smtp import replies
from nodes.smtp.checks import INBOX, JUNK, Check, Incoming
from nodes.smtp.replies import Refused, reply

if TYPE_CHECKING:
    from nodes.metrics import Metrics
    from nodes.smtp.session import Envelope, Session

SPAM = reply(550, "5.7.1", "The message looks like spam, which its recipients do not take", error="spam_refused")


class Sizes(Check):
    """Refuses what is larger than a tenant takes, or lets its accounts submit."""

    def __init__(self, policies: TenantPolicies) -> None:
        self._policies = policies

    def concerns(self, session: Session, envelope: Envelope) -> bool:
        """Whether the size that was declared is too large."""
        return self._is_over(session, (envelope.tenant,), envelope.size_bytes)

    async def recipient(self, session: Session, envelope: Envelope, address: str, local: bool) -> None:
        """Raises Refused."""
        raise Refused(replies.TOO_BIG)

    def wants(self, session: Session, envelope: Envelope, incoming: Incoming) -> bool:
        """Whether it is too large."""
        return self._is_over(session, envelope.tenants, len(incoming.data))

    async def message(self, session: Session, envelope: Envelope, incoming: Incoming) -> None:
        """Raises Refused."""
        raise Refused(replies.TOO_BIG)

    def _is_over(self, session: Session, tenants: Iterable[bytes], size_bytes: int) -> bool:
        for tenant in tenants:  # mostly one: a generator for `any` would cost more than it looks at
            if size_bytes > self._policies.of(tenant).message_bytes:
                return True
        account = session.account
        return account is not None and size_bytes > self._policies.of(account.tenant).message_bytes


class Spam(Check):
    """Does with spam what each tenant wants; the last check of mail from elsewhere."""

    def __init__(self, policies: TenantPolicies, metrics: Metrics) -> None:
        self._policies = policies
        self._metrics = metrics

    def wants(self, session: Session, envelope: Envelope, incoming: Incoming) -> bool:
        """Whether anybody is to have it in Junk."""
        return incoming.folder == JUNK or JUNK in incoming.folders.values()

    async def message(self, session: Session, envelope: Envelope, incoming: Incoming) -> None:
        """Raises Refused."""
        tenants = envelope.tenants
        spam_of = [tenant for tenant in tenants if incoming.folder_of(tenant) == JUNK]
        wanted = {tenant: self._policies.of(tenant).spam for tenant in spam_of}
        if wanted and all(wanted.get(tenant) == "refuse" for tenant in tenants):
            self._metrics.policy_refused("spam")
            raise Refused(SPAM)
        for tenant, choice in wanted.items():
            if choice == "inbox":
                incoming.folders[tenant] = INBOX
