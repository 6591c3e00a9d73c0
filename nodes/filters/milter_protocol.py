"""The milter protocol, version 6, as packets (sendmail/libmilter/docs, mfdef.h): bytes in, values out, no I/O.

A packet is its length (four octets, big-endian), a command or reply letter, and data.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from enum import IntFlag
from typing import Literal, NamedTuple

from nodes.filters.health import Garbage
from nodes.filters.text import refusal, smtp_reply

VERSION = 6
OLDEST_VERSION = 2
CHUNK_BYTES = 65_535  # MILTER_CHUNK_SIZE
MOST_REPLY_BYTES = 1024 * 1024  # a replaced body comes in pieces of 64 KiB, a header value in one


class Actions(IntFlag):
    """What a filter may do to a message (SMFIF_*)."""

    ADD_HEADERS = 0x01
    CHANGE_BODY = 0x02
    ADD_RECIPIENTS = 0x04
    DELETE_RECIPIENTS = 0x08
    CHANGE_HEADERS = 0x10
    QUARANTINE = 0x20
    CHANGE_SENDER = 0x40
    ADD_RECIPIENTS_WITH_PARAMETERS = 0x80
    SET_MACROS = 0x100


class Steps(IntFlag):
    """What a filter does not want to be told, or does not answer (SMFIP_*)."""

    NO_CONNECT = 0x01
    NO_HELO = 0x02
    NO_MAIL = 0x04
    NO_RCPT = 0x08
    NO_BODY = 0x10
    NO_HEADERS = 0x20
    NO_EOH = 0x40
    SILENT_HEADER = 0x80
    NO_UNKNOWN = 0x100
    NO_DATA = 0x200
    SKIP = 0x400
    SILENT_CONNECT = 0x1000
    SILENT_HELO = 0x2000
    SILENT_MAIL = 0x4000
    SILENT_RCPT = 0x8000
    SILENT_DATA = 0x10000
    SILENT_UNKNOWN = 0x20000
    SILENT_EOH = 0x40000
    SILENT_BODY = 0x80000
    LEADING_SPACE = 0x100000


# every action, though not all of them are followed: libmilter closes where what its filter may want is not offered
ALL_ACTIONS = Actions(0x1FF)
ALL_STEPS = Steps(0x1FF7FF)  # but not to be told of recipients that were refused already (0x800)


class Command(NamedTuple):
    """What the filter is told: the letter, the step it may have declined, and the one at which it keeps silent."""

    letter: bytes
    declined: Steps
    silent: Steps


_NEVER = Steps(0)
CONNECT = Command(b"C", Steps.NO_CONNECT, Steps.SILENT_CONNECT)
HELO = Command(b"H", Steps.NO_HELO, Steps.SILENT_HELO)
MAIL = Command(b"M", Steps.NO_MAIL, Steps.SILENT_MAIL)
RCPT = Command(b"R", Steps.NO_RCPT, Steps.SILENT_RCPT)
DATA = Command(b"T", Steps.NO_DATA, Steps.SILENT_DATA)
HEADER = Command(b"L", Steps.NO_HEADERS, Steps.SILENT_HEADER)
EOH = Command(b"N", Steps.NO_EOH, Steps.SILENT_EOH)
BODY = Command(b"B", Steps.NO_BODY, Steps.SILENT_BODY)
END = Command(b"E", _NEVER, _NEVER)

Macros = Mapping[str, str]


class Packet(NamedTuple):
    """What a filter sent."""

    letter: bytes
    data: bytes


def packet(letter: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data) + 1) + letter + data


class Decoder:
    """Takes bytes in whatever pieces they come."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> list[Packet]:
        """The packets that are whole now. Raises Garbage for one that is empty or too long."""
        held = self._held
        held += data
        found, at = [], 0
        while len(held) - at >= 4:
            size = int.from_bytes(held[at : at + 4], "big")
            if not 0 < size <= MOST_REPLY_BYTES:
                raise Garbage(f"a packet of {size} octets")
            if len(held) - at < 4 + size:
                break
            found.append(Packet(bytes(held[at + 4 : at + 5]), bytes(held[at + 5 : at + 4 + size])))
            at += 4 + size
        del held[:at]
        return found


# What the filter is told


def negotiate() -> bytes:
    return packet(b"O", struct.pack(">III", VERSION, ALL_ACTIONS, ALL_STEPS))


ABORT = packet(b"A")
QUIT = packet(b"Q")


def macros(command: Command, values: Macros) -> bytes:
    """What goes before a command; nothing where there is nothing to tell."""
    pairs = b"".join(text(name) + text(value) for name, value in values.items() if value)
    return packet(b"D", command.letter + pairs) if pairs else b""


