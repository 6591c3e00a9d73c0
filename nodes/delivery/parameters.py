"""MAIL and RCPT as the peer's extensions allow, or why the message can not go there at all; no I/O.

What a sender asked for and a peer does not offer is either left out (RFC 3461 5.2.2: the DSN is then ours to send) or
is a permanent failure of the message at this peer: it never goes out as something else than what it is.
"""

from __future__ import annotations

import re

import idna

from actors.mail_options import MailOptions, RecipientOptions

Features = dict[str, tuple[str, ...]]

_XTEXT = re.compile(r"[^!-*,-<>-~]")  # RFC 3461 4: printable but "+" and "="
_MARKS = re.compile(r"[\x00-\x20+=\\\x7f]")  # RFC 6533 3: what utf-8-addr-unitext escapes
_UNICODE_AND_MARKS = re.compile(r"[^!-*,-<>-\[\]-~]")  # and utf-8-addr-xtext


class Unsendable(Exception):
    """The message can not go to this peer. `code` and `enhanced` are as a server would have said it."""

    def __init__(self, code: int, enhanced: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.enhanced = enhanced


def mail_line(sender: str, size: int, options: MailOptions, offered: Features, *, utf8: bool, now_ms: int) -> bytes:
    """MAIL FROM with its parameters. Raises Unsendable. `utf8`: the message or an address needs SMTPUTF8."""
    if "SIZE" in offered:
        _check_size(size, size_limit(offered))
    words = [f"MAIL FROM:<{sender}>", *_body(options, offered)]
    if "SIZE" in offered:
        words.append(f"SIZE={size}")
    if utf8:
        if "SMTPUTF8" not in offered:
            raise Unsendable(553, "5.6.7", "the message needs SMTPUTF8, which the server does not offer")
        words.append("SMTPUTF8")
    if options.require_tls:
        if "REQUIRETLS" in offered:
            words.append("REQUIRETLS")
        elif sender:  # a report is not lost for it (RFC 8689 5)
            raise Unsendable(550, "5.7.30", "the message requires TLS all the way, which the server does not offer")
    if "DSN" in offered:
        words += [f"RET={options.ret}"] if options.ret else []
        words += [f"ENVID={xtext(options.envid)}"] if options.envid else []
    if options.priority and "MT-PRIORITY" in offered:
        words.append(f"MT-PRIORITY={options.priority}")
    if options.deliver_by_ms:
        words += _deliver_by(options, offered, now_ms)
    return " ".join(words).encode()


def rcpt_line(address: str, options: RecipientOptions, offered: Features, *, utf8: bool) -> bytes:
    """RCPT TO with its parameters (RFC 3461 4)."""
    words = [f"RCPT TO:<{address}>"]
    if "DSN" in offered:
        words += [f"NOTIFY={','.join(options.notify)}"] if options.notify else []
        words += [f"ORCPT={_orcpt(options.orcpt, utf8)}"] if options.orcpt else []
    return " ".join(words).encode()


def xtext(value: str) -> str:
    """RFC 3461 4: a value as a parameter may carry it."""
    return _XTEXT.sub(lambda found: "".join(f"+{byte:02X}" for byte in found[0].encode()), value)


def ascii_address(address: str) -> str | None:
    """The address without SMTPUTF8, its domain in A-labels; None where that can not be (RFC 6531 3.7)."""
    local, at, domain = address.rpartition("@")
    if not local.isascii():
        return None
    if domain.isascii():
        return address
    try:
        return local + at + idna.encode(domain, uts46=True).decode()
    except idna.IDNAError:
        return None


def is_sendable(address: str) -> bool:
    """Nothing in it that would end the command or begin another; within quotes, < and > are characters like others."""
    local, _, domain = address.rpartition("@")
    bare = domain if len(local) > 1 and local[0] == local[-1] == '"' else address
    return not any(ord(one) < 0x20 or one == "\x7f" for one in address) and not set("<>") & set(bare)


def size_limit(offered: Features) -> int:
    """The largest message that the peer says it takes (RFC 1870 4), 0 if it does not say."""
    limit = next(iter(offered.get("SIZE", ())), "0")
    return int(limit) if limit.isascii() and limit.isdigit() and len(limit) < 20 else 0


def most_recipients(offered: Features) -> int:
    """How many recipients a transaction may have (RFC 9422 RCPTMAX); RFC 5321 4.5.3.1.8 promises 100."""
    return _limit(offered, "RCPTMAX") or 100


def most_messages(offered: Features) -> int:
    """How many transactions a connection may have (RFC 9422 MAILMAX), 0 if the peer does not say."""
    return _limit(offered, "MAILMAX")


def _limit(offered: Features, name: str) -> int:
    for parameter in offered.get("LIMITS", ()):
        key, _, value = parameter.partition("=")
        if key == name and value.isascii() and value.isdigit() and 0 < len(value) < 7:
            return int(value)
    return 0


def _check_size(size: int, limit: int) -> None:
    if limit and size > limit:
        raise Unsendable(552, "5.3.4", f"the message has {size} bytes, and the server takes {limit}")


def _body(options: MailOptions, offered: Features) -> list[str]:
    if options.body == "BINARYMIME":
        if "BINARYMIME" not in offered or "CHUNKING" not in offered:
            raise Unsendable(554, "5.6.3", "the message is binary, which the server does not take")
        return ["BODY=BINARYMIME"]
    return ["BODY=8BITMIME"] if options.body == "8BITMIME" and "8BITMIME" in offered else []


def _deliver_by(options: MailOptions, offered: Features, now_ms: int) -> list[str]:
    """RFC 2852 4.1: the seconds that are left, for a peer that knows what to do with them."""
    if "DELIVERBY" not in offered:
        if options.by_mode == "R":
            raise Unsendable(554, "5.3.3", "the message is to be returned if late, and the server does not do that")
        return []
    left_s = (options.deliver_by_ms - now_ms) // 1000
    least = next(iter(offered["DELIVERBY"]), "")
    if options.by_mode == "R" and least.isascii() and least.isdigit() and left_s < int(least[:9]):
        raise Unsendable(554, "5.4.7", f"the server does not promise delivery within {left_s} seconds")
    return [f"BY={left_s};{options.by_mode or 'N'}{'T' if options.by_trace else ''}"]


def _orcpt(orcpt: str, utf8: bool) -> str:
    """RFC 3461 4.2; RFC 6533 3: without SMTPUTF8 a non-ASCII address is escaped, with it stands as it is."""
    kind, _, address = orcpt.partition(";")
    if address.isascii():
        return f"{kind};{xtext(address)}"
    return "utf-8;" + (_MARKS if utf8 else _UNICODE_AND_MARKS).sub(_embedded, address)


def _embedded(found: re.Match[str]) -> str:
    return f"\\x{{{ord(found[0]):X}}}"
