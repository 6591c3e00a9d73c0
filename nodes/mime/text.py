"""Decoded text of headers and parts, for searching: encoded words (RFC 2047), transfer encodings, character sets.

Lossy by design (what can not be decoded becomes U+FFFD) and bounded; never used to produce what a client fetches.
"""

import base64
import binascii
import codecs
import quopri
import re
from collections.abc import Iterator

from nodes.mime.parameters import parameter
from nodes.mime.structure import Part

_ENCODED_WORD = re.compile(rb"=\?([^?\s]{1,60})\?([bBqQ])\?([^?]*)\?=")
_BETWEEN_WORDS = re.compile(rb"(\?=)\s+(=\?[^?\s]{1,60}\?[bBqQ]\?)")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]")

# Text codecs whose cost grows with the square of the input, or that are no character set of mail.
_REFUSED_CODECS = frozenset({"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined"})

# More text than this in one part is not searched.
TEXT_LIMIT_BYTES = 8 * 1024 * 1024


def decode_charset(data: bytes, charset: bytes | None) -> str:
    """`data` as text: in its charset if that is known, else as UTF-8, else byte for byte."""
    name = (charset or b"utf-8").decode("ascii", "replace").partition("*")[0]
    try:
        codec = codecs.lookup(name)
        if codec.name not in _REFUSED_CODECS:
            return data.decode(codec.name, "replace")
    except (LookupError, ValueError):
        pass
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def decode_header(value: bytes) -> str:
    """A field's value with its encoded words decoded (RFC 2047 6); raw 8-bit text is taken as UTF-8."""
    if b"=?" not in value:
        return decode_charset(value, None)
    value = _BETWEEN_WORDS.sub(rb"\1\2", value)
    pieces = []
    at = 0
    for word in _ENCODED_WORD.finditer(value):
        pieces.append(decode_charset(value[at : word.start()], None))
        pieces.append(decode_charset(_word_bytes(word[2], word[3]), word[1]))
        at = word.end()
    pieces.append(decode_charset(value[at:], None))
    return "".join(pieces)


def _word_bytes(encoding: bytes, text: bytes) -> bytes:
    if encoding in b"bB":
        return _from_base64(text)
    return quopri.decodestring(text, header=True)


def _from_base64(text: bytes) -> bytes:
    clean = _NOT_BASE64.sub(b"", text)
    try:
        return base64.b64decode(clean + b"=" * (-len(clean) % 4))
    except binascii.Error:
        return base64.b64decode(clean[: len(clean) // 4 * 4])


def transfer_decoded(data: bytes, encoding: bytes | None) -> bytes:
    """The content behind a Content-Transfer-Encoding (RFC 2045 6); unknown encodings give the bytes as they are."""
    match (encoding or b"").strip().lower():
        case b"base64":
            return _from_base64(data)
        case b"quoted-printable":
            return quopri.decodestring(data)
        case _:
            return data


def leaf_parts(part: Part) -> Iterator[Part]:
    """The parts without parts, in order, those inside attached messages too."""
    if part.is_multipart:
        for child in part.children:
            yield from leaf_parts(child)
    elif part.message is not None:
        yield from leaf_parts(part.message)
    else:
        yield part


def part_text(data: bytes, part: Part, encoding: bytes | None) -> str | None:
    """The decoded text of a text part, None for other parts."""
    if part.media.type != b"text":
        return None
    raw = data[part.body : min(part.end, part.body + TEXT_LIMIT_BYTES)]
    return decode_charset(transfer_decoded(raw, encoding), parameter(part.media.parameters, b"charset"))
