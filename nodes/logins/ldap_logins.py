"""Passwords that LDAP directories check: which one a domain has, in threads, so many at a time, and for how long.

A directory that does not answer holds up nobody else's log-ins: its threads are its own, few wait for them, and after
it failed it is left alone for a moment. Use from one loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

from actors.authentication import PasswordsAway
from actors.errors import InvalidName
from actors.names import normalise_address, normalise_domain
from actors.passwords import Overloaded
from actors.turns import MAX_WAITING, MAX_WAITING_OF_ONE
from nodes.config.ldap import LdapDirectory, LdapSection
from nodes.logins.ldap_directory import Directory, DirectoryAway
from nodes.logins.ldap_listing import Entry, listed
from nodes.services import Logger

LISTING_S = 300.0
PAUSE_S = 1.0  # before a directory that failed is asked again


class _Asked:
    """One directory and who asks it now."""

    def __init__(self, config: LdapDirectory, logger: Logger) -> None:
        self.config = config
        self._logger = logger
        self._directory = Directory(config)
        self._threads = ThreadPoolExecutor(config.connections, thread_name_prefix="ldap")
        self._asking: Counter[str] = Counter()
        self._paused_until_s = 0.0

    async def is_right(self, address: str, password: str, asker: str) -> bool:
        """Raises PasswordsAway, Overloaded."""
        if time.monotonic() < self._paused_until_s:
            raise PasswordsAway("the directory does not answer")
        async with self._place(asker):
            try:
                async with asyncio.timeout(self.config.timeout_s):
                    return await asyncio.get_running_loop().run_in_executor(
                        self._threads, self._directory.is_password_of, address, password
                    )
            except DirectoryAway as error:
                reason = str(error)
            except TimeoutError:
                reason = f"no answer in {self.config.timeout_s:g} s"
        self._paused_until_s = time.monotonic() + PAUSE_S
        self._logger.error(
            "a directory can not be asked, so nobody logs in",
            code="directory_away",
            directory=self.config.url,
            error=reason,
        )
        raise PasswordsAway("the directory does not answer")

    @contextlib.asynccontextmanager
    async def _place(self, asker: str) -> AsyncIterator[None]:
        """Raises Overloaded where too many ask, of one network or together."""
        if self._asking.total() >= MAX_WAITING or (asker and self._asking[asker] >= MAX_WAITING_OF_ONE):
            raise Overloaded("too many logins at once")
        self._asking[asker] += 1
        try:
            yield
        finally:
            self._asking[asker] -= 1
            if not self._asking[asker]:
                del self._asking[asker]

    async def listed(self) -> list[Entry]:
        """Everybody whom it has. Raises PasswordsAway."""
        try:
            async with asyncio.timeout(LISTING_S):
                return await asyncio.to_thread(listed, self._directory, self.config)
        except DirectoryAway as error:
            reason = str(error)
        except TimeoutError:
            reason = f"no end in {LISTING_S:g} s"
        self._logger.error("a directory can not be listed", directory=self.config.url, error=reason)
        raise PasswordsAway(f"{self.config.url}: {reason}")

    async def stop(self) -> None:
        """What is under way ends with its time limit, and is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._directory.close()


class LdapLogins:
    """Every directory of the configuration. Raises OSError, ValueError, InvalidName where one can not be used."""

    def __init__(self, config: LdapSection, logger: Logger) -> None:
        self._of_domain: dict[str, _Asked] = {}
        self._all = [_Asked(one, logger) for one in config.all]
        for asked in self._all:
            self._of_domain.update({normalise_domain(domain): asked for domain in asked.config.domains})

    def cache_s(self, address: str) -> float | None:
        """For how long a success is remembered; None: the passwords of this domain are in the log."""
        asked = self._of(address)
        return asked.config.cache_s if asked is not None else None

    async def is_right(self, address: str, password: str, asker: str) -> bool:
        """Whether a directory has this password for this address. Raises PasswordsAway, Overloaded."""
        asked = self._of(address)
        try:
            written = normalise_address(address)
        except InvalidName:
            return False  # and a filter with it might be none, which would look like a failure of the directory
        return asked is not None and await asked.is_right(written, password, asker)

    async def listed(self) -> list[tuple[LdapDirectory, list[Entry]]]:
        """Whom each directory has; all of them or none. Raises PasswordsAway."""
        return [(one.config, await one.listed()) for one in self._all]

    def _of(self, address: str) -> _Asked | None:
        with contextlib.suppress(InvalidName):
            return self._of_domain.get(normalise_domain(address.rpartition("@")[2]))
        return None

    async def stop(self) -> None:
        for asked in self._all:
            await asked.stop()
