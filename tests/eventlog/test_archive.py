"""What is archived leaves the database for files beside it, and everything that reads the log goes on reading it."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import msgpack
import pytest
from structlog.testing import capture_logs

from eventlog import custody
from eventlog.archive import archivals
from eventlog.archive_files import write
from eventlog.archived import ARCHIVED, ArchiveError, Segment
from eventlog.check import check_database
from eventlog.checkpoint import load_checkpoint, write_checkpoint
from eventlog.errors import Rejected
from eventlog.journal import LmdbJournal
from eventlog.log import EventLog
from eventlog.rebuild import rebuild
from eventlog.record import Record
from eventlog.replay import view_as_of
from eventlog.segment_frames import SegmentError
from eventlog.segment_source import StoreSource, records_of
from eventlog.segments import read_segment
from eventlog.store import GENESIS, LOG, POSITION, SLICES, open_for_reading
from eventlog.verify import verify
from tests.eventlog import ledger
from tests.eventlog.loopback import loopback, until
from tests.eventlog.opened import single
from tests.eventlog.test_erasure import evolve, redaction, secret, with_secrets

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(ledger, "evolve", evolve)
    with capture_logs() as told:
        yield told


def archival(log: EventLog, *ranges: tuple[int, int]) -> Record:
    """The record that lets these positions leave the database."""
    with log.snapshot() as snapshot:

        def chain(position: int) -> bytes:
            return (snapshot.folded(position) or GENESIS)[:32]

        segments = [(first, last, chain(first - 1), chain(last)) for first, last in ranges]
    return ledger.record(ledger.event((segments,), stream=custody.CUSTODY, type_=custody.LOG_ARCHIVED))


async def fill(log: EventLog, count: int, live: str = "") -> list[str]:
    """Proposes so many records with a text and a body each; a table names the body that holds `live`."""
    texts = [secret() for _ in range(count)]
    for text in texts:
        await log.propose(*with_secrets(text))
    return texts


def delete(log: EventLog, position: int) -> None:
    log.store.txn.delete(POSITION.pack(position), db=log.store.db[LOG])


def swept(log: EventLog, position: int) -> bool:
    status = log.archivist.status()
    assert status.error is None, status.error
    return status.swept >= position


async def archive(log: EventLog, *ranges: tuple[int, int]) -> int:
    done = await log.propose(archival(log, *ranges))
    await until(lambda: swept(log, ranges[-1][1]), "the end of an archival")
    return done.position


def in_database(log: EventLog, name: bytes, last: int) -> int:
    """How many rows of a table are of positions up to `last`."""
    with log.snapshot() as snapshot:
        return sum(1 for key, _ in snapshot.raw(name) if key[:8] <= POSITION.pack(last))


async def check(log: EventLog) -> None:
    report = await asyncio.to_thread(verify, log)
    assert report.ok, report.problems
    refold = await asyncio.to_thread(rebuild, log, evolve)
    assert refold.equal, refold.differing


def held(folder: Path, text: str) -> list[Path]:
    """The files below a folder that hold a text, in their bytes or in what a segment of them unpacks to."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.endswith(".pem"):
            data = path.read_bytes()
            if path.name.startswith("segment-"):
                data += b"".join(record.value + repr(record.bodies).encode() for record in read_segment(path))
            if text.encode() in data:
                found.append(path)
    return found


