"""Fold the whole log again, from zero, into fresh tables beside the live ones, and compare the two.

The tables are disposable: if this says that they are equal, they are exactly what the log says. Nothing of the live
node is changed; the fresh tables are thrown away.
"""

import contextlib
import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from eventlog.custody import KIND_QUARANTINE, Redaction, quarantines
from eventlog.fold import Evolve, Fold
from eventlog.journal import Command, Entry
from eventlog.log import EventLog
from eventlog.record import Record
from eventlog.store import FOLDED, Snapshot, Store, in_use, open_for_reading

SLICE = 1000
PREFIX = "refold-"  # of the folders with fresh tables
MAP_SIZE_BYTES = 1 << 40

Progress = Callable[[int, int], None]


class Difference(NamedTuple):
    """The first row of a table in which two folds differ; a value that is not there is None."""

    table: str
    key: bytes
    live: bytes | None
    fresh: bytes | None


class RebuildReport(NamedTuple):
    """`differing` names the tables whose digests are not those of the live node; `first` shows where each begins to.

    `digests` holds the SHA-256 of each fresh table.
    """

    positions: int
    events: int
    seconds: float
    equal: bool
    differing: list[str]
    first: list[Difference]
    digests: dict[str, bytes]


class _Folded:
    """The log of a refold: what the fold does to it was done, when the live node folded it."""

    def __init__(self, quarantined: dict[int, int]) -> None:
        self._quarantined = quarantined

    def is_quarantined(self, index: int) -> bool:
        return index in self._quarantined

    def redact(self, index: int, redaction: Redaction) -> None:
        """Likewise: the log that is folded has been rewritten."""

    def drop_body(self, key: bytes) -> None:
        """The live node did."""

    def add_composites(self, index: int, record: Record) -> None:
        """Likewise."""


def rebuild(source: EventLog | Path, evolve: Evolve, progress: Progress | None = None) -> RebuildReport:
    """Folds from zero what a running node, or the database in a folder, has folded. Blocking: call it in a thread."""
    if isinstance(source, EventLog):
        return rebuild_store(source.store, evolve, progress)
    with open_for_reading(source) as store:
        return rebuild_store(store, evolve, progress)


def rebuild_store(live: Store, evolve: Evolve, progress: Progress | None = None) -> RebuildReport:
    with live.snapshot() as snapshot:
        last, expected = snapshot.position, table_digests(snapshot)
    quarantined = _quarantines(live, max(last, live.get_meta(b"commit", 0)))
    started, events = time.monotonic(), 0
    _clear_away(live.path.parent)
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=live.path.parent) as folder, in_use(Path(folder)):
        fresh = Store(Path(folder), MAP_SIZE_BYTES, durable=False)
        try:
            fold = Fold(fresh, _Folded(quarantined), evolve)
            for batch in _batches(live, last):
                events += _fold_batch(fold, fresh, batch)
                if progress is not None:
                    progress(fold.applied, last)
            seconds = time.monotonic() - started
            with fresh.snapshot() as snapshot:
                found = table_digests(snapshot)
            differing = [name for name in FOLDED if expected[name] != found[name]]
            first = [_first_difference(live, fresh, name) for name in differing]
        finally:
            fresh.close()
    names = [name.decode() for name in differing]
    digests = {name.decode(): digest for name, digest in found.items()}
    return RebuildReport(last, events, seconds, not names, names, [one for one in first if one is not None], digests)


def _clear_away(place: Path) -> None:
    """Removes what refolds have left that were killed."""
    for left in place.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # one that is under way, or not ours to remove
            with in_use(left, alone=True):
                shutil.rmtree(left)


def _first_difference(live: Store, fresh: Store, name: bytes) -> Difference | None:
    """None where a live table has meanwhile gone on and nothing else differs up to its end."""
    with live.snapshot() as ours, fresh.snapshot() as theirs:
        for mine, other in zip_longest(ours.raw(name), theirs.raw(name)):
            if mine != other:
                key = min(row[0] for row in (mine, other) if row is not None)
                return Difference(
                    name.decode(),
                    key,
                    mine[1] if mine is not None and mine[0] == key else None,
                    other[1] if other is not None and other[0] == key else None,
                )
    return None


def _quarantines(live: Store, last: int) -> dict[int, int]:
    """What committed entries quarantine: known before anything is folded."""
    found: dict[int, int] = dict(live.get_meta(b"quarantines", ()))  # of a restored log, what its source said
    for first in range(1, last + 1, SLICE):
        with live.snapshot() as snapshot:
            entries = snapshot.entries_of_kind(KIND_QUARANTINE, first, min(last, first + SLICE - 1))
            found = quarantines(entries) | found
    return found


def table_digests(snapshot: Snapshot) -> dict[bytes, bytes]:
    """SHA-256 of every folded table as stored: equal on all nodes at the same position."""
    digests = {}
    for name in FOLDED:
        digest = hashlib.sha256()
        for key, value in snapshot.raw(name):
            digest.update(len(key).to_bytes(2, "big") + key + len(value).to_bytes(4, "big") + value)
        digests[name] = digest.digest()
    return digests


def _batches(live: Store, last: int) -> Iterator[list[Entry]]:
    """The log in short reads, so that a live node can reuse its pages meanwhile."""
    for first in range(1, last + 1, SLICE):
        with live.snapshot() as snapshot:
            yield [
                (Command(stored.kind, stored.at_ms, stored.data), stored.position, stored.term)
                for stored in snapshot.records(first, min(last, first + SLICE - 1))
            ]


def _fold_batch(fold: Fold, fresh: Store, batch: list[Entry]) -> int:
    events = sum(len(fold.apply(entry).results) for entry in batch)
    fold.flush()
    fresh.commit()
    return events
