"""What stands between a stranger and a node: delays for wrong passwords, limits on connections.

Everything here is in memory, bounded, and lives on the event loop. Wrong passwords are counted at all nodes together
(nodes/failures.py; nodes/guarding.py carries the counts), connections at each. It never sees a password.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple
from weakref import WeakValueDictionary

from nodes.config.node import LimitsSection, ListenerKind
from nodes.failures import SharedCounts, key_of

if TYPE_CHECKING:
    from nodes.services import Logger

KNOWN_S = 30 * 86_400.0  # how long somebody is known where they logged in
KNOWN_AGAIN_S = 3600.0  # and how often that is noted again
BURST_S = 60.0  # between two reports of refused attempts on one login
MOST_BURSTS = 10_000
MOST_NETWORKS = 1000  # that are counted of one burst
MOST_LOGIN = 320  # characters of an address (RFC 3696 errata 1690: 64, @, 255)


class TooManyFailures(Exception):
    """Refuse the attempt without looking at the password (IMAP: NO [LIMIT]; SMTP: 454 4.7.0; POP3: -ERR [AUTH])."""


class Limited(Exception):
    """Who logs in is kept out by a limit, for now; the text is for them."""


class Burst:
    """Attempts on one login that were refused and not told of yet."""

    __slots__ = ("attempts", "networks", "since_s", "told_s")

    def __init__(self, now_s: float) -> None:
        self.attempts = 0
        self.networks: set[str] = set()
        self.since_s = now_s
        self.told_s = now_s - BURST_S


class LoginGuard:
    """Slows down guessing: of a login from a network, from a network, of a login; counted at all nodes together.

    Each wrong password for a login from a network (an IPv4 address, or an IPv6 /64) makes its next attempt wait longer,
    and after many it is refused. Wrong passwords from one network whatever the login, and for one login from wherever,
    do the same once there are more of them than mistakes explain. Whoever logged in from a network before is exempt
    from those two: a flood locks nobody out who is known.
    """

    def __init__(self, limits: LimitsSection, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._now_s = now_s
        self.failures = SharedCounts(limits.auth_window_s, now_s)
        self.successes = SharedCounts(KNOWN_S, now_s)
        self._turns: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()
        self._bursts: OrderedDict[str, Burst] = OrderedDict()

    def reload(self, limits: LimitsSection) -> None:
        """Limits from now on; what was counted stays."""
        self._limits = limits
        self.failures.remember_for(limits.auth_window_s)

    async def attempt(self, address: str, login: str) -> bool:
        """Call before a password is checked: waits as long as earlier failures demand.

        Attempts of one login from one network, or of a network that is slowed, go one after another, so that opening
        many connections does not shorten the delay. True for a login that is known from there. Raises TooManyFailures.
        """
        keys = _Keys.of(address, login)
        known = self._is_known(keys)
        if self._wait(keys, known) > 0:
            slowed = not known and self._excess(keys.network, self._limits.auth_free_of_network)
            async with self._turn(keys.network if slowed else keys.pair):
                self._refuse_blocked(keys, known, address, login)
                await asyncio.sleep(self._wait(keys, known))
        self._refuse_blocked(keys, known, address, login)
        return known

    def failed(self, address: str, login: str) -> bool:
        """A password was wrong. True when the connection is to be closed now."""
        keys = _Keys.of(address, login)
        self.failures.add(keys.network)
        self.failures.add(keys.login)
        self._note(address, login)
        return self.failures.add(keys.pair) % self._limits.auth_failures == 0

    def succeeded(self, address: str, login: str) -> None:
        """A password was right: failures of this login from this network are forgotten."""
        keys = _Keys.of(address, login)
        self.failures.clear(keys.pair)
        if self.successes.quiet_s(keys.pair) > KNOWN_AGAIN_S:
            self.successes.add(keys.pair)

    def may_try_code(self, address: str, login: str) -> bool:
        """Whether a one-time code may be tried: six digits are soon guessed from many networks, the password known.

        Who is known from the network may, whatever others try.
        """
        tried = self.failures.count(key_of("code", _spelled(login)))
        return tried < self._limits.auth_block_after or self._is_known(_Keys.of(address, login))

    def code_failed(self, login: str) -> None:
        """A one-time code was wrong; `failed` is called besides."""
        self.failures.add(key_of("code", _spelled(login)))

    def bursts(self, least: int) -> list[tuple[str, Burst]]:
        """Logins of which at least so many attempts were refused, and were not told of for a while; then they are."""
        now_s = self._now_s()
        found = []
        for login, burst in list(self._bursts.items()):
            if burst.attempts >= least and now_s - burst.told_s >= BURST_S:
                found.append((login, burst))
                again = self._bursts[login] = Burst(now_s)
                again.told_s = now_s
            elif now_s - burst.since_s > self._limits.auth_window_s:
                del self._bursts[login]
        return found

    def keep(self, login: str, burst: Burst) -> None:
        """What `bursts` gave could not be told: it is, with the next."""
        here = self._bursts.setdefault(login, Burst(self._now_s()))
        here.attempts += burst.attempts
        here.networks |= burst.networks
        here.since_s = min(here.since_s, burst.since_s)

    # -- parts

    def _is_known(self, keys: _Keys) -> bool:
        return self.successes.count(keys.pair) > 0

    def _excess(self, key: bytes, free: int) -> int:
        return max(0, self.failures.count(key) - free)

    def _wait(self, keys: _Keys, known: bool) -> float:
        """Seconds."""
        steps = [self.failures.count(keys.pair)]
        if not known:
            steps.append(self._excess(keys.network, self._limits.auth_free_of_network))
            steps.append(self._excess(keys.login, self._limits.auth_free_of_login))
        most = max(steps)
        if most == 0:
            return 0.0
        return float(min(self._limits.auth_delay_s * 2 ** min(most - 1, 32), self._limits.auth_delay_max_s))

    def _refuse_blocked(self, keys: _Keys, known: bool, address: str, login: str) -> None:
        many = 10 * self._limits.auth_block_after
        blocked = self.failures.count(keys.pair) >= self._limits.auth_block_after
        if not known:
            blocked = blocked or any(self.failures.count(key) >= many for key in (keys.network, keys.login))
        if blocked:
            self._note(address, login)
            raise TooManyFailures("too many wrong passwords; try again later")

    def _turn(self, key: bytes) -> asyncio.Lock:
        lock = self._turns.get(key)
        if lock is None:
            lock = self._turns[key] = asyncio.Lock()
        return lock

    def _note(self, address: str, login: str) -> None:
        login = _spelled(login)
        burst = self._bursts.setdefault(login, Burst(self._now_s()))
        self._bursts.move_to_end(login)
        if not burst.attempts:
            burst.since_s = self._now_s()
        burst.attempts += 1
        if len(burst.networks) < MOST_NETWORKS:
            burst.networks.add(network_of(address))
        while len(self._bursts) > MOST_BURSTS:
            self._bursts.popitem(last=False)


class _Keys(NamedTuple):
    """What an attempt is counted under."""

    pair: bytes
    network: bytes
    login: bytes

    @classmethod
    def of(cls, address: str, login: str) -> _Keys:
        network, login = network_of(address), _spelled(login)
        return cls(key_of("pair", network, login), key_of("network", network), key_of("login", login))


class ConnectionLimit:
    """Counts client connections, all protocols together and by address."""

    def __init__(self, limits: LimitsSection) -> None:
        self._limits = limits
        self._by_address: Counter[str] = Counter()
        self._total = 0

    def reload(self, limits: LimitsSection) -> None:
        """Limits from now on; connections that are open stay, beyond them too."""
        self._limits = limits

    @property
    def open(self) -> int:
        """Connections at the moment."""
        return self._total

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


def log_failed_login(
    logger: Logger, listener: ListenerKind | Literal["web"], client: str, login: str, tenant: str | None = None
) -> None:
    """The one line that every front end writes for a wrong password, for people and for tools that block addresses.

    `tenant`: whose the connection is, where that is known; nothing tells whether the login exists.
    """
    shown = "".join(c if c.isprintable() else "\ufffd" for c in login[:MOST_LOGIN])
    bound = {} if tenant is None else {"tenant": tenant}
    logger.warning("login failed", code="wrong_credentials", listener=listener, client=client, login=shown, **bound)


def network_of(address: str) -> str:
    """What belongs to one client: an IPv4 address, or an IPv6 /64 (RFC 6177); "" for a Unix socket."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.IPv6Network((int(ip) >> 64 << 64, 64)))
    return str(ip)


def _spelled(login: str) -> str:
    return login.strip().casefold()[:MOST_LOGIN]
