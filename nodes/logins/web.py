"""A person logs in on the web: address and password, and a one-time code where the account has them on.

The same guard and the same traces as at the other doors; app passwords do not count here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from actors.authentication import MAIN
from nodes.logins import account_sessions
from nodes.logins.door import HINDRANCES, LoginRefused, Reason, hindrance
from nodes.logins.security import log_failed_login, network_of

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
    except HINDRANCES as error:
        raise _refused(services, hindrance(error)) from None
    if found is None or not await _is_second_factor_right(services, client, login, found.target, code, context):
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


async def _is_second_factor_right(
    services: Services, client: str, login: str, target: Target, code: str | None, context: Context
) -> bool:
    """True too where the account has none. Raises CodeNeeded, LoginRefused, LogError."""
    credentials, guard = services.directory.credentials, services.login_guard
    if not credentials.demands_code(target):
        return True
    if code is None:
        raise CodeNeeded
    if not guard.may_try_code(client, login):
        raise _refused(services, "blocked")
    right = await credentials.use_code(target, code, context)
    if not right:
        guard.code_failed(login)
    return right


def _refused(services: Services, reason: Reason) -> LoginRefused:
    services.metrics.auth_failure(SCOPE, "PASSWORD", reason)
    return LoginRefused(reason)
