"""Who a recipient address leads to, read from the tables and remembered until a fact about it changes.

Every read of LMDB lets go of the interpreter lock and must win it back from the log's thread, so under load the five
reads of one RCPT cost more than the rest of the command. Only the common case is remembered: an address that is an
account's own, without quota. What could change it stands in three streams (the claims on domain and address, and the
tenant), which are followed, so nothing outlives a change that is folded here.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from actors import account_state
from actors.directory import Target, is_local_domain, resolve, tenant_with
from actors.errors import InvalidName, NotLocal, OverTenantQuota, TooLarge
from actors.mailbox import usage
from actors.names import address_name, domain_name, name_stream
from actors.standings import inactive
from eventlog.record import By
from nodes.delivery.rewriting import returned
from nodes.delivery.verp import Verp
from nodes.smtp import replies
from nodes.smtp.grammar import domain_of
from nodes.smtp.replies import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from actors.runtime import Runtime
    from eventlog.log import EventLog, Snapshot

REMEMBERED = 10_000
NOBODY = By("client", b"", "")


class Recipients:
    """The lookups of one listener."""

    def __init__(self, log: EventLog, runtime: Runtime, srs_key: bytes, verp: Verp) -> None:
        self._log = log
        self._verp = verp
        self._srs_key = srs_key
        self._homes = runtime.homes
        self._standings = runtime.standings
        self._standings.watch(lambda _: self.forget_all())  # what is remembered says that nothing is limited
        self._known: dict[str, list[Target]] = {}
        self._followed_at: dict[str, int] = {}
        self._following: dict[bytes, Callable[[], None]] = {}

    def find(self, address: str, size_bytes: int) -> list[Target] | None:
        """The mailboxes that mail of this size for `address` goes to, and addresses outside that aliases lead to.

        None: the domain is not ours.

        Raises Refused: nobody has the address, a mailbox is full, or its home is another cell.
        """
        known = self._known.get(address)
        if known is not None:
            self._require_served(known)
            return known
        with self._log.snapshot() as snapshot:
            position = snapshot.position
            targets = self._resolve(snapshot, address)
            self._require_served(targets or [])
            limited = _check_room(snapshot, targets or [], size_bytes)
            limited = self._check_tenants(snapshot, targets or [], size_bytes) or limited
            limited = _check_open(snapshot, targets or []) or limited
        if targets is not None and not limited and _is_account(address, targets):
            self._remember(address, targets, position)
        return targets

    def forget_all(self) -> None:
        """Follows nothing any more."""
        for unsubscribe in self._following.values():
            unsubscribe()
        self._following.clear()
        self._followed_at.clear()
        self._known.clear()

    def _require_served(self, targets: list[Target]) -> None:
        """Raises Refused where a mailbox is of a tenant that is suspended or being deleted."""
        for target in targets:
            standing = self._standings.of(target.tenant)
            if standing is not None:
                found = inactive(standing)
                raise Refused(replies.tenant_inactive(str(found), refuse=found.refuse, recipient=True))

    def _check_tenants(self, snapshot: Snapshot, targets: list[Target], size_bytes: int) -> bool:
        """Whether any of the tenants has quotas. Raises Refused when one is used up."""
        limited = {target.tenant for target in targets if self._standings.quotas(target.tenant)}
        growth = {"storage_bytes": max(size_bytes, 1), "messages": 1}
        for tenant in limited:
            try:
                self._standings.check(snapshot, tenant, growth, NOBODY, 0)
            except OverTenantQuota as over:
                raise Refused(replies.over_quota(over.quota, str(over))) from None
        return bool(limited)

    def _resolve(self, snapshot: Snapshot, address: str) -> list[Target] | None:
        """A replica may be behind its home, so that an address is not known here says nothing."""
        targets: list[Target] | None = returned(snapshot, address, self._srs_key)
        if targets:
            return targets
        came_back = self._verp.read(address)
        try:
            targets = resolve(snapshot, came_back.sender if came_back is not None else address)
        except (NotLocal, InvalidName):
            if not is_local_domain(snapshot, domain_of(address)):
                return None
        except TooLarge:
            raise Refused(replies.ALIAS_TOO_WIDE) from None
        if any(self._homes.of(target.tenant) for target in targets or ()):
            raise Refused(replies.REPLICA)
        if not targets:
            home_tenant = tenant_with(snapshot, domain_of(address))
            known_here = home_tenant is None or self._homes.of(home_tenant) is None
            raise Refused(replies.NO_SUCH_MAILBOX if known_here else replies.REPLICA)
        return targets

    def _remember(self, address: str, targets: list[Target], position: int) -> None:
        """Keeps what was read at `position`, if its streams are followed since before that.

        When following begins, a change may be folded but not yet on disk: neither told nor in a snapshot. A snapshot
        of a later position has it.
        """
        followed_at = self._followed_at.get(address)
        if followed_at is None:
            self._follow(address, targets[0])
        elif position > followed_at:
            self._known[address] = targets

    def _follow(self, address: str, target: Target) -> None:
        if len(self._followed_at) >= REMEMBERED:
            self.forget_all()
        own = target.address
        for stream in (name_stream(address_name(own)), name_stream(domain_name(domain_of(own))), target.tenant):
            if stream not in self._following:
                self._following[stream] = self._log.subscribe(stream, lambda _: self.forget_all())
        with self._log.snapshot() as snapshot:
            self._followed_at[address] = snapshot.position


def _is_account(address: str, targets: list[Target]) -> bool:
    return len(targets) == 1 and targets[0].address.casefold() == address.casefold()


def _check_open(snapshot: Snapshot, targets: list[Target]) -> bool:
    """Whether any of the accounts is one that may close by itself. Raises Refused for one that takes no mail now."""
    closing = False
    for target in targets:
        found = account_state.state_of(snapshot.view(target.tenant), target.account)
        if found.closed(time.time_ns() // 1_000_000) is not None and found.mail != "accept":
            raise Refused(replies.ACCOUNT_CLOSED if found.mail == "refuse" else replies.ACCOUNT_CLOSED_NOW)
        closing = closing or found.expires_ms is not None
    return closing


def _check_room(snapshot: Snapshot, targets: list[Target], size_bytes: int) -> bool:
    """Whether any of the mailboxes has a quota. Raises Refused when one is full."""
    limited = False
    for target in targets:
        if target.is_outside:
            continue
        used = usage(snapshot.view(target.account))
        if not used.is_limited:
            continue
        limited = True
        if not used.has_room(max(size_bytes, 1), 1):
            raise Refused(replies.MAILBOX_FULL)
    return limited
