"""Who may log in: passwords, app passwords and SCRAM proofs, checked against what the log holds.

Asking about nobody costs as much as a wrong password, and looks the same: it has a salt of its own that never changes
(RFC 5802 9 leaves it to the server). Secrets are unsealed here and live as long as one check.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import os
import time
from collections import OrderedDict
from typing import NamedTuple, Protocol

from actors import apop, app_passwords, credentials, tenant
from actors.addresses import Target, account_of
from actors.credentials import AppPassword
from actors.errors import InvalidName, NoSuchAccount
from actors.names import normalise_address
from actors.passwords import (
    SCRAM_ITERATIONS,
    SCRAM_SALT_BYTES,
    Passwords,
    ScramKey,
    ScramKeys,
    ScramVerifier,
    Verifiers,
    read_verifiers,
)
from actors.sealing import KeyRing, SealBroken
from eventlog.log import EventLog

CACHE_S = 30.0
CACHE_ENTRIES = 10_000
MAIN = b"password"  # the credential that is the account's own password
TOKEN = b"token"  # it was not a password of ours
APOP = b"apop"
OUTSIDE = b"outside"  # a password that is not in the log
NOBODY = ScramKey(b"nobody", bytes(32), bytes(32))  # no proof fits: nobody knows what SHA-256 makes 32 zeros of

_log = logging.getLogger("mailraft.directory")


class PasswordsAway(Exception):
    """Whoever keeps these passwords can not be asked now; try again later."""


class OutsidePasswords(Protocol):
    """Keeps the passwords of some domains' accounts, instead of the log."""

    def cache_s(self, address: str) -> float | None:
        """How long a success is remembered; None: the log has the passwords of this address's domain."""
        ...

    async def is_right(self, address: str, password: str, asker: str) -> bool:
        """Takes as long for nobody as for somebody. Raises PasswordsAway, Overloaded."""
        ...


class Login(NamedTuple):
    """Somebody who was let in: the account, and by which credential (MAIN..., or the id of an app password)."""

    target: Target
    credential: bytes


class _Known(NamedTuple):
    """What can let one in to an account through the door that is asked at."""

    target: Target
    sealed: bytes | None
    verifiers: Verifiers | None  # None: there is no password, or it does not count here
    apps: tuple[ScramKey, ...]
    salt: bytes | None
    iterations: int
    needs_app: bool  # no other password counts here


