"""Rendering FETCH responses (RFC 3501 7.4.2): a plan made once per command, then applied to each message.

A message's bytes are its trace headers followed by the body as it came; every section is cut from them by offset. The
structure of a message never changes, so ENVELOPE and BODYSTRUCTURE are kept, rendered, under the body's digest.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, Literal, assert_never

from actors.mailbox import Message
from nodes.imap import render, structure_text
from nodes.imap.binary import Kept, render_binary
from nodes.imap.commands import Attribute, FetchItem, Section
from nodes.imap.content_commands import Binary, Preview
from nodes.imap.errors import Refusal
from nodes.imap.object_ids import email_id, thread_id
from nodes.imap.structures import StructureCache
from nodes.mime import header, structure
from nodes.mime.preview import preview
from nodes.mime.structure import Part

TOLD_TIMES = 4
TOLD_AT_LEAST_BYTES = 4 * 1024 * 1024  # BODYSTRUCTURE of ten thousand empty parts is larger than they are
SMALL_BYTES = 64 * 1024
LARGE_BYTES = 256 * 1024  # parts with long headers, or forty multiparts one inside the other, are slow to go through
MANY_PARTS = 500
LONG_HEADER_BYTES = 16 * 1024  # a header of 250 KiB can name sixty thousand addresses, which take seconds to tell apart

_STRUCTURES: Final[tuple[str, ...]] = ("ENVELOPE", "BODYSTRUCTURE", "BODY", "THREADID")
_LABELS: Final[dict[str, bytes]] = {name: name.encode("ascii") for name in _STRUCTURES}
Derived = Attribute | Literal["PREVIEW"]
_CONSTANTS = frozenset(("UID", "INTERNALDATE", "RFC822.SIZE", "EMAILID", "SAVEDATE", *_STRUCTURES))


class MessageText:
    """One message's bytes, with its structure found when first asked for."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.decoded: Kept = {}
        self._root: Part | None = None
        self._headers: dict[tuple[int, int], header.Lines | None] = {}
        self._derived: dict[Derived, bytes] = {}

    def takes_long(self, wanted: Iterable[Derived]) -> bool:
        """Whether finding its parts, and what is wanted of them, would keep the other sessions waiting."""
        if len(self.data) < LONG_HEADER_BYTES or (
            self._root is not None and all(one in self._derived for one in wanted)
        ):
            return False
        if len(self.data) >= LARGE_BYTES or self.data.count(b"\n--") >= MANY_PARTS:
            return True
        long = header.header_end(self.data, 0, len(self.data)) >= LONG_HEADER_BYTES
        return long or self.root.inner_headers_bytes >= LONG_HEADER_BYTES

    async def take_apart(self, wanted: Iterable[Derived]) -> None:
        """In a thread: its parts, and what is wanted of them."""
        await asyncio.to_thread(lambda: [self.root, *map(self.derived, wanted)])

    @property
    def root(self) -> Part:
        if self._root is None:
            self._root = structure.parse(self.data)
        return self._root

    def section(self, wanted: Section) -> bytes | None:
        """The bytes of BODY[...], cut to the partial; None (NIL) where there is no such part."""
        found = self._range(wanted)
        if found is None:
            return None
        start, end = found
        if wanted.kind.startswith("HEADER.FIELDS"):
            text = self._fields(start, end, wanted) + b"\r\n"
            return text if wanted.partial is None else text[wanted.partial[0] :][: wanted.partial[1]]
        if wanted.partial is not None:
            start = min(end, start + wanted.partial[0])
            end = min(end, start + wanted.partial[1])
        return self.data[start:end]

    def _fields(self, start: int, end: int, wanted: Section) -> bytes:
        """A header that is asked for fields a second time is taken apart once for all that follow."""
        keep, place = wanted.kind == "HEADER.FIELDS", (start, end)
        if place not in self._headers:
            self._headers[place] = None
            return header.selected_lines(self.data, start, end, wanted.fields, keep)
        lines = self._headers[place]
        if lines is None:
            lines = self._headers[place] = header.Lines(self.data, start, end)
        return lines.of(wanted.fields) if keep else lines.without(wanted.fields)

    def _range(self, wanted: Section) -> tuple[int, int] | None:
        """First and last offset; for HEADER.FIELDS that of the header."""
        data = self.data
        if not wanted.numbers:
            if wanted.kind == "":
                return 0, len(data)
            body = header.header_end(data, 0, len(data))
            return (body, len(data)) if wanted.kind == "TEXT" else (0, body)
        part = structure.descend(self.root, wanted.numbers)
        if part is None:
            return None
        if wanted.kind == "":
            return part.body, part.end
        if wanted.kind == "MIME":
            return part.start, part.body
        inner = part.message  # RFC 3501 6.4.5: HEADER and TEXT are those of a message/rfc822
        if inner is None:
            return None
        return (inner.body, inner.end) if wanted.kind == "TEXT" else (inner.start, inner.body)

    @property
    def is_small(self) -> bool:
        return len(self.data) <= SMALL_BYTES

    def derived(self, wanted: Derived) -> bytes:
        """What is made of its parts, rendered."""
        told = self._derived.get(wanted)
        if told is None:
            if wanted == "ENVELOPE":
                told = structure_text.envelope(self.data, self.root)
            elif wanted == "PREVIEW":
                told = render.string(preview(self.data, self.root).encode("utf-8", "replace"))
            else:
                told = structure_text.body_structure(self.data, self.root, extended=wanted == "BODYSTRUCTURE")
            self._derived[wanted] = told
        return told


