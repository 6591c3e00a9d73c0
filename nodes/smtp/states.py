"""Which SMTP command is legal when, and what it leads to (RFC 5321 4.1.4), as data.

A command that succeeds moves the session to the state that the table gives; one that fails leaves it where it is.
A command that the table lacks is out of order, and `OUT_OF_ORDER` says what to answer.
"""

from __future__ import annotations

from enum import Enum

from nodes.smtp import replies


class State(Enum):
    """Where a session stands."""

    __hash__ = object.__hash__  # looked up with each command: Enum's own is Python

    CONNECTED = "connected"  # no EHLO yet
    READY = "ready"
    MAIL = "mail"  # a sender, no recipient
    RCPT = "rcpt"  # at least one recipient
    CHUNKS = "chunks"  # a BDAT was taken, another one follows
    DATA = "data"  # the message is coming, or waits for its outcome


GREETINGS = (b"EHLO", b"HELO", b"LHLO")

_GREET = dict.fromkeys(GREETINGS, State.READY)


def _anywhere(state: State) -> dict[bytes, State]:
    """BDAT is among them: whether it may come is for its command to say, which must read the chunk anyway."""
    return dict.fromkeys((b"NOOP", b"HELP", b"VRFY", b"EXPN", b"QUIT", b"BDAT"), state)


TRANSITIONS: dict[State, dict[bytes, State]] = {
    State.CONNECTED: {
        b"XCLIENT": State.CONNECTED,
        **_GREET,
        **_anywhere(State.CONNECTED),
        b"RSET": State.CONNECTED,
        b"STARTTLS": State.CONNECTED,
    },
    State.READY: {
        **_GREET,
        b"XCLIENT": State.CONNECTED,
        **_anywhere(State.READY),
        b"RSET": State.READY,
        b"STARTTLS": State.CONNECTED,  # RFC 3207 4.2: what was said before is forgotten
        b"AUTH": State.READY,
        b"MAIL": State.MAIL,
    },
    State.MAIL: {
        **_GREET,
        **_anywhere(State.MAIL),
        b"RSET": State.READY,
        b"RCPT": State.RCPT,
    },
    State.RCPT: {
        **_GREET,
        **_anywhere(State.RCPT),
        b"RSET": State.READY,
        b"RCPT": State.RCPT,
        b"DATA": State.DATA,
    },
    State.CHUNKS: {
        **_GREET,
        **_anywhere(State.CHUNKS),
        b"RSET": State.READY,
    },
    State.DATA: {},
}

_NEED_MAIL = {b"RCPT": replies.NEED_MAIL, b"DATA": replies.NEED_MAIL}
_DURING = {
    b"MAIL": replies.NESTED_MAIL,
    b"AUTH": replies.IN_TRANSACTION,  # RFC 4954 4
    b"STARTTLS": replies.IN_TRANSACTION,
    b"XCLIENT": replies.IN_TRANSACTION,
}
OUT_OF_ORDER: dict[State, dict[bytes, replies.Reply]] = {
    State.CONNECTED: dict.fromkeys((b"MAIL", b"RCPT", b"DATA", b"AUTH"), replies.NEED_GREETING),
    State.READY: _NEED_MAIL,
    State.MAIL: {**_DURING, b"DATA": replies.NEED_RECIPIENT},
    State.RCPT: _DURING,
    State.CHUNKS: {**_DURING, b"RCPT": replies.CHUNKS_BEGUN, b"DATA": replies.CHUNKS_BEGUN},
    State.DATA: {},
}
