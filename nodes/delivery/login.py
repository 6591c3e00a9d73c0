"""Logging in to a smart host: SCRAM-SHA-256 (RFC 5802, RFC 7677), PLAIN (RFC 4616), LOGIN.

The strongest that the server offers is used. A password itself goes over TLS only, or to this machine.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import ipaddress
import secrets
from typing import NamedTuple

from nodes.delivery.client import Session
from nodes.delivery.replies import Reply
from nodes.delivery.wire import PeerFailed

MOST_ITERATIONS = 1_000_000  # a server that asks for more is up to no good
CHALLENGE, ACCEPTED = 334, 235


class Login(NamedTuple):
    """For a smart host; it never shows its password."""

    username: str
    password: str

    def __repr__(self) -> str:
        return f"Login({self.username!r})"


class LoginFailed(PeerFailed):
    """The server does not let us in, or can not be told the password."""


async def log_in(session: Session, login: Login) -> None:
    """Raises LoginFailed and other PeerFailed."""
    offered = session.offered.get("AUTH", ())
    if "SCRAM-SHA-256" in offered:
        await _scram(session, login)
        return
    if not session.tls and not ipaddress.ip_address(session.address).is_loopback:
        raise LoginFailed("the server offers no TLS, and a password does not go in clear")
    if "PLAIN" in offered:
        secret = f"\0{login.username}\0{login.password}".encode()
        _check(await session.command(f"AUTH PLAIN {_encoded(secret)}", "AUTH"))
    elif "LOGIN" in offered:
        _challenge(await session.command("AUTH LOGIN", "AUTH"))
        _challenge(await session.command(_encoded(login.username.encode()), "AUTH"))
        _check(await session.command(_encoded(login.password.encode()), "AUTH"))
    else:
        raise LoginFailed("the server offers no way to log in that is known here: SCRAM-SHA-256, PLAIN or LOGIN")


async def _scram(session: Session, login: Login) -> None:
    name = login.username.replace("=", "=3D").replace(",", "=2C")
    first, nonce = f"n={name},r=", secrets.token_urlsafe(24)
    opening = f"{first}{nonce}"
    reply = await session.command(f"AUTH SCRAM-SHA-256 {_encoded(b'n,,' + opening.encode())}", "AUTH")
    challenge = _challenge(reply).decode("utf-8", "replace")
    salt, iterations, both = _parameters(challenge, nonce)
    salted = await asyncio.to_thread(hashlib.pbkdf2_hmac, "sha256", login.password.encode(), salt, iterations)
    closing = f"c=biws,r={both}"
    signed = ",".join((opening, challenge, closing)).encode()
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
    proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
    reply = await session.command(_encoded(f"{closing},p={_encoded(proof)}".encode()), "AUTH")
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    expected = b"v=" + base64.b64encode(hmac.digest(server_key, signed, "sha256"))
    if reply.code == ACCEPTED or not hmac.compare_digest(_challenge(reply), expected):
        raise LoginFailed("the server did not prove that it knows the password")
    _check(await session.command("", "AUTH"))


def _parameters(challenge: str, nonce: str) -> tuple[bytes, int, str]:
    """Salt, iterations and both nonces out of the server's first message. Raises LoginFailed."""
    values = dict(part.split("=", 1) for part in challenge.split(",") if "=" in part)
    try:
        salt, iterations, both = base64.b64decode(values["s"], validate=True), int(values["i"]), values["r"]
    except (KeyError, ValueError, binascii.Error):
        raise LoginFailed("the server's SCRAM message can not be read") from None
    if not both.startswith(nonce) or both == nonce or not 0 < iterations <= MOST_ITERATIONS:
        raise LoginFailed("the server's SCRAM message is not right")
    return salt, iterations, both


def _challenge(reply: Reply) -> bytes:
    if reply.code != CHALLENGE:
        _check(reply)
        raise LoginFailed(f"{reply.text} (in reply to AUTH)")
    try:
        return base64.b64decode(reply.lines[0], validate=True)
    except (ValueError, binascii.Error):
        raise LoginFailed("the server's challenge can not be read") from None


def _check(reply: Reply) -> None:
    if reply.code != ACCEPTED:
        raise LoginFailed(f"{reply.text} (in reply to AUTH)")


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()
