"""OAUTHBEARER (RFC 7628) and XOAUTH2 (Google's, as other providers speak it too): a bearer token in one message.

Without I/O. The token itself is checked by nodes/logins/tokens.py; where it is not good, the client is told why in
JSON, sends an empty message, and only then is refused.
"""

from __future__ import annotations

import json
import re

from nodes.logins.sasl import Bearer, Challenge, Done, Failed, Malformed, Step, text
from nodes.logins.sasl_scram import saslname

MOST_TOKEN = 8192
_OAUTHBEARER = re.compile(rb"(?:n|y),(?:a=(?P<login>[^,]*))?,\x01(?P<pairs>(?:[A-Za-z]+=[^\x01]*\x01)*)\x01")
_XOAUTH2 = re.compile(rb"user=(?P<login>[^\x01]*)\x01(?P<pairs>(?:[A-Za-z]+=[^\x01]*\x01)*)\x01")
_BEARER = re.compile(rb"Bearer +(?P<token>[A-Za-z0-9._~+/-]+=*) *", re.IGNORECASE)  # RFC 6750 2.1


class OAuthBearer:
    """RFC 7628 3.1: a GS2 header, then key=value pairs between control characters."""

    def step(self, response: bytes | None) -> Step:
        return _step(response, _OAUTHBEARER, escaped=True)


class XOAuth2:
    """user=..., then the same pairs."""

    def step(self, response: bytes | None) -> Step:
        return _step(response, _XOAUTH2, escaped=False)


def bearer_error(mechanism: str, scope: str) -> bytes:
    """What a client is told before it is refused (RFC 7628 3.2.2; XOAUTH2 has numbers); `scope`: one that would do."""
    status = "invalid_token" if mechanism == "OAUTHBEARER" else "401"
    return json.dumps({"status": status, "schemes": "bearer", "scope": scope}).encode()


def _step(response: bytes | None, form: re.Pattern[bytes], *, escaped: bool) -> Step:
    if response is None:
        return Challenge(b"")
    message = form.fullmatch(response)
    if message is None:
        return Failed("not a message with a bearer token")
    pairs = dict(pair.split(b"=", 1) for pair in message["pairs"].split(b"\x01")[:-1])
    bearer = _BEARER.fullmatch({name.lower(): value for name, value in pairs.items()}.get(b"auth", b""))
    if bearer is None or len(bearer["token"]) > MOST_TOKEN:
        return Failed("no bearer token in the message")
    try:
        login = saslname(message["login"] or b"") if escaped else text(message["login"])
    except Malformed as malformed:
        return Failed(str(malformed))
    return Done(Bearer(login, bearer["token"].decode("ascii")))
