"""Who is logged in on this node, so that sessions of a tenant that is no longer served end, idle ones too.

A front end enters each session when it is logged in, and takes it out when it ends.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from nodes.account_sessions import AccountSessions

if TYPE_CHECKING:
    from actors.directory import Target
    from actors.standings import Standings
    from eventlog.log import EventLog

End = Callable[[str], None]  # says why, as soon as nothing is under way


class Sessions:
    """Event loop only."""

    def __init__(self, standings: Standings, log: EventLog) -> None:
        self._standings = standings
        self._accounts = AccountSessions(log)
        self._numbers = itertools.count()
        self._of_tenant: dict[bytes, dict[int, End]] = {}
        self._of_account: Counter[bytes] = Counter()
        standings.watch(self._ended)

    def enter(self, target: Target, end: End) -> Callable[[], None]:
        """Gives what takes the session out again; that may be called twice."""
        number = next(self._numbers)
        self._of_tenant.setdefault(target.tenant, {})[number] = end
        self._of_account[target.account] += 1
        leave_account = self._accounts.enter(target, end)

        def leave() -> None:
            leave_account()
            here = self._of_tenant.get(target.tenant, {})
            if here.pop(number, None) is None:
                return
            if not here:
                del self._of_tenant[target.tenant]
            self._of_account[target.account] -= 1
            if self._of_account[target.account] <= 0:
                del self._of_account[target.account]

        return leave

    def count(self, tenant: bytes) -> int:
        """How many sessions of the tenant are open here."""
        return len(self._of_tenant.get(tenant, ()))

    def count_of_account(self, account: bytes) -> int:
        return self._of_account[account]

    def _ended(self, inactive: frozenset[bytes]) -> None:
        for tenant in inactive & self._of_tenant.keys():
            found = self._standings.of(tenant)
            for end in list(self._of_tenant[tenant].values()):
                end(found.text if found is not None else "the organisation's service has ended")
