"""A sound log is never called bad for its indexes, whatever became of its records; a changed row of them is found."""

import contextlib
import faulthandler
import os
import random
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest

from eventlog import custody, verify_indexes
from eventlog.archive_files import write
from eventlog.archived import ARCHIVED, Segment
from eventlog.custody import KIND_QUARANTINE
from eventlog.fold import Fold, Outcome
from eventlog.journal import KIND_CONFIG, KIND_NOOP, KIND_RECORD, Command, LmdbJournal
from eventlog.members import Member, change_record
from eventlog.rebuild import rebuild_store
from eventlog.record import Guard, Record, encode
from eventlog.restore import begin_cell, find_cut, restore
from eventlog.segment_source import StoreSource
from eventlog.store import CHAIN, CHAIN_BYTES, IDS, LOG, POSITION, SLICES, STREAMS, Store, open_for_reading
from eventlog.store_checkpoint import TrustedSource
from eventlog.verify import verify, verify_store
from tests.eventlog import ledger
from tests.eventlog.conftest import MAP_BYTES
from tests.eventlog.folded import CELL

ENTRIES = 60
START_MS = 1_700_000_000_000
STREAMS_OF_TESTS = [bytes((number,)) * 16 for number in range(1, 6)]
PAGE = 4096
P_BRANCH, P_LEAF = 1, 2


@pytest.fixture(autouse=True)
def short_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_indexes, "SLICE", 7)


class Told:
    """A log of whatever a log may hold, by chance."""

    def __init__(self, store: Store, draw: random.Random) -> None:
        self.store, self.draw = store, draw
        self.journal = LmdbJournal(store)
        self.fold = Fold(store, self.journal, ledger.evolve)
        self.at_ms = START_MS
        self.records: list[Record] = []

    def entry(self, kind: int, data: bytes, *bodies: bytes) -> None:
        index = self.journal.last_index + 1
        self.journal.add(Command(kind, self.at_ms, data, bodies), index, 1)
        self.fold.apply(self.journal.entry(index))

    def add(self, record: Record, *bodies: bytes, kind: int = KIND_RECORD) -> None:
        self.entry(kind, encode(record), *bodies)
        self.records.append(record)

    def expiry(self) -> int:
        """Of an id: some are forgotten while the log is told, some have expired when they come."""
        return max(0, self.at_ms + self.draw.choice((-1, 0, 400, 1500, 60_000, 2**40)))

    def made(self, **fields: object) -> Record:
        events = [
            ledger.event((number,), stream=self.draw.choice(STREAMS_OF_TESTS))
            for number in range(self.draw.choice((1, 1, 3)))
        ]
        return ledger.record(*events, expires_ms=self.expiry(), **fields)  # type: ignore[arg-type]

    def step(self) -> None:
        self.at_ms += self.draw.choice((0, 0, 1, 300, 1000, 5000))
        self.draw.choice((
            lambda: self.add(self.made()),
            lambda: self.add(self.made()),
            lambda: self.entry(KIND_NOOP, b""),
            lambda: self.entry(KIND_RECORD, b"these are the bytes of no record"),
            lambda: self.add(self.made(guards=(Guard(STREAMS_OF_TESTS[0], b"n", 2**40),))),
            self.again,
            self.config,
            self.upload,
            self.redact,
            self.quarantine,
        ))()  # fmt: skip
        if self.draw.random() < 0.2:
            self.fold.flush()
            self.store.commit()

    def again(self) -> None:
        """The same id once more."""
        known = [record for record in self.records if not record.bodies]
        if known:
            self.add(self.draw.choice(known))

    def config(self) -> None:
        members = (Member("n1", f"192.0.2.{self.draw.randrange(200)}:1", True),)
        asked_ms = self.at_ms - self.draw.choice((0, 90_000))  # it is in force also where its id had expired
        self.add(change_record(members, ledger.CLIENT, "a test", asked_ms, os.urandom), kind=KIND_CONFIG)

    def upload(self) -> None:
        pieces = [os.urandom(10), os.urandom(10)]
        for piece in pieces:
            self.add(ledger.chunk_record(piece, expires_ms=self.expiry()), piece)
        self.add(self.made(bodies=(ledger.body(b"".join(pieces), *pieces),)), b"")

    def redact(self) -> None:
        body = os.urandom(10)
        self.add(self.made(bodies=(ledger.body(body),)), body)
        index, record = self.journal.last_index, self.records[-1]
        bodies = [(index, 0, ledger.TENANT + record.bodies[0].digest)]
        events = [(index, 0, (), custody.left_of(record.events[0].data, ()))]
        left = ledger.record(
            ledger.event((events, bodies, "a test"), stream=custody.CUSTODY, type_=custody.LOG_REDACTED),
            expires_ms=self.expiry(),
        )
        self.add(left)

    def quarantine(self) -> None:
        """A record that can not be folded, and behind it the entry that passes it over: the fold knows of it first."""
        index = self.journal.last_index + 1
        failing = ledger.record(ledger.event(type_="Fail", stream=STREAMS_OF_TESTS[0]), expires_ms=self.at_ms + 5000)
        said = ledger.event((index, "a test"), stream=custody.CUSTODY, type_=custody.RECORD_QUARANTINED)
        entries = ((KIND_RECORD, failing), (KIND_QUARANTINE, ledger.record(said, expires_ms=self.at_ms + 5000)))
        for number, (kind, record) in enumerate(entries):
            self.journal.add(Command(kind, self.at_ms, encode(record), ()), index + number, 1)
        self.journal.setRaftCommitIndex(index + 1)
        self.fold.apply(self.journal.entry(index))
        self.fold.apply(self.journal.entry(index + 1))


