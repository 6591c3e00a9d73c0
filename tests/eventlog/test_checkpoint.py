"""Checkpoints: a new node starts from committed state alone, from a whole stream or from nothing."""

import asyncio
import io
import os
import shutil
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from eventlog.check import check_database
from eventlog.checkpoint import CheckpointError, CheckpointHead, load_checkpoint, write_checkpoint
from eventlog.checkpoint_frames import MAX_FRAME_BYTES, TABLES_SENT
from eventlog.errors import DamagedDatabase
from eventlog.fold import Fold
from eventlog.journal import KIND_CONFIG, KIND_NOOP, KIND_RECORD, Command, LmdbJournal
from eventlog.members import Member, Members, change_record
from eventlog.rebuild import rebuild
from eventlog.record import Record, encode
from eventlog.store import CONFIGS, LOG, META, NAMES, Store, open_for_reading
from eventlog.tables import FRESH, TAILS
from eventlog.verify import verify
from tests.eventlog import ledger
from tests.eventlog.conftest import MAP_BYTES
from tests.eventlog.opened import single

START_MS = 1_000_000
CELL = "cell-of-tests"
Run = Callable[[Coroutine[Any, Any, Any]], Any]


class Source:
    """A store with its journal and its fold; what is appended is committed when `fold` says so."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.journal = LmdbJournal(store)
        self._fold = Fold(store, self.journal, ledger.evolve)
        self.journal.setCurrentTerm(7, None)

    def append(self, record: Record, *data: bytes, term: int = 7) -> None:
        command = Command(KIND_RECORD, START_MS, encode(record), data)
        self.journal.add(command, self.journal.last_index + 1, term)
        self.store.commit()

    def configure(self, members: Members) -> None:
        record = change_record(members, ledger.CLIENT, "a test", START_MS, os.urandom)
        self.journal.add(Command(KIND_CONFIG, START_MS, encode(record)), self.journal.last_index + 1, 7)
        self.store.commit()

    def fold(self) -> None:
        """Folds all that was appended."""
        for index in range(self._fold.applied + 1, self.journal.last_index + 1):
            self._fold.apply(self.journal.entry(index))
        self._fold.flush()
        self.journal.setRaftCommitIndex(self.journal.last_index)
        self.store.commit()

    def note(self, fact: Any, *data: bytes) -> None:
        self.append(noted(fact, *data), *data)


def noted(fact: Any, *data: bytes) -> Record:
    return ledger.record(ledger.event(fact), bodies=tuple(map(ledger.body, data)), expires_ms=START_MS + 60_000)


@pytest.fixture
def source(store: Store) -> Source:
    """A log with a no-op, small and large bodies, a body made of chunks, and one that came twice."""
    source = Source(store)
    source.journal.add(Command(KIND_NOOP, START_MS, b""), 1, 7)
    for number in range(40):
        source.note(number, b"body %d" % number)
    source.note("again", b"body 3")
    source.append(ledger.chunk_record(b"first half ", expires_ms=START_MS + 60_000), b"first half ")
    source.append(ledger.chunk_record(b"second half", expires_ms=START_MS + 60_000), b"second half")
    whole = ledger.body(b"first half second half", b"first half ", b"second half")
    source.append(ledger.record(bodies=(whole,), expires_ms=START_MS + 60_000), b"")
    source.note("large", bytes(3 * MAX_FRAME_BYTES + 17))
    source.fold()
    return source


def stream_of(store: Store) -> bytes:
    stream = io.BytesIO()
    write_checkpoint(store, stream.write, cell_id=CELL)
    return stream.getvalue()


def load(stream: bytes, path: Path) -> CheckpointHead:
    return load_checkpoint(io.BytesIO(stream).read, path, cell_id=CELL, map_size_bytes=MAP_BYTES)


def rows(store: Store, name: bytes) -> list[tuple[bytes, bytes]]:
    with store.snapshot() as snapshot:
        return list(snapshot.raw(name))


def nothing_is_left(path: Path) -> bool:
    return not path.exists() and not path.with_name(f"{path.name}.joining").exists()


def test_the_new_node_has_log_bodies_and_tables_of_the_source(source: Source, tmp_path: Path) -> None:
    head = load(stream_of(source.store), tmp_path / "new")
    with open_for_reading(tmp_path / "new") as copy, copy.snapshot() as found, source.store.snapshot() as expected:
        assert (head.position, head.at_ms, head.chain) == (found.position, found.at_ms, found.chain)
        assert (found.position, found.chain) == (expected.position, expected.chain)
        for name in TABLES_SENT:
            assert rows(copy, name) == rows(source.store, name)
        made_of_chunks = ledger.body(b"first half second half")
        assert found.body(ledger.TENANT, made_of_chunks.digest) == b"first half second half"


def test_the_new_file_passes_the_check_the_proof_and_the_refold(source: Source, tmp_path: Path) -> None:
    head = load(stream_of(source.store), tmp_path / "new")
    assert check_database(tmp_path / "new") is None
    report = verify(tmp_path / "new")
    assert (report.ok, report.records, report.head) == (True, head.position, head.chain)
    assert rebuild(tmp_path / "new", ledger.evolve).equal


def test_a_checkpoint_of_a_checkpoint_is_the_same_stream(source: Source, tmp_path: Path) -> None:
    stream = stream_of(source.store)
    load(stream, tmp_path / "new")
    with open_for_reading(tmp_path / "new") as copy:
        load(stream_of(copy), tmp_path / "newer")
    with open_for_reading(tmp_path / "newer") as newer:
        for name in TABLES_SENT:
            assert rows(newer, name) == rows(source.store, name)


def test_every_table_is_sent_but_the_nodes_own() -> None:
    assert sorted(TABLES_SENT) == sorted(set(NAMES) - {META, TAILS, FRESH})  # these go with their rows


def test_no_frame_is_longer_than_the_limit_however_large_a_row_is(source: Source) -> None:
    written: list[int] = []
    write_checkpoint(source.store, lambda data: written.append(len(data)))
    assert max(written) <= MAX_FRAME_BYTES
    assert sum(written) > 3 * MAX_FRAME_BYTES


def test_the_uncommitted_tail_and_bodies_that_only_it_brought_stay_behind(source: Source, tmp_path: Path) -> None:
    committed = source.journal.last_index
    source.note("tail", b"body of the tail")
    source.note("tail", b"body 3")  # the bytes of this one are committed
    load(stream_of(source.store), tmp_path / "new")
    assert b"body of the tail" not in (tmp_path / "new" / "data.mdb").read_bytes()
    with open_for_reading(tmp_path / "new") as copy, copy.snapshot() as snapshot:
        assert snapshot.position == LmdbJournal(copy).last_index == committed
        assert not snapshot.has_body(ledger.TENANT, ledger.body(b"body of the tail").digest)
        assert snapshot.body(ledger.TENANT, ledger.body(b"body 3").digest) == b"body 3"


def test_the_tail_can_be_appended_to_what_was_loaded(source: Source, tmp_path: Path) -> None:
    head = load(stream_of(source.store), tmp_path / "new")
    store = Store(tmp_path / "new", MAP_BYTES, durable=False)
    node = Source(store)
    node.note("tail", b"body of the tail")
    node.fold()
    with store.snapshot() as snapshot:
        assert snapshot.position == head.position + 1
        assert ledger.facts(snapshot.view(ledger.STREAM))[-1] == "tail"
        assert snapshot.body(ledger.TENANT, ledger.body(b"body of the tail").digest) == b"body of the tail"
    store.close()
    assert verify(tmp_path / "new").ok


def test_the_members_are_those_that_are_committed(source: Source, tmp_path: Path) -> None:
    one, two = Member("n1", "127.0.0.1:1", True), Member("n2", "127.0.0.1:2", False)
    source.configure((one,))
    source.fold()
    source.configure((one, two))
    head = load(stream_of(source.store), tmp_path / "new")
    assert head.members == (one,)
    with open_for_reading(tmp_path / "new") as copy:
        assert [found.members for found in LmdbJournal(copy).configurations()] == [(one,)]


def test_a_node_that_is_no_member_gets_no_database(source: Source, tmp_path: Path) -> None:
    source.configure((Member("n1", "127.0.0.1:1", True),))
    source.fold()
    read = io.BytesIO(stream_of(source.store)).read
    with pytest.raises(CheckpointError, match="n2 is no member of the cell yet"):
        load_checkpoint(read, tmp_path / "new", member="n2", map_size_bytes=MAP_BYTES)
    assert nothing_is_left(tmp_path / "new")


def test_a_database_of_the_first_release_has_checkpoints_too(source: Source, tmp_path: Path) -> None:
    with source.store.env.begin(write=True) as txn:
        txn.drop(source.store.db[CONFIGS])
    with open_for_reading(shutil.copytree(source.store.path, tmp_path / "old")) as old:
        assert CONFIGS not in old.db
        assert load(stream_of(old), tmp_path / "new").members == ()
    assert verify(tmp_path / "new").ok


def test_term_vote_and_commit_index_of_the_source_stay_behind(source: Source, tmp_path: Path) -> None:
    committed = source.journal.last_index
    source.note("tail")
    source.journal.setCurrentTerm(99, "n3")
    source.journal.setRaftCommitIndex(committed + 1)
    source.store.commit()
    load(stream_of(source.store), tmp_path / "new")
    with open_for_reading(tmp_path / "new") as copy:
        journal = LmdbJournal(copy)
        assert journal.getRaftCommitIndex() == committed
        assert journal.getVotedForNodeId() is None
        assert journal.getCurrentTerm() == journal.last_term == 7


def test_a_torn_stream_leaves_no_database(source: Source, tmp_path: Path) -> None:
    stream = stream_of(source.store)
    for length in [*range(0, len(stream), len(stream) // 40), len(stream) - 1]:
        with pytest.raises(CheckpointError, match="ends too early"):
            load(stream[:length], tmp_path / "new")
        assert nothing_is_left(tmp_path / "new")


def test_a_byte_that_was_altered_anywhere_leaves_no_database(source: Source, tmp_path: Path) -> None:
    stream = stream_of(source.store)
    places = [*range(0, 300, 3), *range(300, len(stream), len(stream) // 80), *range(len(stream) - 40, len(stream))]
    for place in places:
        altered = bytearray(stream)
        altered[place] ^= 0x55
        with pytest.raises(CheckpointError):
            load(bytes(altered), tmp_path / "new")
        assert nothing_is_left(tmp_path / "new")


def test_frames_that_were_left_out_or_changed_places_leave_no_database(source: Source, tmp_path: Path) -> None:
    frames = list(frames_of(stream_of(source.store)))
    for order in ([*frames[:2], *frames[3:]], [frames[0], frames[2], frames[1], *frames[3:]], frames[1:]):
        with pytest.raises(CheckpointError):
            load(b"".join(order), tmp_path / "new")
        assert nothing_is_left(tmp_path / "new")


def frames_of(stream: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(stream):
        end = at + 4 + int.from_bytes(stream[at : at + 4], "big")
        yield stream[at:end]
        at = end


def test_something_else_is_no_checkpoint(tmp_path: Path) -> None:
    for junk in (b"", b"HTTP/1.1 503 Service Unavailable\r\n\r\n", bytes(100), b"\0\0\0\1\xc0"):
        with pytest.raises(CheckpointError):
            load(junk, tmp_path / "new")
    assert nothing_is_left(tmp_path / "new")


def test_a_checkpoint_of_another_cell_is_refused(source: Source, tmp_path: Path) -> None:
    stream = stream_of(source.store)
    with pytest.raises(CheckpointError, match=f"of the cell {CELL}, this node is of elsewhere"):
        load_checkpoint(io.BytesIO(stream).read, tmp_path / "new", cell_id="elsewhere", map_size_bytes=MAP_BYTES)
    assert nothing_is_left(tmp_path / "new")


def test_a_database_is_never_written_over(source: Source, tmp_path: Path) -> None:
    stream = stream_of(source.store)
    load(stream, tmp_path / "new")
    before = (tmp_path / "new" / "data.mdb").read_bytes()
    with pytest.raises(CheckpointError, match="database already"):
        load(stream, tmp_path / "new")
    assert (tmp_path / "new" / "data.mdb").read_bytes() == before


def test_what_a_killed_attempt_left_does_not_stand_in_the_way(source: Source, tmp_path: Path) -> None:
    (tmp_path / "new.joining").mkdir()
    (tmp_path / "new.joining" / "data.mdb").write_bytes(b"half of a database")
    (tmp_path / "new").mkdir()  # where the node's lock already is
    load(stream_of(source.store), tmp_path / "new")
    assert verify(tmp_path / "new").ok
    assert not (tmp_path / "new.joining").exists()


def test_an_empty_log_makes_an_empty_database(store: Store, tmp_path: Path) -> None:
    assert load(stream_of(store), tmp_path / "new").position == 0
    with open_for_reading(tmp_path / "new") as copy, copy.snapshot() as snapshot:
        assert snapshot.position == LmdbJournal(copy).last_index == 0


def test_a_log_with_a_hole_is_not_streamed_to_its_end(source: Source, tmp_path: Path) -> None:
    source.store.txn.delete((20).to_bytes(8, "big"), db=source.store.db[LOG])
    source.store.commit()
    with pytest.raises(DamagedDatabase, match="no record 20"):
        stream_of(source.store)


def test_no_read_is_held_while_log_and_bodies_go_out(source: Source) -> None:
    held: list[bool] = []

    def out(_: bytes) -> None:
        held.append(pins_pages(source.store))

    write_checkpoint(source.store, out)
    assert held[0]  # the tables come in one snapshot
    assert not held[-1]
    assert held == sorted(held, reverse=True)


def pins_pages(store: Store) -> bool:
    """Whether a read transaction is open: its line names the transaction, that of a free slot has a dash."""
    return any(not line.rstrip().endswith("-") for line in store.env.readers().splitlines()[1:])


def test_a_checkpoint_taken_under_writes_is_whole_and_stands_at_one_position(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with single(tmp_path) as log:
            writing = True

            async def write() -> int:
                number = 0
                while writing:
                    body = b"body %d" % number + bytes(2000)
                    await log.propose(ledger.record(ledger.event(number), bodies=(ledger.body(body),)), [body])
                    number += 1
                return number

            writers = [asyncio.create_task(write()) for _ in range(4)]
            for number in range(3):
                await asyncio.sleep(0.1)
                path = tmp_path / f"new{number}"
                stream = await asyncio.to_thread(stream_of, log.store)
                head = await asyncio.to_thread(load, stream, path)
                report = await asyncio.to_thread(verify, path)
                assert (report.ok, report.records, report.head) == (True, head.position, head.chain)
                with log.snapshot() as snapshot:
                    stored = snapshot.record(head.position)
                    assert stored is not None
                    assert stored.chain == head.chain
                    assert snapshot.position > head.position
                assert rebuild(path, ledger.evolve).equal
            writing = False
            assert min(await asyncio.gather(*writers)) > 0

    run(scenario())
