"""Is the log what it was? Recomputes the chain from the records and compares it with what the fold wrote down.

Works on a live node (in short reads) and on the folder of a stopped one. A changed byte of a record, of a body or of
the chain itself is found, and the first position that does not fit is named.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from eventlog.journal import KIND_RECORD
from eventlog.log import EventLog
from eventlog.record import Body, RecordError, chain_hash, decode_with_header, digest_of, leaves, raw_leaf
from eventlog.store import GENESIS, Snapshot, Store, StoredRecord, open_for_reading

SLICE = 1000
MAX_PROBLEMS = 100

Progress = Callable[[int, int], None]  # done, of how many


class VerifyReport(NamedTuple):
    """`head` is the chain at the last position read; `first_bad` the first position that does not fit."""

    ok: bool
    records: int
    head: bytes
    first_bad: int | None
    problems: list[str]


def verify(source: EventLog | Path, progress: Progress | None = None) -> VerifyReport:
    """Verifies the whole log of a running node, or of the database in a folder. Blocking: call it in a thread."""
    if isinstance(source, EventLog):
        return verify_store(source.store, progress)
    with open_for_reading(source) as store:
        return verify_store(store, progress)


def verify_store(store: Store, progress: Progress | None = None, first: int = 1) -> VerifyReport:
    """Verifies from a position on; what comes before `first` is taken on trust."""
    walk = _Walk(store, first)
    with store.snapshot() as snapshot:
        last = snapshot.position
    while walk.next <= last and len(walk.problems) < MAX_PROBLEMS:
        with store.snapshot() as snapshot:
            walk.take(snapshot, min(last, walk.next + SLICE - 1))
        if progress is not None:
            progress(walk.next - first, last - first + 1)
    return VerifyReport(not walk.problems, walk.records, walk.chain, walk.first_bad, walk.problems)


class _Walk:
    """The state of a verification between two reads."""

    def __init__(self, store: Store, first: int) -> None:
        self.next = first
        self.records = 0
        self.first_bad: int | None = None
        self.problems: list[str] = []
        self._term = 0
        self._at_ms = 0
        self.chain = GENESIS
        if first > 1:
            with store.snapshot() as snapshot:
                before = snapshot.record(first - 1)
                self.chain = before.chain or GENESIS if before is not None else GENESIS

    def take(self, snapshot: Snapshot, last: int) -> None:
        """Checks up to `last`. A position that is not there is a problem of its own."""
        for stored in snapshot.records(self.next, last):
            while self.next < stored.position:
                self._bad(self.next, "there is no record")
                self.next += 1
            self._check(snapshot, stored)
            self.next = stored.position + 1
        while self.next <= last:
            self._bad(self.next, "there is no record")
            self.next += 1

    def _check(self, snapshot: Snapshot, stored: StoredRecord) -> None:
        self.records += 1
        if stored.term < self._term or stored.at_ms < self._at_ms:
            self._bad(stored.position, "its term or time is before that of the record in front of it")
        self._term, self._at_ms = stored.term, stored.at_ms
        bodies, parts = _read(stored)
        expected = chain_hash(
            self.chain, stored.position, stored.term, stored.kind, stored.at_ms, stored.outcome or 0, parts
        )
        if stored.chain != expected:
            self._bad(stored.position, "it does not fit the chain: the record, or the chain's own entry, was altered")
        self.chain = stored.chain or expected
        for ordinal, body in enumerate(bodies):
            data = snapshot.introduced(stored.position, ordinal)
            if data is not None and not body.chunks and digest_of(data) != body.digest:
                self._bad(stored.position, f"body {body.digest.hex()[:16]} is not what was stored")

    def _bad(self, position: int, what: str) -> None:
        if self.first_bad is None:
            self.first_bad = position
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(f"record {position}: {what}")


def _read(stored: StoredRecord) -> tuple[tuple[Body, ...], list[bytes]]:
    """The bodies that an entry names, and its leaves in the chain."""
    if stored.kind != KIND_RECORD:
        return (), []
    try:
        record, header = decode_with_header(stored.data)
    except RecordError:
        return (), [raw_leaf(stored.data)]
    return record.bodies, leaves(record, header)
