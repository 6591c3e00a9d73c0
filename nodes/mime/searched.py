"""The text of a message as a search sees it: decoded, and folded so that case does not count.

SEARCH compares with this text, and the full-text index is made from it and from nothing else; so what the index
leaves out can not match. Whoever changes what is found here raises VERSION, and every index is made anew.
"""

import re
import unicodedata
from collections.abc import Iterator

from nodes.mime import header
from nodes.mime.header import Field
from nodes.mime.html_text import html_text
from nodes.mime.structure import Part
from nodes.mime.text import decode_header, leaf_parts, part_text

VERSION = 1

_CONTINUED = re.compile(rb"\r?\n(?=[ \t])")


def folded(text: str) -> str:
    """Without case (Unicode's full folding), composed, and free of what UTF-8 can not hold."""
    if text.isascii():
        return text.lower()
    text = unicodedata.normalize("NFC", text.casefold())
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # half a surrogate pair, from a charset that lets it through
        text = text.encode("utf-8", "replace").decode("utf-8")
    return text


def field_text(data: bytes, field: Field) -> str:
    """A field's value."""
    return folded(decode_header(header.value_of(data, field)))


def header_text(data: bytes, start: int, end: int) -> str:
    """A header as lines of `name: value`; each value stands in it as `field_text` has it."""
    lines = _CONTINUED.sub(b"", data[start:end]).replace(b"\r\n", b"\n")
    plain = lines.isascii() and b"=?" not in lines and b"\r" not in lines and b"\x00" not in lines
    if plain and len(lines) <= header.FIELD_VALUE_LIMIT_BYTES:
        return lines.decode("ascii").lower()
    found = header.fields(data, start, end)
    return "\n".join(f"{field.name.decode('latin-1')}: {field_text(data, field)}" for field in found)


def header_texts(data: bytes, root: Part) -> Iterator[str]:
    """The message's own header, then those of its parts and of the messages attached to it."""
    for part in _with_headers(root):
        yield header_text(data, part.start, part.body)


def _with_headers(part: Part) -> Iterator[Part]:
    yield part
    for child in part.children:
        if child.start < child.body:
            yield from _with_headers(child)
    if part.message is not None:
        yield from _with_headers(part.message)


def body_texts(data: bytes, root: Part) -> Iterator[str]:
    """The texts of a message, one by one: of HTML its source and what a reader sees of it."""
    for part in leaf_parts(root):
        found = part_text(data, part, header.first(data, part.fields, b"content-transfer-encoding"))
        if found is None:
            continue
        yield folded(found)
        if part.media.subtype == b"html":
            yield folded(html_text(found))