def told(path: Path, seed: int, entries: int = ENTRIES) -> Store:
    store = Store(path, MAP_BYTES, durable=False)
    log = Told(store, random.Random(seed))
    while log.journal.last_index < entries:
        log.step()
    log.fold.flush()
    store.commit()
    return store


def archive(store: Store, last: int) -> None:
    """Positions up to there leave the database for a file."""
    ((segment, _),) = write(store, CELL, [Segment(1, last)])
    store.put_meta(ARCHIVED, (segment,))
    for position in range(1, last + 1):
        store.delete(LOG, POSITION.pack(position))
        for key in [key for key, _ in rows(store, SLICES) if key[:8] == POSITION.pack(position)]:
            store.delete(SLICES, key)
    store.commit()


def rows(store: Store, table: bytes) -> list[tuple[bytes, bytes]]:
    with store.snapshot() as snapshot:
        return list(snapshot.raw(table))


def outcomes(store: Store) -> set[int]:
    return {value[CHAIN_BYTES] for _, value in rows(store, CHAIN)}


def sound(store: Store) -> None:
    report = verify_store(store)
    assert report.ok, report.problems
    with store.snapshot() as snapshot:
        expected = len(list(snapshot.records())) // verify_indexes.SLICE + 1
    assert len(report.tallies) == expected  # so each stretch was compared
    assert verify_indexes.differing(verify_indexes.add_up(store), report.tallies) == []


def test_a_sound_log_verifies_whatever_became_of_its_records_also_archived_and_restored(tmp_path: Path) -> None:
    met: set[int] = set()
    for seed in range(25):
        store = told(tmp_path / f"{seed}", seed)
        sound(store)
        assert rebuild_store(store, ledger.evolve).equal
        met |= outcomes(store)
        source, cut = StoreSource(store, CELL), random.Random(seed).randrange(1, ENTRIES)
        restore(source, find_cut(source, cut, None), tmp_path / f"{seed}-cut", ledger.evolve)
        trusted = TrustedSource(store, CELL)
        restore(trusted, find_cut(trusted, None, None), tmp_path / f"{seed}-loaded", ledger.evolve)
        for name in ("cut", "loaded"):
            begin_cell(tmp_path / f"{seed}-{name}", ledger.evolve, MEMBERS, ledger.CLIENT, "restored", START_MS)
            with open_for_reading(tmp_path / f"{seed}-{name}") as restored:
                sound(restored)
        archive(store, cut)
        sound(store)
        store.close()
    assert met >= set(Outcome) - {Outcome.CHUNK_GONE, Outcome.TOO_LARGE, Outcome.MISPLACED}


MEMBERS = (Member("n1", "127.0.0.1:2", True),)


def alter(store: Store, table: bytes, old: tuple[bytes, bytes] | None, new: tuple[bytes, bytes] | None) -> None:
    if old is not None:
        store.txn.delete(old[0], db=store.db[table])
    if new is not None:
        store.txn.put(*new, db=store.db[table])
    store.commit()


def position_in(table: bytes, row: tuple[bytes, bytes]) -> int:
    return int(POSITION.unpack_from(row[0], 16)[0] if table == STREAMS else POSITION.unpack_from(row[1])[0])


