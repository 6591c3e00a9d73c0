"""From bytes to whole commands: lines, literals and their limits, without I/O.

A step is a value: a whole `Frame`, a `Continuation` that the caller must send before more can come, an `Oversize` to be
answered, or NEED_MORE. Memory is bounded by the limits: a literal's size is looked at before a byte of it is taken.
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

_LITERAL = re.compile(rb"\{(\d{1,20})(\+?)\}\r?\n\Z")  # after a ~ it is a literal8 (RFC 3516 7), framed alike
_TAG = re.compile(rb"[!#$&',\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]{1,64}(?= )")
_APPEND = re.compile(rb"[^ ]+ (?:APPEND|(?:UID )?REPLACE) ", re.IGNORECASE)


class Frame(NamedTuple):
    """One command: its text, in which each literal is only `{n}` and a line break, and the literals in order."""

    text: bytes
    literals: tuple[bytes, ...]


class Continuation(NamedTuple):
    """The client waits for `+` before it sends a literal of this size (RFC 3501 7.5)."""

    size_bytes: int


class Oversize(NamedTuple):
    """The command is too large and was not taken. `fatal`: what follows can not be skipped, close the connection.

    `status` is NO where it is merely more than we take, BAD where the client was told that it must not send it.
    """

    tag: bytes
    text: str
    code: str
    fatal: bool
    status: bytes = b"NO"


class NeedMore(Enum):
    NEED_MORE = "need more"


NEED_MORE: Final = NeedMore.NEED_MORE

Step = Frame | Continuation | Oversize | NeedMore


@dataclass(frozen=True)
class Limits:
    """Sizes in bytes. `literal` holds for one and all literals of a command, `append` for those of APPEND."""

    line: int = 65536
    literal: int = 65536
    append: int = 50 * 1024 * 1024
    unasked: int = 4096  # of a literal without synchronisation, before log-in: LITERAL- (RFC 7888 5)

    @property
    def skipped(self) -> int:
        """A literal without synchronisation that is too large is read and dropped up to this size (RFC 7888 4)."""
        return 2 * self.append


class Framer:
    """Give it what arrives with `feed`; take commands with `next_frame`, or bare lines with `next_line`."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.appends = False  # whether what holds after log-in does: APPEND's larger limit, LITERAL+ for LITERAL-
        self._buffer = bytearray()
        self._searched = 0  # no line end before this offset
        self._text = bytearray()
        self._literals: list[bytes] = []
        self._literals_bytes = 0  # announced
        self._taken_bytes = 0  # arrived, of those
        self._wanted: int | None = None  # size of the literal that is arriving
        self._to_skip = 0
        self._refused: Oversize | None = None

    @property
    def buffered(self) -> int:
        """Bytes that arrived and were not consumed: literals of a command of which more is to come are held too."""
        return len(self._buffer) + self._taken_bytes

    @property
    def in_command(self) -> bool:
        """Whether part of a command has arrived and the rest has not."""
        return bool(self._buffer or self._text or self._to_skip)

    def feed(self, data: bytes) -> None:
        if self._to_skip:
            skipped = min(self._to_skip, len(data))
            self._to_skip -= skipped
            data = data[skipped:]
        self._buffer += data

    def next_frame(self) -> Step:
        """The next step of the command stream."""
        while True:
            if self._to_skip:
                self._skip_buffered()
                if self._to_skip:
                    return NEED_MORE
            if self._wanted is not None and not self._take_literal(self._wanted):
                return NEED_MORE
            line = self._take_line()
            if line is NEED_MORE or isinstance(line, Oversize):
                return line
            step = self._add(line)
            if step is not None:
                return step

    def next_line(self) -> bytes | Oversize | NeedMore:
        """A line without literals (AUTHENTICATE, IDLE), without its line end."""
        line = self._take_line()
        if isinstance(line, bytes):
            return line.rstrip(b"\r\n")
        return line

    def _take_line(self) -> bytes | Oversize | NeedMore:
        end = self._buffer.find(b"\n", self._searched)
        length = end + 1 if end >= 0 else len(self._buffer)
        if len(self._text) + length > self.limits.line:
            tag = _tag(bytes(self._text) + bytes(self._buffer[:128]))
            # What follows an over-long line is anyone's guess: it may be the inside of a literal.
            return Oversize(tag, "command line too long", "TOOBIG", fatal=True)
        if end < 0:
            self._searched = len(self._buffer)
            return NEED_MORE
        line = bytes(self._buffer[:length])
        del self._buffer[:length]
        self._searched = 0
        return line

    def _add(self, line: bytes) -> Step | None:
        self._text += line
        announced = _LITERAL.search(line)
        if announced is None:
            return self._finish()
        size, synchronising = int(announced[1]), not announced[2]
        refused = self._refused or self._check(size, synchronising)
        if refused is not None:
            self._refused = refused
            if synchronising:
                return self._finish()
            if size > self.limits.skipped:
                self._reset()
                return refused._replace(fatal=True)
            self._to_skip = size
            return None
        self._wanted = size
        self._literals_bytes += size
        return Continuation(size) if synchronising else None

    def _check(self, size: int, synchronising: bool) -> Oversize | None:
        tag = _tag(bytes(self._text[:128]))
        if not self.appends and not synchronising and size > self.limits.unasked:
            text = f"a literal over {self.limits.unasked} bytes waits for leave before log-in"
            return Oversize(tag, text, "TOOBIG", False, b"BAD")
        is_append = self.appends and _APPEND.match(self._text) is not None
        limit = self.limits.append if is_append else self.limits.literal
        # Beside its messages, or the pieces of one, APPEND may have a mailbox name as a literal.
        total = limit + self.limits.literal if is_append else limit
        if size <= limit and self._literals_bytes + size <= total:
            return None
        return Oversize(tag, f"literal too large: at most {limit} bytes", "TOOBIG", False)

    def _take_literal(self, size: int) -> bool:
        if len(self._buffer) < size:
            return False
        self._literals.append(bytes(memoryview(self._buffer)[:size]))
        self._taken_bytes += size
        del self._buffer[:size]
        self._searched = 0
        self._wanted = None
        return True

    def _skip_buffered(self) -> None:
        skipped = min(self._to_skip, len(self._buffer))
        del self._buffer[:skipped]
        self._to_skip -= skipped
        self._searched = 0

    def _finish(self) -> Frame | Oversize:
        frame = Frame(bytes(self._text), tuple(self._literals))
        refused = self._refused
        self._reset()
        return refused or frame

    def _reset(self) -> None:
        self._text.clear()
        self._literals = []
        self._literals_bytes = 0
        self._taken_bytes = 0
        self._wanted = None
        self._refused = None


def _tag(text: bytes) -> bytes:
    found = _TAG.match(text)
    return found[0] if found else b"*"
