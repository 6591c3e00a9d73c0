"""Commands of any state and of log-in: CAPABILITY, NOOP, ID, LOGOUT, STARTTLS, AUTHENTICATE, LOGIN.

A password lives in a local variable only; no reply and no log line tells whether an account exists.
"""

from __future__ import annotations

import base64
import time

from actors.directory import Target
from eventlog.record import By
from nodes.imap import commands
from nodes.imap.errors import BadCommand, Farewell, Refusal
from nodes.imap.past_sharing import PastOfOthers
from nodes.imap.render import string
from nodes.imap.session import TLS_HANDSHAKE_S, Session
from nodes.imap.shared import Handler
from nodes.imap.states import State
from nodes.logins import door as logins
from nodes.logins import sasl
from nodes.logins.door import Door, LoggedIn, LoginRefused
from nodes.logins.sasl_mechanisms import ALL
from nodes.moments import parse_moment
from nodes.past import NotThen


async def capability(session: Session, _: commands.Capability) -> str:
    session.write(b"* CAPABILITY " + session.capabilities() + b"\r\n")
    return "CAPABILITY completed"


async def noop(_: Session, command: commands.Noop | commands.Check) -> str:
    return f"{type(command).__name__.upper()} completed"


async def identify(session: Session, command: commands.Id) -> str:
    """RFC 2971; what the client says of itself is worth a log line."""
    session.logger.debug("client", **{"client_" + str(i): f"{k}={v}"[:200] for i, (k, v) in enumerate(command.facts)})
    session.write(b"* ID (" + string(b"name") + b" " + string(b"mailraft") + b")\r\n")
    return "ID completed"


async def logout(session: Session, _: commands.Logout) -> str:
    session.deselect()
    session.write(b"* BYE see you\r\n")
    session.state = State.LOGOUT
    return "LOGOUT completed"


async def start_tls(session: Session, _: commands.StartTls) -> str:
    """RFC 3501 6.2.1. What was sent behind the command in clear is refused, not taken for what came over TLS."""
    context = session.services.tls
    if context is None or session.connection.secure:
        raise BadCommand("TLS is not available now")
    if session.framer.buffered or session.connection.has_input:
        raise Farewell("nothing may follow STARTTLS before the handshake", error="out_of_order")

    async def handshake() -> None:
        await session.connection.start_tls(context, TLS_HANDSHAKE_S)
        session.bind_trail()

    session.after_reply = handshake
    return "begin TLS now"


async def log_in(session: Session, command: commands.Login) -> str:
    door = session.door
    _demand_privacy(door)
    try:
        found = await logins.admit(session.services, door, sasl.Credentials(command.login, command.password), "LOGIN")
    except LoginRefused as refused:
        raise _refusal(session, refused) from None
    return await _enter(session, found)


async def authenticate(session: Session, command: commands.Authenticate) -> str:
    door = session.door
    if command.mechanism not in ALL:
        raise Refusal("this mechanism is not supported", "CANNOT")
    _demand_privacy(door)
    if command.mechanism not in door.offer.mechanisms:
        raise Refusal("this mechanism is not supported here", "CANNOT")

    async def ask(challenge: bytes) -> bytes:
        session.write(b"+ " + base64.b64encode(challenge) + b"\r\n")
        line = await session.line()
        if line == b"*":
            raise BadCommand("authentication cancelled", error="login_cancelled")
        return sasl.decode_response(line)

    try:
        found = await logins.authenticate(session.services, door, command.mechanism, command.initial, ask)
    except LoginRefused as refused:
        raise _refusal(session, refused) from None
    return await _enter(session, found)


def _demand_privacy(door: Door) -> None:
    if not door.offer.may_log_in:
        raise Refusal("no password without TLS: use STARTTLS", "PRIVACYREQUIRED")  # RFC 5530 3


async def _enter(session: Session, found: LoggedIn) -> str:
    if found.moment is not None:
        await _look_back(session, found.target, found.moment)
    session.account = found.target
    session.connection.belongs_to(found.target)
    session.state = State.AUTHENTICATED
    session.framer.appends = True
    session.leave = session.services.sessions.enter(found.target, session.stop)
    session.logger.info("logged in", tls=session.connection.secure)
    if session.past is not None:
        session.write(f"* OK [ALERT] this is the mailbox as of {session.past.moment}, read-only\r\n".encode())
    elif session.read_only is not None:
        session.write(f"* OK [ALERT] {session.read_only}\r\n".encode())
    return f"[CAPABILITY {session.capabilities().decode('ascii')}] logged in{_as_of(session)}"


def _as_of(session: Session) -> str:
    return f" to {session.target.address} as of {session.past.moment}, read-only" if session.past is not None else ""


async def _look_back(session: Session, account: Target, moment: str) -> None:
    """Raises Refusal."""
    by = By("account", account.account, session.origin)
    try:
        when = parse_moment(moment, time.time_ns() // 1_000_000)
        session.past = await session.services.past.open(account, when, by, session.cause)
    except ValueError as error:
        raise Refusal(f"{moment[:64]!a}: {error}; write @@2026-11-01T10:00:00Z, @@-2h or @@#12345", "CANNOT") from None
    except NotThen as error:
        raise Refusal(str(error), "CANNOT") from None
    session.past_of_others = PastOfOthers(session, when)


def _refusal(session: Session, refused: LoginRefused) -> Refusal:
    """Guesses are counted by connection too, whatever login each of them names."""
    match refused.reason:
        case "malformed":
            return BadCommand("not a response of this mechanism", error=refused.code)
        case "blocked":
            return Refusal("too many wrong passwords; try again later", "UNAVAILABLE", refused.code)
        case "overloaded":
            return Refusal("too many log-ins at once; try again", "UNAVAILABLE", refused.code)
        case "away":
            return Refusal("passwords can not be checked now; try again later", "UNAVAILABLE", refused.code)
        case "limited":
            return Refusal(refused.text, "LIMIT", refused.code)
        case "suspended":
            return Refusal(refused.text, "CONTACTADMIN", refused.code)  # RFC 5530 3
    session.failed_logins += 1
    if refused.close or session.failed_logins >= session.limits.auth_failures:

        async def hang_up() -> None:
            raise Farewell("too many wrong passwords", error="login_blocked")

        session.after_reply = hang_up
    return Refusal("wrong address or password", "AUTHENTICATIONFAILED")


HANDLERS: dict[type, Handler] = {
    commands.Capability: capability,
    commands.Noop: noop,
    commands.Check: noop,
    commands.Id: identify,
    commands.Logout: logout,
    commands.StartTls: start_tls,
    commands.Login: log_in,
    commands.Authenticate: authenticate,
}
