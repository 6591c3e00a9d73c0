"""Is the log what it was? Recomputes the chain from the records and compares it with what the fold wrote down.

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
from typing import Any, NamedTuple

import msgpack

from eventlog.archived import ArchiveError
from eventlog.custody import CUSTODY, redaction_in
from eventlog.errors import DamagedDatabase
from eventlog.fold import Outcome
from eventlog.journal import KIND_NOOP
from eventlog.log import EventLog
from eventlog.record import (
    DIGEST_BYTES,
    ERASED_SALT_BYTES,
    FORMAT,
    SALT_BYTES,
    Body,
    RecordError,
    body_commitment,
    chain_hash,
    decode_events,
    decode_with_header,
    leaves,
    raw_leaf,
)
from eventlog.segment_frames import SegmentError
from eventlog.segments import check_digest
from eventlog.store import CHAIN_BYTES, GENESIS, LOG_HEAD, Snapshot, Store, StoredRecord, open_for_reading
from eventlog.surviving import Mark, Task, alone, survived
from eventlog.uploads import CHUNK_STORED

SLICE = 1000
RANGE = 20_000  # records that one process takes at a time
MAX_PROBLEMS = 100
DEATH = "the process that read it died of damaged pages"

Progress = Callable[[int, int], None]  # done, of how many
_unpackb = msgpack.unpackb


class VerifyReport(NamedTuple):
    """`head` is the chain at the last position read; `first_bad` the first position that does not fit.

    `chains` holds the recomputed chain at each position that was asked for and exists.
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


def verify(source: EventLog | Path, progress: Progress | None = None, at: Collection[int] = ()) -> VerifyReport:
    """Verifies the whole log of a running node, or of the database in a folder. Blocking: call it in a thread.

    `at` names positions whose chain the caller wants to compare with one kept elsewhere. A long log in a folder is
    shared among processes, one a core.
    """
    if isinstance(source, EventLog):
        return verify_store(source.store, progress, at=at)
    try:
        last = alone(_last_position, Task(str(source), 0, 0))
    except BrokenProcessPool:
        raise DamagedDatabase(f"{source}: its tables are not found: {DEATH}") from None
    return _verify_ranges(source, last, progress, at)


def _last_position(task: Task) -> int:
    with open_for_reading(Path(task.path)) as store, store.snapshot() as snapshot:
        return snapshot.position


def verify_store(
    store: Store,
    progress: Progress | None = None,
    first: int = 1,
    last: int | None = None,
    at: Collection[int] = (),
    mark: Mark | None = None,
) -> VerifyReport:
    """Verifies from a position on, to another (None: the end); what comes before `first` is taken on trust.

    `mark` is told of each position before it is read.
    """
    walk = _Walk(store, first, frozenset(at), mark or Mark(""))
    if last is None:
        with store.snapshot() as snapshot:
            last = snapshot.position
    walk.check_files(store, last)
    while walk.next <= last and len(walk.problems) < MAX_PROBLEMS:
        walk.take_slice(store, min(last, walk.next + SLICE - 1))
        if progress is not None:
            progress(walk.next - first, last - first + 1)
    return walk.report()


def _verify_ranges(path: Path, last: int, progress: Progress | None, at: Collection[int]) -> VerifyReport:
    """The same by a process a core, a range after the other."""
    ranges = [Task(str(path), first, min(last, first + RANGE - 1), tuple(at)) for first in range(1, last + 1, RANGE)]
    parts = [verify_range(Task(str(path), 1, 0))] if not ranges else []
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
        return verify_store(store, None, task.first, task.last, task.at, Mark(task.mark))


def joined(parts: Sequence[VerifyReport]) -> VerifyReport:
    """What several say of the parts of one log, in order."""
    problems = [problem for part in parts for problem in part.problems][:MAX_PROBLEMS]
    bad = [part.first_bad for part in parts if part.first_bad is not None]
    chains = {position: chain for part in parts for position, chain in part.chains.items()}
    records = sum(part.records for part in parts)
    redactions = sum(part.redactions for part in parts)
    return VerifyReport(
        not problems, records, parts[-1].head, min(bad, default=None), problems, chains, redactions,
        sum(part.events for part in parts), sum(part.bodies for part in parts), sum(part.body_bytes for part in parts),
    )  # fmt: skip


