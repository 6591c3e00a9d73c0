"""What belongs to one connection of a client, and stands in every line that is logged for it: its id above all.

The id is that of the connection, from its first byte to its last, through STARTTLS, log-in and every command; it stands
in the cause of every record that the client makes (`submission session ID`), and with each message that waits to be
sent, so that whoever sends it, on whatever node, writes its lines under the same id.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import Any

from eventlog.record import new_id

MARK = " session "
CODE = "mailraft.code"  # an attribute of spans: the kind of error
MOST_NAMED = 12  # connections in one cause


class Trail:
    """Of one connection. `tenant` and `account` are known once it is bound to the one, or logged in as the other."""

    __slots__ = ("account", "client", "id", "listener", "span", "tenant")

    def __init__(self, listener: str, client: str = "", identity: str = "") -> None:
        """`listener`: its kind; `client`: a network address; `identity`: of a connection that has ended."""
        self.id = identity or new_id().hex()
        self.listener = listener
        self.client = client
        self.tenant = ""
        self.account = ""
        self.span: Any = None  # of the connection, where traces are made (nodes/tracing.py)

    @property
    def cause(self) -> str:
        """Of the records that the client makes."""
        return f"{self.listener}{MARK}{self.id}"

    def facts(self) -> dict[str, str]:
        """What is known, for a line of the log."""
        names = ("listener", "client", "tenant", "account")
        return {"session": self.id, **{name: found for name in names if (found := getattr(self, name))}}


TRAIL: ContextVar[Trail | None] = ContextVar("trail", default=None)


def current_id() -> bytes:
    """The id of the connection that what is being done is done for; b"" for what the node does by itself."""
    trail = TRAIL.get()
    return bytes.fromhex(trail.id) if trail is not None else b""


@contextlib.contextmanager
def following(session: bytes, doing: str) -> Iterator[Trail | None]:
    """What is done in here is done for a connection that may have ended long ago, on another node too."""
    trail = Trail(doing, identity=session.hex()) if session else None
    token = TRAIL.set(trail)
    try:
        yield trail
    finally:
        TRAIL.reset(token)


def cause_of(doing: str, sessions: Iterable[bytes]) -> str:
    """The cause of a record that is for several connections: as many as it has room for."""
    named = list(dict.fromkeys(one.hex() for one in sessions if one))[:MOST_NAMED]
    return f"{doing}{MARK}{' '.join(named)}" if named else doing
