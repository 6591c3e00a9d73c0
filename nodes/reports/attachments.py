"""The documents inside a report's message, unpacked within limits: none of them is trusted to say how large it is."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator

from nodes.mime import header
from nodes.mime.structure import Part, parse
from nodes.mime.text import transfer_decoded

MOST_MESSAGE_BYTES = 10 * 1024 * 1024
MOST_UNPACKED_BYTES = 8 * 1024 * 1024
MOST_PARTS = 20

_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"


class Unreadable(Exception):
    """It is no report, or one that is larger than reports are."""


def leaves(data: bytes) -> Iterator[tuple[Part, bytes]]:
    """The first parts of a message that have no parts, with their contents decoded; attached messages stay whole.

    Raises Unreadable.
    """
    if len(data) > MOST_MESSAGE_BYTES:
        raise Unreadable("the message is larger than a report may be")
    for count, part in enumerate(_leaf_parts(parse(data))):
        if count == MOST_PARTS:
            return
        encoding = header.first(data, part.fields, b"content-transfer-encoding")
        yield part, transfer_decoded(data[part.body : part.end], encoding)


def _leaf_parts(part: Part) -> Iterator[Part]:
    if not part.is_multipart:
        yield part
    for child in part.children:
        yield from _leaf_parts(child)


def unpacked(content: bytes) -> bytes:
    """What gzip or zip has packed; anything else as it is. Raises Unreadable for more than MOST_UNPACKED_BYTES."""
    try:
        if content.startswith(_GZIP):
            return _limited(zlib.decompressobj(wbits=31).decompress(content, MOST_UNPACKED_BYTES + 1))
        if content.startswith(_ZIP):
            return _unzipped(content)
    except (zlib.error, zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError, OSError) as error:
        raise Unreadable(f"it can not be unpacked: {error}") from None
    return _limited(content)


def _unzipped(content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        if len(members) != 1:
            raise Unreadable("a report is one file")
        with archive.open(members[0]) as member:
            return _limited(member.read(MOST_UNPACKED_BYTES + 1))


def _limited(content: bytes) -> bytes:
    if len(content) > MOST_UNPACKED_BYTES:
        raise Unreadable("it is larger unpacked than a report may be")
    return content