class _Walk:
    """The state of a verification between two reads."""

    def __init__(self, store: Store, first: int, at: frozenset[int], mark: Mark) -> None:
        self.next = first
        self._mark = mark
        self.problems: list[str] = []
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
        )

    def take_slice(self, store: Store, last: int) -> None:
        """Checks up to `last`, or to the first position whose rows can not be read, which is a problem of that one."""
        self._mark.about_to_read(self.next)
        try:
            with store.snapshot() as snapshot:
                self._take(snapshot, last)
        except Exception as error:  # whatever comes of pages that are damaged, out of LMDB or out of what was read
            self._bad(self.next, f"it can not be read: {error}")
            with contextlib.suppress(Exception), store.snapshot() as snapshot:
                self._go_on_behind(snapshot, self.next)
            self.next += 1

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
        bodies, parts, erased = _read(stored)
        if outcome == Outcome.COMMITTED and parts:
            self._events += len(parts) - 1 - len(bodies)
        for ordinal, left in erased:
            self._redactions += 1
            if self._must_be_told(position) and self._erased_events.get((position, ordinal)) != left:
                self._bad(position, f"event {ordinal} is erased, and no record says so, or not to this")
        expected = chain_hash(self._chain, position, term, stored.kind, at_ms, outcome, parts)
        if stored.chain != expected:
            self._bad(position, "it does not fit the chain: the record, or the chain's own entry, was altered")
        self._chain = stored.chain or expected
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
                self._bad(position, f"body {body.digest.hex()[:16]} is erased, and no record says so")
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
        if self._first_bad is None:
            self._first_bad = position
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(f"record {position}: {what}")


_NO_BODIES: tuple[tuple[Body, bool], ...] = ()
_NONE: tuple[tuple[int, bytes], ...] = ()
_Read = tuple[tuple[tuple[Body, bool], ...], list[bytes], Sequence[tuple[int, bytes]]]


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


def _read(stored: StoredRecord) -> _Read:
    """The bodies that an entry names, each with whether its bytes may be gone, its leaves in the chain, and what is
    left of events that were erased: ordinal and SHA-256.
    """
    if stored.kind == KIND_NOOP:
        return _NO_BODIES, [], _NONE
    if stored.outcome == Outcome.BAD_RECORD:
        return _NO_BODIES, [raw_leaf(stored.data)], _NONE
    try:
        return _parts(stored.data)
    except Exception:  # whatever is wrong with it: what is not the bytes of a record is hashed as it is
        return _slowly(stored.data)


def _parts(data: bytes) -> _Read:
    """What `record.leaves` gives of a record, without building it: a long log is read at several times the speed.

    Raises for anything that is not exactly what `record.encode` writes; types are checked where a value of another
    one would give the same hash.
    """
    version, header, events, bodies = _unpackb(data, use_list=False)
    if type(version) is not int or version != FORMAT:
        raise RecordError
    parts = [sha256(header).digest()]
    chunk = False
    erased: list[tuple[int, bytes]] = []
    for tenant, stream, type_, number, payload, salt in events:
        if len(salt) == SALT_BYTES:
            if len(tenant) != 16 or len(stream) != 16 or type(number) is not int:
                raise RecordError
            place = b"E%b%b%b%c%b\0" % (salt, tenant, stream, number, type_.encode())
            parts.append(sha256(place + payload).digest())
        elif len(salt) == ERASED_SALT_BYTES:
            erased.append((len(parts) - 1, sha256(payload).digest()))
            parts.append(bytes(salt))
        else:
            raise RecordError
        chunk = chunk or type_ == CHUNK_STORED
    if not bodies:
        return _NO_BODIES, parts, erased
    named = [_body(fields) for fields in bodies]
    parts.extend(map(body_commitment, named))
    return tuple([(body, chunk) for body in named]), parts, erased


def _body(fields: Any) -> Body:
    body = Body(*fields)
    if len(body.digest) != DIGEST_BYTES or type(body.size) is not int:
        raise RecordError
    return body


def _slowly(data: bytes) -> _Read:
    """The fold's own reading, for what the fast one does not take."""
    try:
        record, header = decode_with_header(data)
    except RecordError:
        return _NO_BODIES, [raw_leaf(data)], _NONE
    return tuple((body, True) for body in record.bodies), leaves(record, header), _NONE
