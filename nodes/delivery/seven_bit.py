"""A message with 8-bit or binary content as one of 7 bits, for a server that lacks 8BITMIME or BINARYMIME (RFC 6152 3).

Text becomes quoted-printable, anything else base64; what has 7 bits already stays as it is, byte for byte. What can not
be converted without saying something else is not: headers outside ASCII, and what is signed as a whole (RFC 1847 2.1).
Pure; the transformation is told in a header line in front.
"""

from __future__ import annotations

import base64
import binascii
import re

from nodes.mime import header
from nodes.mime.structure import Part, parse

_BARE_LF = re.compile(rb"(?<!\r)\n")
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n|\0")
_SEVEN_BITS = (b"7bit", b"quoted-printable", b"base64")
_UNKNOWN_TEXT = b"Content-Type: text/plain; charset=unknown-8bit\r\n"  # RFC 1428 3


class Unconvertible(Exception):
    """The message can not be converted; the text says why."""


def to_seven_bits(data: bytes, hostname: str) -> bytes:
    """The whole message. Raises Unconvertible."""
    root = parse(data)
    return f"X-MIME-Autoconverted: to 7bit by {hostname}\r\n".encode() + _entity(data, root, whole=True)


def is_seven_bits(data: bytes) -> bool:
    """Whether nothing in it needs conversion: ASCII in lines (RFC 2045 2.7)."""
    return data.isascii() and _BARE.search(data) is None


def _entity(data: bytes, part: Part, *, whole: bool = False) -> bytes:
    if is_seven_bits(data[part.start : part.end]):
        return data[part.start : part.end]
    if not data[part.start : part.body].isascii():
        raise Unconvertible("a header has characters outside ASCII")
    if part.is_multipart:
        return _with_encoding(data, part, b"7bit") + _children(data, part)
    if part.message is not None:
        return _with_encoding(data, part, b"7bit") + _entity(data, part.message)
    return _leaf(data, part, whole)


def _children(data: bytes, part: Part) -> bytes:
    """Delimiters and what stands around the parts stay as they are."""
    if part.media.subtype == b"signed":
        raise Unconvertible("a part is signed, and its signature would not hold")
    pieces, at = [], part.body
    for child in part.children:
        if child.start == child.body:
            raise Unconvertible("a multipart has no parts")
        pieces += [_between(data, at, child.start), _entity(data, child)]
        at = child.end
    return b"".join([*pieces, _between(data, at, part.end)])


def _between(data: bytes, start: int, end: int) -> bytes:
    if not is_seven_bits(data[start:end]):
        raise Unconvertible("there is 8-bit text outside the parts of a multipart")
    return data[start:end]


def _leaf(data: bytes, part: Part, whole: bool) -> bytes:
    if part.media.type == b"message":
        raise Unconvertible(
            f"a part of type message/{part.media.subtype.decode('ascii', 'replace')} can not be encoded"
        )
    encoding, body = _encoding_of(data, part), data[part.body : part.end]
    if encoding in _SEVEN_BITS[1:]:
        raise Unconvertible(f"a part has 8-bit content though it says that it is {encoding.decode('ascii', 'replace')}")
    is_lines = _BARE.search(body) is None
    if part.media.type == b"text" and is_lines:
        return _with_encoding(data, part, b"quoted-printable", whole) + _quoted_printable(body)
    return _with_encoding(data, part, b"base64", whole) + base64.encodebytes(body).replace(b"\n", b"\r\n")


def _quoted_printable(body: bytes) -> bytes:
    return _BARE_LF.sub(b"\r\n", binascii.b2a_qp(body, istext=True))


def _encoding_of(data: bytes, part: Part) -> bytes:
    found = header.first(data, part.fields, b"content-transfer-encoding") or b""
    return found.strip().lower()


def _with_encoding(data: bytes, part: Part, encoding: bytes, whole: bool = False) -> bytes:
    """The part's header with this encoding in place of what it says; `whole`: it is the message's own."""
    end = part.body - (2 if data.endswith(b"\r\n", part.start, part.body) else 1)
    kept = [data[part.start : end]]
    for one in reversed([one for one in part.fields if one.name == b"content-transfer-encoding"]):
        head = kept.pop()
        kept += [head[: one.start - part.start] + head[one.end - part.start :]]
    lines = kept[0] + b"Content-Transfer-Encoding: %b\r\n" % encoding
    names = {one.name for one in part.fields}
    if b"content-type" not in names and not part.is_multipart and part.message is None:
        lines += _UNKNOWN_TEXT
    if whole and b"mime-version" not in names:
        lines += b"MIME-Version: 1.0\r\n"
    return lines + b"\r\n"
