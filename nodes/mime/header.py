"""Header blocks (RFC 5322 2.2) as byte ranges.

Tolerant: lines may end in LF alone, a line without a colon belongs to no field, a header without an empty line runs to
the end. Never raises on any input and never copies the message.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

# One field with its folded lines. Each step consumes a line, so matching is linear whatever the input.
_LOGICAL_LINE = re.compile(rb"[^\n]+(?:\n[ \t][^\n]*)*\n?|\n")
_EMPTY = (b"\r\n", b"\n")
_FOLD = re.compile(rb"\r?\n")
_UNSENDABLE = re.compile(rb"[\r\n\x00]")

# A structured field longer than this is cut before it is interpreted (not where its bytes are handed out).
FIELD_VALUE_LIMIT_BYTES = 262_144
FIELDS_LIMIT = 10_000


class Field(NamedTuple):
    """One field; offsets into the message. `name` is in lower case."""

    name: bytes
    start: int
    value: int
    end: int


def header_end(data: bytes, start: int, end: int) -> int:
    """Offset of the body: the byte after the empty line, or `end` where there is none."""
    if data.startswith(b"\r\n", start, end):
        return start + 2
    if data.startswith(b"\n", start, end):
        return start + 1
    # Two searches at memory speed instead of a pattern that stops at each line end.
    crlf = data.find(b"\n\r\n", start, end)
    lf = data.find(b"\n\n", start, end if crlf < 0 else crlf + 1)
    if lf >= 0:
        return lf + 2
    return crlf + 3 if crlf >= 0 else end


def fields(data: bytes, start: int, end: int) -> list[Field]:
    """The first FIELDS_LIMIT fields between `start` and `end`, in order; lines without a colon are left out."""
    found: list[Field] = []
    for line in _LOGICAL_LINE.finditer(data, start, end):  # as in _lines, without a generator: each message has twenty
        first, last = line.span()
        colon = data.find(b":", first, last)
        name = data[first:colon].rstrip(b" \t").lower() if colon >= 0 else b""
        if name and b"\n" not in name:
            found.append(Field(name, first, colon + 1, last))
            if len(found) == FIELDS_LIMIT:
                break
    return found


def _lines(data: bytes, start: int, end: int) -> Iterator[Field]:
    """Every line with its folded ones, the empty one that ends the header too; what is no field has no name."""
    for line in _LOGICAL_LINE.finditer(data, start, end):
        first, last = line.span()
        colon = data.find(b":", first, last)
        name = data[first:colon].rstrip(b" \t").lower() if colon >= 0 else b""
        yield Field(b"" if b"\n" in name else name, first, colon + 1, last)


def selected_lines(data: bytes, start: int, end: int, names: frozenset[bytes], keep: bool) -> bytes:
    """The lines of the fields in `names` (lower case), or with `keep` false of all others, unchanged and in order.

    RFC 3501 6.4.5, HEADER.FIELDS and HEADER.FIELDS.NOT, without the empty line that ends them. A line that is no field
    is one of the others.
    """
    if keep:
        return b"".join(_lines_of(names).findall(data[start:end]))
    return _without_end([data[line.start : line.end] for line in _lines(data, start, end) if line.name not in names])


class Lines:
    """A header taken apart once, for who wants one selection of its lines after the other."""

    def __init__(self, data: bytes, start: int, end: int) -> None:
        self._all = [(field.name, data[field.start : field.end]) for field in _lines(data, start, end)]
        self._by_name: dict[bytes, list[int]] = {}
        for at, (name, _) in enumerate(self._all):
            if name:
                self._by_name.setdefault(name, []).append(at)

    def of(self, names: frozenset[bytes]) -> bytes:
        """As `selected_lines` with `keep`."""
        found = sorted(at for name in names for at in self._by_name.get(name, ()))
        return b"".join([self._all[at][1] for at in found])

    def without(self, names: frozenset[bytes]) -> bytes:
        """As `selected_lines` without it."""
        return _without_end([line for name, line in self._all if name not in names])


def _without_end(lines: list[bytes]) -> bytes:
    """The empty line that ends a header is none of its fields."""
    return b"".join(lines[:-1] if lines and lines[-1] in _EMPTY else lines)


@lru_cache(maxsize=512)
def _lines_of(names: frozenset[bytes]) -> re.Pattern[bytes]:
    """One pattern for all the fields wanted: clients ask for the same few of every message of a mailbox."""
    either = b"|".join(re.escape(name) for name in sorted(names)) or rb"(?!)"
    return re.compile(rb"^(?:" + either + rb")[ \t]*:[^\n]*(?:\n[ \t][^\n]*)*(?:\n|\Z)", re.IGNORECASE | re.MULTILINE)


def unfold(value: bytes) -> bytes:
    """A field's value on one line, without the white space around it (RFC 5322 2.2.3)."""
    value = value.rstrip(b"\r\n")
    if b"\n" in value:
        value = _FOLD.sub(b"", value)
    if b"\r" in value or b"\x00" in value:
        value = _UNSENDABLE.sub(b"", value)
    return value.strip(b" \t")


def value_of(data: bytes, field: Field) -> bytes:
    """The unfolded value, cut at FIELD_VALUE_LIMIT_BYTES."""
    return unfold(data[field.value : min(field.end, field.value + FIELD_VALUE_LIMIT_BYTES)])


def first(data: bytes, among: Iterable[Field], name: bytes) -> bytes | None:
    """The value of the first field called `name` (lower case), None where there is none."""
    for field in among:
        if field.name == name:
            return value_of(data, field)
    return None