Piece = Callable[[Message, MessageText | None, bool], bytes]


class Plan:
    """What one FETCH asks for, ready to be applied to message after message."""

    def __init__(
        self, items: tuple[FetchItem, ...], tenant: bytes, cache: StructureCache, uidonly: bool = False
    ) -> None:
        self.items = items
        self.uidonly = uidonly
        self._tenant = tenant
        self._cache = cache
        # What the cache may spare us the message for.
        self._kept: list[str] = [item for item in _STRUCTURES if item in items]
        if Preview(lazy=False) in items:
            self._kept.append("PREVIEW")
        self._sections = [item for item in items if isinstance(item, Section | Binary)]
        self._pieces = [self._piece(item) for item in items]
        self.structures = [item for item in items if item in ("ENVELOPE", "BODYSTRUCTURE", "BODY")]
        self.derived: list[Derived] = [*self.structures]
        if any(isinstance(item, Preview) for item in items):
            self.derived.append("PREVIEW")
        self.needs_parts = bool(self.derived) or any(section.numbers for section in self._sections)
        self._with_uid = items[:1] == ("UID",)
        self._is_of_digest = list(items[self._with_uid :]) == self.structures
        # Whether it asks for what a scan of the mailbox has found already.
        self.tells_flags_alone = items in (("FLAGS",), ("UID", "FLAGS")) and not uidonly
        # Whether all it tells of a message but for the flags is the same for ever.
        self.is_constant = not uidonly and all(map(_is_constant, items))
        self._flags_at = items.index("FLAGS") if "FLAGS" in items else None
        self.sets_seen = any(not section.peek for section in self._sections)
        self.is_partial = any(section.partial is not None for section in self._sections)

    @property
    def may_need_body(self) -> bool:
        return bool(self._sections or self._kept)

    def needs_body(self, row: Message) -> bool:
        """Whether the message's bytes must be read, rather than only its row and what is cached."""
        if self._sections:
            return True
        return any(self._cache.get(item, self._tenant, row.digest) is None for item in self._kept)

    def render(self, number: int, row: Message, text: MessageText | None, recent: bool) -> bytes:
        """One `* n FETCH (...)` line, of RFC 9586 where nothing has numbers. `text` is there if needs_body said so.

        Raises Refusal.
        """
        items = b" ".join(self._told(row, text, recent))
        if self.uidonly:
            return b"* %d UIDFETCH (%b)\r\n" % (row.uid, items)
        return b"* %d FETCH (%b)\r\n" % (number, items)

    def constant(self, row: Message, text: MessageText | None) -> tuple[bytes, bytes]:
        """The items of a plan that `is_constant`: those in front of the flags, with the blank, and those behind them.

        Raises Refusal.
        """
        told, at = self._told(row, text, False), self._flags_at
        if at is None:
            return b" ".join(told), b""
        return b"".join([one + b" " for one in told[:at]]), b"".join([b" " + one for one in told[at + 1 :]])

    def of_digest(self, uid: int, digest: bytes) -> tuple[bytes, bytes] | None:
        """What `constant` gives, where it takes no row: of structures that are kept."""
        if not self._is_of_digest:
            return None
        told = [b"UID %d" % uid] if self._with_uid else []
        for item in self.structures:
            text = self._cache.get(item, self._tenant, digest)
            if text is None:
                return None
            told.append(b"%b %b" % (_LABELS[item], text))
        return b" ".join(told), b""

    def _told(self, row: Message, text: MessageText | None, recent: bool) -> list[bytes]:
        """Each item; a response is held in memory, so sections of a message make up a few times its size at most."""
        if not self._sections:
            return [piece(row, text, recent) for piece in self._pieces]
        left = TOLD_AT_LEAST_BYTES if text is None else max(TOLD_AT_LEAST_BYTES, TOLD_TIMES * len(text.data))
        found: list[bytes] = []
        for piece in self._pieces:
            found.append(piece(row, text, recent))
            left -= len(found[-1])
            if left < 0:
                raise Refusal("that is more of one message than can be told at once", "LIMIT")
        return found

    def flags(self, numbers: Iterable[int], uids: Iterable[int], texts: Iterable[bytes]) -> bytes:
        """The responses of a plan that tells flags alone, of several messages with their flags as text."""
        if self._with_uid:
            told = zip(numbers, uids, texts, strict=True)
            return b"".join([b"* %d FETCH (UID %d FLAGS %b)\r\n" % one for one in told])
        return b"".join([b"* %d FETCH (FLAGS %b)\r\n" % one for one in zip(numbers, texts, strict=True)])

    def _piece(self, item: FetchItem) -> Piece:
        if isinstance(item, Section):
            return _section_piece(item)
        if isinstance(item, Binary):
            return _binary_piece(item)
        if isinstance(item, Preview):
            return self._preview
        match item:
            case "UID":
                return lambda row, _text, _recent: b"UID %d" % row.uid
            case "FLAGS":
                return lambda row, _text, recent: b"FLAGS " + render.flags(row.flags, recent)
            case "INTERNALDATE":
                return lambda row, _text, _recent: b"INTERNALDATE " + render.date_time(row.internaldate_ms)
            case "MODSEQ":
                return lambda row, _text, _recent: b"MODSEQ (%d)" % row.modseq
            case "EMAILID":
                return lambda row, _text, _recent: b"EMAILID (%b)" % email_id(row.id)
            case "THREADID":
                return self._thread
            case "SAVEDATE":
                return lambda row, _text, _recent: b"SAVEDATE " + _saved(row)
            case "RFC822.SIZE":
                return lambda row, _text, _recent: b"RFC822.SIZE %d" % row.size
            case "ENVELOPE" | "BODYSTRUCTURE" | "BODY":
                return lambda row, text, _recent: self._structure(item, row, text)
            case _:
                assert_never(item)

    def _structure(self, attribute: Attribute, row: Message, text: MessageText | None) -> bytes:
        rendered = self._cache.get(attribute, self._tenant, row.digest)
        if rendered is None:
            assert text is not None
            rendered = text.derived(attribute)
            self._cache.put(attribute, self._tenant, row.digest, rendered)
            other: Attribute = "BODYSTRUCTURE" if attribute == "ENVELOPE" else "ENVELOPE"
            # Who asks for the one asks for the other next, and reading the message costs more.
            if text.is_small and not text.takes_long((other,)):
                self._cache.put(other, self._tenant, row.digest, text.derived(other))
        return b"%b %b" % (_LABELS[attribute], rendered)

    def _thread(self, row: Message, text: MessageText | None, _recent: bool) -> bytes:
        rendered = self._cache.get("THREADID", self._tenant, row.digest)
        if rendered is None:
            assert text is not None
            found = thread_id(text.data)
            rendered = b"NIL" if found is None else b"(%b)" % found
            self._cache.put("THREADID", self._tenant, row.digest, rendered)
        return b"THREADID " + rendered

    def _preview(self, row: Message, text: MessageText | None, _recent: bool) -> bytes:
        """RFC 8970 3.1: NIL where it is not at hand and was not worth reading the message for."""
        rendered = self._cache.get("PREVIEW", self._tenant, row.digest)
        if rendered is None:
            if text is None:
                return b"PREVIEW NIL"
            rendered = text.derived("PREVIEW")
            self._cache.put("PREVIEW", self._tenant, row.digest, rendered)
        return b"PREVIEW " + rendered


def _is_constant(item: FetchItem) -> bool:
    if isinstance(item, Section):
        return item.peek and item.kind.startswith("HEADER") and not item.numbers
    return item == "FLAGS" or item in _CONSTANTS


def _saved(row: Message) -> bytes:
    """RFC 8514 4.1"""
    return b"NIL" if row.saved_ms is None else render.date_time(row.saved_ms)


def _binary_piece(item: Binary) -> Piece:
    def piece(_row: Message, text: MessageText | None, _recent: bool) -> bytes:
        assert text is not None
        return render_binary(item, text.data, text.root, text.decoded)

    return piece


def _section_piece(section: Section) -> Piece:
    label = section.label if section.partial is None else section.label + b"<%d>" % section.partial[0]

    def piece(_row: Message, text: MessageText | None, _recent: bool) -> bytes:
        assert text is not None
        found = text.section(section)
        return label + b" NIL" if found is None else b"%b {%d}\r\n%b" % (label, len(found), found)

    return piece
