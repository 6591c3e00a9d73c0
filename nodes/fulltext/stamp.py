"""What an index is an index of: a file beside it, always whole, that says up to which position of which history.

`done` is how far all is in the index. `newest` is written before a commit of the index: what is in there was read no
later, and some of it perhaps later than `done`. Both are positions of one chain: an index beside another history,
as after a restore, is no index of it, and is thrown away.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from eventlog.store import Snapshot
from eventlog.tables import CHAIN_BYTES
from nodes.files import write_atomically

FILE = "stamp.json"


class Point(NamedTuple):
    """A position, and the chain's hash there in hexadecimal."""

    position: int
    chain: str


START = Point(0, "")


class Stamp(NamedTuple):
    """`generations`: which folder each shard has, of those that there are."""

    version: str
    done: Point = START
    newest: Point = START
    generations: Mapping[int, int] = MappingProxyType({})

    def folder(self, root: Path, shard: int) -> Path | None:
        """Where a shard is; None where nothing was indexed for it."""
        generation = self.generations.get(shard)
        return None if generation is None else root / f"{shard:02}-{generation:06}"


def read(root: Path, version: str) -> Stamp:
    """The stamp in a folder, an empty one where it is missing, damaged or of another version."""
    try:
        found = json.loads((root / FILE).read_bytes())
        generations = {int(shard): int(generation) for shard, generation in found["generations"].items()}
        stamp = Stamp(str(found["version"]), _point(found["done"]), _point(found["newest"]), generations)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Stamp(version)
    return stamp if stamp.version == version else Stamp(version)


def write(root: Path, stamp: Stamp) -> None:
    """Durable when it returns."""
    values = {**stamp._asdict(), "generations": dict(stamp.generations)}
    write_atomically(root / FILE, json.dumps(values).encode(), 0o600)


def _point(value: list[object]) -> Point:
    position, chain = value
    return Point(int(str(position)), str(chain))


def point(snapshot: Snapshot, position: int) -> Point:
    """A position as this history has it; START for one that it has not."""
    folded = snapshot.folded(position) if 0 < position <= snapshot.position else None
    return START if folded is None else Point(position, folded[:CHAIN_BYTES].hex())


def is_of(stamp: Stamp, snapshot: Snapshot) -> bool:
    """Whether the index was made from this very history."""
    return all(one == point(snapshot, one.position) for one in (stamp.done, stamp.newest))
