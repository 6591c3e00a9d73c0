"""Do the indexes `streams` and `ids` hold what the records say, no row less and none more, and is each row found?

What both must hold follows from the records: `streams` has a row for each stream that a record took effect on; `ids`
one for each record that left its id, until the id expires in log time and the fold forgets it. The walk over the
records adds up a hash of each of these rows, by stretches of SLICE positions; a pass over the indexes adds up what is
there. Where the sums differ, the records of the stretch are read again, and the first position that differs is named.
The hash is Python's own of a tuple of numbers, the same in every process. It is nearly linear, so that its sum would
not change where two rows exchange their positions: squares are added up. That finds damage; `log rebuild` also finds
rows that somebody made so that the sum is right.
"""

import struct
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from functools import partial
from itertools import islice
from operator import mul
from typing import Any, NamedTuple

import msgpack

from eventlog.fold import OUTCOME_BYTES, PURGE_EVERY_MS, Outcome
from eventlog.journal import KIND_CONFIG
from eventlog.store import IDS, POSITION, STREAMS, Snapshot, Store
from eventlog.verify_reading import read

SLICE = 1000  # positions whose rows are added up together
ROWS_AT_ONCE = 20_000  # of an index, in one read
MOST_READ_AGAIN = 10  # stretches; of others it is said that they differ
MOST_STRAY = 20  # rows of no position that are named

LEAVE_NO_ID = frozenset((Outcome.EXPIRED, Outcome.DUPLICATE, Outcome.NOTHING, Outcome.BAD_RECORD))

_STREAM_BYTES = 16
_ID_KEY_BYTES = 24
_BEGINS, _LONG = b"\x95\xc4\x10", b"\xcf"  # of a header in MessagePack: five fields, 16 bytes; a number of eight
_place = POSITION.pack
_STREAM_ROW = struct.Struct(">QQQ")  # the stream in two, the position
_ID_ROW = struct.Struct(">QQQQB")  # expiry, the id in two, the position, the outcome
_OF = {STREAMS: (_STREAM_ROW, 2), IDS: (_ID_ROW, 3)}  # what a row is made of, and which of it is the position

Problem = tuple[int | None, str]  # the position that does not fit, if there is one


class Purge(NamedTuple):
    """When the fold forgot ids the last time: those that had expired before `at_ms`, of records up to `position`."""

    at_ms: int
    position: int