def flipped(data: bytes, bit: int) -> bytes:
    altered = bytearray(data)
    altered[bit // 8] ^= 1 << bit % 8
    return bytes(altered)


@pytest.mark.parametrize("table", [STREAMS, IDS])
def test_every_altered_lost_and_added_row_is_found_and_the_first_position_is_named(
    tmp_path: Path, table: bytes
) -> None:
    draw = random.Random(1)
    for seed in range(4):
        store = told(tmp_path / f"{seed}", seed)
        archive(store, 20)
        there = dict(rows(store, table))
        for old in list(there.items()):
            whole = old[0] + old[1]
            changed = flipped(whole, draw.randrange(len(whole) * 8))
            new = changed[: len(old[0])], changed[len(old[0]) :]
            added = os.urandom(16) + POSITION.pack(position_in(table, old)), b""
            if table == IDS:
                added = POSITION.pack(START_MS * 2) + os.urandom(16), old[1]
            for before, after in ((old, None), (old, new), (None, added)):
                if after is not None and after[0] != old[0] and after[0] in there:
                    continue
                alter(store, table, before, after)
                report = verify_store(store)
                alter(store, table, after, before)
                first = min(position_in(table, row) for row in (before, after) if row is not None)
                named = f"record {first}: the index of {table.decode()} "
                assert any(problem.startswith(named) for problem in report.problems), (before, after, report.problems)
                if before is None or before[0][:16] != custody.CUSTODY:  # else what it told to be erased is named too
                    assert report.first_bad == first
        sound(store)
        store.close()


def test_every_bit_of_a_row_of_streams_is_found(tmp_path: Path) -> None:
    store = told(tmp_path / "data", 3)
    key, value = rows(store, STREAMS)[5]
    for bit in range(len(key) * 8):
        alter(store, STREAMS, (key, value), (flipped(key, bit), value))
        assert not verify_store(store).ok, bit
        alter(store, STREAMS, (flipped(key, bit), value), (key, value))
    store.close()


def test_a_configuration_that_takes_over_the_id_of_another_is_no_damage(tmp_path: Path) -> None:
    store = Store(tmp_path / "data", MAP_BYTES, durable=False)
    log = Told(store, random.Random(0))
    changed = change_record(MEMBERS, ledger.CLIENT, "a test", START_MS, os.urandom)
    log.add(changed, kind=KIND_CONFIG)
    for _ in range(10):
        log.add(log.made())
    log.add(changed, kind=KIND_CONFIG)
    log.fold.flush()
    store.commit()
    assert verify_store(store).ok
    assert rebuild_store(store, ledger.evolve).equal
    key = POSITION.pack(changed.expires_ms) + changed.id
    value = dict(rows(store, IDS))[key]
    alter(store, IDS, (key, value), (key, POSITION.pack(5) + value[8:]))
    assert verify_store(store).first_bad == 1
    store.close()


def test_rows_that_exchange_their_positions_are_found(tmp_path: Path) -> None:
    store = told(tmp_path / "data", 7, 400)
    there, draw = rows(store, STREAMS), random.Random(7)
    verify_indexes.SLICE = 1000  # as it is: any two positions are added up together
    for _ in range(60):
        (one, _), (two, _) = draw.sample([row for row in there if row[0][:16] != custody.CUSTODY], 2)
        others = one[:16] + two[16:], two[:16] + one[16:]
        if others[0] in dict(there) or others[1] in dict(there):
            continue
        for old, new in zip((one, two), others, strict=True):
            alter(store, STREAMS, (old, b""), (new, b""))
        assert verify_store(store).first_bad == min(position_in(STREAMS, (key, b"")) for key in (one, two))
        for old, new in zip((one, two), others, strict=True):
            alter(store, STREAMS, (new, b""), (old, b""))
    store.close()


def test_a_row_that_leads_behind_the_end_and_one_of_another_length_are_found(tmp_path: Path) -> None:
    store = told(tmp_path / "data", 5)
    beyond = STREAMS_OF_TESTS[0] + POSITION.pack(10_000), b""
    alter(store, STREAMS, None, beyond)
    assert verify_store(store).first_bad == 10_000
    alter(store, STREAMS, beyond, (STREAMS_OF_TESTS[0], b""))
    report = verify_store(store)
    assert (report.ok, report.first_bad) == (False, None)
    assert "another length" in report.problems[0]
    store.close()


def test_an_altered_record_is_named_once_and_not_also_for_its_rows(tmp_path: Path) -> None:
    store = told(tmp_path / "data", 8)
    position = next(int(POSITION.unpack(key)[0]) for key, value in rows(store, CHAIN) if not value[CHAIN_BYTES])
    key = POSITION.pack(position)
    value = store.txn.get(key, db=store.db[LOG]) or b""
    alter(store, LOG, None, (key, value.replace(value[30:40], bytes(10))))
    report = verify_store(store)
    assert report.first_bad == position
    assert all("index" not in problem for problem in report.problems)
    store.close()


def test_processes_that_share_the_ranges_of_a_log_find_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr("eventlog.verify.RANGE", 25)
    store = told(tmp_path / "data", 9)
    lost = next(row for row in rows(store, STREAMS) if row[0].startswith(STREAMS_OF_TESTS[1]))
    store.close()
    assert verify(tmp_path / "data").ok
    store = Store(tmp_path / "data", MAP_BYTES, durable=False)
    alter(store, STREAMS, lost, None)
    store.close()
    report = verify(tmp_path / "data")
    assert (report.ok, report.first_bad) == (False, position_in(STREAMS, lost))
    assert report.records >= ENTRIES


def test_what_comes_while_the_log_is_verified_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "data", MAP_BYTES, durable=False)
    log = Told(store, random.Random(2))
    while log.journal.last_index < ENTRIES:
        log.step()
    log.fold.flush()
    store.commit()

    def and_more(*_progress: object) -> None:
        for _ in range(5):
            log.step()
        log.at_ms += 1000
        log.fold.flush()
        store.commit()

    found = verify_indexes._add_up_streams

    def late(store: Store, last: int, problems: list[verify_indexes.Problem]) -> dict[int, int]:
        and_more()
        return found(store, last, problems)

    monkeypatch.setattr(verify_indexes, "_add_up_streams", late)
    report = verify_store(store, progress=and_more)
    assert report.ok, report.problems
    assert report.records < log.journal.last_index
    assert verify_store(store).ok
    store.close()


