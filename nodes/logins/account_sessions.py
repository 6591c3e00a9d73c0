"""Sessions of accounts that are disabled, expire or are deleted end at once, idle ones too; and who is let in at all.

A tenant's stream is followed while somebody of it is logged in here. When an account expires is judged by this node's
clock: the log holds the date, and no fold depends on the answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from actors import account_state, tenant
from actors.account_state import CHANGE_NEEDED, AccountDisabled, AccountExpirySet
from actors.authentication import MAIN, Login
from actors.tenant import AccountDeleted

if TYPE_CHECKING:
    from actors.directory import Target
    from eventlog.log import Applied, EventLog

DELETED = "the account was deleted"
MOST_TIMER_S = 86_400.0  # a timer is set again as often, so that a clock that is set counts
_CLOSING = (AccountDisabled, AccountExpirySet, AccountDeleted)

End = Callable[[str], None]  # says why, as soon as nothing is under way


def why_closed(log: EventLog, target: Target) -> str | None:
    """Why nobody may come in to the account, for who has shown the right credentials; None: it is open."""
    with log.snapshot() as snapshot:
        view = snapshot.view(target.tenant)
        if tenant.account(view, target.account) is None:
            return DELETED
        return account_state.state_of(view, target.account).closed(_now_ms())


def why_not(log: EventLog, login: Login) -> str | None:
    """The same of mail programs, which the account's own password does not open while it must be changed."""
    closed = why_closed(log, login.target)
    return CHANGE_NEEDED if closed is None and login.credential == MAIN and must_change(log, login.target) else closed


def must_change(log: EventLog, target: Target) -> bool:
    """Whether the owner must choose another password."""
    with log.snapshot() as snapshot:
        return account_state.state_of(snapshot.view(target.tenant), target.account).must_change


class AccountSessions:
    """Event loop only."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._here: dict[Target, dict[object, End]] = {}
        self._of_tenant: dict[bytes, set[Target]] = {}
        self._unfollow: dict[bytes, Callable[[], None]] = {}
        self._timers: dict[Target, asyncio.TimerHandle] = {}

    def enter(self, target: Target, end: End) -> Callable[[], None]:
        """Gives what takes the session out again; that may be called twice."""
        mark = object()
        if target.tenant not in self._unfollow:
            self._unfollow[target.tenant] = self._log.subscribe(target.tenant, self._changed)
        first = target not in self._here
        self._here.setdefault(target, {})[mark] = end
        self._of_tenant.setdefault(target.tenant, set()).add(target)
        if first:
            asyncio.get_running_loop().call_soon(self._look, target)  # it may have changed before it was followed

        def leave() -> None:
            self._leave(target, mark)

        return leave

    def _leave(self, target: Target, mark: object) -> None:
        here = self._here.get(target)
        if here is None or here.pop(mark, None) is None or here:
            return
        del self._here[target]
        if (timer := self._timers.pop(target, None)) is not None:
            timer.cancel()
        others = self._of_tenant[target.tenant]
        others.discard(target)
        if not others:
            del self._of_tenant[target.tenant]
            self._unfollow.pop(target.tenant)()

    def _changed(self, applied: list[Applied]) -> None:
        about: set[Any] = {one.fact.account for one in applied if isinstance(one.fact, _CLOSING)}
        for target in [one for one in self._of_tenant.get(applied[0].event.stream, ()) if one.account in about]:
            self._look(target)

    def _look(self, target: Target) -> None:
        """Ends the account's sessions if it is closed by now, and comes back when it is to expire."""
        if target not in self._here:
            return
        if (timer := self._timers.pop(target, None)) is not None:
            timer.cancel()
        why = why_closed(self._log, target)
        if why is not None:
            for end in list(self._here[target].values()):
                end(why)
            return
        with self._log.snapshot() as snapshot:
            expires_ms = account_state.state_of(snapshot.view(target.tenant), target.account).expires_ms
        if expires_ms is not None:
            wait_s = min(max(0.0, (expires_ms - _now_ms()) / 1000), MOST_TIMER_S)
            self._timers[target] = asyncio.get_running_loop().call_later(wait_s, self._look, target)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