class Tally(NamedTuple):
    """Of positions that were found sound: how many, and the sums over the rows that the indexes must have of them."""

    records: int
    streams: int
    ids: int

    def plus(self, other: "Tally") -> "Tally":
        return Tally(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


class Indexes(NamedTuple):
    """What the indexes of a log up to `last` add up to, by stretch, and what is wrong with them by itself.

    Without a sum of a table it could not be read; without `purge` it is not known which ids there must be.
    """

    last: int
    purge: Purge | None
    sums: dict[bytes, dict[int, int]]
    problems: list[Problem]


def add(tallies: dict[int, Tally], stretch: int, tally: Tally) -> None:
    """Adds to the tally of a stretch."""
    known = tallies.get(stretch)
    tallies[stretch] = tally if known is None else known.plus(tally)


def stretch_of(position: int) -> int:
    """The number of the stretch that a position is in."""
    return position // SLICE


def first_of(stretch: int) -> int:
    """The first position of a stretch."""
    return max(1, stretch * SLICE)


def end_of_stretch(position: int) -> int:
    """The last position that is added up together with this one."""
    return position - position % SLICE + SLICE - 1


# -- what the records say ----------------------------------------------------------------------------------------------


class Expected:
    """The rows that the records which are told to it must have."""

    def __init__(self, purge: Purge | None) -> None:
        self._knows_ids = purge is not None
        at_ms, self._position = purge or Purge(0, 0)
        self._expiry = POSITION.pack(at_ms)
        self.streams: list[bytes] = []
        self.ids: list[bytes] = []

    def take(self, position: int, outcome: int, streams: Collection[bytes], header: bytes) -> None:
        """One entry: its outcome, the streams that its events are on, its packed header (empty where it has none)."""
        place = _place(position)
        if not outcome:
            for stream in streams:
                self.streams.append(stream + place)
        # an id is of 16 bytes, an expiry of eight as a rule, and most have long passed: nothing else is unpacked
        if header[:3] == _BEGINS and header[19:20] == _LONG:
            expiry = header[20:28]
            if expiry >= self._expiry or position > self._position:
                self._leave(expiry + header[3:19] + place, outcome)
        elif header:
            id_, expires_ms, *_ = msgpack.unpackb(header, use_list=False)
            expiry = _place(expires_ms)
            if expiry >= self._expiry or position > self._position:
                self._leave(expiry + id_ + place, outcome)

    def _leave(self, row: bytes, outcome: int) -> None:
        if self._knows_ids and outcome not in LEAVE_NO_ID:
            self.ids.append(row + OUTCOME_BYTES[outcome])

    def tally(self, records: int) -> Tally:
        """Of so many records, which it was told since the last time; they are forgotten."""
        streams, self.streams = self.streams, []
        ids, self.ids = self.ids, []
        return Tally(records, _sum(_STREAM_ROW, streams), _sum(_ID_ROW, ids))

    def forget(self) -> None:
        self.streams, self.ids = [], []


def _sum(form: struct.Struct, rows: list[bytes]) -> int:
    hashes = list(map(hash, form.iter_unpack(b"".join(rows))))
    return sum(map(mul, hashes, hashes))


# -- what the indexes hold ---------------------------------------------------------------------------------------------


def add_up(store: Store) -> Indexes:
    """Reads the indexes, as of now. May die of damaged pages, as every reader of them."""
    problems: list[Problem] = []
    sums: dict[bytes, dict[int, int]] = {}
    with store.snapshot() as snapshot:
        last, purge = snapshot.position, _last_purge(snapshot)
        try:  # what has expired meanwhile goes away, so all of it is read in this snapshot
            sums[IDS] = _add_up_ids(snapshot, problems)
        except Exception as error:  # whatever comes of pages that are damaged
            problems.append((None, f"the index of ids can not be read: {error}"))
    try:
        sums[STREAMS] = _add_up_streams(store, last, problems)
    except Exception as error:
        problems.append((None, f"the index of streams can not be read: {error}"))
    return Indexes(last, purge, sums, problems)


def _last_purge(snapshot: Snapshot) -> Purge | None:
    """It is when the last second of log time began, at its first record. None where that can not be read."""
    second = snapshot.at_ms // PURGE_EVERY_MS
    if not second:
        return Purge(0, 0)
    low, high = 1, snapshot.position
    try:
        while low < high:
            middle = (low + high) // 2
            if _at_ms(snapshot, middle) // PURGE_EVERY_MS < second:
                low = middle + 1
            else:
                high = middle
        return Purge(_at_ms(snapshot, low), low)
    except Exception:  # the walk over the records comes there too, and says so
        return None


def _at_ms(snapshot: Snapshot, position: int) -> int:
    stored = snapshot.record(position)
    if stored is None:
        raise LookupError(position)
    return int(stored.at_ms)


def _add_up_ids(snapshot: Snapshot, problems: list[Problem]) -> dict[int, int]:
    sums: dict[int, int] = defaultdict(int)
    rows = snapshot.raw(IDS)
    end = b""
    while some := list(islice(rows, ROWS_AT_ONCE)):
        if some[-1][0] <= end:
            raise LookupError("its rows are not in order")
        end = some[-1][0]
        _find_each(snapshot, IDS, [key for key, _ in some], problems)
        for row in _well_formed(IDS, [key + value for key, value in some], problems):
            if 0 < row[3] <= snapshot.position:
                number = hash(row)
                sums[row[3] // SLICE] += number * number
            else:
                _stray(IDS, row[3], problems)
    return dict(sums)


def _add_up_streams(store: Store, last: int, problems: list[Problem]) -> dict[int, int]:
    """In short reads. Rows of records that came meanwhile are left out."""
    sums: dict[int, int] = defaultdict(int)
    after = b""
    while True:
        with store.snapshot() as snapshot:
            some = list(islice(snapshot.keys(STREAMS, after), ROWS_AT_ONCE))
            if not some:
                return dict(sums)
            _find_each(snapshot, STREAMS, some, problems)
            for row in _well_formed(STREAMS, some, problems):
                if 0 < row[2] <= last:
                    number = hash(row)
                    sums[row[2] // SLICE] += number * number
                elif not last < row[2] <= snapshot.position:
                    _stray(STREAMS, row[2], problems)
        if some[-1] < after:
            raise LookupError("its rows are not in order")
        after = some[-1] + b"\0"


def _find_each(snapshot: Snapshot, table: bytes, keys: list[bytes], problems: list[Problem]) -> None:
    """Whether who looks for a row is led to it: what is above the rows may be damaged alone."""
    if None in map(partial(snapshot.value, table), keys):
        lost = next(key for key in keys if snapshot.value(table, key) is None)
        position = _STREAM_ROW.unpack(lost)[2] if table == STREAMS and len(lost) == _STREAM_ROW.size else None
        _note(problems, position, f"a row of the index of {table.decode()} is there, and is not found: {lost.hex()}")


def _well_formed(table: bytes, rows: list[bytes], problems: list[Problem]) -> Iterator[tuple[Any, ...]]:
    form = _OF[table][0]
    sound = [row for row in rows if len(row) == form.size]
    for row in islice((row for row in rows if len(row) != form.size), MOST_STRAY):
        _note(problems, None, f"a row of the index of {table.decode()} is of another length: {row.hex()}")
    return form.iter_unpack(b"".join(sound))


def _stray(table: bytes, position: int, problems: list[Problem]) -> None:
    _note(problems, position, f"the index of {table.decode()} leads there, and the log does not")


def _note(problems: list[Problem], position: int | None, what: str) -> None:
    if len(problems) < MOST_STRAY:
        problems.append((position, what))


# -- the two compared --------------------------------------------------------------------------------------------------


def differing(indexes: Indexes, tallies: dict[int, Tally]) -> list[int]:
    """The stretches whose records are sound and whose rows are not what they say, in order."""
    streams, ids = indexes.sums.get(STREAMS), indexes.sums.get(IDS) if indexes.purge is not None else None
    return [
        stretch
        for stretch, tally in sorted(tallies.items())
        if tally.records == len(_positions(stretch, indexes.last))
        and (
            (streams is not None and streams.get(stretch, 0) != tally.streams)
            or (ids is not None and ids.get(stretch, 0) != tally.ids)
        )
    ]


def _positions(stretch: int, last: int) -> range:
    return range(first_of(stretch), min(last, end_of_stretch(stretch * SLICE)) + 1)


def name_differences(store: Store, indexes: Indexes, stretches: list[int]) -> list[Problem]:
    """What is wrong with stretches that differ, position by position; of many the first, and that others differ."""
    again = {stretch: _positions(stretch, indexes.last) for stretch in stretches[:MOST_READ_AGAIN]}
    try:
        with store.snapshot() as snapshot:
            found = list(_compared(snapshot, indexes, again))
    except Exception as error:  # whatever comes of pages that are damaged
        return [_differs(stretch, indexes, f": {error}") for stretch in stretches]
    return found + [_differs(stretch, indexes) for stretch in stretches[MOST_READ_AGAIN:]]


def _differs(stretch: int, indexes: Indexes, why: str = "") -> Problem:
    positions = _positions(stretch, indexes.last)
    return positions[0], f"the indexes do not hold what records {positions[0]} to {positions[-1]} say{why}"


def _compared(snapshot: Snapshot, indexes: Indexes, again: dict[int, range]) -> Iterator[Problem]:
    purge = _last_purge(snapshot)
    expected = Expected(purge)
    configurations: set[int] = set()
    for positions in again.values():
        for stored in snapshot.records(positions[0], positions[-1]):
            _, _, _, streams, header = read(stored)
            expected.take(stored.position, stored.outcome or 0, streams, header)
            if stored.kind == KIND_CONFIG:
                configurations.add(stored.position)
    problems: dict[int, str] = {}
    if STREAMS in indexes.sums:
        _differ(STREAMS, expected.streams, _rows_of(snapshot, STREAMS, again, indexes.last), problems)
    if IDS in indexes.sums and purge is not None:
        ids = _rows_of(snapshot, IDS, again, indexes.last)
        _differ(IDS, _not_taken_over(snapshot, expected.ids, configurations), ids, problems)
    yield from sorted(problems.items())


def _rows_of(snapshot: Snapshot, table: bytes, again: dict[int, range], last: int) -> list[bytes]:
    form, at = _OF[table]
    whole = snapshot.keys(table) if table == STREAMS else (key + value for key, value in snapshot.raw(table))
    rows = (row for row in whole if len(row) == form.size)
    return [row for row in rows if (position := form.unpack(row)[at]) // SLICE in again and position <= last]


def _not_taken_over(snapshot: Snapshot, rows: list[bytes], configurations: set[int]) -> Iterator[bytes]:
    """Without those of configurations whose id a later one has, which takes the row over: nothing asks for its id."""
    for row in rows:
        position = POSITION.unpack_from(row, _ID_KEY_BYTES)[0]
        if position not in configurations or not _is_taken_over(snapshot, row[:_ID_KEY_BYTES], position):
            yield row


def _is_taken_over(snapshot: Snapshot, key: bytes, position: int) -> bool:
    value = snapshot.value(IDS, key)
    later = 0 if value is None else POSITION.unpack_from(value)[0]
    stored = snapshot.record(later) if position < later <= snapshot.position else None
    if stored is None or stored.kind != KIND_CONFIG:
        return False
    left = Expected(Purge(0, 0))
    left.take(later, Outcome.COMMITTED, (), read(stored)[4])
    return left.ids[0].startswith(key)


def _differ(table: bytes, expected: Iterable[bytes], found: Iterable[bytes], problems: dict[int, str]) -> None:
    form, at = _OF[table]
    wanted, there = set(expected), set(found)
    name = table.decode()
    for row in sorted(wanted - there):
        problems.setdefault(form.unpack(row)[at], f"the index of {name} has lost a row of it: {row.hex()}")
    for row in sorted(there - wanted):
        problems.setdefault(form.unpack(row)[at], f"the index of {name} has a row that it did not leave: {row.hex()}")