# -- in the bytes of the file ------------------------------------------------------------------------------------------


def test_a_changed_bit_in_a_page_of_an_index_that_a_reader_would_meet_is_found(tmp_path: Path) -> None:
    store = told(tmp_path / "data", 4, 900)
    keys = {name: [key for key, _ in rows(store, name)] for name in (STREAMS, IDS)}
    records = len(rows(store, CHAIN))
    store.close()
    expected, draw = read(tmp_path / "data", keys), random.Random(6)
    data = (tmp_path / "data" / "data.mdb").read_bytes()
    met = dict.fromkeys(("not met", "found", "missed", "died"), 0)
    for offset in places(data, keys[STREAMS], draw, 250):
        (tmp_path / "data" / "data.mdb").write_bytes(
            data[:offset] + bytes((data[offset] ^ 1 << draw.randrange(8),)) + data[offset + 1 :]
        )
        what = in_a_child(tmp_path / "data", keys, expected)
        met[what] += 1
        assert what != "missed", f"byte {offset}"
        if what == "died" and met[what] <= 2:
            report = verify(tmp_path / "data")
            assert not report.ok
            assert report.records == records  # they are proven all the same
    assert met["found"] > 30


def places(data: bytes, keys: list[bytes], draw: random.Random, count: int) -> Iterator[int]:
    """Offsets in pages of the index: in their heads, the places of rows, and anywhere."""
    pages = [data[at : at + PAGE] for at in range(0, len(data), PAGE)]
    holding = [  # what is not between the two may be of a page that stood there before
        number
        for number, page in enumerate(pages)
        if number > 1 and any(key in page[int.from_bytes(page[14:16], "little") :] for key in keys)
    ]
    leaves = [number for number in holding if pages[number][10] == P_LEAF]
    above = [number for number in holding if pages[number][10] == P_BRANCH]
    assert leaves
    assert above
    for _ in range(count):
        start = draw.choice(draw.choice((leaves, above))) * PAGE
        filled = int.from_bytes(data[start + 12 : start + 14], "little")
        upper = int.from_bytes(data[start + 14 : start + 16], "little")
        yield start + draw.choice((draw.randrange(10, 16), draw.randrange(16, filled), draw.randrange(upper, PAGE)))


def read(folder: Path, keys: dict[bytes, list[bytes]]) -> object:
    """What readers of the indexes are given: their rows in order, and what each key leads to."""
    try:
        with lmdb.open(str(folder), readonly=True, max_dbs=16, lock=False) as env:
            tables = {name: env.open_db(name, create=False) for name in keys}
            with env.begin() as txn:
                led = [txn.get(key, db=tables[STREAMS]) is None for key in keys[STREAMS]]  # nobody reads more of it
                values = [txn.get(key, db=tables[IDS]) for key in keys[IDS]]
                positions = list(txn.cursor(db=tables[STREAMS]).iternext(keys=True, values=False))
                return led, values, positions, list(txn.cursor(db=tables[IDS]))
    except lmdb.Error:
        return None


def in_a_child(folder: Path, keys: dict[bytes, list[bytes]], expected: object) -> str:
    child = os.fork()
    if child == 0:
        faulthandler.disable()
        answer = 3
        with contextlib.suppress(BaseException):
            same = read(folder, keys) == expected
            store = Store(folder, MAP_BYTES, durable=False)
            answer = 1 if not verify_store(store).ok else 0 if same else 2
        os._exit(answer)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {0: "not met", 1: "found", 2: "missed"}.get(code, "died")
