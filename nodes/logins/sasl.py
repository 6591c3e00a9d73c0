"""SASL (RFC 4422) without I/O: what an exchange is made of, and the mechanisms that give a password, PLAIN and LOGIN.

An exchange takes the client's decoded responses, one `step` each, and says what comes next. What it ends with is a
claim, which nodes/logins/door.py checks; every front end only carries the bytes. Claims hold secrets: they are never
logged, and their repr hides them.
"""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple, Protocol

from actors.passwords import ScramKey

USERNAME_PROMPT = b"Username:"
PASSWORD_PROMPT = b"Password:"


class Malformed(ValueError):
    """The response is not base64, or not what the mechanism demands."""


class Credentials(NamedTuple):
    """A password that a client gives; `acting_as` is the authorization identity, "" when it gave none."""

    login: str
    password: str
    acting_as: str = ""

    def __repr__(self) -> str:
        return f"Credentials({self.login!r})"


class Proof(NamedTuple):
    """A client has shown that it knows a password: the one that `key` is of. None: it has not."""

    login: str
    key: ScramKey | None
    acting_as: str = ""

    def __repr__(self) -> str:
        return f"Proof({self.login!r}, {'right' if self.key is not None else 'wrong'})"


class Bearer(NamedTuple):
    """A token of somebody who is trusted to know the client (RFC 6750); `login` is "" where the client names none."""

    login: str
    token: str
    acting_as: str = ""

    def __repr__(self) -> str:
        return f"Bearer({self.login!r})"


class Digest(NamedTuple):
    """APOP's digest of a timestamp and the account's secret (RFC 1939 7), in hexadecimal digits."""

    login: str
    timestamp: bytes
    digest: bytes
    acting_as: str = ""

    def __repr__(self) -> str:
        return f"Digest({self.login!r})"


class Certified(NamedTuple):
    """The certificate of the connection is the login's; the door knows for which addresses that is so."""

    login: str
    acting_as: str = ""


Claim = Credentials | Proof | Bearer | Digest | Certified


class Challenge(NamedTuple):
    """Send this, and step with what the client answers."""

    data: bytes


class Done(NamedTuple):
    """What the client claims. `last`: what it is told with success, as a challenge that it answers with nothing."""

    claim: Claim
    last: bytes = b""


class Failed(NamedTuple):
    """The exchange is over without a claim; `reason` is for people and for the log, and holds nothing of the client."""

    reason: str


Step = Challenge | Done | Failed


class Exchange(Protocol):
    """One run of a mechanism. The first response is the initial one; None where the client sent none."""

    def step(self, response: bytes | None) -> Step: ...


class Plain:
    """PLAIN (RFC 4616): one message, [authzid] NUL authcid NUL passwd."""

    def step(self, response: bytes | None) -> Step:
        if response is None:
            return Challenge(b"")
        try:
            return Done(plain(response))
        except Malformed as error:
            return Failed(str(error))


class Login:
    """LOGIN (draft-murchison-sasl-login-00): a name, then a password, each asked for."""

    def __init__(self) -> None:
        self._name: bytes | None = None

    def step(self, response: bytes | None) -> Step:
        if response is None:
            return Challenge(USERNAME_PROMPT)
        if self._name is None:
            self._name = response
            return Challenge(PASSWORD_PROMPT)
        try:
            return Done(Credentials(text(self._name), text(response)))
        except Malformed as error:
            return Failed(str(error))


def decode_response(line: bytes) -> bytes:
    """A response line without its base64; `=` alone is the empty initial response (RFC 4954 4). Raises Malformed."""
    if line == b"=":
        return b""
    try:
        return base64.b64decode(line, validate=True)
    except binascii.Error:
        raise Malformed("not base64") from None


def plain(response: bytes) -> Credentials:
    """The single message of PLAIN: [authzid] NUL authcid NUL passwd. Raises Malformed."""
    parts = response.split(b"\0")
    if len(parts) != 3 or not parts[1] or not parts[2]:
        raise Malformed("not a PLAIN message")
    acting_as, login, password = map(text, parts)
    return Credentials(login, password, acting_as)


def text(response: bytes) -> str:
    """A response as text, without NUL. Raises Malformed."""
    try:
        decoded = response.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("not UTF-8") from None
    if "\0" in decoded:
        raise Malformed("NUL inside")
    return decoded