def connection_data(host_name: str, client: str) -> bytes:
    """Data of CONNECT: a client by its address; one without is unknown."""
    name = text(host_name or (f"[{client}]" if client else "unknown"))
    if not client:
        return name + b"U"
    is_v6 = ":" in client
    address = f"IPv6:{client}" if is_v6 else client
    return name + (b"6" if is_v6 else b"4") + struct.pack(">H", 0) + text(address)


def texts(values: Iterable[str]) -> bytes:
    return b"".join(map(text, values))


def text(value: str) -> bytes:
    """A NUL ends it, so there is none in it."""
    return value.replace("\0", "").encode("utf-8", "surrogateescape") + b"\0"


def header_data(name: bytes, value: bytes, steps: Steps) -> bytes:
    """Data of HEADER; `value` as it stands after the colon. Lines are folded with LF alone, as filters know it."""
    value = value.replace(b"\0", b"").replace(b"\r\n", b"\n")
    if Steps.LEADING_SPACE not in steps:
        value = value.removeprefix(b" ")
    return name + b"\0" + value + b"\0"


# What the filter says


class Agreed(NamedTuple):
    """What was negotiated; `wanted` are the macros that it asks for, by the number of their stage."""

    actions: Actions
    steps: Steps
    wanted: dict[int, frozenset[str]]


def agreed(answer: Packet) -> Agreed:
    """Raises Garbage, too where it demands what it was not offered."""
    if answer.letter != b"O" or len(answer.data) < 12:
        raise Garbage("it does not negotiate")
    version, actions, steps = struct.unpack_from(">III", answer.data)
    if not OLDEST_VERSION <= version <= VERSION:
        raise Garbage(f"milter protocol version {version}")
    if actions & ~ALL_ACTIONS.value or steps & ~ALL_STEPS.value:
        raise Garbage("it demands what it was not offered")
    return Agreed(Actions(actions), Steps(steps), _wanted(answer.data[12:]))


def _wanted(data: bytes) -> dict[int, frozenset[str]]:
    wanted = {}
    while len(data) > 4 and b"\0" in data[4:]:
        names, _, rest = data[4:].partition(b"\0")
        wanted[int.from_bytes(data[:4], "big")] = frozenset(names.decode("ascii", "replace").replace(",", " ").split())
        data = rest
    return wanted


Move = Literal["continue", "accept", "discard", "skip", "refuse"]


class Decision(NamedTuple):
    """What the filter decided at a step; the reply of a refusal."""

    move: Move
    reply: bytes = b""


CONTINUE = Decision("continue")
_MOVES: dict[bytes, Decision] = {
    b"c": CONTINUE,
    b"a": Decision("accept"),
    b"d": Decision("discard"),
    b"s": Decision("skip"),
    b"r": Decision("refuse", refusal("", permanent=True, default="Refused by a filter")),
    b"t": Decision("refuse", refusal("", permanent=False, default="A filter asks to try again later")),
    b"f": Decision("refuse", refusal("", permanent=False, default="A filter can not go on, try again later")),
    b"4": Decision("refuse", refusal("", permanent=False, default="A filter is closing, try again later")),
}
PROGRESS = b"p"
REPLY_CODE = b"y"


def decision(answer: Packet) -> Decision:
    """Raises Garbage for what decides nothing."""
    if answer.letter == REPLY_CODE:
        reply = smtp_reply(answer.data.rstrip(b"\0").replace(b"%%", b"%"))
        if reply is None:
            raise Garbage("a reply code that refuses nothing")
        return Decision("refuse", reply)
    found = _MOVES.get(answer.letter)
    if found is None:
        raise Garbage(f"the reply 0x{answer.letter.hex()}")
    return found


class Change(NamedTuple):
    """What it wants changed, told at the end of a message. `nth`: of the fields with that name, from 1 on."""

    what: Literal[
        "add header",
        "change header",
        "replace body",
        "quarantine",
        "add recipient",
        "delete recipient",
        "change sender",
    ]
    name: bytes = b""
    value: bytes = b""
    nth: int = 0


def change(answer: Packet) -> Change | None:
    """None: it is no change. Raises Garbage for a malformed one."""
    data = answer.data
    match answer.letter:
        case b"h":
            return Change("add header", *_two(data))
        case b"i" | b"m":
            if len(data) < 4:
                raise Garbage("a header change without an index")
            what: Literal["add header", "change header"] = "add header" if answer.letter == b"i" else "change header"
            return Change(what, *_two(data[4:]), int.from_bytes(data[:4], "big"))
        case b"b":
            return Change("replace body")
        case b"q":
            return Change("quarantine", value=data.rstrip(b"\0"))
        case b"+" | b"2":
            return Change("add recipient")
        case b"-":
            return Change("delete recipient")
        case b"e":
            return Change("change sender")
        case _:
            return None


def _two(data: bytes) -> tuple[bytes, bytes]:
    name, nul, rest = data.partition(b"\0")
    value, end, _ = rest.partition(b"\0")
    if not nul or not end:
        raise Garbage("a header that does not end")
    return name, value
