"""POP3 without I/O: bytes in, events out (RFC 1939; CAPA RFC 2449; STLS RFC 2595; AUTH RFC 5034; UTF8, LANG RFC 6856).

`feed` takes bytes; `next_event` gives what to do next, or None when more bytes are needed. After LogIn, Authenticate,
Respond, StartTls and Remove the session waits until it is told how that ended. It keeps no password and reads no table.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from nodes.logins import sasl
from nodes.pop3 import languages
from nodes.pop3.events import (
    Answer,
    Authenticate,
    Close,
    Event,
    LogIn,
    Refused,
    Remove,
    Respond,
    Say,
    Send,
    StartTls,
    few,
    listing,
    ok,
    refusing,
)
from nodes.pop3.maildrop import Entry, Maildrop, NoSuchEntry, unique_id
from nodes.pop3.states import KNOWN, LEGAL, State

DIGEST = re.compile(rb"[0-9A-Fa-f]{32}")


class Limits(NamedTuple):
    """What a client may do before it is refused."""

    line_bytes: int
    errors: int


class Session:
    """One client. `mechanisms`: how one may log in over this connection as it is, if at all.

    `timestamp`: what the greeting ends with where APOP is possible (RFC 1939 7).
    """

    def __init__(
        self, limits: Limits, *, secure: bool, offers_tls: bool, mechanisms: Sequence[str], timestamp: bytes = b""
    ) -> None:
        self._limits = limits
        self._secure = secure
        self._offers_tls = offers_tls
        self._mechanisms = mechanisms
        self._timestamp = timestamp
        self._input = bytearray()
        self._skipping = False
        self._errors = 0
        self._login = ""
        self.utf8 = False  # the client has said UTF8
        self._maildrop: Maildrop | None = None
        self.state = State.AUTHORIZATION

    @property
    def is_logged_in(self) -> bool:
        """Whether the maildrop is open."""
        return self._maildrop is not None

    @property
    def maildrop(self) -> Maildrop:
        """The open maildrop."""
        assert self._maildrop is not None
        return self._maildrop

    def feed(self, data: bytes) -> None:
        """Takes bytes from the client."""
        self._input += data

    def next_event(self) -> Event | None:
        """What to do next; None when more bytes are needed, or while the session waits to be told."""
        if self.state in (State.WAITING, State.CLOSED):
            return None
        end = self._input.find(b"\n")
        if end < 0:
            if len(self._input) > self._limits.line_bytes:
                self._skipping = True
                self._input.clear()
            return None
        line = bytes(self._input[:end]).rstrip(b"\r")
        del self._input[: end + 1]
        too_long = self._skipping or len(line) > self._limits.line_bytes
        self._skipping = False
        try:
            return self._too_long() if too_long else self._take(line)
        except Refused as refused:
            return self._refuse(refused.answer)

    # What the shell tells

    def logged_in(self, maildrop: Maildrop) -> Event:
        """The password was right and this is what it opens."""
        self._maildrop = maildrop
        self.state = State.TRANSACTION
        messages, octets = maildrop.total()
        as_of = "" if maildrop.as_of is None else f" as of {maildrop.as_of}, read-only"
        return ok(f"{messages} messages ({octets} octets){as_of}")

    def not_logged_in(self, text: str, code: str, error: str = "") -> Event:
        """The password was wrong, or can not be checked now; `error`: as of `refusing`."""
        self.state = State.AUTHORIZATION
        return self._refuse(refusing(text, code, error))

    def challenge(self, data: bytes) -> Say:
        """Asks the client, as a mechanism demands it; the next event is its answer, or a refusal that ends it."""
        self.state = State.SASL
        return Say(b"+ " + base64.b64encode(data) + b"\r\n")

    def tls_started(self, mechanisms: Sequence[str]) -> None:
        """What the client sent in clear after STLS is thrown away (RFC 2595 4)."""
        self._input.clear()
        self._secure = True
        self.utf8 = False
        self._mechanisms = mechanisms
        self.state = State.AUTHORIZATION

    def removed(self, done: bool) -> Event:
        """How the removal at QUIT ended."""
        if done:
            return self._close(b"+OK Bye\r\n")
        return self._close(refusing("The marked messages may not have been removed", "SYS/TEMP", "outcome_unknown"))

    # Lines

    def _take(self, line: bytes) -> Event:
        if self.state is State.SASL:
            return self._respond(line)
        verb, _, argument = line.partition(b" ")
        verb = verb.upper()
        if verb not in KNOWN:
            raise Refused("Unknown command")
        if verb not in LEGAL[self.state]:
            raise Refused("Not in this state", error="out_of_order")
        if self.state is State.NAMED and verb != b"CAPA":
            self.state = State.AUTHORIZATION
        return COMMANDS[verb](self, argument)

    def _too_long(self) -> Event:
        if self.state is State.SASL:
            self.state = State.AUTHORIZATION
        raise Refused("Line too long", error="line_too_long")

    def _refuse(self, answer: Answer) -> Event:
        self._errors += 1
        if self._errors >= self._limits.errors:
            last = Answer(answer + b"-ERR Too many errors\r\n")
            last.error = "too_many_errors"
            return self._close(last)
        return Say(answer)

    def _close(self, answer: bytes) -> Close:
        self.state = State.CLOSED
        return Close(answer)

    # Authorization

    def _capa(self, argument: bytes) -> Event:
        names = ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "EXPIRE NEVER", "LANG", "UTF8 USER"]
        names.append("IMPLEMENTATION mailraft")
        if self._mechanisms:
            names += ["USER", f"SASL {' '.join(self._mechanisms)}"]
        if self._offers_tls and not self._secure and not self.is_logged_in:
            names.append("STLS")
        return few("Capabilities follow", names)

    def _user(self, argument: bytes) -> Event:
        self._check_may_log_in()
        if not argument.strip():
            raise Refused("USER needs a name")
        self._login = _text(argument.strip())
        self.state = State.NAMED
        return ok("Send PASS")

    def _pass(self, argument: bytes) -> Event:
        if not argument:
            raise Refused("PASS needs a password")
        self.state = State.WAITING
        return LogIn(sasl.Credentials(self._login, _text(argument)), "USER")

    def _apop(self, argument: bytes) -> Event:
        words = argument.split()
        if not self._timestamp:
            raise Refused("APOP is not offered")
        self._check_may_log_in()
        if len(words) != 2 or not DIGEST.fullmatch(words[1]):
            raise Refused("APOP needs a name and a digest")
        self.state = State.WAITING
        return LogIn(sasl.Digest(_text(words[0]), self._timestamp, words[1].lower()), "APOP")

    def _auth(self, argument: bytes) -> Event:
        word, _, initial = argument.strip().partition(b" ")
        if not word:
            return few("Mechanisms follow", self._mechanisms)
        self._check_may_log_in()
        mechanism = word.upper().decode("ascii", "replace")
        if mechanism not in self._mechanisms:
            raise Refused("Mechanism not supported")
        self.state = State.WAITING
        return Authenticate(mechanism, initial.strip() or None)

    def _respond(self, line: bytes) -> Event:
        if line == b"*":
            self.state = State.AUTHORIZATION
            raise Refused("Cancelled", error="login_cancelled")
        self.state = State.WAITING
        return Respond(line)

    def _check_may_log_in(self) -> None:
        if not self._mechanisms:
            raise Refused("A password may not come in clear: send STLS first", error="tls_required")

    def _stls(self, argument: bytes) -> Event:
        if self._secure or not self._offers_tls:
            raise Refused("TLS is active already" if self._secure else "TLS is not available")
        self.state = State.WAITING
        return StartTls(b"+OK Begin TLS\r\n")

    def _utf8(self, argument: bytes) -> Event:
        if argument.strip():
            raise Refused("UTF8 takes nothing")
        self.utf8 = True
        return ok("UTF-8 it is")

    # Both

    def _lang(self, argument: bytes) -> Event:
        if not argument.strip():
            return few("Languages follow", languages.lines())
        tag = languages.lookup(argument.strip())
        if tag is None:
            raise Refused("That language is not spoken here")
        return ok(f"{tag} {languages.SPOKEN[tag]} it is")

    # Transaction

    def _stat(self, argument: bytes) -> Event:
        messages, octets = self.maildrop.total()
        return ok(f"{messages} {octets}")

    def _list(self, argument: bytes) -> Event:
        if argument.strip():
            number, entry = self._named_entry(argument)
            return ok(f"{number} {entry.size}")
        messages, octets = self.maildrop.total()
        lines = (f"{number} {entry.size}" for number, entry in self.maildrop.present())
        return listing(f"{messages} messages ({octets} octets)", lines)

    def _uidl(self, argument: bytes) -> Event:
        if argument.strip():
            number, entry = self._named_entry(argument)
            return ok(f"{number} {unique_id(entry)}")
        lines = (f"{number} {unique_id(entry)}" for number, entry in self.maildrop.present())
        return listing("Unique ids follow", lines)

    def _retr(self, argument: bytes) -> Event:
        return Send(self._named_entry(argument)[1], None)

    def _top(self, argument: bytes) -> Event:
        words = argument.split()
        if len(words) != 2:
            raise Refused("TOP needs a message and a number of lines")
        return Send(self._named_entry(words[0])[1], _number(words[1]))

    def _dele(self, argument: bytes) -> Event:
        if self.maildrop.read_only is not None:
            raise Refused(self.maildrop.read_only, "SYS/PERM", "not_allowed")
        number, _ = self._named_entry(argument)
        self.maildrop.mark(number)
        return ok(f"Message {number} is marked as deleted")

    def _rset(self, argument: bytes) -> Event:
        self.maildrop.unmark_all()
        messages, octets = self.maildrop.total()
        return ok(f"{messages} messages ({octets} octets)")

    def _noop(self, argument: bytes) -> Event:
        return ok("Ok")

    def _quit(self, argument: bytes) -> Event:
        uids = self._maildrop.marked() if self._maildrop is not None else ()
        if not uids:
            return self._close(b"+OK Bye\r\n")
        self.state = State.WAITING
        return Remove(uids)

    def _named_entry(self, argument: bytes) -> tuple[int, Entry]:
        number = _number(argument.strip())
        try:
            return number, self.maildrop.entry(number)
        except NoSuchEntry:
            raise Refused("No such message", error="no_such_message") from None


def _number(word: bytes) -> int:
    if not word.isdigit() or len(word) > 10:
        raise Refused("That is not a number")
    return int(word)


def _text(octets: bytes) -> str:
    try:
        return sasl.text(octets)
    except sasl.Malformed:
        raise Refused("That is not UTF-8") from None


COMMANDS: dict[bytes, Callable[[Session, bytes], Event]] = {
    b"CAPA": Session._capa,
    b"USER": Session._user,
    b"PASS": Session._pass,
    b"APOP": Session._apop,
    b"AUTH": Session._auth,
    b"STLS": Session._stls,
    b"UTF8": Session._utf8,
    b"LANG": Session._lang,
    b"STAT": Session._stat,
    b"LIST": Session._list,
    b"UIDL": Session._uidl,
    b"RETR": Session._retr,
    b"TOP": Session._top,
    b"DELE": Session._dele,
    b"RSET": Session._rset,
    b"NOOP": Session._noop,
    b"QUIT": Session._quit,
}
