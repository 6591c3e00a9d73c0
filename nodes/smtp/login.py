"""AUTH (RFC 4954): the mechanisms' exchanges, the guard against guessing, and the password check.

A password lives in a local variable only; no reply and no log line tells whether the account exists.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from actors.passwords import Overloaded
from nodes import sasl
from nodes.security import TooManyFailures, log_failed_login, may_send_password
from nodes.smtp import replies
from nodes.smtp.replies import Refused

if TYPE_CHECKING:
    from actors.directory import Target
    from nodes.services import Services
    from nodes.smtp.connection import Connection, Waiting

Exchange = Callable[["Connection", bytes], Coroutine[Any, Any, sasl.Credentials]]


def is_offered(connection: Connection) -> bool:
    """Whether EHLO shows AUTH: to submitters, over TLS or where the policy lets a password come in clear."""
    policy = connection.listener.services.config.auth.plaintext_without_tls
    session = connection.session
    return connection.listener.profile.submits and may_send_password(policy, session.client, tls=session.secure)


def auth(connection: Connection, argument: bytes) -> Waiting:
    """AUTH mechanism [initial-response]."""
    if not connection.listener.profile.submits:
        raise Refused(replies.NOT_IMPLEMENTED)
    if connection.session.account is not None:
        raise Refused(replies.ALREADY_AUTHENTICATED)
    mechanism, _, initial = argument.strip().partition(b" ")
    exchange = MECHANISMS.get(mechanism.upper())
    if exchange is None:
        raise Refused(replies.UNKNOWN_MECHANISM if mechanism else replies.BAD_SYNTAX)
    if not is_offered(connection):
        raise Refused(replies.TLS_REQUIRED)
    return _log_in(connection, exchange(connection, initial.strip()))


async def _log_in(connection: Connection, exchange: Coroutine[Any, Any, sasl.Credentials]) -> bytes:
    try:
        credentials = await exchange
    except sasl.Malformed:
        return replies.BAD_AUTH_RESPONSE
    services, session = connection.listener.services, connection.session
    try:
        await services.login_guard.attempt(session.client, credentials.login)
    except TooManyFailures:
        return replies.AUTH_LATER
    try:
        account = await _check(services, credentials)
    except Overloaded:
        return replies.AUTH_LATER
    if account is None:
        log_failed_login(services.logger, connection.listener.profile.kind, session.client, credentials.login)
        return _wrong_password(connection, services.login_guard.failed(session.client, credentials.login))
    services.login_guard.succeeded(session.client, credentials.login)
    session.account = account
    session.authenticated = True
    return replies.LOGGED_IN


async def _check(services: Services, credentials: sasl.Credentials) -> Target | None:
    if not sasl.may_act_as(credentials):
        return None
    return await services.directory.authenticate(credentials.login, credentials.password)


def _wrong_password(connection: Connection, close: bool) -> bytes:
    """Guesses are counted by connection too, whatever login each of them names."""
    connection.listener.services.metrics.auth_failure(connection.listener.profile.kind)
    connection.failed_logins += 1
    if close or connection.failed_logins >= connection.limits.auth_failures:
        connection.close_with(replies.AUTH_FAILED + replies.TOO_MANY_ERRORS)
        return b""
    return replies.AUTH_FAILED


async def _plain(connection: Connection, initial: bytes) -> sasl.Credentials:
    return sasl.plain(sasl.decode_response(initial) if initial else await connection.challenge(b""))


async def _login(connection: Connection, initial: bytes) -> sasl.Credentials:
    login = sasl.decode_response(initial) if initial else await connection.challenge(sasl.USERNAME_PROMPT)
    password = await connection.challenge(sasl.PASSWORD_PROMPT)
    return sasl.Credentials(sasl.text(login), sasl.text(password))


MECHANISMS: dict[bytes, Exchange] = {b"PLAIN": _plain, b"LOGIN": _login}
