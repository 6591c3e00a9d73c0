"""What is redacted is gone from every node's files; the chain still verifies, and a refold gives the live tables."""

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgpack
import pytest
from structlog.testing import capture_logs

from eventlog import custody
from eventlog.erasure import FOLDER
from eventlog.fold import Fold
from eventlog.journal import KIND_RECORD, Command, LmdbJournal
from eventlog.log import EventLog
from eventlog.rebuild import rebuild
from eventlog.record import Event, Record, Stamp, decode_with_header, encode, leaves
from eventlog.rewrite import copy_places, same_rows
from eventlog.store import BODIES, LOG, LOG_HEAD, POSITION, TABLES, Store, in_use
from eventlog.verify import verify, verify_store
from eventlog.views import View
from tests.eventlog import ledger
from tests.eventlog.conftest import MAP_BYTES
from tests.eventlog.loopback import loopback, until
from tests.eventlog.opened import single

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(autouse=True)
def quiet() -> Any:
    with capture_logs() as told:
        yield told


def evolve(view: View, event: Event, stamp: Stamp) -> tuple[Any, Any]:
    """Keeps the first field of each event's data in a row of its own; a redaction writes them all again, blank."""
    fact = msgpack.unpackb(event.data, use_list=False)
    if event.type == "Noted":
        view.put(b"e" + stamp.position.to_bytes(8, "big"), fact[0])
    elif event.type == "RowsBlanked":
        for position in fact:
            view.put(b"e" + position.to_bytes(8, "big"), "")
    return fact, None


@pytest.fixture(autouse=True)
def ledger_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "evolve", evolve)


def secret() -> str:
    return f"secret-{os.urandom(16).hex()}"


def redaction(log: EventLog, positions: list[int]) -> Record:
    """Erases the data and the body of the records at these positions."""
    events, bodies = [], []
    with log.snapshot() as snapshot:
        for position in positions:
            stored = snapshot.record(position)
            assert stored is not None
            record = stored.record
            assert record is not None
            events.append((position, 0, ((0, ""),), custody.left_of(record.events[0].data, ((0, ""),))))
            bodies += [(position, number, body.tenant + body.digest) for number, body in enumerate(record.bodies)]
    return ledger.record(
        ledger.event((events, bodies, "a test"), stream=custody.CUSTODY, type_=custody.LOG_REDACTED),
        ledger.event(tuple(positions), type_="RowsBlanked"),
    )


def with_secrets(text: str) -> tuple[Record, list[bytes]]:
    data = f"body {text}".encode()
    return ledger.record(ledger.event((text, 1)), bodies=(ledger.body(data),)), [data]


