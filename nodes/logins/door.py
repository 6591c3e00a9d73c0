"""Logging in, the same for every front end: a mechanism's exchange, the guard against guessing, the check, the trace.

A front end gives the door that the client stands at and a way to ask the client something; it gets who came in, or why
nobody did. A password lives in local variables only, and no answer tells whether an account exists.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Literal, NamedTuple

from actors import tenant
from actors.authentication import PasswordsAway
from actors.passwords import Overloaded, ScramKeys
from actors.runtime import Context
from actors.tenant import POSTMASTER
from eventlog.record import By
from nodes.config.node import ListenerKind
from nodes.logins import account_sessions, sasl
from nodes.logins.bound_tenants import tenant_at, tenant_name
from nodes.logins.sasl_bearer import bearer_error
from nodes.logins.sasl_external import addresses_of
from nodes.logins.sasl_mechanisms import Offer, begin
from nodes.logins.security import Limited, TooManyFailures, log_failed_login, may_send_password, network_of
from nodes.moments import split_login
from nodes.tls.channel_binding import bindings_of
from nodes.tls.front import server_name
from nodes.trail import TRAIL, cause_of, current_id

if TYPE_CHECKING:
    from actors.authentication import Login
    from actors.directory import Target
    from nodes.services import Services

Ask = Callable[[bytes], Awaitable[bytes]]
Reason = Literal["malformed", "wrong", "blocked", "overloaded", "away", "suspended", "limited"]
HINDRANCES = (TooManyFailures, Overloaded, PasswordsAway)  # what may keep a password from being checked
_NOTING: set[asyncio.Task[None]] = set()
MOST_STEPS = 8  # no mechanism has so many
SCOPES: dict[ListenerKind, str] = {
    "submission": "smtp",
    "submissions": "smtp",
    "imap": "imap",
    "imaps": "imap",
    "pop3": "pop3",
    "pop3s": "pop3",
}


CODES: dict[Reason, str] = {
    "malformed": "malformed_response",
    "wrong": "wrong_credentials",
    "blocked": "login_blocked",
    "overloaded": "overloaded",
    "away": "passwords_away",
    "suspended": "login_suspended",
    "limited": "login_limited",
}


class Door(NamedTuple):
    """Where a client asks to be let in; `client` is its network address, "" for a Unix socket."""

    kind: ListenerKind
    client: str
    offer: Offer
    host: str | None = None  # that the client asked for in TLS

    @property
    def scope(self) -> str:
        """What an app password must be for."""
        return SCOPES[self.kind]


class LoggedIn(NamedTuple):
    """Who came in; `moment` is what the login named behind `@@`."""

    target: Target
    moment: str | None


class LoginRefused(Exception):
    """Nobody came in. `close`: this was one attempt too many for the connection.

    "malformed": what the client sent is no response of the mechanism; "wrong": so are the credentials; "blocked",
    "overloaded", "away" (whoever keeps the password): nothing was checked, and it may be tried again later;
    "suspended": the credentials were right, and yet: `text` says why; "limited": likewise, for now.
    """

    def __init__(self, reason: Reason, *, close: bool = False, text: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.close = close
        self.text = text

    @property
    def code(self) -> str:
        """The kind of error (nodes/errors)."""
        return CODES[self.reason]


def door(services: Services, kind: ListenerKind, client: str, tls: ssl.SSLObject | None) -> Door:
    """`tls`: the connection's, None in clear."""
    may_log_in = may_send_password(services.config.auth.plaintext_without_tls, client, tls=tls is not None)
    bindings = bindings_of(tls) if services.config.auth.channel_binding else {}
    host = server_name(tls)
    scram = not services.config.ldap.all or (services.config.ldap.scram and not _asks_directories(services, kind, host))
    offer = Offer(may_log_in, bindings, services.tokens is not None, addresses_of(services, tls), scram)
    return Door(kind, client, offer, host)


def _asks_directories(services: Services, kind: ListenerKind, host: str | None) -> bool:
    """Whether only accounts can log in here of whom no password is in the log."""
    bound, outside = tenant_at(services.log, services.config, kind, host), services.directory.logins.outside
    if not bound or outside is None:
        return False
    with services.log.snapshot() as snapshot:
        domains = tenant.domains(snapshot.view(bound))
    return all(outside.cache_s(f"{POSTMASTER}@{one.name}") is not None for one in domains)


async def authenticate(services: Services, at: Door, mechanism: str, initial: bytes | None, ask: Ask) -> LoggedIn:
    """Runs a mechanism that the door offers. `initial`: the initial response in base64, None where there is none.

    `ask` sends a challenge and gives the decoded response; it raises Malformed, or what the front end likes for a
    client that gives up. Raises LoginRefused.
    """
    exchange = begin(mechanism, at.offer, lambda login: _scram_keys(services, at, login))
    try:
        response = None if initial is None else sasl.decode_response(initial)
        for _ in range(MOST_STEPS):
            match exchange.step(response):
                case sasl.Challenge(data):
                    response = await ask(data)
                case sasl.Done(claim, last):
                    found = await _judged(services, at, claim, mechanism, ask)
                    if last and await ask(last):
                        break
                    return found
                case sasl.Failed():
                    break
    except sasl.Malformed:
        pass
    services.metrics.auth_failure(at.kind, mechanism, "malformed")
    raise LoginRefused("malformed")


