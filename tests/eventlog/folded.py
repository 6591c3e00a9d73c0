"""A folded log of what it is told, without consensus: what segments and backups are made of in tests."""

from pathlib import Path
from typing import Any

from eventlog.fold import Fold
from eventlog.journal import KIND_NOOP, KIND_RECORD, Command, LmdbJournal
from eventlog.record import Record, encode
from eventlog.segment_keys import KeyRing
from eventlog.segment_source import describe, records_of
from eventlog.segments import SegmentRecord, SegmentWriter
from eventlog.store import Store
from tests.eventlog import ledger

START_MS = 1_000_000
CELL = "cell-of-tests"
KEYS = KeyRing([bytes(range(32))])


class Log:
    """Each entry is stamped a millisecond after the one before, from START_MS on."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.journal = LmdbJournal(store)
        self.fold = Fold(store, self.journal, ledger.evolve)

    def add(self, record: Record | None, *bodies: bytes) -> None:
        kind, data = (KIND_NOOP, b"") if record is None else (KIND_RECORD, encode(record))
        at_ms = START_MS + self.journal.last_index
        self.journal.add(Command(kind, at_ms, data, bodies), self.journal.last_index + 1, 1)
        self.fold.apply(self.journal.entry(self.journal.last_index))

    def flush(self) -> None:
        self.fold.flush()
        self.store.commit()

    def write(self, path: Path, first: int = 1, last: int | None = None, keys: KeyRing | None = None) -> SegmentWriter:
        header = describe(self.store, CELL, first, last)
        assert header is not None
        with SegmentWriter(path, header, keys) as writer:
            for record in records_of(self.store, header.first, header.last):
                writer.add(record)
        return writer


def tell(log: Log) -> None:
    """Twelve positions: no-ops, records, bodies, a body that was there before, a large one of chunks."""
    log.add(None)
    for number in range(6):
        log.add(record(number))
    log.add(record("with a body", bodies=(ledger.body(b"a body"),)), b"a body")
    log.add(record("the same body", bodies=(ledger.body(b"a body"),)), b"a body")
    log.add(ledger.chunk_record(b"chunk", expires_ms=START_MS * 2), b"chunk")
    log.add(record("large", bodies=(ledger.body(b"chunk", b"chunk"),)), b"")
    log.add(None)
    log.flush()


def record(fact: object, **fields: Any) -> Record:
    return ledger.record(ledger.event(fact), expires_ms=START_MS * 2, **fields)


def stored(store: Store) -> list[SegmentRecord]:
    """Everything that is folded."""
    with store.snapshot() as snapshot:
        return list(records_of(store, 1, snapshot.position))
