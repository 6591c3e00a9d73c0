"""Is the log what it was? Recomputes the chain from the records and compares it with what the fold wrote down, and the
indexes with what the records say (eventlog/verify_indexes.py).

Works on a live node (in short reads) and on the folder of a stopped one. A changed byte of a record, of a body or of
the chain itself is found, and the first position that does not fit is named, also where LMDB's own pages no longer lead
to it. A range is taken on its own, from the chain entry in front of it, so that several processes can share a long log;
the range before proves that entry.
"""

import contextlib
from collections.abc import Callable, Collection, Sequence
from concurrent.futures.process import BrokenProcessPool
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from eventlog.archived import ArchiveError
from eventlog.custody import CUSTODY, redaction_in
from eventlog.errors import DamagedDatabase
from eventlog.fold import Outcome
from eventlog.log import EventLog
from eventlog.record import ERASED_SALT_BYTES, Body, chain_hash, decode_events
from eventlog.segment_frames import SegmentError
from eventlog.segments import check_digest
from eventlog.store import CHAIN_BYTES, GENESIS, LOG_HEAD, Snapshot, Store, StoredRecord, open_for_reading
from eventlog.surviving import Mark, Task, alone, survived
from eventlog.verify_indexes import (
    Expected,
    Indexes,
    Problem,
    Purge,
    Tally,
    add,
    add_up,
    differing,
    end_of_stretch,
    first_of,
    name_differences,
    stretch_of,
)
from eventlog.verify_reading import read

RANGE = 20_000  # records that one process takes at a time
MAX_PROBLEMS = 100
DEATH = "the process that read it died of damaged pages"

Progress = Callable[[int, int], None]  # done, of how many


class VerifyReport(NamedTuple):
    """`head` is the chain at the last position read; `first_bad` the first position that does not fit.

    `chains` holds the recomputed chain at each position that was asked for and exists; `tallies`, by stretch, what the
    indexes must hold of the positions that were read.
    """

    ok: bool
    records: int
    head: bytes
    first_bad: int | None
    problems: list[str]
    chains: dict[int, bytes] = {}  # noqa: RUF012 -- never changed
    redactions: int = 0  # events and bodies that were erased, each by an entry that says so
    events: int = 0  # that took effect
    bodies: int = 0  # that the records brought, and that are kept
    body_bytes: int = 0
    tallies: dict[int, Tally] = {}  # noqa: RUF012 -- never changed


def verify(source: EventLog | Path, progress: Progress | None = None, at: Collection[int] = ()) -> VerifyReport:
    """Verifies the whole log of a running node, or of the database in a folder. Blocking: call it in a thread.

    `at` names positions whose chain the caller wants to compare with one kept elsewhere. A long log in a folder is
    shared among processes, one a core.
    """
    if isinstance(source, EventLog):
        return verify_store(source.store, progress, at=at)
    try:
        indexes = _indexes_of(source)
    except BrokenProcessPool:
        raise DamagedDatabase(f"{source}: its tables are not found: {DEATH}") from None
    report = _verify_ranges(source, indexes, progress, at)
    stretches = differing(indexes, report.tallies)
    return _with_indexes(report, indexes, _named(source, indexes, stretches) if stretches else [])


def _indexes_of(path: Path) -> Indexes:
    """What the indexes of a database hold, also where their pages end the process that reads them."""
    try:
        return alone(_add_up, path)
    except BrokenProcessPool:
        return Indexes(alone(_last_position, path), None, {}, [(None, f"its indexes can not be read: {DEATH}")])


def _add_up(path: Path) -> Indexes:
    with open_for_reading(path) as store:
        return add_up(store)


def _last_position(path: Path) -> int:
    with open_for_reading(path) as store, store.snapshot() as snapshot:
        return snapshot.position


def _named(path: Path, indexes: Indexes, stretches: list[int]) -> list[Problem]:
    try:
        return alone(_name_differences, (path, indexes, stretches))
    except BrokenProcessPool:
        return [(first_of(stretches[0]), f"the indexes do not hold what it and those behind it say, and {DEATH}")]


