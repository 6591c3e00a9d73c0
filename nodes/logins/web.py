"""A person logs in on the web: address and password, and a one-time code where the account has them on.

The same guard and the same traces as at the other doors; app passwords do not count here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from actors.authentication import MAIN, PasswordsAway
from actors.passwords import Overloaded
from nodes.logins import account_sessions
from nodes.logins.door import LoginRefused, Reason
from nodes.logins.security import TooManyFailures, log_failed_login, network_of

if TYPE_CHECKING:
    from actors.directory import Target
    from actors.runtime import Context
    from nodes.services import Services

SCOPE: Literal["web"] = "web"


class CodeNeeded(Exception):
    """The password is right; a one-time code must come with it."""


class ChangeNeeded(Exception):
    """All is right; another password must be chosen with it."""


async def log_in(
    services: Services,
    client: str,
    login: str,
    password: str,
    code: str | None,
    context: Context,
    new_password: str | None = None,
) -> Target:
    """The account of whoever is at the network address `client`; `new_password` counts where it must be changed.

    Raises LoginRefused, CodeNeeded, ChangeNeeded, LogError, NotAllowed (the new password).
    """
    guard = services.login_guard
    try:
        known = await guard.attempt(client, login)
        found = await services.directory.logins.password(login, password, SCOPE, network_of(client), known)
    except TooManyFailures:
        raise _refused(services, "blocked") from None
    except Overloaded:
        raise _refused(services, "overloaded") from None
    except PasswordsAway:
        raise _refused(services, "away") from None
    right = found is not None
    if found is not None and services.directory.credentials.demands_code(found.target):
        if code is None:
            raise CodeNeeded
        if not guard.may_try_code(client, login):
            raise _refused(services, "blocked")
        right = await services.directory.credentials.use_code(found.target, code, context)
        if not right:
            guard.code_failed(login)
    if found is None or not right:
        log_failed_login(services.logger, SCOPE, client, login)
        guard.failed(client, login)
        raise _refused(services, "wrong")
    guard.succeeded(client, login)
    closed = account_sessions.why_closed(services.log, found.target) is not None
    if closed or services.runtime.standings.of(found.target.tenant) is not None:
        raise _refused(services, "suspended")
    if found.credential == MAIN and account_sessions.must_change(services.log, found.target):
        if new_password is None:
            raise ChangeNeeded
        await services.directory.set_password(found.target.address, new_password, context, by_owner=True)
    return found.target


def _refused(services: Services, reason: Reason) -> LoginRefused:
    services.metrics.auth_failure(SCOPE, "PASSWORD", reason)
    return LoginRefused(reason)
