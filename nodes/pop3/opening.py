"""What a log-in opens: the maildrop as it is now or was, under the policy of its tenant."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

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
from nodes.pop3.maildrop import Maildrop

if TYPE_CHECKING:
    from actors.directory import Target
    from nodes.config.node import ListenerKind
    from nodes.logins.door import LoggedIn
    from nodes.services import Services


class CanNotOpen(Exception):
    """The password was right, and yet: `text` for people, `code` as in RFC 2449 8."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.text = text
        self.code = code


class Opened(NamedTuple):
    """A maildrop; `hold` where nobody else may have it open. `refuses_utf8`: see RFC 6856 2."""

    maildrop: Maildrop
    hold: Hold | None
    refuses_utf8: bool


class Opener:
    """For the connections of one listener."""

    def __init__(self, services: Services, kind: ListenerKind) -> None:
        self._services = services
        self._kind = kind

    def context(self, account: bytes, tenant: bytes, origin: str, cause: str) -> Context:
        """On whose behalf a command is."""
        by = By("account", account, f"{self._kind} {origin}")
        return Context(by, cause, tenant, self._services.config.raft.propose_timeout_s)

    async def open(self, found: LoggedIn, origin: str, cause: str, lost: Callable[[], None]) -> Opened:
        """`lost`: called if a hold ends before the session. Raises CanNotOpen."""
        target = found.target
        with self._services.log.snapshot() as snapshot:
            policy = tenant_policy.settings(snapshot.view(target.tenant))
        refuses = policy.get("pop3_utf8") == "refuse"
        if found.moment is not None:
            return Opened(await self._past(target, found.moment, origin, cause), None, refuses)
        home = self._services.runtime.homes.of(target.tenant)
        hold = None
        if policy.get("pop3_exclusive") == ON and home is None:
            hold = await self._hold(target, origin, cause, lost)
        read_only = None if home is None else replica_text(home)
        try:
            maildrop = await load_maildrop(self._services.log, target, read_only)
            if maildrop is None:
                raise CanNotOpen("The mailbox is closed", "SYS/PERM")
        except BaseException:
            if hold is not None:
                await hold.release()
            raise
        return Opened(maildrop, hold, refuses)

    async def _hold(self, target: Target, origin: str, cause: str, lost: Callable[[], None]) -> Hold:
        context = self.context(target.account, target.tenant, origin, cause)
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

    async def _past(self, target: Target, moment: str, origin: str, cause: str) -> Maildrop:
        by = By("account", target.account, f"{self._kind} {origin}")
        try:
            past = await self._services.past.open(target, parse_moment(moment, _now_ms()), by, cause)
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
