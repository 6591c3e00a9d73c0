"""What a log-in opens: the maildrop as it is now or was, under the policy of its tenant."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from actors import tenant_policy
from actors.errors import CommandRefused, MaildropInUse, replica_text
from actors.runtime import Context
from actors.tenant_policy import ON
from eventlog.errors import LogError
from eventlog.record import By
from nodes.moments import parse_moment
from nodes.past import NotThen
from nodes.pop3.exclusive import Hold
from nodes.pop3.loading import load_maildrop, load_past_maildrop
from nodes.pop3.opened import Opened

if TYPE_CHECKING:
    from actors.directory import Target
    from nodes.config.node import ListenerKind
    from nodes.logins.door import LoggedIn
    from nodes.pop3.maildrop import Maildrop
    from nodes.services import Services


class CanNotOpen(Exception):
    """The password was right, and yet: `text` for people, `code` as in RFC 2449 8."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.text = text
        self.code = code


class Opener:
    """For the connections of one listener."""

    def __init__(self, services: Services, kind: ListenerKind) -> None:
        self._services = services
        self._kind = kind

    async def open(self, found: LoggedIn, origin: str, cause: str, lost: Callable[[], None]) -> Opened:
        """`lost`: called if a hold ends before the session. Raises CanNotOpen."""
        target, context = found.target, self._context(found.target, origin, cause)
        with self._services.log.snapshot() as snapshot:
            policy = tenant_policy.settings(snapshot.view(target.tenant))
        refuses = policy.get("pop3_utf8") == "refuse"
        if found.moment is not None:
            maildrop = await self._past(target, found.moment, context)
            return Opened(self._services, target, maildrop, context, refuses_utf8=refuses)
        home = self._services.runtime.homes.of(target.tenant)
        alone = policy.get("pop3_exclusive") == ON and home is None
        hold = await self._hold(target, context, lost) if alone else None
        try:
            maildrop = await self._present(target, None if home is None else replica_text(home))
        except BaseException:
            if hold is not None:
                await hold.release()
            raise
        return Opened(self._services, target, maildrop, context, hold=hold, refuses_utf8=refuses)

    def _context(self, target: Target, origin: str, cause: str) -> Context:
        """On whose behalf a command is."""
        by = By("account", target.account, f"{self._kind} {origin}")
        return Context(by, cause, target.tenant, self._services.config.raft.propose_timeout_s)

    async def _present(self, target: Target, read_only: str | None) -> Maildrop:
        maildrop = await load_maildrop(self._services.log, target, read_only)
        if maildrop is None:
            raise CanNotOpen("The mailbox is closed", "SYS/PERM")
        return maildrop

    async def _hold(self, target: Target, context: Context, lost: Callable[[], None]) -> Hold:
        hold = Hold(self._services, target.account, context, lost)
        try:
            await hold.take()
        except MaildropInUse:
            raise CanNotOpen("Another session has this maildrop open", "IN-USE") from None
        except CommandRefused:
            raise CanNotOpen("The mailbox is closed", "SYS/PERM") from None
        except LogError:
            raise CanNotOpen("The maildrop can not be had alone now, try again", "SYS/TEMP") from None
        return hold

    async def _past(self, target: Target, moment: str, context: Context) -> Maildrop:
        try:
            past = await self._services.past.open(target, parse_moment(moment, _now_ms()), context.by, context.cause)
        except (NotThen, ValueError) as error:
            raise CanNotOpen(f"{error}".replace("\n", " ")[:200], "SYS/PERM") from None
        try:
            maildrop = await load_past_maildrop(past, target)
        except NotThen as error:
            raise CanNotOpen(f"{error}".replace("\n", " ")[:200], "SYS/PERM") from None
        finally:
            self._services.past.close(target, past)
        if maildrop is None:
            raise CanNotOpen("The mailbox was closed then", "SYS/PERM")
        return maildrop


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
