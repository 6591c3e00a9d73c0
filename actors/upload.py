"""Uploads: pieces of a body that is too large for one record, proposed before the record that claims them.

Each upload has a stream of its own under a random name. The pieces live in the log's body store, which also collects
what nobody claims; so this kind keeps no rows and takes no commands.
"""

from __future__ import annotations

from dataclasses import dataclass

from actors.kind import Command, Fact
from eventlog.record import Stamp
from eventlog.views import View


@dataclass(frozen=True, slots=True)
class BodyChunkStored(Fact):
    digest: bytes
    size: int
    ordinal: int


def decide(view: View, command: Command) -> tuple[BodyChunkStored, ...]:
    raise TypeError("an upload takes no commands")


def evolve(view: View, fact: BodyChunkStored, stamp: Stamp) -> None:
    """Nothing to fold: the record's body is the effect."""