def _name_differences(task: tuple[Path, Indexes, list[int]]) -> list[Problem]:
    path, indexes, stretches = task
    with open_for_reading(path) as store:
        return name_differences(store, indexes, stretches)


def _with_indexes(report: VerifyReport, indexes: Indexes, named: list[Problem]) -> VerifyReport:
    """What was found of the records, and of the indexes: what has the first position comes first."""
    found = indexes.problems + named
    bad = min((position for position, _ in found if position is not None), default=None)
    texts = [text if position is None else f"record {position}: {text}" for position, text in found]
    is_first = report.first_bad is None or (bad is not None and bad < report.first_bad)
    problems = texts + report.problems if is_first else report.problems + texts
    first_bad = bad if is_first else report.first_bad
    return report._replace(ok=not problems, first_bad=first_bad, problems=problems[:MAX_PROBLEMS])


def verify_store(
    store: Store,
    progress: Progress | None = None,
    first: int = 1,
    last: int | None = None,
    at: Collection[int] = (),
    mark: Mark | None = None,
    purge: tuple[int, int] | None = None,
) -> VerifyReport:
    """Verifies from a position on, to another (None: the end); what comes before `first` is taken on trust.

    The indexes are compared where that is all of the log. `mark` is told of each position before it is read; `purge`
    is that of the log, for who compares the indexes with `tallies`.
    """
    if last is None and first == 1:
        indexes = add_up(store)
        report = verify_store(store, progress, 1, indexes.last, at, mark, indexes.purge)
        stretches = differing(indexes, report.tallies)
        return _with_indexes(report, indexes, name_differences(store, indexes, stretches) if stretches else [])
    walk = _Walk(store, first, frozenset(at), mark or Mark(""), None if purge is None else Purge(*purge))
    if last is None:
        with store.snapshot() as snapshot:
            last = snapshot.position
    walk.check_files(store, last)
    while walk.next <= last and len(walk.problems) < MAX_PROBLEMS:
        walk.take_slice(store, min(last, end_of_stretch(walk.next)))
        if progress is not None:
            progress(walk.next - first, last - first + 1)
    return walk.report()


def _verify_ranges(path: Path, indexes: Indexes, progress: Progress | None, at: Collection[int]) -> VerifyReport:
    """The records by a process a core, a range after the other."""
    last, begin = indexes.last, Task(str(path), 1, 0, tuple(at), purge=indexes.purge)
    ranges = [begin._replace(first=first, last=min(last, first + RANGE - 1)) for first in range(1, last + 1, RANGE)]
    parts = [verify_range(begin)] if not ranges else []
    for done, part in survived(verify_range, ranges, _unreadable):
        parts.append(part)
        if progress is not None:
            progress(done, last)
    return joined(parts)


def _unreadable(position: int) -> VerifyReport:
    """Of a position whose pages ended the process that read them."""
    return VerifyReport(False, 0, GENESIS, position, [f"record {position}: it can not be read: {DEATH}"])


def verify_range(task: Task) -> VerifyReport:
    """Verifies the database in a folder from a position to another, in a process of its own; see `verify` for `at`."""
    with open_for_reading(Path(task.path)) as store:
        return verify_store(store, None, task.first, task.last, task.at, Mark(task.mark), task.purge)


def joined(parts: Sequence[VerifyReport]) -> VerifyReport:
    """What several say of the parts of one log, in order."""
    problems = [problem for part in parts for problem in part.problems][:MAX_PROBLEMS]
    bad = [part.first_bad for part in parts if part.first_bad is not None]
    chains = {position: chain for part in parts for position, chain in part.chains.items()}
    records = sum(part.records for part in parts)
    redactions = sum(part.redactions for part in parts)
    tallies: dict[int, Tally] = {}
    for part in parts:
        for stretch, tally in part.tallies.items():
            add(tallies, stretch, tally)
    return VerifyReport(
        not problems, records, parts[-1].head, min(bad, default=None), problems, chains, redactions,
        sum(part.events for part in parts), sum(part.bodies for part in parts), sum(part.body_bytes for part in parts),
        tallies,
    )  # fmt: skip


