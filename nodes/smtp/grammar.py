"""Arguments of MAIL and RCPT as values: RFC 5321 4.1.2 paths, RFC 6531 addresses; parameters.py reads what follows.

Pure: bytes in, a value out or `Refused` with the reply. It knows syntax only, never which addresses exist.
A source route is accepted and ignored (RFC 5321 appendix C). Beyond the grammar, blanks before the path are let
pass, and an underscore in a domain, since real senders have them.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

from actors.mail_options import NO_OPTIONS, MailOptions, RecipientOptions
from nodes.smtp import replies
from nodes.smtp.parameters import NOTHING_ASKED, Moment, mail_parameters, recipient_parameters
from nodes.smtp.replies import Refused

PATH_OCTETS = 320  # 64 of local part, "@" and 255 of domain; RFC 5321 4.5.3.1.3 asks for 256 at least
LABEL_OCTETS = 63

# sets are said by what is not in them: one that reaches to U+10FFFF takes a hundredth of a second to compile
_ATOM = r"[^\x00-\x20\"(),.:;<>@\[\\\]\x7f]+"
_DOT_STRING = rf"{_ATOM}(?:\.{_ATOM})*"
_QUOTED = r'"(?:[^\x00-\x1f"\\\x7f]|\\[\x20-\x7e])*"'
_LETTER = r"[^\x00-/:-@\[-^`{-\x7f]"
_LABEL = rf"{_LETTER}(?:[^\x00-,./:-@\[-^`{{-\x7f]*{_LETTER})?"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_LITERAL = r"\[[\x21-\x5a\x5e-\x7e]+\]"
_PATH = re.compile(
    rf"[ \t]*<(?:@{_DOMAIN}(?:,@{_DOMAIN})*:)?"
    rf"(?P<local>{_DOT_STRING}|{_QUOTED})(?:@(?P<domain>{_DOMAIN}|{_LITERAL}))?>(?P<rest>[ \t].*)?"
)
_NULL_PATH = re.compile(r"[ \t]*<>(?P<rest>[ \t].*)?")
_PLAIN_DOT_STRING = re.compile(_DOT_STRING)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_HOST = re.compile(rf"{_DOMAIN}|{_LITERAL}")  # RFC 5321 4.1.1.1


class MailCommand(NamedTuple):
    """MAIL FROM: the null sender is "". `size_bytes` is 0 when the client declared none."""

    sender: str
    size_bytes: int = 0
    options: MailOptions = NO_OPTIONS


class RecipientCommand(NamedTuple):
    """RCPT TO."""

    address: str
    options: RecipientOptions = NOTHING_ASKED


def parse_mail(argument: bytes, allowed: frozenset[str], moment: Moment) -> MailCommand:
    """The argument of MAIL, beginning with `FROM:`; `allowed` parameters may follow. Raises Refused."""
    return parse_bare_mail(argument) or _parse_mail(argument, allowed, moment)


def parse_bare_mail(argument: bytes) -> MailCommand | None:
    """The same where no parameters follow, whatever the moment; None: some do. Raises Refused."""
    if argument.endswith(b">") and not (b" " in argument or b"\t" in argument):
        return _without_parameters(argument)
    return None


@lru_cache(4096)  # who has much to send says it each time
def _without_parameters(argument: bytes) -> MailCommand:
    return _parse_mail(argument, frozenset(), Moment())


def _parse_mail(argument: bytes, allowed: frozenset[str], moment: Moment) -> MailCommand:
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
    command = MailCommand(sender, *mail_parameters(rest, allowed, moment)) if rest else MailCommand(sender)
    if not sender.isascii() and not command.options.utf8:
        raise Refused(replies.NEEDS_SMTPUTF8)
    return command


@lru_cache(4096)
def parse_rcpt(argument: bytes, allowed: frozenset[str], *, utf8: bool = False) -> RecipientCommand:
    """The argument of RCPT, beginning with `TO:`; `postmaster` may lack a domain. Raises Refused."""
    text = _after(b"TO:", argument, replies.BAD_RECIPIENT)
    match = _path(text, replies.BAD_RECIPIENT)
    address = _address(match, replies.BAD_RECIPIENT)
    if match["domain"] is None and address.lower() != "postmaster":  # RFC 5321 4.5.1
        raise Refused(replies.BAD_RECIPIENT)
    rest = match["rest"]
    options = recipient_parameters(rest, allowed, utf8) if rest and rest.strip() else NOTHING_ASKED
    if not utf8 and not address.isascii():
        raise Refused(replies.NEEDS_SMTPUTF8)
    return RecipientCommand(address, options)


def parse_address(argument: bytes) -> str:
    """The argument of VRFY where it is an address, with or without angle brackets; "" if it is none."""
    text = _decoded(argument.strip(), replies.BAD_SYNTAX)
    try:
        match = _path(text if text.startswith("<") else f"<{text}>", replies.BAD_RECIPIENT)
        return _address(match, replies.BAD_RECIPIENT)
    except Refused:
        return ""


def parse_host(argument: bytes) -> str:
    """The name that a client gives itself in EHLO, HELO or LHLO; fit to stand in a Received line. Raises Refused."""
    host = _decoded(argument.strip(), replies.NEED_HOST)
    if not _HOST.fullmatch(host) or not _is_domain(host):
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
    if not address.isascii():
        address = unicodedata.normalize("NFC", address)  # RFC 6532 3.1: one spelling in the log
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
