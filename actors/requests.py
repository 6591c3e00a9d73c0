"""Requests of the admin API that are carried out once: what the keys were used for that clients sent with them.

The record that carries out a request with a key holds RequestCarriedOut beside its own events, guarded by the key's
row. So a request that is repeated, through whatever node and after whatever crash, finds that it was carried out or
carries it out; never twice, and never half. Keys are hashes (nodes/http/once.py); they are forgotten after a day of
log time, a few with each one that comes, so that there are never many more than were used in a day.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import ClassVar, NamedTuple

from actors.errors import CommandRefused
from actors.kind import Command, Fact
from eventlog.record import Guard, Stamp, stream_id
from eventlog.views import View

REQUESTS = stream_id("requests", "")
KEPT_MS = 24 * 3600 * 1000
FORGOTTEN_AT_ONCE = 8
_KEY, _TIME = b"k", b"t"


class AlreadyCarriedOut(CommandRefused):
    """The request was carried out before: nothing is done again."""


class KeyReused(CommandRefused):
    """The key was sent with another request before."""


class CarriedOut(NamedTuple):
    """By which request, and where the log says so."""

    fingerprint: bytes
    position: int


@dataclass(slots=True)
class Once:
    """A request's key, for the record that carries it out (actors/runtime.py), and what became of it."""

    key: bytes
    fingerprint: bytes
    is_done: bool = False
    is_repeated: bool = False
    position: int = 0  # where the log says so, once it was carried out before


@dataclass(slots=True)
class AsSeen:
    """What the asker has seen, and wants to have changed as it was: guards of the first record that comes of it.

    What else the request takes follows from that one, whose own doing must not stand in its way.
    """

    guards: tuple[Guard, ...]


@dataclass(frozen=True, slots=True)
class CarryOut(Command):
    key: bytes
    fingerprint: bytes  # of the request: another one under the same key is a mistake of the client's


@dataclass(frozen=True, slots=True)
class RequestCarriedOut(Fact):
    SINCE: ClassVar[int] = 3
    key: bytes
    fingerprint: bytes


def decide(view: View, command: CarryOut) -> tuple[RequestCarriedOut, ...]:
    before = view.get(_KEY + command.key)
    if before is not None:
        if before != command.fingerprint:
            raise KeyReused("the key was sent with another request before")
        raise AlreadyCarriedOut("the request was carried out before")
    return (RequestCarriedOut(command.key, command.fingerprint),)


def evolve(view: View, fact: RequestCarriedOut, stamp: Stamp) -> None:
    end = max(0, stamp.at_ms - KEPT_MS).to_bytes(8, "big")
    for row, _ in list(islice(view.range(_TIME, stop=end), FORGOTTEN_AT_ONCE)):
        view.delete(row)
        view.delete(_KEY + row[9:])
    view.put(_KEY + fact.key, fact.fingerprint)
    view.put(_TIME + stamp.at_ms.to_bytes(8, "big") + fact.key, True)


def carried_out(view: View, key: bytes) -> CarriedOut | None:
    """What the key was used for; None where it was not, or long ago."""
    fingerprint = view.get(_KEY + key)
    return None if fingerprint is None else CarriedOut(fingerprint, view.version(_KEY + key))
