"""Point-in-time recovery: a log up to a cut, folded from zero into a new database, proven while it is read.

Every position's chain is computed again and must be the one that the source wrote down, outcome included; every body
must have the hash that its record names. So what comes out is what the source had folded at the cut, or nothing. The
new database carries committed state only: no vote, and a term above every one of the source, so that nothing that the
old cell may still say can be taken for the new one's.

Whom the old log names as members is history: `begin_cell` says after the cut who they are now.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from eventlog import levels
from eventlog.errors import FoldStalled, LogError
from eventlog.fold import OUTCOME_BYTES, Evolve, Fold, Outcome
from eventlog.journal import KIND_CONFIG, KIND_RECORD, Command, LmdbJournal
from eventlog.members import Members, change_record
from eventlog.record import By, RecordError, digest_of, encode
from eventlog.restore_tables import MAP_SIZE_BYTES, Checkpoint, Loaded, WrittenMeanwhile
from eventlog.segments import SegmentRecord
from eventlog.store import LOG_HEAD, Store

COMMIT_BYTES = 64 * 1024 * 1024
COMMIT_RECORDS = 10_000

Progress = Callable[[int, int], None]  # done, of how many positions


class RestoreError(LogError):
    """The source is not what it says it is, or has nothing there; no database was made."""

    code = "restore_failed"


class Head(NamedTuple):
    """A place in a log: the chain is empty where the source has not folded it."""

    position: int
    at_ms: int
    term: int
    chain: bytes


class Source(Protocol):
    """Where a log can be read from: a node's database, a backup, a running cluster."""

    cell: str

    def head(self) -> Head:
        """How far it goes; position 0 for an empty one."""

    def position_at(self, at_ms: int) -> int:
        """The last position stamped up to and including a time in ms; 0 if there is none."""

    def at(self, position: int) -> Head:
        """What stands at a position."""

    def records(self, first: int, last: int) -> Iterator[SegmentRecord]:
        """The positions from `first` to `last`, in order."""

    def checkpoint(self, last: int) -> Checkpoint | None:
        """The newest tables that it has as of a position up to `last`; None where it has none."""


class Restored(NamedTuple):
    """What was made: its head, and how much went in. `unproven` positions had no chain to compare with.

    `loaded` is the position whose tables were loaded; 0 where all was folded from zero.
    """

    head: Head
    events: int
    bodies: int
    body_bytes: int
    unproven: int
    loaded: int = 0


def find_cut(source: Source, position: int | None, at_ms: int | None) -> Head:
    """The head at a position, or at a time, or (neither is given) at the end. Raises RestoreError for nothing there."""
    end = source.head()
    if position is None:
        position = end.position if at_ms is None else source.position_at(at_ms)
    if position > end.position:
        raise RestoreError(f"there is no position {position}: the source ends at {end.position}")
    if position < 1:
        raise RestoreError("there was nothing at that moment: the log begins later")
    return end if position == end.position else source.at(position)


def restore(
    source: Source, cut: Head, path: Path, evolve: Evolve, progress: Progress | None = None, *, refold: bool = False
) -> Restored:
    """Makes the database in the folder `path`, which must not hold one. Raises RestoreError, SegmentError, LogError.

    Tables that the source has are loaded (eventlog/restore_tables.py), unless `refold` wants them proven.
    """
    term = max(cut.term, source.head().term) + 1
    if (path / "data.mdb").exists():
        raise RestoreError(f"{path}: there is a database already")
    checkpoint = None if refold else source.checkpoint(cut.position)
    loaded = None if checkpoint is None else checkpoint.fill(path, source.records, progress)
    store = Store(path, MAP_SIZE_BYTES, durable=False)
    try:
        work = _Work(store, evolve, loaded)
        for record in source.records(work.head.position + 1, cut.position):
            work.take(record)
            if work.is_due:
                work.commit()
                if progress is not None:
                    progress(work.head.position, cut.position)
        if work.head.position != cut.position or cut.chain not in (b"", work.head.chain):
            raise RestoreError(f"the chain at {work.head.position} is not the one that the source has at its head")
        work.end(term)
    finally:
        store.close()
    position = 0 if loaded is None else loaded.position
    return Restored(work.head, work.events, work.bodies, work.body_bytes, work.unproven, position)


