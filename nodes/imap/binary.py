"""A message's parts behind their Content-Transfer-Encoding (RFC 3516): exact, or refused. Pure.

What SEARCH reads is decoded leniently in nodes/mime/text.py; what a client takes for the sender's bytes must be them.
"""

import binascii
import quopri
import string

from nodes.imap.content_commands import Binary
from nodes.imap.errors import Refusal
from nodes.imap.render import literal
from nodes.mime import header, structure
from nodes.mime.structure import Part

_IDENTITY = (b"", b"7bit", b"8bit", b"binary")
_BLANKS = b"\r\n\t "
_BASE64_DIGITS = (string.ascii_letters + string.digits + "+/").encode()

Kept = dict[int, bytes]  # decoded parts of one message, by where they begin: together no larger than it


def render_binary(item: Binary, data: bytes, root: Part, kept: Kept) -> bytes:
    """The item as FETCH answers it. Raises Refusal with UNKNOWN-CTE (RFC 3516 4.3)."""
    label = b"[" + b".".join(b"%d" % number for number in item.numbers) + b"]"
    found = decoded(data, root, item.numbers, kept)
    if item.size_only:
        return b"BINARY.SIZE%b %d" % (label, 0 if found is None else len(found))
    if item.partial is not None:
        label += b"<%d>" % item.partial[0]
        found = None if found is None else found[item.partial[0] :][: item.partial[1]]
    if found is None:
        return b"BINARY%b NIL" % label
    value = bytes(found)
    return b"BINARY%b %b" % (label, b"~" + literal(value) if b"\x00" in value else literal(value))


def decoded(data: bytes, root: Part, numbers: tuple[int, ...], kept: Kept) -> memoryview | None:
    """The part's bytes; of no number the whole message, as it is; None where there is no such part."""
    part = structure.descend(root, numbers) if numbers else root
    if part is None:
        return None
    if not numbers or _is_plain(data, part):
        return memoryview(data)[part.body if numbers else 0 : part.end if numbers else len(data)]
    if part.body not in kept:  # once, however many pieces of it are asked for
        kept[part.body] = _decoded(data, part)
    return memoryview(kept[part.body])


def _encoding(data: bytes, part: Part) -> bytes:
    return (header.first(data, part.fields, b"content-transfer-encoding") or b"").strip().lower()


def _is_plain(data: bytes, part: Part) -> bool:
    return part.is_multipart or part.message is not None or _encoding(data, part) in _IDENTITY


def _decoded(data: bytes, part: Part) -> bytes:
    raw = data[part.body : part.end]
    encoding = _encoding(data, part)
    if encoding == b"quoted-printable":
        return quopri.decodestring(raw)
    if encoding == b"base64":
        text = raw.translate(None, _BLANKS)
        if _is_base64(text):
            return binascii.a2b_base64(text)
    raise Refusal("a part has a transfer encoding that can not be undone", "UNKNOWN-CTE")


def _is_base64(text: bytes) -> bool:
    """Whether it is whole groups of four digits, the last one padded perhaps: at memory speed, however long it is."""
    digits = text.rstrip(b"=")
    return len(text) % 4 == 0 and len(text) - len(digits) <= 2 and not digits.translate(None, _BASE64_DIGITS)
