"""Which POP3 command is legal in which state (RFC 1939 4 to 6, RFC 6856): what the table lacks is refused."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """Where a session stands."""

    AUTHORIZATION = "authorization"
    NAMED = "named"  # USER was given: PASS must be next (RFC 1939 7)
    SASL = "sasl"  # the next line answers a challenge
    WAITING = "waiting"  # the shell does something, and will tell how it ended
    TRANSACTION = "transaction"
    CLOSED = "closed"


_LOG_IN = frozenset((b"USER", b"APOP", b"AUTH", b"STLS", b"CAPA", b"UTF8", b"LANG", b"QUIT"))

LEGAL: dict[State, frozenset[bytes]] = {
    State.AUTHORIZATION: _LOG_IN,
    State.NAMED: _LOG_IN | {b"PASS"},
    State.SASL: frozenset(),
    State.WAITING: frozenset(),
    State.TRANSACTION: frozenset(
        (b"STAT", b"LIST", b"RETR", b"DELE", b"NOOP", b"RSET", b"TOP", b"UIDL", b"LANG", b"CAPA", b"QUIT")
    ),
    State.CLOSED: frozenset(),
}
KNOWN: frozenset[bytes] = frozenset().union(*LEGAL.values())
