"""Arguments of MAIL and RCPT as values: RFC 5321 4.1.2 paths, RFC 6531 addresses, RFC 1870, 6152 and 4954 parameters.

Pure: bytes in, a value out or `Refused` with the reply. It knows syntax only, never which addresses exist.
A source route is accepted and ignored (RFC 5321 appendix C). Beyond the grammar, blanks before the path are let
pass, and an underscore in a domain, since real senders have them.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from nodes.smtp import replies
from nodes.smtp.replies import Refused

PATH_OCTETS = 320  # 64 of local part, "@" and 255 of domain; RFC 5321 4.5.3.1.3 asks for 256 at least
LABEL_OCTETS = 63

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\x80-\U0010ffff]+"
_DOT_STRING = rf"{_ATOM}(?:\.{_ATOM})*"
_QUOTED = r'"(?:[\x20!\x23-\x5b\x5d-\x7e\x80-\U0010ffff]|\\[\x20-\x7e])*"'
_LABEL = r"[A-Za-z0-9_\x80-\U0010ffff](?:[A-Za-z0-9_\-\x80-\U0010ffff]*[A-Za-z0-9_\x80-\U0010ffff])?"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_LITERAL = r"\[[\x21-\x5a\x5e-\x7e]+\]"
_PATH = re.compile(
    rf"[ \t]*<(?:@{_DOMAIN}(?:,@{_DOMAIN})*:)?"
    rf"(?P<local>{_DOT_STRING}|{_QUOTED})(?:@(?P<domain>{_DOMAIN}|{_LITERAL}))?>(?P<rest>[ \t].*)?"
)
_NULL_PATH = re.compile(r"[ \t]*<>(?P<rest>[ \t].*)?")
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([\x21-\x3c\x3e-\x7e\x80-\U0010ffff]+))?")
_XTEXT = re.compile(r"(?:[\x21-\x2a\x2c-\x3c\x3e-\x7e]|\+[0-9A-F]{2})+")
_PLAIN_DOT_STRING = re.compile(_DOT_STRING)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_HOST = re.compile(r"[A-Za-z0-9._:\[\]\-\xa1-\U0010ffff]{1,255}")


class MailCommand(NamedTuple):
    """MAIL FROM: the null sender is ""; `size_bytes` is 0 when the client declared none."""

    sender: str
    size_bytes: int = 0
    utf8: bool = False


def parse_mail(argument: bytes, *, extended: bool = True) -> MailCommand:
    """The argument of MAIL, beginning with `FROM:`. Parameters need EHLO (`extended`). Raises Refused."""
    text = _after(b"FROM:", argument, replies.BAD_SENDER)
    match = _NULL_PATH.fullmatch(text)
    sender = "" if match else None
    if match is None:
        match = _path(text, replies.BAD_SENDER)
        sender = _address(match, replies.BAD_SENDER)
        if match["domain"] is None:
            raise Refused(replies.BAD_SENDER)
    assert sender is not None
    rest = match["rest"]
    command = _with_parameters(sender, rest, extended) if rest else MailCommand(sender)
    if not sender.isascii() and not command.utf8:
        raise Refused(replies.NEEDS_SMTPUTF8)
    return command


def parse_rcpt(argument: bytes, *, utf8: bool = False) -> str:
    """The address in the argument of RCPT, beginning with `TO:`; `postmaster` may lack a domain. Raises Refused."""
    text = _after(b"TO:", argument, replies.BAD_RECIPIENT)
    match = _path(text, replies.BAD_RECIPIENT)
    address = _address(match, replies.BAD_RECIPIENT)
    if match["domain"] is None and address.lower() != "postmaster":  # RFC 5321 4.5.1
        raise Refused(replies.BAD_RECIPIENT)
    if match["rest"] and match["rest"].strip():
        raise Refused(_parameter_refusal(match["rest"]))
    if not utf8 and not address.isascii():
        raise Refused(replies.NEEDS_SMTPUTF8)
    return address


def parse_host(argument: bytes) -> str:
    """The name that a client gives itself in EHLO, HELO or LHLO; fit to stand in a Received line. Raises Refused."""
    host = _decoded(argument.strip(), replies.NEED_HOST)
    if not _HOST.fullmatch(host):
        raise Refused(replies.NEED_HOST)
    return host


def domain_of(address: str) -> str:
    """What stands after the last @: a quoted local part may hold others; "" if there is none."""
    return address.rpartition("@")[2] if "@" in address else ""


def _after(keyword: bytes, argument: bytes, malformed: bytes) -> str:
    if argument[: len(keyword)].upper() != keyword:
        raise Refused(replies.BAD_SYNTAX)
    return _decoded(argument[len(keyword) :], malformed)


def _decoded(octets: bytes, refusal: bytes) -> str:
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(refusal) from None
    if _CONTROL.search(text):
        raise Refused(refusal)
    return text


def _path(text: str, malformed: bytes) -> re.Match[str]:
    match = _PATH.fullmatch(text)
    if match is None:
        raise Refused(replies.BAD_SYNTAX if not text.lstrip().startswith("<") else malformed)
    return match


def _address(match: re.Match[str], malformed: bytes) -> str:
    local, domain = match["local"], match["domain"]
    if local[0] == '"':
        local = _canonical(local)
    address = local if domain is None else f"{local}@{domain}"
    if len(address.encode("utf-8")) > PATH_OCTETS or not _is_domain(domain):
        raise Refused(malformed)
    return address


def _canonical(quoted: str) -> str:
    """The same local part with quotes and backslashes only where they must be (RFC 5321 4.1.2)."""
    plain = re.sub(r"\\(.)", r"\1", quoted[1:-1])
    if _PLAIN_DOT_STRING.fullmatch(plain):
        return plain
    return '"' + re.sub(r'(["\\])', r"\\\1", plain) + '"'


def _is_domain(domain: str | None) -> bool:
    if domain is None:
        return True
    if domain[0] == "[":
        return _is_address_literal(domain[1:-1])
    if len(domain) <= LABEL_OCTETS:
        return True
    return len(domain) <= 255 and all(len(label) <= LABEL_OCTETS for label in domain.split("."))


def _is_address_literal(text: str) -> bool:
    """RFC 5321 4.1.3; tags other than IPv6 are not registered and so not accepted."""
    try:
        if text[:5].lower() == "ipv6:":
            ipaddress.IPv6Address(text[5:])
        else:
            ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _with_parameters(sender: str, rest: str, extended: bool) -> MailCommand:
    found: dict[str, str | None] = {}
    for part in rest.split():
        match = _PARAMETER.fullmatch(part)
        if match is None or match[1].upper() in found:
            raise Refused(replies.BAD_SYNTAX)
        found[match[1].upper()] = match[2]
    if found and not extended:
        raise Refused(replies.UNKNOWN_PARAMETER)
    command = MailCommand(sender, _size(found.pop("SIZE", "0")), _utf8(found))
    _check_body(found.pop("BODY", "7BIT"))
    _check_auth(found.pop("AUTH", "<>"))
    if found:
        raise Refused(replies.UNKNOWN_PARAMETER)
    return command


def _size(value: str | None) -> int:
    if value is None or not value.isascii() or not value.isdigit() or len(value) > 20:  # RFC 1870 5
        raise Refused(replies.BAD_SYNTAX)
    return int(value)


def _check_body(value: str | None) -> None:
    """RFC 6152 3; content is kept as it comes, whichever it is declared to be."""
    if (value or "").upper() not in ("7BIT", "8BITMIME"):
        raise Refused(replies.BAD_SYNTAX)


def _utf8(found: dict[str, str | None]) -> bool:
    if "SMTPUTF8" not in found:
        return False
    if found.pop("SMTPUTF8") is not None:  # RFC 6531 3.4: it takes no value
        raise Refused(replies.BAD_SYNTAX)
    return True


def _check_auth(value: str | None) -> None:
    """RFC 4954 5: the submitter's identity in xtext, or <>; nobody here is trusted to assert it, so it is only read."""
    if value is None or not (value == "<>" or _XTEXT.fullmatch(value)):
        raise Refused(replies.BAD_SYNTAX)


def _parameter_refusal(rest: str) -> bytes:
    well_formed = all(_PARAMETER.fullmatch(part) for part in rest.split())
    return replies.UNKNOWN_PARAMETER if well_formed else replies.BAD_SYNTAX