def files_with(folder: Path, *texts: str) -> list[Path]:
    """The files below a folder in which one of these texts stands."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in files if any(text.encode() in path.read_bytes() for text in texts)]


async def erased(log: EventLog, position: int) -> None:
    await until(lambda: log.eraser.status().erased >= position, "the end of an erasure")


async def check(log: EventLog) -> None:
    assert (await asyncio.to_thread(verify, log)).ok
    report = await asyncio.to_thread(rebuild, log, evolve)
    assert report.equal, report.differing


def test_a_redaction_is_gone_from_the_files_of_every_node_even_of_one_that_was_down(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with loopback(tmp_path) as cell:
            leader = cell.logs[await cell.leader()]
            texts = [secret(), secret()]
            positions = [(await leader.propose(*with_secrets(text))).position for text in texts]
            kept = secret()
            await leader.propose(*with_secrets(kept))
            await cell.level()
            away = (await cell.followers())[0]
            await cell.die(away)
            leader = cell.logs[await cell.leader()]
            chain = leader.status().chain
            done = await leader.propose(redaction(leader, positions))
            for log in cell.logs.values():
                await erased(log, done.position)
            await cell.start(away)
            await erased(cell.logs[away], done.position)
            await leader.propose(ledger.record(ledger.event(("after", 1))))
            await cell.level()
            for log in cell.logs.values():
                await check(log)
                with log.snapshot() as snapshot:
                    before = snapshot.record(done.position - 1)
                    assert before is not None
                    assert before.chain == chain
            for name in tuple(cell.logs):
                await cell.stop(name)
                assert files_with(tmp_path / name, *texts) == []
                assert files_with(tmp_path / name, kept)
            await cell.start()

    run(scenario())


def test_a_node_that_was_behind_gets_what_is_left_and_agrees(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with loopback(tmp_path) as cell:
            away = (await cell.followers())[0]
            await cell.die(away)
            leader = cell.logs[await cell.leader()]
            text = secret()
            position = (await leader.propose(*with_secrets(text))).position
            done = await leader.propose(redaction(leader, [position]))
            await erased(leader, done.position)
            await cell.start(away)
            await cell.level()
            await erased(cell.logs[away], done.position)
            await check(cell.logs[away])
            assert files_with(tmp_path / away, text) == []

    run(scenario())


def test_a_node_goes_on_while_its_file_is_written_anew_and_loses_nothing(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with single(tmp_path, evolve=evolve) as log:
            text = secret()
            position = (await log.propose(*with_secrets(text))).position
            for _ in range(5):
                await asyncio.gather(*(log.propose(*with_secrets(f"{n}{'x' * 2000}")) for n in range(100)))
            done = await log.propose(redaction(log, [position]))
            written = 0
            while log.eraser.status().erased < done.position:
                await log.propose(*with_secrets(f"while {written}"))
                written += 1
            assert written > 0
            await log.propose(ledger.record(ledger.event(("after", 1))))
            await check(log)
            with log.snapshot() as snapshot:
                assert len(list(snapshot.view(ledger.STREAM).range(b"e"))) == 1 + 500 + written + 1
        assert files_with(tmp_path, text) == []
        async with single(tmp_path, evolve=evolve) as log:
            await check(log)

    run(scenario())


def test_an_erasure_that_was_interrupted_is_taken_up_at_the_next_start(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        text = secret()
        async with single(tmp_path, evolve=evolve) as log:
            position = (await log.propose(*with_secrets(text))).position
            done = await log.propose(redaction(log, [position]))
        assert files_with(tmp_path, text), "it was stopped before the end"
        leftover = tmp_path / "data" / FOLDER
        leftover.mkdir(exist_ok=True)
        (leftover / "data.mdb").write_text(text)
        async with single(tmp_path, evolve=evolve) as log:
            await erased(log, done.position)
            await check(log)
        assert files_with(tmp_path, text) == []

    run(scenario())


def test_the_file_is_not_replaced_while_another_process_reads_it(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with single(tmp_path, evolve=evolve) as log:
            position = (await log.propose(*with_secrets(secret()))).position
            file = tmp_path / "data" / "data.mdb"
            before = file.stat().st_ino
            with in_use(tmp_path / "data"):
                done = await log.propose(redaction(log, [position]))
                await asyncio.sleep(1.5)
                assert file.stat().st_ino == before
                assert log.eraser.status().redacted == done.position
            await erased(log, done.position)
            assert file.stat().st_ino != before

    run(scenario())


@pytest.mark.parametrize("seed", range(8))
def test_rows_written_while_the_copy_is_made_are_in_it_at_the_end(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    live = Store(tmp_path / "live", MAP_BYTES, durable=False)

    def write(times: int) -> None:
        for _ in range(times):
            name, key = rng.choice((LOG, TABLES)), rng.randbytes(1)
            if rng.random() < 0.4:
                live.txn.delete(key, db=live.db[name])
            else:
                live.txn.put(key, rng.randbytes(rng.choice((3, 300, 9000))), db=live.db[name])
            if rng.random() < 0.1:
                live.commit()
        live.commit()

    write(300)
    live.changed = set()
    command = [sys.executable, "-m", "eventlog.rewrite", str(tmp_path / "live"), str(tmp_path / "fresh")]
    subprocess.run(command, check=True, capture_output=True)
    fresh = Store(tmp_path / "fresh", MAP_BYTES, durable=False)
    for _ in range(3):
        write(rng.randrange(200))
        places, live.changed = live.changed, set()
        copy_places(live, fresh, places)
    assert same_rows(live, fresh)
    assert live.env.stat()["entries"] > 0
    fresh.close()
    live.close()


def test_who_wants_the_file_alone_waits_for_those_who_read(tmp_path: Path) -> None:
    with in_use(tmp_path), pytest.raises(BlockingIOError), in_use(tmp_path, alone=True):
        pass
    with in_use(tmp_path, alone=True):
        pass


# -- what is left of a record --------------------------------------------------------------------------------------


def test_what_is_left_of_a_record_has_the_same_leaves_and_none_of_what_was_erased() -> None:
    data = b"the body"
    before = ledger.record(ledger.event(("secret", 7)), ledger.event(("kept", 8)), bodies=(ledger.body(data),))
    raw = encode(before)
    left = custody.without(raw, {0: ((0, ""),)}, {0})
    assert b"secret" not in left
    assert before.events[0].salt not in left
    assert before.bodies[0].salt not in left
    assert leaves(*decode_with_header(left)) == leaves(*decode_with_header(raw))
    after = decode_with_header(left)[0]
    assert msgpack.unpackb(after.events[0].data) == ["", 7]
    assert after.events[1] == before.events[1]
    assert custody.without(left, {0: ((0, ""),)}, {0}) == left


@pytest.mark.parametrize(
    "fact",
    [
        None,
        (),
        ([], []),
        ([(1, 0, ((0, ""),), "no digest")], [], "x"),
        ([(1, 0, (("field", ""),), b"")], [], "x"),
        ([(-1, 0, (), b"")], [], "x"),
        ([], [(1, 0, 5)], "x"),
        (5, [], "x"),
    ],
)
def test_what_is_not_a_redaction_erases_nothing(fact: Any) -> None:
    event = ledger.event(fact, stream=custody.CUSTODY, type_=custody.LOG_REDACTED)
    assert custody.redaction_in(event) is None


# -- what the proof says -------------------------------------------------------------------------------------------


def alter(path: Path, position: int, change: Callable[[bytes], bytes]) -> None:
    """Writes into a stopped node's log what the log itself never would."""
    store = Store(path, MAP_BYTES, durable=False)
    value = store.txn.get(POSITION.pack(position), db=store.db[LOG])
    assert value is not None
    altered = value[: LOG_HEAD.size] + change(value[LOG_HEAD.size :])
    store.txn.put(POSITION.pack(position), altered, db=store.db[LOG])
    store.commit()
    store.close()


