"""What an archive of one tenant is made of: MessagePack frames, each with its length in front, in the log's order.

A manifest says whose it is and what must be free where it is brought back; each entry has the facts of one record with
the time that they took effect at, and the bytes of its bodies behind it; the end counts them, so that a part is never
taken for the whole. Secrets are sealed under the key that the one who asked gave. See docs/ADR/0031-tenants.md.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, get_args

import msgpack

from actors import account_state, api_tokens, dkim, roles
from actors.api_tokens import ApiTokenCreated
from actors.dkim import DkimKeysAdded
from actors.kind import Fact
from actors.tenant import SEALED, sealed_place
from nodes import dkim_keys

FORMAT = 2
FORMATS = (1, FORMAT)  # what is read; the first has no certificates and nothing that waits to be sent
IMPORTING = "it is being imported; it is let in when all of it has come"  # why it is suspended
MOST_FRAME_BYTES = 16 * 1024 * 1024  # above what one record may hold
PIECE_BYTES = 256 * 1024
ON_TENANT = frozenset(
    fact.TYPE
    for kind in (roles.RoleFact, api_tokens.ApiTokenFact, account_state.AccountStateFact)
    for fact in get_args(kind)
)
OF_TOKENS = frozenset(fact.TYPE for fact in get_args(api_tokens.ApiTokenFact))
OF_DKIM = frozenset(fact.TYPE for fact in get_args(dkim.DkimFact))
_LENGTH = struct.Struct(">I")
_SEALED = SEALED | {ApiTokenCreated.TYPE, DkimKeysAdded.TYPE}


class ArchiveError(Exception):
    """What was given is no archive of a tenant, or not a whole one."""


class Manifest(NamedTuple):
    """Whose it is: the tenant as it stands at `position` of its cell's log. `archive` is unlike that of any other."""

    format: int
    archive: bytes
    cell: str
    tenant: bytes
    name: str
    domains: tuple[str, ...]
    position: int
    at_ms: int
    level: int  # the feature level that its facts need at most
    accounts: int
    messages: int
    suspended: tuple[str, str] | None  # what becomes of mail, and why


class Event(NamedTuple):
    """A fact of a stream, by its number in the record, and when it took effect."""

    ordinal: int
    at_ms: int
    stream: bytes
    type: str
    version: int
    data: bytes


class Entry(NamedTuple):
    """What one record said of the tenant; `bodies` are digest and size of those that follow in pieces."""

    position: int
    chain: bytes
    at_ms: int
    author: str
    cause: str
    events: tuple[Any, ...]  # each like an Event
    bodies: tuple[tuple[bytes, int], ...]


class Piece(NamedTuple):
    """The next bytes of the body that is due."""

    data: bytes


class Certified(NamedTuple):
    """A certificate of the tenant as it is in force, its key sealed. `number` counts what comes behind the entries."""

    number: int
    fingerprint: bytes
    names: tuple[str, ...]
    chain: str
    sealed: bytes
    not_before_ms: int
    not_after_ms: int


class Queued(NamedTuple):
    """A message that waits to be sent, for those who wait: each an address and its options. Its bytes follow."""

    number: int
    domain: str
    item_id: bytes
    sender: str
    recipients: tuple[tuple[str, tuple[Any, ...]], ...]
    digest: bytes
    content_bytes: int
    size: int
    trace: bytes
    expires_ms: int
    queued_ms: int
    options: tuple[Any, ...]


class Reached(NamedTuple):
    """How far the log was read; it is told on the way and not kept."""

    position: int


class End(NamedTuple):
    """All came. `unreadable`: secrets that were sealed under a key which the node does not hold."""

    entries: int
    bodies: int
    unreadable: int
    certificates: int = 0
    queued: int = 0


class Opening(NamedTuple):
    """In front of each part that is sent to be imported: the name to be, and the key that secrets are sealed under.

    `domains`: pairs of an old and a new one, for a copy that has ids of its own.
    """

    name: str
    key: bytes
    domains: tuple[tuple[str, str], ...] = ()


Frame = Manifest | Entry | Piece | Reached | End | Opening | Certified | Queued
_TYPES: tuple[type[Any], ...] = (Manifest, Entry, Piece, Reached, End, Opening, Certified, Queued)
_NUMBER = {type_: number for number, type_ in enumerate(_TYPES)}


class Reader(Protocol):
    """What frames are read from: the content of a request."""

    async def readexactly(self, n: int) -> bytes: ...


def pack(frame: Frame) -> bytes:
    """A frame as bytes, its length in front."""
    data = bytes(msgpack.packb((_NUMBER[type(frame)], *frame), use_bin_type=True))
    return _LENGTH.pack(len(data)) + data


def unpack(data: bytes) -> Frame:
    """A frame without its length. Raises ArchiveError."""
    try:
        number, *fields = msgpack.unpackb(data, use_list=False, max_array_len=100_000)
        if not 0 <= number < len(_TYPES):
            raise ValueError("of no kind")
        frame: Frame = _TYPES[number](*fields)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise ArchiveError(f"not a frame of an archive: {error}") from None
    return frame


def length_of(head: bytes) -> int:
    """Of the frame behind it. Raises ArchiveError."""
    length = int(_LENGTH.unpack(head)[0])
    if length > MOST_FRAME_BYTES:
        raise ArchiveError(f"a frame of {length} bytes; {MOST_FRAME_BYTES} are allowed")
    return length


async def read(reader: Reader) -> Frame | None:
    """The next frame; None at the end. Raises ArchiveError."""
    try:
        head = await reader.readexactly(_LENGTH.size)
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise ArchiveError("it ends in the middle") from None
        return None
    try:
        return unpack(await reader.readexactly(length_of(head)))
    except asyncio.IncompleteReadError:
        raise ArchiveError("it ends in the middle") from None


def has_secrets(type_: str) -> bool:
    """Whether events of that type carry something sealed."""
    return type_ in _SEALED


def sealed_anew(tenant: bytes, stream: bytes, fact: Any, seal: Callable[[bytes, bytes], bytes]) -> Fact:
    """The fact with each of its secrets given through `seal(sealed, place)`. Raises what that raises."""
    changed: Fact
    if isinstance(fact, DkimKeysAdded):
        pairs = zip(fact.keys, fact.sealed, strict=True)
        fresh = tuple(seal(one, dkim_keys.place(fact.domain, key[0])) if one else one for key, one in pairs)
        changed = replace(fact, sealed=fresh)
        return changed
    place = api_tokens.place(stream, fact.id) if isinstance(fact, ApiTokenCreated) else sealed_place(tenant, fact)
    if place is None or not fact.sealed:  # erased
        return fact  # type: ignore[no-any-return]
    changed = replace(fact, sealed=seal(fact.sealed, place))
    return changed
