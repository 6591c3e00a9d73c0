"""What each SMTP and LMTP command does, once it is in order: verb to function, as data.

A function takes the connection and the argument and gives the reply, or a coroutine when it must wait; it raises
Refused. Whether a command is in order was looked up before (states.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nodes.smtp import grammar, login, replies, trace, xclient
from nodes.smtp.chunks import parse_chunk
from nodes.smtp.extensions import NOTHING
from nodes.smtp.parameters import Moment
from nodes.smtp.replies import Refused
from nodes.smtp.states import State
from nodes.smtp.syntax import help_on

if TYPE_CHECKING:
    from nodes.smtp.connection import Connection, Waiting

Execute = Callable[["Connection", bytes], "bytes | Waiting"]


def greet_extended(connection: Connection, argument: bytes) -> bytes:
    """EHLO, LHLO."""
    session = connection.session
    session.host_name = grammar.parse_host(argument)
    session.extended_smtp = True
    connection._set_rset_state()
    mechanisms = login.offered(connection) if session.account is None else ""
    session.offer = connection.listener.offer(session, mechanisms)
    return session.offer.reply


def greet_plain(connection: Connection, argument: bytes) -> bytes:
    """HELO."""
    connection.session.host_name = grammar.parse_host(argument)
    connection.session.extended_smtp = False
    connection.session.offer = NOTHING
    connection._set_rset_state()
    return f"250 {connection.hostname}\r\n".encode()


def mail(connection: Connection, argument: bytes) -> bytes:
    """MAIL (RFC 5321 4.1.1.2)."""
    session, rules = connection.session, connection.rules
    if connection.transactions >= rules.transactions:
        connection.close_with(replies.TOO_MANY_MESSAGES)  # RFC 9422 4.1
        return b""
    command = grammar.parse_bare_mail(argument)
    if command is None:
        moment = Moment(int(trace.now_s() * 1000), rules.hold_s)
        command = grammar.parse_mail(argument, session.offer.mail, moment)
    return connection.listener.intake.handle_MAIL(connection, session, connection.envelope, command)


def rcpt(connection: Connection, argument: bytes) -> bytes | Waiting:
    """RCPT (RFC 5321 4.1.1.3)."""
    envelope, session = connection.envelope, connection.session
    command = grammar.parse_rcpt(argument, session.offer.recipient, utf8=envelope.smtp_utf8)
    return connection.listener.intake.handle_RCPT(connection, session, envelope, command)


def data(connection: Connection, argument: bytes) -> bytes:
    """DATA (RFC 5321 4.1.1.4)."""
    _no_argument(argument)
    if connection.envelope.options.body == "BINARYMIME":  # RFC 3030 3
        raise Refused(replies.BINARY_NEEDS_CHUNKS)
    connection.expect_content()
    return replies.GO_AHEAD


def bdat(connection: Connection, argument: bytes) -> bytes:
    """BDAT (RFC 3030 2). The chunk is read even where it may not come: its octets are no commands."""
    try:
        chunk = parse_chunk(argument)
    except Refused as refused:
        connection.close_with(refused.reply + replies.CLOSING)
        return b""
    refusal = CHUNK_OUT_OF_ORDER.get(connection.session.state)
    connection.expect_chunk(chunk, refusal)
    return b""


CHUNK_OUT_OF_ORDER = {
    State.CONNECTED: replies.NEED_GREETING,
    State.READY: replies.NEED_MAIL,
    State.MAIL: replies.NEED_RECIPIENT,
}


def rset(connection: Connection, argument: bytes) -> bytes:
    """RSET."""
    _no_argument(argument)
    connection._set_rset_state()
    return replies.OK


def quit_(connection: Connection, argument: bytes) -> bytes:
    """QUIT."""
    _no_argument(argument)
    connection.close_with(replies.BYE)
    return b""


def noop(connection: Connection, argument: bytes) -> bytes:
    """NOOP; an argument is ignored (RFC 5321 4.1.1.9)."""
    return replies.OK


def help_(connection: Connection, argument: bytes) -> bytes:
    """HELP: what is never done here, or not at this listener, is not named."""
    left_out = (b"EXPN",) if connection.listener.profile.submits else (b"EXPN", b"AUTH")
    return help_on((verb for verb in connection.listener.commands if verb not in left_out), argument)


def vrfy(connection: Connection, argument: bytes) -> bytes:
    """VRFY tells nobody who exists, unless it was told to (RFC 5321 7.3)."""
    if not argument.strip():
        raise Refused(replies.BAD_SYNTAX)
    if not connection.rules.vrfy:
        return replies.CANNOT_VRFY
    return connection.listener.intake.verify(grammar.parse_address(argument))


def expn(connection: Connection, argument: bytes) -> bytes:
    """EXPN."""
    raise Refused(replies.NOT_IMPLEMENTED)


def starttls(connection: Connection, argument: bytes) -> Waiting:
    """STARTTLS (RFC 3207)."""
    _no_argument(argument)
    if connection.session.secure:
        raise Refused(replies.ALREADY_TLS)
    if connection.tls_context is None:
        raise Refused(replies.TLS_NOT_AVAILABLE)
    return connection.begin_tls()


def _no_argument(argument: bytes) -> None:
    if argument.strip():
        raise Refused(replies.NO_ARGUMENT)


COMMANDS: dict[bytes, Execute] = {
    b"HELO": greet_plain,
    b"EHLO": greet_extended,
    b"MAIL": mail,
    b"RCPT": rcpt,
    b"DATA": data,
    b"BDAT": bdat,
    b"RSET": rset,
    b"NOOP": noop,
    b"QUIT": quit_,
    b"HELP": help_,
    b"VRFY": vrfy,
    b"EXPN": expn,
    b"STARTTLS": starttls,
    b"AUTH": login.auth,
    b"XCLIENT": xclient.xclient,
}
LMTP_COMMANDS: dict[bytes, Execute] = {  # RFC 2033 4.1: LHLO instead of HELO and EHLO
    **{verb: execute for verb, execute in COMMANDS.items() if verb not in (b"HELO", b"EHLO")},
    b"LHLO": greet_extended,
}
