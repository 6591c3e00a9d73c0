"""What a message may not contain: bare line ends, NULs, too much header, traces of a loop (RFC 5321 2.3.8, 6.3).

Pure: the message in, the reply that refuses it out. Passing over octets in bulk is far cheaper than looking at lines,
so each test does that first and looks closely only where something is suspicious.
"""

from __future__ import annotations

import re

from nodes.config.smtp import SmtpSection
from nodes.smtp import replies

LINE_OCTETS = 998  # RFC 5321 4.5.3.1.6, without CRLF

_ORDINARY = bytes(octet for octet in range(256) if octet not in b"\0\r\n")
_LONE_DOT = re.compile(rb"(?:(?<!\r)\n|\r)\.[\r\n]|\n\.(?:\n|\r(?!\n))")  # beside a bare CR or LF
_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*")
_COUNTED = re.compile(rb"^[^ \t\n][^:\n]*:", re.MULTILINE)  # whatever nodes/mime/header.py may take for a field
_LONG_LINE = re.compile(rb"[^\n]{%d}" % (LINE_OCTETS + 2))


def fault(data: bytes, rules: SmtpSection, *, utf8: bool, binary: bool) -> bytes | None:
    """The reply to a message that is not to be taken; None: nothing is wrong with it.

    `binary`: it was declared BINARYMIME, where CR, LF and NUL are octets like others (RFC 3030 3).
    """
    if not binary:
        reply = _octets_fault(data, rules)
        if reply is not None:
            return reply
    return _header_fault(data, rules, utf8)


def _octets_fault(data: bytes, rules: SmtpSection) -> bytes | None:
    marks = data.translate(None, _ORDINARY)
    ends = data.count(b"\r\n")
    if marks != b"\r\n" * ends:  # as many as there are, and nothing between them: so none is bare
        reply = _strange_octets_fault(data, rules)
        if reply is not None:
            return reply
    if rules.long_lines == "refuse" and _LONG_LINE.search(data):
        return replies.CONTENT_LINE_TOO_LONG
    return None


def _strange_octets_fault(data: bytes, rules: SmtpSection) -> bytes | None:
    ends = data.count(b"\r\n")
    if data.count(b"\n") != ends or data.count(b"\r") != ends:
        if rules.bare_line_ends == "refuse":
            return replies.BARE_LINE_END
        if _LONE_DOT.search(data):
            return replies.AMBIGUOUS_END
    if rules.nul_octets == "refuse" and b"\0" in data:
        return replies.NUL_OCTET
    return None


def _header_fault(data: bytes, rules: SmtpSection, utf8: bool) -> bytes | None:
    header = header_of(data, rules.header_bytes)
    if len(header) > rules.header_bytes:
        return replies.HEADER_TOO_BIG
    if header.count(b"\n") >= rules.header_fields and len(_COUNTED.findall(header)) > rules.header_fields:
        return replies.TOO_MANY_FIELDS
    if rules.eight_bit_headers == "refuse" and not utf8 and not header.isascii():
        return replies.EIGHT_BIT_HEADER
    if _received_lines(header) > rules.received_lines:
        return replies.MAIL_LOOP
    return None


def header_of(data: bytes, limit_bytes: int) -> bytes:
    """The header of a message with its last CRLF; of a longer one than `limit_bytes`, so much and a little more."""
    end = data.find(b"\r\n\r\n", 0, limit_bytes + 4)
    if end >= 0:
        return data[: end + 2]
    # no empty line: what goes on as a header does
    at = 0
    while at <= limit_bytes and (field := _FIELD.match(data, at)):
        at = field.end()
    return data[: min(at, limit_bytes + 1)]


def _received_lines(header: bytes) -> int:
    header = header.lower()
    return header.count(b"\nreceived:") + header.startswith(b"received:")