class _Walk:
    """The state of a verification between two reads."""

    def __init__(self, store: Store, first: int, at: frozenset[int], mark: Mark, purge: Purge | None) -> None:
        self.next = first
        self._mark = mark
        self.problems: list[str] = []
        self._found = 0  # problems of records; that an erasure is told by none is one of the index that leads there
        self._expected = Expected(purge)
        self._tallies: dict[int, Tally] = {}
        self._at = at
        self._records = 0
        self._first_bad: int | None = None
        self._chains: dict[int, bytes] = {}
        self._term = self._at_ms = 0
        self._chain = GENESIS
        self._redactions = self._events = self._bodies = self._body_bytes = 0
        self._erased_events, self._erased_bodies, self._knows_erasures = self._told_erasures(store)
        self._cut = int(store.get_meta(b"cut", 0))  # of a restored log: what was erased before may be told after it
        if first > 1:
            with contextlib.suppress(Exception), store.snapshot() as snapshot:  # else `first` does not fit the chain
                self._go_on_behind(snapshot, first - 1)

    def _told_erasures(self, store: Store) -> tuple[dict[tuple[int, int], bytes], set[tuple[int, int, bytes]], bool]:
        """See `_redactions`; that the records which say so can not be found is a problem, of no position."""
        try:
            return _redactions(store)
        except Exception as error:  # as in `take_slice`
            self.problems.append(f"what was erased can not be read: {error}")
            return {}, set(), False

    def report(self) -> VerifyReport:
        return VerifyReport(
            not self.problems,
            self._records,
            self._chain,
            self._first_bad,
            self.problems,
            self._chains,
            self._redactions,
            self._events,
            self._bodies,
            self._body_bytes,
            self._tallies,
        )

    def take_slice(self, store: Store, last: int) -> None:
        """Checks up to `last`, or to the first position whose rows can not be read, which is a problem of that one."""
        first, found = self.next, self._found
        self._mark.about_to_read(first)
        try:
            with store.snapshot() as snapshot:
                self._take(snapshot, last)
            tally = self._expected.tally(last - first + 1)
            if self._found == found:
                add(self._tallies, stretch_of(last), tally)
        except Exception as error:  # whatever comes of pages that are damaged, out of LMDB or out of what was read
            self._bad(self.next, f"it can not be read: {error}")
            with contextlib.suppress(Exception), store.snapshot() as snapshot:
                self._go_on_behind(snapshot, self.next)
            self.next += 1
            self._expected.forget()

    def _take(self, snapshot: Snapshot, last: int) -> None:
        """Checks up to `last`. A position that is not there is a problem of its own."""
        try:
            for stored in snapshot.records(self.next, last):
                while self.next < stored.position:
                    self._bad(self.next, "there is no record")
                    self.next += 1
                self._check(snapshot, stored)
                self.next = stored.position + 1
                self._mark.about_to_read(self.next)
        except ArchiveError as error:
            self._bad(self.next, str(error))
            self.next = error.segment.last + 1
            self._go_on_behind(snapshot, error.segment.last)
        while self.next <= last:
            self._bad(self.next, "there is no record")
            self.next += 1

    def check_files(self, store: Store, last: int) -> None:
        """Whether the segments of the archive that begin up to `last` are, to the last byte, what was written."""
        with store.env.begin() as txn:
            segments = store.archive.segments(txn, store.db)
        for segment in segments:
            if self.next <= segment.first <= last:
                try:
                    check_digest(store.archive.path(segment))
                except (OSError, SegmentError) as error:
                    self._bad(segment.first, str(ArchiveError(store.archive.path(segment), segment, f"({error})")))

    def _go_on_behind(self, snapshot: Snapshot, position: int) -> None:
        """What stands at a position is taken on trust."""
        self._chain = (snapshot.folded(position) or GENESIS)[:CHAIN_BYTES]
        with contextlib.suppress(ArchiveError):
            before = snapshot.record(position)
            if before is not None:
                self._term, self._at_ms = before.term, before.at_ms

    def _check(self, snapshot: Snapshot, stored: StoredRecord) -> None:
        self._records += 1
        position, term, at_ms, outcome = stored.position, stored.term, stored.at_ms, stored.outcome or 0
        if term < self._term or at_ms < self._at_ms:
            self._bad(position, "its term or time is before that of the record in front of it")
        self._term, self._at_ms = term, at_ms
        bodies, parts, erased, streams, header = read(stored)
        if outcome == Outcome.COMMITTED and parts:
            self._events += len(parts) - 1 - len(bodies)
        for ordinal, left in erased:
            self._redactions += 1
            if self._must_be_told(position) and self._erased_events.get((position, ordinal)) != left:
                self._say(position, f"event {ordinal} is erased, and no record says so, or not to this")
        expected = chain_hash(self._chain, position, term, stored.kind, at_ms, outcome, parts)
        if stored.chain != expected:
            self._bad(position, "it does not fit the chain: the record, or the chain's own entry, was altered")
        self._chain = stored.chain or expected
        self._expected.take(position, outcome, streams, header)
        if position in self._at:
            self._chains[position] = expected
        for ordinal, (body, may_be_gone) in enumerate(bodies):
            # chunks are put together only where the record took effect
            absent = may_be_gone or bool(body.chunks and outcome != Outcome.COMMITTED)
            self._check_body(snapshot, position, ordinal, body, absent)

    def _check_body(self, snapshot: Snapshot, position: int, ordinal: int, body: Body, may_be_gone: bool) -> None:
        if len(body.salt) == ERASED_SALT_BYTES:
            self._redactions += 1
            if (
                self._must_be_told(position)
                and (position, ordinal, body.tenant + body.digest) not in self._erased_bodies
            ):
                self._say(position, f"body {body.digest.hex()[:16]} is erased, and no record says so")
            return
        data = None if body.chunks else snapshot.introduced(position, ordinal)
        if data is not None:
            self._bodies += 1
            self._body_bytes += len(data)
        if data is not None and sha256(data).digest() != body.digest:
            self._bad(position, f"body {body.digest.hex()[:16]} is not what was stored")
        elif data is None or not snapshot.finds_body_at(body.tenant, body.digest, position, ordinal):
            self._check_found(snapshot, position, body, may_be_gone)

    def _check_found(self, snapshot: Snapshot, position: int, body: Body, may_be_gone: bool) -> None:
        """What a client would be given for a body that this record did not bring, or that is found elsewhere."""
        try:
            found = snapshot.body(body.tenant, body.digest)
        except ArchiveError as error:
            self._bad(position, f"body {body.digest.hex()[:16]}: {error}")
            return
        except Exception:  # the row that leads to it can not be read
            found = b""
        if found is None:
            if not may_be_gone:
                self._bad(position, f"body {body.digest.hex()[:16]} is not there")
        elif sha256(found).digest() != body.digest:
            self._bad(position, f"body {body.digest.hex()[:16]} leads to other bytes")

    def _must_be_told(self, position: int) -> bool:
        """Whether what is erased there must be named by a record that can be read."""
        return position > self._cut and self._knows_erasures

    def _bad(self, position: int, what: str) -> None:
        self._found += 1
        self._say(position, what)

    def _say(self, position: int, what: str) -> None:
        if self._first_bad is None:
            self._first_bad = position
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(f"record {position}: {what}")


def _redactions(store: Store) -> tuple[dict[tuple[int, int], bytes], set[tuple[int, int, bytes]], bool]:
    """What the log says was erased: of events what must be left (SHA-256), of bodies their places and keys.

    And whether all that it says could be read.
    """
    events: dict[tuple[int, int], bytes] = {}
    bodies: set[tuple[int, int, bytes]] = set()
    try:
        with store.snapshot() as snapshot:
            for _, value in snapshot.stream_entries(CUSTODY):
                for event in decode_events(value[LOG_HEAD.size :], CUSTODY)[3]:
                    redaction = redaction_in(event)
                    if redaction is not None:
                        events |= {(one.position, one.ordinal): one.left for one in redaction.events}
                        bodies |= {(one.position, one.ordinal, one.key) for one in redaction.bodies}
    except ArchiveError:  # the walk comes there too, and says so
        return events, bodies, False
    return events, bodies, True