def begin_cell(path: Path, evolve: Evolve, members: Members, by: By, cause: str, now_ms: int) -> Head:
    """Puts other members in force in a restored database, by entries that the log keeps like any other.

    They are committed by being on every node from the start: call it once, and copy the database to them all. Gives the
    head that the new cell starts with.
    """
    store = Store(path, MAP_SIZE_BYTES, durable=False)
    try:
        journal = LmdbJournal(store)
        fold = Fold(store, journal, evolve)
        term, at_ms = journal.getCurrentTerm(), max(now_ms, journal.last_at_ms)
        entries = [(KIND_CONFIG, change_record(members, by, cause, at_ms, os.urandom))]
        if fold.level < levels.MEMBERS_SINCE:
            entries.insert(0, (KIND_RECORD, levels.raise_record(levels.NEWEST, by, cause, at_ms, os.urandom)))
        for kind, record in entries:
            journal.add(Command(kind, at_ms, encode(record)), journal.last_index + 1, term)
            fold.apply(journal.entry(journal.last_index))
        journal.setRaftCommitIndex(journal.last_index)
        fold.flush()
        store.commit()
        store.env.sync(True)
        return Head(fold.applied, at_ms, term, fold.chain)
    finally:
        store.close()


class _Work:
    """A database on its way: what has been folded into it."""

    def __init__(self, store: Store, evolve: Evolve, loaded: Loaded | None) -> None:
        self._store = store
        self._journal = LmdbJournal(store)
        self._fold = Fold(store, self._journal, evolve)
        self._size_bytes = self._records = 0
        self._disk = WrittenMeanwhile(store)
        self.head = Head(0, 0, 0, self._fold.chain)
        self.events = self.bodies = self.body_bytes = self.unproven = 0
        if loaded is not None:
            self.head = Head(loaded.position, loaded.at_ms, loaded.term, self._fold.chain)
            self.events, self.bodies, self.body_bytes = loaded.events, loaded.bodies, loaded.body_bytes

    @property
    def is_due(self) -> bool:
        return self._size_bytes >= COMMIT_BYTES or self._records >= COMMIT_RECORDS

    def take(self, record: SegmentRecord) -> None:
        """Appends and folds one position, and compares what came of it."""
        position = record.position
        if position != self.head.position + 1:
            raise RestoreError(f"position {self.head.position + 1} is missing in the source")
        term, kind, at_ms = LOG_HEAD.unpack_from(record.value)
        command = Command(kind, at_ms, record.value[LOG_HEAD.size :], _by_ordinal(record.bodies))
        self._check_bodies(command, record)
        self._journal.add(command, position, term)
        if record.folded[-1:] == OUTCOME_BYTES[Outcome.QUARANTINED]:
            self._journal.pass_over(position)  # the entry that says so comes later, or after the cut
        try:
            folded = self._fold.apply((command, position, term))
        except FoldStalled as error:
            raise RestoreError(f"{error}; the log up to {position - 1} can be restored") from None
        if not record.folded:
            self.unproven += 1
        elif self._fold.chain + OUTCOME_BYTES[folded.outcome] != record.folded:
            raise RestoreError(f"position {position} does not fit the chain: the source is damaged, or was altered")
        self.head = Head(position, at_ms, term, self._fold.chain)
        self.events += len(folded.results)
        self._records += 1
        self._size_bytes += record.size_bytes

    def commit(self) -> None:
        self._fold.flush()
        self._store.commit()
        self._disk.begin()
        self._size_bytes = self._records = 0

    def end(self, term: int) -> None:
        """All of it is committed, by everyone; and on disk when this returns."""
        self._journal.setRaftCommitIndex(self.head.position)
        self._journal.setCurrentTerm(term, None)
        self._store.put_meta(b"cut", self.head.position)  # what was erased before may be told only after it
        self.commit()
        self._store.env.sync(True)

    def _check_bodies(self, command: Command, record: SegmentRecord) -> None:
        if not record.bodies:
            return
        try:
            named = command.parsed()[0].bodies
        except RecordError:
            named = ()
        for ordinal, data in record.bodies:
            if ordinal >= len(named) or digest_of(data) != named[ordinal].digest:
                raise RestoreError(f"a body of position {record.position} is not what its record says")
            self.bodies += 1
            self.body_bytes += len(data)


def _by_ordinal(bodies: tuple[tuple[int, bytes], ...]) -> list[bytes | None]:
    given = dict(bodies)
    return [given.get(ordinal) for ordinal in range(max(given, default=-1) + 1)]
