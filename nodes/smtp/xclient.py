"""XCLIENT, as Postfix defines it (XCLIENT_README): a trusted peer says on whose behalf it speaks.

Everything starts anew as for a client at that address: limits of policy, checks, the greeting. LOGIN is not among the
attributes: nobody logs in on another's word.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from nodes.smtp import grammar, replies, xtext
from nodes.smtp.replies import Refused

if TYPE_CHECKING:
    from nodes.smtp.connection import Connection, Waiting

ATTRIBUTES = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "DESTADDR", "DESTPORT")
_UNKNOWN = ("[UNAVAILABLE]", "[TEMPUNAVAIL]")


def xclient(connection: Connection, argument: bytes) -> Waiting:
    """XCLIENT attribute=value ... Raises Refused: 550 to a peer that is not trusted, 501 to what is malformed."""
    if not connection.listener.trusts_xclient(connection.admitted_as):
        raise Refused(replies.NOT_TRUSTED)
    return _begin_anew(connection, _attributes(argument))


def _attributes(argument: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in argument.decode("utf-8", "replace").split():
        name, equals, value = part.partition("=")
        plain = xtext.decoded(value)
        if not equals or name.upper() not in ATTRIBUTES or plain is None or name.upper() in found:
            raise Refused(replies.BAD_SYNTAX)
        found[name.upper()] = "" if plain.upper() in _UNKNOWN else plain
    if not found:
        raise Refused(replies.BAD_SYNTAX)
    _check(found)
    return found


def _check(found: dict[str, str]) -> None:
    if found.get("ADDR"):
        found["ADDR"] = _address(found["ADDR"])
    if found.get("PORT") and not (found["PORT"].isdigit() and int(found["PORT"]) < 65536):
        raise Refused(replies.BAD_SYNTAX)
    if found.get("PROTO", "SMTP").upper() not in ("SMTP", "ESMTP", ""):
        raise Refused(replies.BAD_SYNTAX)
    for name in ("HELO", "NAME"):
        if found.get(name):
            grammar.parse_host(found[name].encode())


def _address(text: str) -> str:
    """`IPV6:` stands before an IPv6 address."""
    try:
        if text[:5].upper() == "IPV6:":
            return str(ipaddress.IPv6Address(text[5:]))
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise Refused(replies.BAD_SYNTAX) from None


async def _begin_anew(connection: Connection, found: dict[str, str]) -> bytes:
    session = connection.begin_anew(secure=connection.session.secure)
    if found.get("ADDR"):
        session.client_name = ""
        session.set_peer((found["ADDR"], int(found.get("PORT") or 0)))
    session.client_name = found.get("NAME", session.client_name)
    session.host_name = found.get("HELO", "")
    connection.begin_flow()
    refusal = await connection.check_client()
    if refusal:
        connection.close_with(refusal)
        return b""
    return connection.listener.greeting
