"""SASL mechanisms that give a login and a password: PLAIN (RFC 4616) and LOGIN. Pure; every front end uses it.

The result holds a password: it is never logged, and its repr hides it.
"""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

USERNAME_PROMPT = b"Username:"
PASSWORD_PROMPT = b"Password:"


class Malformed(ValueError):
    """The response is not base64, or not what the mechanism demands."""


class Credentials(NamedTuple):
    """What a client claims; `acting_as` is the authorization identity, "" when it gave none."""

    login: str
    password: str
    acting_as: str = ""

    def __repr__(self) -> str:
        return f"Credentials({self.login!r})"


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


def may_act_as(credentials: Credentials) -> bool:
    """Nobody may act for somebody else yet: the authorization identity is absent or the login itself."""
    return not credentials.acting_as or credentials.acting_as.casefold() == credentials.login.casefold()
