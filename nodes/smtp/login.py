"""AUTH (RFC 4954): what EHLO lists, and how each end of an exchange is answered (nodes/logins/door.py does the rest).

A password lives in a local variable only; no reply and no log line tells whether the account exists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.logins import door as logins
from nodes.logins.door import Door, LoginRefused
from nodes.logins.sasl_mechanisms import ALL
from nodes.smtp import replies
from nodes.smtp.replies import Refused

if TYPE_CHECKING:
    from nodes.smtp.connection import Connection, Waiting


def offered(connection: Connection) -> str:
    """The mechanisms as EHLO lists them, to submitters only; empty where nobody can log in over this connection."""
    return " ".join(_door(connection).offer.mechanisms) if connection.listener.profile.submits else ""


def _door(connection: Connection) -> Door:
    listener, transport = connection.listener, connection.transport
    tls = transport.get_extra_info("ssl_object") if transport is not None else None
    return logins.door(listener.services, listener.profile.kind, connection.session.client, tls)


def auth(connection: Connection, argument: bytes) -> Waiting:
    """AUTH mechanism [initial-response]."""
    if not connection.listener.profile.submits:
        raise Refused(replies.NOT_IMPLEMENTED)
    if connection.session.account is not None:
        raise Refused(replies.ALREADY_AUTHENTICATED)
    word, _, initial = argument.strip().partition(b" ")
    mechanism = word.upper().decode("ascii", "replace")
    if mechanism not in ALL:
        raise Refused(replies.UNKNOWN_MECHANISM if mechanism else replies.BAD_SYNTAX)
    door = _door(connection)
    if not door.offer.may_log_in:
        raise Refused(replies.TLS_REQUIRED)
    if mechanism not in door.offer.mechanisms:
        raise Refused(replies.UNKNOWN_MECHANISM)
    return _log_in(connection, door, mechanism, initial.strip() or None)


async def _log_in(connection: Connection, door: Door, mechanism: str, initial: bytes | None) -> bytes:
    session = connection.session
    try:
        found = await logins.authenticate(connection.listener.services, door, mechanism, initial, connection.challenge)
    except LoginRefused as refused:
        return _refusal(connection, refused)
    if found.moment is not None:
        return replies.AUTH_FAILED  # one sends mail now, not in the past
    session.account = found.target
    session.authenticated = True
    connection.leave()
    connection.leave = connection.listener.services.sessions.enter(found.target, connection.put_out)
    connection.begin_flow()
    for check in connection.listener.intake.checks.logged_in:
        await check.logged_in(session)
    return replies.LOGGED_IN


def _refusal(connection: Connection, refused: LoginRefused) -> bytes:
    """Guesses are counted by connection too, whatever login each of them names."""
    if refused.reason == "malformed":
        return replies.BAD_AUTH_RESPONSE
    if refused.reason == "limited":
        return replies.limited_login(refused.text)
    if refused.reason == "suspended":
        return replies.suspended_login(refused.text)
    if refused.reason != "wrong":
        return replies.AUTH_LATER.telling(refused.code)
    connection.failed_logins += 1
    if refused.close or connection.failed_logins >= connection.limits.auth_failures:
        connection.close_with(replies.AUTH_FAILED + replies.TOO_MANY_ERRORS)
        return b""
    return replies.AUTH_FAILED
