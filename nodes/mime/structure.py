"""The tree of a message's parts, as byte ranges into the message.

`parse` finds every part once, by scanning for boundary lines inside the range of the part around them; so an inner
multipart that is never closed ends where the outer boundary says (RFC 2046 5.1.2). Total and bounded: depth and number
of parts are limited, and what lies beyond the limits stays one opaque part. Nothing is decoded here.
"""

import re
from dataclasses import dataclass, field

from nodes.mime import header
from nodes.mime.header import Field
from nodes.mime.parameters import MediaType, media_type, parameter

DEPTH_LIMIT = 40
PARTS_LIMIT = 10_000

_TEXT_PLAIN = MediaType(b"text", b"plain", ((b"charset", b"us-ascii"),))
_MESSAGE = MediaType(b"message", b"rfc822", ())
_AFTER_BOUNDARY = re.compile(rb"(--)?[ \t]*(?:\r?\n|\Z)")


@dataclass(slots=True)
class Part:
    """One entity: header from `start` to `body`, body from `body` to `end` (offsets into the message).

    `children` are the parts of a multipart (never empty there); `message` is the message inside a message/rfc822.
    """

    media: MediaType
    start: int
    body: int
    end: int
    fields: list[Field]
    children: list["Part"] = field(default_factory=list)
    message: "Part | None" = None

    @property
    def is_multipart(self) -> bool:
        return bool(self.children)

    @property
    def inner_headers_bytes(self) -> int:
        """How much header the messages inside this one have, at any depth."""
        inner = self.message
        found = 0 if inner is None else inner.body - inner.start + inner.inner_headers_bytes
        return found + sum(child.inner_headers_bytes for child in self.children)


class _Budget:
    """How many more parts may be made for this message."""

    def __init__(self) -> None:
        self.left = PARTS_LIMIT


def parse(data: bytes, start: int = 0, end: int | None = None) -> Part:
    """The whole message as a tree. Takes any bytes; never raises."""
    return _entity(data, start, len(data) if end is None else end, _TEXT_PLAIN, 0, _Budget())


def _entity(data: bytes, start: int, end: int, default: MediaType, depth: int, budget: _Budget) -> Part:
    body = header.header_end(data, start, end)
    found = header.fields(data, start, body)
    media = media_type(header.first(data, found, b"content-type")) or default
    part = Part(media, start, body, end, found)
    budget.left -= 1
    if depth < DEPTH_LIMIT and budget.left > 0:
        if media.type == b"multipart":
            part.children = _children(data, part, depth, budget)
        elif media[:2] == _MESSAGE[:2]:
            part.message = _entity(data, body, end, _TEXT_PLAIN, depth + 1, budget)
    elif media.type == b"multipart" or media[:2] == _MESSAGE[:2]:
        part.media = MediaType(b"application", b"octet-stream", ())
    return part


def _children(data: bytes, part: Part, depth: int, budget: _Budget) -> list[Part]:
    default = _MESSAGE if part.media.subtype == b"digest" else _TEXT_PLAIN
    boundary = parameter(part.media.parameters, b"boundary")
    ranges = _ranges(data, part.body, part.end, boundary, budget.left) if boundary else []
    if not ranges:
        # RFC 3501's grammar knows no multipart without parts; show what is there as one piece of text.
        return [Part(_TEXT_PLAIN, part.body, part.body, part.end, [])]
    return [_entity(data, first, last, default, depth + 1, budget) for first, last in ranges]


def _ranges(data: bytes, start: int, end: int, boundary: bytes, limit: int) -> list[tuple[int, int]]:
    """Where the parts lie: after each delimiter line, up to the line break in front of the next one."""
    delimiter = b"\n--" + boundary  # with the line's beginning: a body of nothing but hyphens is no million of finds
    ranges: list[tuple[int, int]] = []
    opened = -1
    at = data.find(delimiter, start - 1, end)  # a multipart's body has the header's empty line in front of it
    while at >= 0:
        after = _AFTER_BOUNDARY.match(data, at + len(delimiter), end)
        if after is None:
            at = data.find(delimiter, at + 1, end)
            continue
        if opened >= 0:
            ranges.append((opened, _before_line_break(data, opened, at + 1)))
        opened = -1 if after[1] else after.end()
        if after[1] or len(ranges) >= limit:
            break
        at = data.find(delimiter, after.end() - 1, end)
    if opened >= 0:
        ranges.append((opened, end))
    return ranges


def _before_line_break(data: bytes, first: int, at: int) -> int:
    """The line break in front of a delimiter is the delimiter's (RFC 2046 5.1.1)."""
    if at - 1 >= first and data[at - 1] == 0x0A:
        at -= 1
        if at - 1 >= first and data[at - 1] == 0x0D:
            at -= 1
    return at


def descend(root: Part, numbers: tuple[int, ...]) -> Part | None:
    """The part that RFC 3501 6.4.5 calls by these numbers, None where there is none.

    Part 1 of what is not multipart is that thing's own body; a message/rfc822 counts as the message inside it.
    """
    part = root
    inside = True  # whether `part` is a message whose children are addressed directly
    for number in numbers:
        if not inside and part.message is not None:
            part = part.message
        elif not inside and not part.is_multipart:
            return None
        if part.is_multipart:
            if not 1 <= number <= len(part.children):
                return None
            part = part.children[number - 1]
        elif number != 1:
            return None
        inside = False
    return part
