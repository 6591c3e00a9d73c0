"""Which of the cluster's keys its secrets are sealed under, which nodes hold which key, and secrets sealed anew.

The keys themselves are never here (actors/sealing.py). A key is used only once every member holds it; the one before
is retired when nothing that is in force is sealed under it any more. One stream, found by name; rows: k the key in
use, h + id + node: who holds it, r + id: retired.

`SecretResealed` stands on the stream of what it is about, of whatever kind: in one row it puts the same secret, sealed
under another key, in the place of what it was sealed as before. A row that has changed meanwhile keeps what it has.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, assert_never

from actors.errors import NotAllowed
from actors.kind import Command, Fact
from eventlog.record import Stamp, stream_id
from eventlog.views import View

KEYRING = stream_id("keyring", "root")
MARK_BYTES = 16
_ACTIVE = b"k"


class InUse(NamedTuple):
    """The key in use, and what is derived of the first key, sealed under it."""

    id: bytes
    sealed_root: bytes
    since_ms: int


@dataclass(frozen=True, slots=True)
class HoldKey(Command):
    node: str
    id: bytes


@dataclass(frozen=True, slots=True)
class UseKey(Command):
    """`members`: who must hold it."""

    id: bytes
    sealed_root: bytes
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RetireKey(Command):
    """`id` b"" is the first key, which what it sealed does not name."""

    id: bytes


@dataclass(frozen=True, slots=True)
class Reseal(Command):
    """`before` is replaced in the row; `tenant`: whose it is. What a replica holds is sealed under this cell's key."""

    ON_REPLICA: ClassVar[bool] = True
    tenant: bytes
    key: bytes
    before: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True)
class ClusterKeyAdded(Fact):
    SINCE: ClassVar[int] = 3
    node: str
    id: bytes


@dataclass(frozen=True, slots=True)
class ClusterKeyUsed(Fact):
    SINCE: ClassVar[int] = 3
    id: bytes
    sealed_root: bytes


@dataclass(frozen=True, slots=True)
class ClusterKeyRetired(Fact):
    SINCE: ClassVar[int] = 3
    id: bytes


@dataclass(frozen=True, slots=True)
class SecretResealed(Fact):
    """`mark` is a hash of what it was sealed as before."""

    SINCE: ClassVar[int] = 3
    REDACTABLE: ClassVar[tuple[str, ...]] = ("sealed",)
    key: bytes
    mark: bytes
    sealed: bytes


KeyringCommand = HoldKey | UseKey | RetireKey | Reseal
KeyringFact = ClusterKeyAdded | ClusterKeyUsed | ClusterKeyRetired | SecretResealed


def decide(view: View, command: KeyringCommand) -> tuple[KeyringFact, ...]:
    """Raises NotAllowed: a member does not hold the key, or it is in use. What is so already is no event."""
    match command:
        case HoldKey(node, id_):
            return () if view.get(_held(id_, node)) is not None else (ClusterKeyAdded(node, id_),)
        case UseKey():
            return _use(view, command)
        case RetireKey(id_):
            found = in_use(view)
            if found is None or found.id == id_:
                raise NotAllowed("the key in use can not be retired")
            return () if view.get(b"r" + id_) is not None else (ClusterKeyRetired(id_),)
        case Reseal(_, key, before, sealed):
            return (SecretResealed(key, mark(before), sealed),) if _has(view.get(key), mark(before)) else ()
        case _:
            assert_never(command)


def _use(view: View, command: UseKey) -> tuple[KeyringFact, ...]:
    found = in_use(view)
    if found is not None and found.id == command.id:
        return ()
    if view.get(b"r" + command.id) is not None:
        raise NotAllowed(f"the key {command.id.hex()} is retired")
    without = [node for node in command.members if view.get(_held(command.id, node)) is None]
    if without:
        raise NotAllowed(f"the key {command.id.hex()} is not there yet at {', '.join(without)}")
    return (ClusterKeyUsed(command.id, command.sealed_root),)


def evolve(view: View, fact: KeyringFact, stamp: Stamp) -> None:
    """Total."""
    match fact:
        case ClusterKeyAdded(node, id_):
            view.put(_held(id_, node), stamp.at_ms)
        case ClusterKeyUsed(id_, sealed_root):
            view.put(_ACTIVE, (id_, sealed_root, stamp.at_ms))
            view.delete(b"r" + id_)
        case ClusterKeyRetired(id_):
            view.put(b"r" + id_, stamp.at_ms)
        case SecretResealed(key, found, sealed):
            row = view.get(key)
            if row is not None:  # written even where what it was sealed as is redacted, so that guards hold alike
                view.put(key, _replaced(row, found, sealed))
        case _:
            assert_never(fact)


def tenant_of(view: View, command: KeyringCommand) -> bytes:
    """Whose event it is."""
    return command.tenant if isinstance(command, Reseal) else bytes(16)


def in_use(view: View) -> InUse | None:
    """The key in use; None: the first, which no event tells of."""
    row = view.get(_ACTIVE)
    return InUse(*row) if row is not None else None


def holders(view: View) -> dict[bytes, list[str]]:
    """The nodes that hold each key, by its id."""
    found: dict[bytes, list[str]] = {}
    for key, _ in view.range(b"h"):
        found.setdefault(key[1:5], []).append(key[5:].decode())
    return found


def older(view: View) -> set[bytes]:
    """The ids of the keys that were there before the one in use was: it, or another, was to take their place.

    b"" is the first key. A key that some node was handed later waits for its turn.
    """
    found = in_use(view)
    if found is None:
        return set()
    named = {key[1:5]: int(at_ms) for key, at_ms in reversed(list(view.range(b"h")))}
    before = {id_ for id_, at_ms in named.items() if at_ms < found.since_ms and id_ != found.id}
    return before | {b""} if found.id in named else before


def retired(view: View) -> list[bytes]:
    """The ids of those that are; b"" is the first key."""
    return [key[1:] for key, _ in view.range(b"r")]


def mark(sealed: bytes) -> bytes:
    """What names a sealed secret without telling it again."""
    return hashlib.blake2b(sealed, digest_size=MARK_BYTES).digest()


def _has(row: Any, wanted: bytes) -> bool:
    if isinstance(row, bytes):
        return mark(row) == wanted
    return isinstance(row, tuple) and any(_has(one, wanted) for one in row)


def _replaced(row: Any, wanted: bytes, sealed: bytes) -> Any:
    if isinstance(row, bytes):
        return sealed if mark(row) == wanted else row
    return tuple(_replaced(one, wanted, sealed) for one in row) if isinstance(row, tuple) else row


def _held(id_: bytes, node: str) -> bytes:
    return b"h" + id_ + node.encode()
