"""What a POP3 session asks its shell to do, and the answers that it makes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from nodes.logins import sasl
from nodes.pop3.maildrop import Entry

LINES_AT_ONCE = 500


class Say(NamedTuple):
    """Send this."""

    data: bytes


class Listing(NamedTuple):
    """Send these lines, piece by piece: of a large maildrop there are many."""

    lines: Iterator[str]

    def pieces(self) -> Iterator[bytes]:
        """The lines as they are sent."""
        while batch := list(itertools.islice(self.lines, LINES_AT_ONCE)):
            yield "".join(f"{line}\r\n" for line in batch).encode()


class LogIn(NamedTuple):
    """Check these and answer with `logged_in` or `not_logged_in`."""

    claim: sasl.Credentials | sasl.Digest
    mechanism: str  # as metrics and the log call it


class Authenticate(NamedTuple):
    """Run this mechanism, with `challenge` for what the client is asked; answer as after LogIn."""

    mechanism: str
    initial: bytes | None  # in base64


class Respond(NamedTuple):
    """What the client answers to a challenge, in base64."""

    line: bytes


class StartTls(NamedTuple):
    """Send `data`, then do the handshake, then call `tls_started`."""

    data: bytes


class Send(NamedTuple):
    """Send a message as a multi-line answer, the whole of it or only `lines` lines of its body."""

    entry: Entry
    lines: int | None


class Remove(NamedTuple):
    """Remove these UIDs for good and answer with `removed`."""

    uids: tuple[int, ...]


class Close(NamedTuple):
    """Send this and close."""

    data: bytes


Event = Say | Listing | LogIn | Authenticate | Respond | StartTls | Send | Remove | Close


class Answer(bytes):
    """An answer that refuses; `error` is the kind of error (nodes/errors) that it tells of."""

    error = "refused"


def refusing(text: str, code: str = "", error: str = "") -> Answer:
    """-ERR; `code` is a response code (RFC 2449 8, RFC 3206), which tells the kind of error where `error` does not."""
    answer = Answer(f"-ERR [{code}] {text}\r\n".encode() if code else f"-ERR {text}\r\n".encode())
    answer.error = error or _ERRORS[code]
    return answer


_ERRORS = {
    "": "bad_command",
    "AUTH": "wrong_credentials",
    "IN-USE": "maildrop_in_use",
    "SYS/PERM": "refused",
    "SYS/TEMP": "not_ready",
    "UTF8": "bad_command",
}


class Refused(Exception):
    """A command that gets -ERR; see `refusing`."""

    def __init__(self, text: str, code: str = "", error: str = "") -> None:
        super().__init__(text)
        self.answer = refusing(text, code, error)


def ok(text: str) -> Say:
    """A positive status line."""
    return Say(f"+OK {text}\r\n".encode())


def few(title: str, lines: Iterable[str]) -> Say:
    """A positive multi-line answer of a few lines."""
    return Say("".join(f"{line}\r\n" for line in (f"+OK {title}", *lines, ".")).encode())


def listing(title: str, lines: Iterable[str]) -> Listing:
    """A positive multi-line answer with a line for each message."""
    return Listing(itertools.chain((f"+OK {title}",), lines, (".",)))
