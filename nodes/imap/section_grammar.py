"""Reading which part of a message is meant (RFC 3501 9, section and partial); FETCH and IMAP URLs share it."""

import re

from nodes.imap.commands import Section, SectionKind
from nodes.imap.cursor import Cursor
from nodes.imap.errors import BadCommand

PART_DEPTH_LIMIT = 50


def read_section(cursor: Cursor, peek: bool) -> Section:
    """What follows BODY[ (section-spec), the partial too."""
    start = cursor.at
    numbers = part_numbers(cursor)
    kind: SectionKind = ""
    fields: list[bytes] = []
    if cursor.peek() != b"]":
        kind = _section_kind(cursor.keyword(), numbers)
    if kind.startswith("HEADER.FIELDS"):
        fields = _field_names(cursor)
    cursor.expect(b"]")
    label = b"BODY[" + _label(kind, numbers, fields, cursor.text_since(start)) + b"]"
    partial = read_partial(cursor)
    return Section(label, numbers, kind, frozenset(f.lower() for f in fields), partial, peek)


def _section_kind(name: str, numbers: tuple[int, ...]) -> SectionKind:
    match name:
        case "HEADER" | "HEADER.FIELDS" | "HEADER.FIELDS.NOT" | "TEXT":
            return name
        case "MIME" if numbers:
            return "MIME"
        case _:
            raise BadCommand(f"unknown section {name[:40]}")


def part_numbers(cursor: Cursor) -> tuple[int, ...]:
    numbers: list[int] = []
    while cursor.peek().isdigit():
        numbers.append(cursor.number())
        if numbers[-1] == 0 or len(numbers) > PART_DEPTH_LIMIT:
            raise BadCommand("malformed part number")
        if not cursor.accept(b"."):
            break
    return tuple(numbers)


def _field_names(cursor: Cursor) -> list[bytes]:
    cursor.expect(b" (")
    names = [cursor.astring()]
    while not cursor.accept(b")"):
        cursor.space()
        names.append(cursor.astring())
    return names


def _label(kind: str, numbers: tuple[int, ...], fields: list[bytes], written: bytes) -> bytes:
    """The section as the response repeats it; a field name that was a literal comes back quoted."""
    if not fields:
        return written[:-1].upper()
    spec = ".".join([*map(str, numbers), kind]).encode("ascii")
    return spec + b" (" + b" ".join(_field_label(name) for name in fields) + b")"


def _field_label(name: bytes) -> bytes:
    if re.fullmatch(rb"[!#$&'+,\-./0-9;<=>?@A-Z^_`a-z|}~]+", name):
        return name
    return b'"' + re.sub(rb'([\\"])', rb"\\\1", re.sub(rb"[^\x20-\x7e]", b"?", name)) + b'"'


def read_partial(cursor: Cursor) -> tuple[int, int] | None:
    if not cursor.accept(b"<"):
        return None
    origin = cursor.number()
    cursor.expect(b".")
    count = cursor.number()
    cursor.expect(b">")
    if count == 0:
        raise BadCommand("a partial fetch of nothing")
    return origin, count