def test_verification_counts_redactions_and_finds_what_was_erased_without_one_or_altered_after_it(
    tmp_path: Path, run: Run
) -> None:
    positions: list[int] = []

    async def scenario() -> None:
        async with single(tmp_path, evolve=evolve) as log:
            positions.extend([(await log.propose(*with_secrets(secret()))).position for _ in range(2)])
            done = await log.propose(redaction(log, positions[:1]))
            await erased(log, done.position)

    run(scenario())
    data = tmp_path / "data"
    report = verify(data)
    assert (report.ok, report.redactions) == (True, 2)
    alter(data, positions[0], lambda data: custody.without(data, {0: ((1, 99),)}, ()))
    assert verify(data).first_bad == positions[0]
    alter(data, positions[0], lambda data: custody.without(data, {0: ((1, 1),)}, ()))
    assert verify(data).ok
    alter(data, positions[1], lambda data: custody.without(data, {0: ((0, ""),)}, {0}))
    report = verify(data)
    assert report.first_bad == positions[1]
    assert len(report.problems) == 2


@pytest.mark.parametrize("appended_first", [True, False])
def test_a_body_that_comes_again_behind_its_redaction_stays_whichever_of_both_a_node_does_first(
    tmp_path: Path, appended_first: bool
) -> None:
    store = Store(tmp_path / "data", MAP_BYTES, durable=False)
    journal = LmdbJournal(store)
    fold = Fold(store, journal, evolve)
    text = b"the same text"
    brought = ledger.record(bodies=(ledger.body(text),), expires_ms=2**50)
    again = ledger.record(bodies=(ledger.body(text),), expires_ms=2**50)
    key = ledger.TENANT + brought.bodies[0].digest
    named = bytes(msgpack.packb(((), ((1, 0, key),), "a reason")))
    redacted = ledger.record(
        Event(ledger.TENANT, custody.CUSTODY, custody.LOG_REDACTED, 1, named, bytes(16)), expires_ms=2**50
    )

    def append(record: Record, index: int, bodies: list[bytes]) -> None:
        journal.add(Command(KIND_RECORD, 1000 + index, encode(record), bodies), index, 1)

    append(brought, 1, [text])
    fold.apply(journal.entry(1))
    append(redacted, 2, [])
    if appended_first:
        append(again, 3, [text])
    fold.apply(journal.entry(2))
    with_body = store.txn.get(key, db=store.db[BODIES])
    assert (with_body is not None) == appended_first
    if not appended_first:
        append(again, 3, [text])
    fold.apply(journal.entry(3))
    fold.flush()
    store.commit()
    with store.snapshot() as snapshot:
        assert snapshot.body(ledger.TENANT, key[16:]) == text
        assert snapshot.introduced(1, 0) is None
        assert snapshot.introduced(3, 0) == text
    assert verify_store(store).ok
    store.close()
