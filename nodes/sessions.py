"""Who is logged in on this node, so that sessions of a tenant that is no longer served end, idle ones too.

A front end enters each session when it is logged in, and takes it out when it ends.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

from nodes.logins.account_sessions import AccountSessions

if TYPE_CHECKING:
    from actors.directory import Target
    from actors.standings import Standings
    from eventlog.log import EventLog
    from nodes.policy.login_limits import LoginLimits

End = Callable[[str], None]  # says why, as soon as nothing is under way


class Sessions:
    """Event loop only."""

    def __init__(self, standings: Standings, log: EventLog, limits: LoginLimits | None = None) -> None:
        self._standings = standings
        self._limits = limits
        self._accounts = AccountSessions(log)
        self._numbers = itertools.count()
        self._of_tenant: dict[bytes, dict[int, End]] = {}
        standings.watch(self._ended)

    def enter(self, target: Target, end: End) -> Callable[[], None]:
        """Gives what takes the session out again; that may be called twice."""
        number = next(self._numbers)
        self._of_tenant.setdefault(target.tenant, {})[number] = end
        leave_account = self._accounts.enter(target, end)
        uncount = self._limits.enter(target) if self._limits is not None else None

        def leave() -> None:
            leave_account()
            if uncount is not None:
                uncount()
            here = self._of_tenant.get(target.tenant, {})
            if here.pop(number, None) is None:
                return
            if not here:
                del self._of_tenant[target.tenant]

        return leave

    def _ended(self, inactive: frozenset[bytes]) -> None:
        for tenant in inactive & self._of_tenant.keys():
            found = self._standings.of(tenant)
            for end in list(self._of_tenant[tenant].values()):
                end(found.text if found is not None else "the organisation's service has ended")