def test_every_reader_finds_what_was_archived(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with single(tmp_path, evolve=evolve) as log:
            texts = await fill(log, 40)
            with log.snapshot() as snapshot:
                last = snapshot.position
                before = list(records_of(log.store, 1, last))
                stored = [(one.position, one.data, one.chain) for one in snapshot.records()]
            await archive(log, (1, 20), (21, 35))
            assert in_database(log, LOG, 35) == in_database(log, SLICES, 35) == 0
            assert in_database(log, LOG, last) == last - 35
            assert list(records_of(log.store, 1, last)) == before
            with log.snapshot() as snapshot:
                assert [(one.position, one.data, one.chain) for one in snapshot.records(1, last)] == stored
                assert [one.position for one in snapshot.records(18, 37)] == list(range(18, 38))
                one = snapshot.record(19)
                assert one is not None
                record = one.record
                assert record is not None
                body = record.bodies[0]
                text = msgpack.unpackb(record.events[0].data)[0]
                assert snapshot.body(body.tenant, body.digest) == f"body {text}".encode()
                as_of = view_as_of(snapshot, ledger.STREAM, evolve, position=19)
                assert [row for _, row in as_of.range(b"e")] == texts[: texts.index(text) + 1]
            assert StoreSource(log.store, "").at(7).chain == before[6].folded[:32]
            await check(log)
        async with single(tmp_path, evolve=evolve) as log:
            await check(log)
            assert (await log.propose(*with_secrets("after"))).position > last
        report = verify(tmp_path / "data")
        assert report.ok, report.problems

    run(scenario())


def test_a_body_that_a_table_names_stays_in_the_database(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with single(tmp_path, evolve=evolve) as log:
            live, gone = b"a body that is shown", b"a body that nothing names"
            bodies = ledger.body(live), ledger.body(gone)
            event = ledger.event((bodies[0].digest, 1))
            done = await log.propose(ledger.record(event, bodies=bodies), [live, gone])
            await archive(log, (1, done.position))
            with log.snapshot() as snapshot:
                assert [value for _, value in snapshot.raw(SLICES)] == [live]
                assert [snapshot.body(one.tenant, one.digest) for one in bodies] == [live, gone]
            await check(log)

    run(scenario())


def test_what_no_table_names_any_more_leaves_the_database_with_the_next_archival(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with single(tmp_path, evolve=evolve) as log:
            body = os.urandom(2_000_000)
            digest = ledger.body(body).digest
            shown = await log.propose(ledger.record(ledger.event((digest, 1)), bodies=(ledger.body(body),)), [body])
            await archive(log, (1, shown.position))
            assert in_database(log, SLICES, shown.position) == 1
            blank = ledger.event((shown.position,), type_="RowsBlanked")  # the row names it no more
            done = await log.propose(ledger.record(blank))
            await archive(log, (shown.position + 1, done.position))
            await until(lambda: in_database(log, SLICES, shown.position) == 0, "the body leaves")
            with log.snapshot() as snapshot:
                assert snapshot.body(ledger.TENANT, digest) == body
            await check(log)

    run(scenario())


def test_every_node_archives_by_itself_and_one_that_was_away_does_it_when_it_comes_back(
    tmp_path: Path, run: Run
) -> None:
    async def scenario() -> None:
        async with loopback(tmp_path) as cell:
            leader = cell.logs[await cell.leader()]
            away = (await cell.followers())[0]
            await fill(leader, 10)
            await cell.level()
            await cell.die(away)
            await fill(leader, 20)
            leader = cell.logs[await cell.leader()]
            await archive(leader, (1, 15), (16, 25))
            await cell.start(away)  # what it lacks is sent from the leader's segments
            await cell.level()
            await until(lambda: all(log.archivist.status().swept == 25 for log in cell.logs.values()), "all archives")
            for log in cell.logs.values():
                assert in_database(log, LOG, 25) == 0
                await check(log)
            files = {tuple(path.read_bytes() for path in sorted(log.store.archive.folder.iterdir()))
                     for log in cell.logs.values()}  # fmt: skip
            assert len(files) == 1

    run(scenario())


def test_what_is_redacted_is_gone_from_the_archive(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with single(tmp_path, evolve=evolve) as log:
            texts = await fill(log, 12)
            with log.snapshot() as snapshot:
                place = {
                    msgpack.unpackb(record.events[0].data)[0]: one.position
                    for one in snapshot.records()
                    if (record := one.record) is not None and record.bodies
                }
            await archive(log, (1, 8), (9, 10))
            secret_text, kept = texts[2], texts[3]
            folder = tmp_path / "data"
            assert held(folder / "archive", secret_text)
            done = await log.propose(redaction(log, [place[secret_text]]))
            with log.snapshot() as snapshot:  # at once, before any file was written anew
                stored = snapshot.record(place[secret_text])
                assert stored is not None
                assert secret_text.encode() not in stored.data
            await until(lambda: log.eraser.status().erased >= done.position, "the end of an erasure")
            await check(log)
            assert in_database(log, LOG, 10) == 0
        assert held(tmp_path, secret_text) == []
        assert held(folder / "archive", kept)
        assert verify(folder).redactions == 2

    run(scenario())


@pytest.mark.parametrize("step", ["written", "listed", "half removed"])
def test_a_node_that_is_killed_while_it_archives_goes_on(tmp_path: Path, run: Run, step: str) -> None:
    async def scenario() -> None:
        async with single(tmp_path, evolve=evolve) as log:
            await fill(log, 30)
            before = list(records_of(log.store, 1, 20))
            await log.archivist.stop()
            await log.propose(archival(log, (1, 12), (13, 20)))
            list(write(log.store, "", [Segment(1, 12), Segment(13, 20)]))
            (log.store.archive.folder / "segment-000000000021-000000000030.partial").write_bytes(b"torn")
            if step != "written":
                await log.between_ticks(lambda: log.store.put_meta(ARCHIVED, ((1, 12),)))
            if step == "half removed":
                for position in (1, 2, 3, 7):
                    await log.between_ticks(partial(delete, log, position))
        assert verify(tmp_path / "data").ok
        async with single(tmp_path, evolve=evolve) as log:
            await until(lambda: log.archivist.status().swept == 20, "the rest")
            assert in_database(log, LOG, 20) == in_database(log, SLICES, 20) == 0
            assert list(records_of(log.store, 1, 20)) == before
            assert len(list(log.store.archive.folder.iterdir())) == 2
            await check(log)

    run(scenario())


def test_the_room_of_what_was_archived_goes_back_to_the_disk_when_it_is_asked_for(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with single(tmp_path, evolve=evolve) as log:
            file = log.store.path / "data.mdb"
            for _ in range(10):
                data = os.urandom(500_000)
                await log.propose(ledger.record(bodies=(ledger.body(data),)), [data])
            await archive(log, (1, 10))
            before = file.stat().st_size
            await log.eraser.rewrite()
            assert file.stat().st_size < before / 2
            await check(log)

    run(scenario())


def test_something_redacted_while_a_segment_is_written_is_not_in_it(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with single(tmp_path, evolve=evolve) as log:
            text = secret()
            position = (await log.propose(*with_secrets(text))).position
            await log.archivist.stop()
            await log.propose(archival(log, (1, position)))
            ((segment, shows),) = write(log.store, "", [Segment(1, position)])
            assert held(tmp_path / "data" / "archive", text)
            done = await log.propose(redaction(log, [position]))
            assert not await log.between_ticks(lambda: log.archivist._take_over(segment, shows))
            log.archivist.start()
            await until(lambda: log.archivist.status().swept == position, "the archival")
            await until(lambda: log.eraser.status().erased >= done.position, "the erasure")
            await check(log)
        assert held(tmp_path, text) == []

    run(scenario())


def test_a_new_node_starts_from_the_checkpoint_of_one_that_has_archived(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with single(tmp_path, evolve=evolve) as log:
            await fill(log, 20)
            await archive(log, (1, 15))
            stream = BytesIO()
            await asyncio.to_thread(write_checkpoint, log.store, stream.write)
            expected = list(records_of(log.store, 1, 20))
        stream.seek(0)
        load_checkpoint(stream.read, tmp_path / "new" / "data")
        async with single(tmp_path / "new", evolve=evolve) as log:
            await until(lambda: log.archivist.status().swept == 15, "its own archive")
            assert list(records_of(log.store, 1, 20)) == expected
            await check(log)

    run(scenario())


@pytest.mark.parametrize("damage", ["missing", "flipped", "cut", "last byte"])
def test_a_damaged_segment_is_named_with_its_positions_and_is_repaired_by_a_good_one(
    tmp_path: Path, run: Run, damage: str
) -> None:
    async def scenario() -> None:
        async with single(tmp_path, evolve=evolve) as log:
            await fill(log, 30)
            await archive(log, (1, 10), (11, 20))
            path = log.store.archive.path(Segment(11, 20))
            good = path.read_bytes()
            data = bytearray(good)
            if damage == "missing":
                path.unlink()
            elif damage == "cut":
                path.write_bytes(data[: len(data) // 2])
            else:
                data[-1 if damage == "last byte" else len(data) // 2] ^= 1
                path.write_bytes(data)
            report = await asyncio.to_thread(verify, log)
            assert not report.ok
            assert report.first_bad == 11
            assert path.name in report.problems[0]
            assert "11 to 20" in report.problems[0]
            if damage != "last byte":
                with log.snapshot() as snapshot, pytest.raises(ArchiveError, match=r"positions 11 to 20"):
                    snapshot.record(15)
            assert await asyncio.to_thread(check_database, log.store.path) is None  # the node may go on with the rest
            journal = LmdbJournal(log.store)
            if damage != "last byte":
                assert journal.entries(15, 10**6) == []
                assert [index for _, index, _ in journal.entries(8, 10**6)] == [8, 9, 10]
            assert log.archivist.status().archived == 20
            wrong = tmp_path / "wrong"
            wrong.write_bytes(log.store.archive.path(Segment(1, 10)).read_bytes())
            with pytest.raises(SegmentError):
                await log.archivist.install(Segment(11, 20), wrong)
            right = log.store.archive.folder / "from-elsewhere"
            right.write_bytes(good)
            await log.archivist.install(Segment(11, 20), right)
            await check(log)

    run(scenario())


def test_an_archival_that_does_not_say_what_the_chain_is_is_refused(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with single(tmp_path, evolve=evolve) as log:
            await fill(log, 5)
            wrong = ((1, 4, GENESIS, os.urandom(32)),)
            event = ledger.event((wrong,), stream=custody.CUSTODY, type_=custody.LOG_ARCHIVED)
            with pytest.raises(Rejected, match="misplaced"):
                await log.propose(ledger.record(event))
            with log.snapshot() as snapshot:
                assert archivals(snapshot) == []

    run(scenario())


def test_a_stopped_node_is_read_with_its_archive(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with single(tmp_path, evolve=evolve) as log:
            await fill(log, 10)
            await archive(log, (1, 8))

    run(scenario())
    with open_for_reading(tmp_path / "data") as store, store.snapshot() as snapshot:
        assert [one.position for one in snapshot.records(1, 10)] == list(range(1, 11))
