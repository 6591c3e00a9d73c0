"""What stands between a stranger and a node: delays for wrong passwords, limits on connections.

Everything here is in memory, per node, bounded, and lives on the event loop: no locks, no threads.
It never sees a password and never writes one anywhere.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nodes.config import LimitsSection, ListenerKind

if TYPE_CHECKING:
    from nodes.services import Logger

REMEMBERED = 65_536
MOST_LOGIN = 320  # characters of an address (RFC 3696 errata 1690: 64, @, 255)


class TooManyFailures(Exception):
    """Refuse the attempt without looking at the password (IMAP: NO [LIMIT]; SMTP: 454 4.7.0; POP3: -ERR [AUTH])."""


@dataclass
class _Record:
    failures: int = 0
    last_s: float = 0.0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class LoginGuard:
    """Slows down guessing: each wrong password for a login from an address makes the next attempt wait longer."""

    def __init__(
        self,
        limits: LimitsSection,
        *,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._now_s = now_s
        self._records: OrderedDict[tuple[str, str], _Record] = OrderedDict()

    async def attempt(self, address: str, login: str) -> None:
        """Call before a password is checked: waits as long as earlier failures demand.

        Attempts of one login from one address go one after another once one has failed, so that
        opening many connections does not shorten the delay. Raises TooManyFailures.
        """
        record = self._known(address, login)
        if record is None:
            return
        async with record.turn:
            self._refuse_blocked(record)
            await asyncio.sleep(self._delay_s(record))
        self._refuse_blocked(record)

    def failed(self, address: str, login: str) -> bool:
        """A password was wrong. True when the connection is to be closed now."""
        record = self._known(address, login) or _Record()
        record.failures += 1
        record.last_s = self._now_s()
        key = _key(address, login)
        self._records[key] = record
        self._records.move_to_end(key)
        while len(self._records) > REMEMBERED:
            self._records.popitem(last=False)
        return record.failures % self._limits.auth_failures == 0

    def succeeded(self, address: str, login: str) -> None:
        """A password was right: earlier failures are forgotten."""
        self._records.pop(_key(address, login), None)

    def _known(self, address: str, login: str) -> _Record | None:
        key = _key(address, login)
        record = self._records.get(key)
        if record is not None and self._now_s() - record.last_s > self._limits.auth_window_s:
            del self._records[key]
            return None
        return record

    def _refuse_blocked(self, record: _Record) -> None:
        if record.failures >= self._limits.auth_block_after:
            raise TooManyFailures("too many wrong passwords; try again later")

    def _delay_s(self, record: _Record) -> float:
        doublings = min(record.failures - 1, 32)
        return float(min(self._limits.auth_delay_s * 2**doublings, self._limits.auth_delay_max_s))


class ConnectionLimit:
    """Counts client connections, all protocols together and by address."""

    def __init__(self, limits: LimitsSection) -> None:
        self._limits = limits
        self._by_address: Counter[str] = Counter()
        self._total = 0

    def admit(self, address: str) -> bool:
        """Counts a new connection from `address` (no port); False, and not counted, when it is one too many."""
        if self._total >= self._limits.connections:
            return False
        if self._by_address[address] >= self._limits.connections_per_address:
            return False
        self._by_address[address] += 1
        self._total += 1
        return True

    def release(self, address: str) -> None:
        """A connection that was admitted has ended."""
        self._total -= 1
        self._by_address[address] -= 1
        if self._by_address[address] <= 0:
            del self._by_address[address]


def is_loopback(address: str) -> bool:
    """Whether `address` (an IP without port, or "" for a Unix socket) is this machine itself."""
    if not address:
        return True
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def may_send_password(policy: str, address: str, *, tls: bool) -> bool:
    """Whether a client may log in with a plain password: policy is auth.plaintext_without_tls.

    When it may not: IMAP answers NO [PRIVACYREQUIRED] (RFC 5530 3) and says LOGINDISABLED (RFC 3501
    6.2.3), SMTP answers 538 5.7.11 (RFC 4954 6).
    """
    return tls or (policy == "loopback" and is_loopback(address))


def log_failed_login(logger: Logger, listener: ListenerKind, client: str, login: str) -> None:
    """The one line that every front end writes for a wrong password, for people and for tools that block addresses."""
    shown = "".join(c if c.isprintable() else "\ufffd" for c in login[:MOST_LOGIN])
    logger.warning("login failed", listener=listener, client=client, login=shown)


def _key(address: str, login: str) -> tuple[str, str]:
    return address, login.strip().casefold()[:MOST_LOGIN]