async def _judged(services: Services, at: Door, claim: sasl.Claim, mechanism: str, ask: Ask) -> LoggedIn:
    """Checks the claim; a client whose token was not good is told in JSON before it is refused. Raises LoginRefused."""
    try:
        return await admit(services, at, claim, mechanism)
    except LoginRefused as refused:
        if isinstance(claim, sasl.Bearer) and refused.reason == "wrong":
            await ask(
                bearer_error(mechanism, services.tokens.scope if services.tokens else "")
            )  # what it says to that does not matter
        raise


async def admit(services: Services, at: Door, claim: sasl.Claim, mechanism: str) -> LoggedIn:
    """Checks a claim, when it is the client's turn to have one checked. Raises LoginRefused."""
    await _come(services, at, mechanism)
    login, moment = split_login(claim.login)
    claim = claim._replace(login=login, acting_as=split_login(claim.acting_as)[0])
    bound = tenant_at(services.log, services.config, at.kind, at.host)
    try:
        found = await _find(services, at, claim, bound)
    except HINDRANCES as error:
        raise _refused(services, at, mechanism, hindrance(error)) from None
    guard = services.login_guard
    if found is None:
        log_failed_login(services.logger, at.kind, at.client, login, tenant_name(services.log, bound))
        raise _refused(services, at, mechanism, "wrong", close=guard.failed(at.client, login))
    guard.succeeded(at.client, login)
    _name(services, found.target)
    standing = services.runtime.standings.of(found.target.tenant)
    why_not = standing.text if standing is not None else account_sessions.why_not(services.log, found)
    if why_not is not None:
        raise _refused(services, at, mechanism, "suspended", text=why_not)
    await _take_tokens(services, at, found.target, mechanism)
    _note_use(services, at, found)
    return LoggedIn(found.target, moment)


async def _find(services: Services, at: Door, claim: sasl.Claim, bound: bytes | None) -> Login | None:
    """Whose claim it is; None where it is not good. Raises HINDRANCES."""
    if isinstance(claim, sasl.Bearer | sasl.Certified):  # nobody guesses them: looked at before others' failures
        found = await _check(services, at, claim, False, bound)
        if found is None:
            await services.login_guard.attempt(at.client, claim.login)
    else:
        known = await services.login_guard.attempt(at.client, claim.login)
        found = await _check(services, at, claim, known, bound)
    if found is not None and bound not in (None, found.target.tenant):
        return None  # as if it were not there, after the same work
    return found


def hindrance(error: Exception) -> Reason:
    """Why one of HINDRANCES kept a password from being checked."""
    match error:
        case TooManyFailures():
            return "blocked"
        case Overloaded():
            return "overloaded"
        case _:
            return "away"


def _refused(
    services: Services, at: Door, mechanism: str, reason: Reason, *, text: str = "", close: bool = False
) -> LoginRefused:
    services.metrics.auth_failure(at.kind, mechanism, reason)
    return LoginRefused(reason, text=text, close=close)


def _name(services: Services, target: Target) -> None:
    """Lines of the connection say from now on whose it is."""
    trail = TRAIL.get()
    if trail is not None:
        trail.tenant = tenant_name(services.log, target.tenant) or ""
        trail.account = target.address


async def _come(services: Services, at: Door, mechanism: str) -> None:
    """Raises LoginRefused where the client has tried too often, before anything is looked at."""
    try:
        if services.login_limits is not None:
            await services.login_limits.come(at.client)
    except Limited as limited:
        raise _refused(services, at, mechanism, "limited", text=str(limited)) from None


async def _take_tokens(services: Services, at: Door, target: Target, mechanism: str) -> None:
    """Raises LoginRefused where the account, or its tenant, logs in too often or has too many sessions."""
    if services.login_limits is None:
        return
    try:
        await services.login_limits.admit(target)
    except Limited as limited:
        raise _refused(services, at, mechanism, "limited", text=str(limited)) from None


def _note_use(services: Services, at: Door, login: Login) -> None:
    """Nobody waits for that to be written down."""
    if not services.directory.credentials.is_new_use(login):
        return
    by = By("account", login.target.account, f"{at.kind} {at.client}")
    cause = cause_of(f"{at.kind} log-in", (current_id(),))
    context = Context(by, cause, login.target.tenant, services.config.raft.propose_timeout_s)
    task = asyncio.get_running_loop().create_task(services.directory.credentials.note_use(login, context))
    _NOTING.add(task)
    task.add_done_callback(_NOTING.discard)


async def _check(services: Services, at: Door, claim: sasl.Claim, known: bool, bound: bytes | None) -> Login | None:
    """Nobody may act for somebody else: the authorization identity is absent or the login itself."""
    logins = services.directory.logins
    if claim.acting_as and claim.acting_as.casefold() != claim.login.casefold():
        return None
    match claim:
        case sasl.Credentials(login, password):
            return await logins.password(login, password, at.scope, network_of(at.client), known, bound)
        case sasl.Proof(login, key):
            return logins.proved(login, key, at.scope) if key is not None else None
        case sasl.Certified(login):
            return logins.vouched(login, "") if login.casefold() in map(str.casefold, at.offer.addresses) else None
        case sasl.Digest(login, timestamp, digest):
            return logins.apop(login, timestamp, digest)
        case sasl.Bearer(login, token):
            address = await services.tokens.account(token) if services.tokens is not None else None
            return logins.vouched(address, login) if address is not None else None


def _scram_keys(services: Services, at: Door, login: str) -> ScramKeys:
    return services.directory.logins.scram_keys(split_login(login)[0], at.scope)
