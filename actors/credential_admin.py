"""Administration of what lets somebody in beside the password: app passwords, one-time codes, the password policy.

One-time codes are those of RFC 6238 as every authenticator app makes them: SHA-1, six digits, half a minute. They are
in force once a first code has shown that the app has the secret; each is good once, at all nodes together. Secrets are
sealed before they reach the log, and given out here once.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import os
import time
from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

import msgpack
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from actors import apop, app_passwords, credentials
from actors.apop import ApopCommand, RemoveApopSecret, SetApopSecret
from actors.authentication import APOP, MAIN, OUTSIDE, TOKEN, Login
from actors.credentials import (
    DAY_MS,
    AddAppPassword,
    ConfirmOneTimeCodes,
    DisableOneTimeCodes,
    EnrolOneTimeCodes,
    NoteAppPasswordUse,
    OneTimeCodes,
    RevokeAppPassword,
    SetPasswordPolicy,
    UseOneTimeCode,
    UseRecoveryCode,
)
from actors.errors import CommandRefused, NoSuchCredential, NotAllowed
from actors.runtime import Context
from eventlog.errors import LogError

if TYPE_CHECKING:
    from actors.addresses import Target
    from actors.directory import Directory

ISSUER = "mailraft"
DIGITS, STEP_S, SECRET_BYTES = 6, 30, 20
STEPS_AROUND = (0, -1, 1)  # a clock may be half a minute off (RFC 6238 5.2)
RECOVERY_CODES = 10
MOST_NOTED = 10_000
_FORMAT = 1
_LEAST, _MOST = 8, 128  # characters that a policy may ask for


class Enrolment(NamedTuple):
    """What the owner must keep; it is never shown again."""

    secret: str  # base32, as apps take it
    uri: str  # otpauth://..., for a QR code
    recovery: tuple[str, ...]


class _Secrets(NamedTuple):
    secret: bytes
    recovery: tuple[bytes, ...]  # SHA-256 of each code


class CredentialAdmin:
    """`directory` finds accounts, seals, and has the runtime and the log."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._noted: dict[bytes, int] = {}

    async def add_app_password(
        self, address: str, name: str, scopes: Sequence[str], expires_ms: int | None, context: Context
    ) -> str:
        """Gives the new app password. Raises NoSuchAccount, NameTaken, NotAllowed, TooLarge."""
        if expires_ms is not None and expires_ms <= _now_ms():
            raise NotAllowed("it would have expired already")
        target = self._directory.account(address)
        password = app_passwords.generate(os.urandom)
        id_ = _id_of(name)
        salt, iterations = self._directory.logins.salt(target.address)
        keys = app_passwords.pack_keys(await self._directory.passwords.keys(password, salt, iterations))
        sealed = self._directory.seal(keys, credentials.app_password_place(target.tenant, target.account, id_))
        chosen = tuple(sorted(set(scopes)))
        await self._ask(target, AddAppPassword(target.account, id_, name, chosen, expires_ms, sealed), context)
        return password

    async def revoke_app_password(self, address: str, name: str, context: Context) -> None:
        """Raises NoSuchAccount, NoSuchCredential."""
        target = self._directory.account(address)
        await self._ask(target, RevokeAppPassword(target.account, _id_of(name)), context)

    async def set_apop_secret(self, address: str, secret: str, context: Context) -> None:
        """In place of the one that it has. Raises NoSuchAccount, NotAllowed (the tenant does not; too short)."""
        apop.check(secret)
        target = self._directory.account(address)
        sealed = self._directory.seal(secret.encode(), apop.place(target.tenant, target.account))
        await self._ask(target, SetApopSecret(target.account, sealed), context)

    async def remove_apop_secret(self, address: str, context: Context) -> None:
        """Raises NoSuchAccount, NoSuchCredential."""
        target = self._directory.account(address)
        await self._ask(target, RemoveApopSecret(target.account), context)

    def is_new_use(self, login: Login) -> bool:
        """Whether this is the first use of an app password for about a day, as far as this node knows; said once."""
        if login.credential in (MAIN, TOKEN, APOP, OUTSIDE):
            return False
        place, now_ms = login.target.account + login.credential, _now_ms()
        if now_ms - self._noted.get(place, 0) < DAY_MS:
            return False
        if len(self._noted) >= MOST_NOTED:
            self._noted.clear()
        self._noted[place] = now_ms
        return True

    async def note_use(self, login: Login, context: Context) -> None:
        """Puts the use of an app password into the log, unless another node has. What can not be noted is not."""
        command = NoteAppPasswordUse(login.target.account, login.credential, _now_ms())
        with contextlib.suppress(CommandRefused, LogError):
            await self._ask(login.target, command, context)

    async def enrol(self, address: str, context: Context) -> Enrolment:
        """New one-time codes, in force once confirmed. Raises NoSuchAccount, NameTaken where they are on already."""
        target = self._directory.account(address)
        secret = os.urandom(SECRET_BYTES)
        recovery = tuple(app_passwords.recovery_code(os.urandom) for _ in range(RECOVERY_CODES))
        packed = msgpack.packb((_FORMAT, secret, [sha256(code.encode()).digest() for code in recovery]))
        sealed = self._directory.seal(packed, credentials.one_time_place(target.tenant, target.account))
        await self._ask(target, EnrolOneTimeCodes(target.account, sealed), context)
        uri = _totp(secret).get_provisioning_uri(target.address, ISSUER)
        return Enrolment(base64.b32encode(secret).decode(), uri, recovery)

    async def confirm(self, address: str, code: str, context: Context) -> None:
        """The first code: from now on they are asked for. Raises NoSuchAccount, NoSuchCredential, NotAllowed."""
        target = self._directory.account(address)
        step = self._step(target, self._codes(target), code)
        if step is None:
            raise NotAllowed("that is not the code of this moment")
        await self._ask(target, ConfirmOneTimeCodes(target.account, step), context)

    async def disable(self, address: str, context: Context) -> None:
        """Raises NoSuchAccount, NoSuchCredential."""
        target = self._directory.account(address)
        await self._ask(target, DisableOneTimeCodes(target.account), context)

    def demands_code(self, target: Target) -> bool:
        """Whether a one-time code must come with the account's password."""
        with self._directory.event_log.snapshot() as snapshot:
            found = credentials.one_time_codes(snapshot.view(target.tenant), target.account)
        return found is not None and found.confirmed

    async def use_code(self, target: Target, code: str, context: Context) -> bool:
        """Whether this is a one-time code of now, or a recovery code, that was not used before; then it is used.

        Raises LogError where that can not be noted: then it does not count.
        """
        try:
            found = self._codes(target)
            step = self._step(target, found, code)
            if step is not None:
                await self._ask(target, UseOneTimeCode(target.account, step), context)
                return True
            number = self._recovery_number(target, found, code)
            if number is not None:
                await self._ask(target, UseRecoveryCode(target.account, number), context)
            return number is not None
        except CommandRefused:
            return False

    async def set_password_policy(self, tenant: bytes, least_characters: int, context: Context) -> None:
        """How long the tenant's passwords are at least, from now on. Raises NotAllowed."""
        if not _LEAST <= least_characters <= _MOST:
            raise NotAllowed(f"passwords can be asked to have {_LEAST} to {_MOST} characters at least")
        await self._directory.runtime.ask(tenant, SetPasswordPolicy(least_characters), context._replace(tenant=tenant))

    # -- parts

    async def _ask(
        self, target: Target, command: credentials.CredentialCommand | ApopCommand, context: Context
    ) -> None:
        await self._directory.runtime.ask(target.tenant, command, context._replace(tenant=target.tenant))

    def _codes(self, target: Target) -> OneTimeCodes:
        with self._directory.event_log.snapshot() as snapshot:
            found = credentials.one_time_codes(snapshot.view(target.tenant), target.account)
        if found is None:
            raise NoSuchCredential("the account has no one-time codes")
        return found

    def _secrets(self, target: Target, codes: OneTimeCodes) -> _Secrets:
        place = credentials.one_time_place(target.tenant, target.account)
        format_, secret, recovery = msgpack.unpackb(self._directory.unseal(codes.sealed, place), use_list=False)
        if format_ != _FORMAT:
            raise ValueError(f"one-time codes of format {format_}")
        return _Secrets(secret, recovery)

    def _step(self, target: Target, codes: OneTimeCodes, code: str) -> int | None:
        """The step of time that a code is of, if it is one of about now."""
        totp, now_step = _totp(self._secrets(target, codes).secret), int(time.time()) // STEP_S
        given = code.replace(" ", "").encode("utf-8", "replace")
        found: int | None = None
        for around in STEPS_AROUND:
            if hmac.compare_digest(totp.generate((now_step + around) * STEP_S), given):
                found = now_step + around
        return found

    def _recovery_number(self, target: Target, codes: OneTimeCodes, code: str) -> int | None:
        given = sha256(app_passwords.canonical_recovery(code).encode("utf-8", "replace")).digest()
        found: int | None = None
        for number, hashed in enumerate(self._secrets(target, codes).recovery):
            if hmac.compare_digest(hashed, given):
                found = number
        return found


def _totp(secret: bytes) -> TOTP:
    return TOTP(secret, DIGITS, SHA1(), STEP_S)  # noqa: S303 (RFC 6238 1.2; all that authenticator apps can do)


def _id_of(name: str) -> bytes:
    """Two of one name would be one, so that of two made at once one is refused."""
    return sha256(name.encode("utf-8", "replace")).digest()[:16]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