class Authentication:
    """Of all accounts that the log has. `keys` open what is sealed there."""

    def __init__(self, log: EventLog, keys: KeyRing, passwords: Passwords) -> None:
        self._event_log = log
        self._ring = keys
        self._passwords = passwords
        self._sealed_nothing = keys.seal(os.urandom(apop.LEAST_CHARACTERS), b"")
        self._cache_key = os.urandom(32)
        self._cache: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()
        self.outside: OutsidePasswords | None = None  # None: the log has every password

    async def password(
        self,
        login: str,
        password: str,
        scope: str,
        asker: str = "",
        known: bool = False,
        within: bytes | None = None,
    ) -> Login | None:
        """Whose full address (in any case) and password these are, for `scope` (imap, pop3, smtp, or web).

        None takes as long for an unknown address as for a wrong password. A success is remembered for 30 s (for as
        long as `outside` says, where it keeps the password) under a key that changes with the credentials. `asker`:
        the network address, which takes its turn with others, or goes first if it is `known`. `within`: the tenant that
        it must be of; another's account is nobody. Raises Overloaded when too many wait, PasswordsAway when whoever
        keeps the password can not be asked.
        """
        found = self._find(login, scope)
        if found is not None and within not in (None, found.target.tenant):
            found = None
        tag = self._tag(found, password, scope)
        at_s, credential = self._cache.get(tag, (0.0, b""))
        if found is not None and at_s > time.monotonic():
            return Login(found.target, credential)
        right = await self._check(login, found, password, asker, known)
        if right is None or found is None:
            return None
        self._remember(tag, right, self._outside_s(found.target.address) if right == OUTSIDE else CACHE_S)
        return Login(found.target, right)

    async def _check(self, login: str, found: _Known | None, password: str, asker: str, known: bool) -> bytes | None:
        """The credential that the password is; the work depends on what was typed, not on whose it is."""
        written = app_passwords.canonical(password)
        if written is not None:
            keys = self._keys(login, found._replace(verifiers=None) if found else None)
            credential = await self._passwords.find(written, keys, asker, known)
            if credential is not None:
                return credential
        address = found.target.address if found is not None else login
        if self.outside is not None and self._outside_s(address) is not None:
            right = await self.outside.is_right(address, password, asker)
            return OUTSIDE if right and found is not None and not found.needs_app else None
        argon2id = found.verifiers.argon2id if found is not None and found.verifiers is not None else None
        return MAIN if await self._passwords.check(password, argon2id, asker, known) else None

    def scram_keys(self, login: str, scope: str) -> ScramKeys:
        """What a SCRAM proof for this login is checked against; for nobody, what nothing fits."""
        return self._keys(login, self._find(login, scope))

    def proved(self, login: str, key: ScramKey, scope: str) -> Login | None:
        """Whoever a proof was for, if the key that it fitted is still there."""
        found = self._find(login, scope)
        if found is None or key not in self._keys(login, found).candidates:
            return None
        return Login(found.target, key.credential)

    def vouched(self, address: str, login: str) -> Login | None:
        """Whoever a trusted issuer says it is; None too where the client itself names another ("": it names none)."""
        found = self._find(address, "")
        same = found is not None and (not login or self._find(login, "") == found)
        return Login(found.target, TOKEN) if found is not None and same else None

    def apop(self, login: str, timestamp: bytes, digest: bytes) -> Login | None:
        """Whose digest this is of the greeting's timestamp (RFC 1939 7). Nobody costs what a wrong digest costs."""
        sealed = place = None
        with contextlib.suppress(NoSuchAccount, InvalidName), self._event_log.snapshot() as snapshot:
            target = account_of(snapshot, login)
            view = snapshot.view(target.tenant)
            found = apop.secret_of(view, target.account)
            if found is not None and apop.is_allowed(view):
                sealed, place = found.sealed, apop.place(target.tenant, target.account)
        secret = self._ring.unseal(self._sealed_nothing, b"") if sealed is None else None
        if sealed is not None and place is not None:
            secret = self._unsealed(target, sealed, place)
        expected = hashlib.md5(timestamp + (secret or b""), usedforsecurity=False).hexdigest().encode()
        same = hmac.compare_digest(expected, digest)
        return Login(target, APOP) if same and sealed is not None and secret is not None else None

    def salt(self, login: str) -> tuple[bytes, int]:
        """Salt and iterations that all passwords of the account share, or would if it had any."""
        found = self._find(login, "")
        if found is None or found.salt is None:
            return self._fake_salt(login), SCRAM_ITERATIONS
        return found.salt, found.iterations

    # -- parts

    def _outside_s(self, address: str) -> float | None:
        return self.outside.cache_s(address) if self.outside is not None else None

    def _find(self, login: str, scope: str) -> _Known | None:
        """None: there is no such account. A scope of "" is for whoever asks about the account itself."""
        try:
            with self._event_log.snapshot() as snapshot:
                target = account_of(snapshot, login)
                view = snapshot.view(target.tenant)
                sealed = tenant.credentials(view, target.account)
                apps = credentials.app_passwords(view, target.account)
                codes = credentials.one_time_codes(view, target.account)
        except (NoSuchAccount, InvalidName):
            return None
        verifiers = self._verifiers(target, sealed)
        opened = [(app, self._app_keys(target, app)) for app in apps]
        scrams = [one for one in (verifiers and verifiers.scram, *(keys for _, keys in opened)) if one]
        salt, iterations = (scrams[0].salt, scrams[0].iterations) if scrams else (None, SCRAM_ITERATIONS)
        needs_app = scope in credentials.SCOPES and codes is not None and codes.confirmed
        usable = tuple(
            ScramKey(app.id, keys.stored_key, keys.server_key)
            for app, keys in opened
            if keys is not None and keys.salt == salt and _is_usable(app, scope)
        )
        counts = not needs_app and self._outside_s(target.address) is None
        return _Known(target, sealed, verifiers if counts else None, usable, salt, iterations, needs_app)

    def _keys(self, login: str, found: _Known | None) -> ScramKeys:
        if found is None or found.salt is None or (found.verifiers is None and not found.apps):
            return ScramKeys(self._fake_salt(login), SCRAM_ITERATIONS, (NOBODY,))
        own: tuple[ScramKey, ...] = ()
        if found.verifiers is not None:
            scram = found.verifiers.scram
            own = (ScramKey(MAIN, scram.stored_key, scram.server_key),)
        return ScramKeys(found.salt, found.iterations, (*own, *found.apps) or (NOBODY,))

    def _fake_salt(self, login: str) -> bytes:
        with contextlib.suppress(InvalidName):  # what can be no address keeps its salt as well
            login = normalise_address(login)
        return self._ring.derive(b"salt of " + login.encode("utf-8", "replace"))[:SCRAM_SALT_BYTES]

    def _verifiers(self, target: Target, sealed: bytes | None) -> Verifiers | None:
        opened = (
            self._unsealed(target, sealed, tenant.password_place(target.tenant, target.account)) if sealed else None
        )
        return read_verifiers(opened) if opened is not None else None

    def _app_keys(self, target: Target, app: AppPassword) -> ScramVerifier | None:
        place = credentials.app_password_place(target.tenant, target.account, app.id)
        opened = self._unsealed(target, app.sealed, place)
        return app_passwords.read_keys(opened) if opened is not None else None

    def _unsealed(self, target: Target, sealed: bytes, place: bytes) -> bytes | None:
        try:
            return self._ring.unseal(sealed, place)
        except SealBroken:
            _log.error("a password of %s was sealed with another cluster key: it lets nobody in", target.address)
            return None

    def _tag(self, found: _Known | None, password: str, scope: str) -> bytes:
        secret = password.encode("utf-8", "surrogatepass")
        if found is None:
            return b""
        stand = repr(
            (found.target.account, scope, found.sealed, found.verifiers is None, found.apps, found.needs_app)
        ).encode()
        return hmac.digest(self._cache_key, len(secret).to_bytes(4, "big") + secret + stand, "sha256")

    def _remember(self, tag: bytes, credential: bytes, for_s: float | None) -> None:
        self._cache[tag] = time.monotonic() + (for_s or 0.0), credential
        self._cache.move_to_end(tag)
        while len(self._cache) > CACHE_ENTRIES:
            self._cache.popitem(last=False)


def _is_usable(app: AppPassword, scope: str) -> bool:
    return scope in app.scopes and (app.expires_ms is None or app.expires_ms > time.time_ns() // 1_000_000)
