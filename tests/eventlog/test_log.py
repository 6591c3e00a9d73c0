"""The log of a single node: propose, read, follow, verify, rebuild; kills, a full disk and damaged files."""

import asyncio
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import lmdb
import pytest
from structlog.testing import capture_logs

import eventlog.proposals
from eventlog.check import check_database
from eventlog.errors import DamagedDatabase, LogError, OutcomeUnknown, Rejected
from eventlog.log import Applied, EventLog, LogConfig
from eventlog.rebuild import rebuild
from eventlog.record import Guard, Record
from eventlog.replay import view_as_of
from eventlog.store import CHAIN, LOG, POSITION, SLICES, TABLES, Store, in_use
from eventlog.verify import verify, verify_store
from tests.eventlog import ledger
from tests.eventlog.opened import MAP_BYTES, single

Run = Callable[[Coroutine[Any, Any, Any]], Any]
TOP = Path(__file__).resolve().parents[2]


def noted(log: EventLog, stream: bytes = ledger.STREAM) -> list[Any]:
    with log.snapshot() as snapshot:
        return ledger.facts(snapshot.view(stream))


def with_body(data: bytes, *events: Any) -> tuple[Record, list[bytes]]:
    return ledger.record(*events, bodies=(ledger.body(data),)), [data]


# -- proposing -----------------------------------------------------------------------------------------------------


def test_a_proposal_is_answered_with_its_position_and_what_evolve_gave(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with single(tmp_path) as log:
            before = int(time.time() * 1000)
            first = await log.propose(ledger.record(ledger.event("a"), ledger.event("b")))
            second = await log.propose(ledger.record(ledger.event("c")))
            assert second.position == first.position + 1
            assert first.results == ((1, first.position), (2, first.position))
            assert second.results == ((3, second.position),)
            assert before <= first.at_ms <= second.at_ms
            assert noted(log) == ["a", "b", "c"]

    run(scenario())


def test_what_is_submitted_ends_in_a_future_and_what_is_malformed_is_refused_at_once(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with single(tmp_path) as log:
            outcomes = [log.submit(ledger.record(ledger.event(name))) for name in "abc"]
            with pytest.raises(Rejected, match="bad_record"):
                log.submit(ledger.record(id_=b"short"))
            first, *_, last = [await outcome for outcome in outcomes]
            assert last.position == first.position + 2
            assert noted(log) == ["a", "b", "c"]

    run(scenario())


def test_a_caller_sees_what_it_wrote_as_soon_as_it_is_answered(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with single(tmp_path) as log:
            for number in range(50):
                record, bodies = with_body(b"body %d" % number, ledger.event(number))
                await log.propose(record, bodies)
                with log.snapshot() as snapshot:
                    assert ledger.facts(snapshot.view(ledger.STREAM))[-1] == number
                    assert snapshot.body(ledger.TENANT, record.bodies[0].digest) == bodies[0]

    run(scenario())


def test_many_proposals_at_once_all_take_effect_once(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with single(tmp_path) as log:
            done = await asyncio.gather(*(log.propose(ledger.record(ledger.event(i))) for i in range(500)))
            assert len({committed.position for committed in done}) == 500
            assert sorted(noted(log)) == list(range(500))

    run(scenario())


def test_a_record_proposed_again_under_its_id_takes_effect_once_and_has_one_position(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with single(tmp_path) as log:
            record = ledger.record(ledger.event("once"))
            first = await log.propose(record)
            again = await log.propose(record)
            assert again.position == first.position
            assert noted(log) == ["once"]

    run(scenario())


def test_two_callers_with_the_same_record_at_once_get_the_same_answer(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with single(tmp_path) as log:
            record = ledger.record(ledger.event("once"))
            answers = await asyncio.gather(*(log.propose(record) for _ in range(5)))
            assert len({answer.position for answer in answers}) == 1
            assert noted(log) == ["once"]

    run(scenario())


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: ledger.record(expires_ms=1), "expired"),
        (lambda: ledger.record(guards=(Guard(ledger.STREAM, b"n", 77),)), "guard"),
        (lambda: ledger.record(ledger.event()._replace(version=300)), "bad_record"),
        (lambda: ledger.record()._replace(id=b"short"), "bad_record"),
        (lambda: ledger.record(bodies=(ledger.body(b"missing", b"chunk"),)), "chunk_gone"),
        (lambda: ledger.record(ledger.event(bytes(9 * 1024 * 1024))), "too_large"),
    ],
)
def test_a_rejection_says_why(tmp_path: Path, run: Run, make: Callable[[], Record], reason: str) -> None:
    async def scenario() -> None:
        async with single(tmp_path) as log:
            record = make()  # here, since a record expires
            with pytest.raises(Rejected) as caught:
                await log.propose(record, [b""] * len(record.bodies))
            assert caught.value.reason == reason
            assert noted(log) == []

    run(scenario())


@pytest.mark.parametrize("bodies", [[], [b"other bytes"], [b"the bytes", b"more"]])
def test_a_body_without_its_own_bytes_is_a_bad_record(tmp_path: Path, run: Run, bodies: list[bytes]) -> None:
    async def scenario() -> None:
        async with single(tmp_path) as log:
            with pytest.raises(Rejected) as caught:
                await log.propose(ledger.record(bodies=(ledger.body(b"the bytes"),)), bodies)
            assert caught.value.reason == "bad_record"

    run(scenario())


def test_a_proposer_whose_clock_is_off_is_refused(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with single(tmp_path) as log:
            monkeypatch.setattr(eventlog.proposals, "_now_ms", lambda: int(time.time() * 1000) + 10_000)
            with pytest.raises(Rejected) as caught:
                await log.propose(ledger.record())
            assert caught.value.reason == "clock"

    run(scenario())


def test_the_logs_time_never_goes_back(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with single(tmp_path) as log:
            real = time.time
            first = await log.propose(ledger.record())
            monkeypatch.setattr(time, "time", lambda: real() - 3000)
            second = await log.propose(ledger.record(expires_ms=first.at_ms + 60_000))
            assert second.at_ms >= first.at_ms

    run(scenario())


def test_proposals_that_wait_when_the_log_stops_are_unknown_and_later_ones_rejected(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with single(tmp_path) as log:
            waiting = [asyncio.ensure_future(log.propose(ledger.record(ledger.event(i)))) for i in range(200)]
            await asyncio.sleep(0)
            await log.stop()
            ends = await asyncio.gather(*waiting, return_exceptions=True)
            assert all(isinstance(end, OutcomeUnknown | tuple) for end in ends)
            with pytest.raises(Rejected) as caught:
                await log.propose(ledger.record())
            assert caught.value.reason == "stopping"
        async with single(tmp_path) as log:
            acknowledged = {i for i, end in enumerate(ends) if isinstance(end, tuple)}
            assert acknowledged <= set(noted(log))

    run(scenario())


def test_a_record_that_can_not_be_folded_stalls_the_fold_and_nothing_is_lost(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with single(tmp_path) as log:
            await log.propose(ledger.record(ledger.event("before")))
            with pytest.raises(OutcomeUnknown):
                await log.propose(ledger.record(ledger.event(type_="Fail")), timeout_s=0.5)
            assert "cannot be folded" in (log.status().stalled or "").replace("can not", "cannot")
            assert not log.status().accepting_mail
            with pytest.raises(Rejected) as caught:
                await log.propose(ledger.record())
            assert caught.value.reason == "busy"
            assert noted(log) == ["before"]

    with capture_logs():
        run(scenario())


# -- following -----------------------------------------------------------------------------------------------------


def test_subscribers_are_told_in_the_logs_order_and_only_of_their_stream(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with single(tmp_path) as log:
            one: list[Applied] = []
            everything: list[Applied] = []
            unsubscribe = log.subscribe(ledger.STREAM, one.extend)
            log.subscribe(None, everything.extend)
            await asyncio.gather(
                *(
                    log.propose(ledger.record(ledger.event(i, stream=(ledger.STREAM, ledger.OTHER)[i % 2])))
                    for i in range(60)
                )
            )
            assert [applied.fact for applied in one] == [i for i in (a.fact for a in everything) if i % 2 == 0]
            assert [a.stamp.position for a in everything] == sorted(a.stamp.position for a in everything)
            assert sorted(a.fact for a in everything) == list(range(60))
            assert [a.result[0] for a in one] == list(range(1, 31))
            unsubscribe()
            await log.propose(ledger.record(ledger.event("unheard")))
            assert len(one) == 30
            assert everything[-1].fact == "unheard"

    run(scenario())


def test_a_subscriber_is_told_after_it_can_be_read_and_never_of_what_was_refused(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with single(tmp_path) as log:
            seen: list[bool] = []

            def callback(applied: list[Applied]) -> None:
                with log.snapshot() as snapshot:
                    seen.extend(a.stamp.position <= snapshot.position for a in applied)

            log.subscribe(ledger.STREAM, callback)
            await log.propose(ledger.record(ledger.event("told")))
            with pytest.raises(Rejected):
                await log.propose(ledger.record(guards=(Guard(ledger.STREAM, b"n", 77),)))
            assert seen == [True]

    run(scenario())


def test_a_subscriber_that_raises_does_not_stop_the_node(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with single(tmp_path) as log:
            told: list[Applied] = []

            def broken(applied: list[Applied]) -> None:
                raise RuntimeError("a bug in a front end")

            log.subscribe(ledger.STREAM, broken)
            log.subscribe(ledger.STREAM, told.extend)
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
            await log.propose(ledger.record(), timeout_s=3)
            await log.propose(ledger.record(), timeout_s=3)
            assert len(told) == 2

    with capture_logs():
        run(scenario())


def test_the_log_is_followed_from_any_position_and_goes_on(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with single(tmp_path) as log:
            done = [await log.propose(ledger.record(ledger.event(i))) for i in range(5)]
            followed = []

            async def follow() -> None:
                async for stored in log.follow(done[2].position):
                    followed.append(stored)

            task = asyncio.ensure_future(follow())
            later = [await log.propose(ledger.record(ledger.event(i))) for i in range(600)]
            while not followed or followed[-1].position < later[-1].position:
                await asyncio.sleep(0.01)
            task.cancel()
            positions = [stored.position for stored in followed]
            assert positions == list(range(done[2].position, later[-1].position + 1))
            assert all(stored.record is not None and stored.outcome == 0 for stored in followed)

    run(scenario())


def test_a_barrier_gives_a_position_that_covers_everything_acknowledged(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with single(tmp_path) as log:
            for _ in range(20):
                done = await log.propose(ledger.record())
                assert await log.barrier() >= done.position
                assert log.status().applied >= done.position

    run(scenario())


def test_the_status_tells_what_the_snapshot_shows(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with single(tmp_path) as log:
            done = await log.propose(ledger.record())
            status = log.status()
            with log.snapshot() as snapshot:
                assert (snapshot.position, snapshot.chain) == (status.applied, status.chain)
            assert (status.role, status.leader, status.commit, status.applied) == (
                "leader",
                "n1",
                done.position,
                done.position,
            )
            assert status.accepting_mail

    run(scenario())


# -- time travel ---------------------------------------------------------------------------------------------------


def test_a_stream_is_shown_as_of_any_position(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with single(tmp_path) as log:
            shown: dict[int, list[Any]] = {}
            for number in range(20):
                stream = ledger.OTHER if number % 3 == 0 else ledger.STREAM
                done = await log.propose(ledger.record(ledger.event(number, stream=stream)))
                shown[done.position] = noted(log)
            with log.snapshot() as snapshot:
                for position, then in shown.items():
                    view = view_as_of(snapshot, ledger.STREAM, ledger.evolve, position=position)
                    assert ledger.facts(view) == then
                now = view_as_of(snapshot, ledger.STREAM, ledger.evolve)
                live = snapshot.view(ledger.STREAM)
                assert list(now.range(b"")) == list(live.range(b""))
                assert now.version(b"") == live.version(b"")
                assert now.version(b"n") == live.version(b"n")

    run(scenario())


def test_a_stream_is_shown_as_of_a_time_and_without_what_was_refused(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with single(tmp_path) as log:
            first = await log.propose(ledger.record(ledger.event("first")))
            with pytest.raises(Rejected):
                await log.propose(ledger.record(ledger.event("refused"), guards=(Guard(ledger.STREAM, b"n", 0),)))
            await asyncio.sleep(0.005)
            second = await log.propose(ledger.record(ledger.event("second")))
            with log.snapshot() as snapshot:
                for at_ms, then in (
                    (first.at_ms - 1, []),
                    (first.at_ms, ["first"]),
                    (second.at_ms - 1, ["first"]),
                    (second.at_ms, ["first", "second"]),
                ):
                    assert ledger.facts(view_as_of(snapshot, ledger.STREAM, ledger.evolve, at_ms=at_ms)) == then

    run(scenario())


# -- verify and rebuild --------------------------------------------------------------------------------------------


async def some_records(log: EventLog) -> int:
    """A log with events, bodies, a large body and a refusal; gives the position of one with a body."""
    for chunk in (b"one", b"two"):
        await log.propose(ledger.chunk_record(chunk), [chunk])
    await log.propose(ledger.record(bodies=(ledger.body(b"onetwo", b"one", b"two"),)), [b""])
    with pytest.raises(Rejected):
        await log.propose(ledger.record(guards=(Guard(ledger.STREAM, b"n", 77),)))
    record, bodies = with_body(b"a body of some bytes", ledger.event("x"), ledger.event("y", stream=ledger.OTHER))
    done = await log.propose(record, bodies)
    for number in range(5):
        await log.propose(ledger.record(ledger.event(number)))
    return done.position


@pytest.fixture
def written(tmp_path: Path, run: Run) -> tuple[Path, int]:
    """A stopped node's folder, and the position of a record with a body."""

    async def scenario() -> int:
        async with single(tmp_path) as log:
            return await some_records(log)

    return tmp_path / "data", run(scenario())


def test_a_live_log_verifies_and_its_tables_are_what_the_log_says(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with single(tmp_path) as log:
            await some_records(log)
            report = await asyncio.to_thread(verify, log)
            assert (report.ok, report.first_bad, report.problems) == (True, None, [])
            assert (report.records, report.head) == (log.status().applied, log.status().chain)
            again = await asyncio.to_thread(rebuild, log, ledger.evolve)
            assert (again.equal, again.differing, again.positions) == (True, [], log.status().applied)
            await log.propose(ledger.record())

    run(scenario())


def test_a_stopped_nodes_folder_is_verified_and_rebuilt(written: tuple[Path, int]) -> None:
    report = verify(written[0])
    assert report.ok
    assert rebuild(written[0], ledger.evolve).equal
    assert verify(written[0]).head == report.head


@pytest.mark.parametrize("table", [LOG, CHAIN, SLICES])
def test_every_changed_byte_of_a_record_a_chain_entry_or_a_body_is_found_and_named(
    written: tuple[Path, int], table: bytes
) -> None:
    folder, position = written
    store = Store(folder, MAP_BYTES, durable=False)
    key = POSITION.pack(position) + (b"\0\0" if table == SLICES else b"")
    whole = bytes(store.txn.get(key, db=store.db[table]) or b"")
    assert len(whole) >= 20
    for offset in range(len(whole)):
        damaged = bytearray(whole)
        damaged[offset] ^= 1
        store.txn.put(key, bytes(damaged), db=store.db[table])
        store.commit()
        report = verify_store(store)
        assert (report.ok, report.first_bad) == (False, position), f"byte {offset} of {table!r}"
        assert f"record {position}:" in report.problems[0]
    store.txn.put(key, whole, db=store.db[table])
    store.commit()
    assert verify_store(store).ok
    store.close()


@pytest.mark.parametrize("table", [LOG, CHAIN])
def test_a_record_or_chain_entry_that_is_gone_is_found_and_named(written: tuple[Path, int], table: bytes) -> None:
    folder, position = written
    store = Store(folder, MAP_BYTES, durable=False)
    store.txn.delete(POSITION.pack(position), db=store.db[table])
    store.commit()
    assert verify_store(store).first_bad == position
    store.close()


def test_records_that_change_places_are_found(written: tuple[Path, int]) -> None:
    folder, position = written
    store = Store(folder, MAP_BYTES, durable=False)
    keys = POSITION.pack(position), POSITION.pack(position + 1)
    values = [store.txn.get(key, db=store.db[LOG]) for key in keys]
    for key, value in zip(keys, reversed(values), strict=True):
        store.txn.put(key, value or b"", db=store.db[LOG])
    store.commit()
    assert verify_store(store).first_bad == position
    store.close()


def test_tables_that_are_not_what_the_log_says_are_found_by_a_rebuild(written: tuple[Path, int]) -> None:
    folder, _ = written
    store = Store(folder, MAP_BYTES, durable=False)
    key = ledger.STREAM + b"n"
    row = bytes(store.txn.get(key, db=store.db[TABLES]) or b"")
    store.txn.put(key, row[:-1] + bytes((row[-1] ^ 1,)), db=store.db[TABLES])
    store.commit()
    store.close()
    report = rebuild(folder, ledger.evolve)
    assert (report.equal, report.differing) == (False, ["tables"])
    assert verify(folder).ok


def test_a_rebuild_removes_what_one_that_was_killed_has_left_and_nothing_of_one_under_way(
    written: tuple[Path, int],
) -> None:
    left, under_way = (written[0].parent / f"refold-{name}" for name in ("left", "under-way"))
    left.mkdir()
    (left / "data.mdb").write_bytes(b"x")
    under_way.mkdir()
    with in_use(under_way):
        assert rebuild(written[0], ledger.evolve).equal
    assert (left.exists(), under_way.exists()) == (False, True)


# -- the check before joining --------------------------------------------------------------------------------------


def test_a_sound_database_and_an_absent_one_pass_the_check(written: tuple[Path, int], tmp_path: Path) -> None:
    assert check_database(written[0]) is None
    assert check_database(tmp_path / "nothing here") is None


def test_a_truncated_file_is_found_before_the_node_joins(written: tuple[Path, int]) -> None:
    file = written[0] / "data.mdb"
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size // 2)
    reason = check_database(written[0])
    assert reason is not None
    assert str(written[0]) in reason


def test_damaged_pages_are_found_before_the_node_joins(written: tuple[Path, int]) -> None:
    folder = written[0]
    whole = (folder / "data.mdb").read_bytes()
    found = 0
    for page in range(2, len(whole) // 4096, max(1, len(whole) // 4096 // 6)):
        damaged = bytearray(whole)
        damaged[page * 4096 : page * 4096 + 64] = b"\xff" * 64
        (folder / "data.mdb").write_bytes(damaged)
        found += check_database(folder) is not None
    (folder / "data.mdb").write_bytes(whole)
    assert found > 0
    assert check_database(folder) is None


def test_a_record_changed_on_disk_is_found_before_the_node_joins(written: tuple[Path, int]) -> None:
    folder, position = written
    store = Store(folder, MAP_BYTES)
    value = bytes(store.txn.get(POSITION.pack(position), db=store.db[LOG]) or b"")
    store.txn.put(POSITION.pack(position), value[:-1] + b"?", db=store.db[LOG])
    store.commit()
    store.close()
    assert f"record {position}" in (check_database(folder) or "")


def test_both_meta_pages_gone_is_a_reason_and_not_a_crash(written: tuple[Path, int]) -> None:
    with (written[0] / "data.mdb").open("r+b") as opened:
        opened.write(bytes(8192))
    assert check_database(written[0]) is not None


# -- kills ---------------------------------------------------------------------------------------------------------

CHILD = """
import asyncio, sys
from pathlib import Path
import structlog, uvloop
from tests.eventlog import ledger
from tests.eventlog.opened import single

async def client(log, name):
    for number in range(100000):
        data = f"{name} {number}".encode() * 50
        record = ledger.record(ledger.event((name, number)), bodies=(ledger.body(data),))
        done = await log.propose(record, [data])
        print(done.position, record.id.hex(), record.bodies[0].digest.hex(), flush=True)

async def main():
    async with single(Path(sys.argv[1])) as log:
        await asyncio.gather(*(client(log, name) for name in range(8)))

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
uvloop.run(main())
"""


def test_what_was_acknowledged_is_there_after_a_kill(tmp_path: Path, run: Run) -> None:
    acknowledged: dict[int, tuple[str, str]] = {}

    async def look() -> None:
        async with single(tmp_path) as log:
            with log.snapshot() as snapshot:
                for position, (id_, digest) in acknowledged.items():
                    stored = snapshot.record(position)
                    assert stored is not None
                    assert stored.record is not None
                    assert stored.record.id.hex() == id_
                    assert snapshot.body(ledger.TENANT, bytes.fromhex(digest)) is not None
            assert (await asyncio.to_thread(verify, log)).ok
            assert (await asyncio.to_thread(rebuild, log, ledger.evolve)).equal

    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=TOP,
        )
        assert child.stdout is not None
        for _, line in zip(range(150), child.stdout, strict=False):
            position, id_, digest = line.split()
            acknowledged[int(position)] = (id_, digest)
        child.send_signal(signal.SIGKILL)
        for line in child.stdout.read().splitlines(keepends=True):
            if line.endswith("\n"):
                position, id_, digest = line.split()
                acknowledged[int(position)] = (id_, digest)
        assert child.wait() == -signal.SIGKILL
        child.stdout.close()
        assert check_database(tmp_path / "data") is None
        run(look())
    assert len(acknowledged) >= 450


# -- a full disk ---------------------------------------------------------------------------------------------------


async def fill(log: EventLog, size: int, pause_s: float = 0.0) -> tuple[list[Record], str]:
    """Proposes bodies until one is rejected; gives what was acknowledged, and the reason."""
    acknowledged: list[Record] = []
    for number in range(10_000):
        record, bodies = with_body(number.to_bytes(4, "big") + bytes(size), ledger.event(number))
        try:
            await log.propose(record, bodies, timeout_s=5)
        except LogError as error:
            return acknowledged, getattr(error, "reason", "unknown")
        acknowledged.append(record)
        await asyncio.sleep(pause_s)
    raise AssertionError("the disk never filled")


def all_there(log: EventLog, records: list[Record]) -> bool:
    with log.snapshot() as snapshot:
        return all(snapshot.body(ledger.TENANT, r.bodies[0].digest) is not None for r in records)


def test_mail_is_refused_above_the_reserve_and_small_records_still_pass(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with single(tmp_path, map_size_bytes=16 << 20, reserve_bytes=6 << 20) as log:
            acknowledged, reason = await fill(log, 100_000, pause_s=0.01)
            assert reason == "disk_full"
            assert len(acknowledged) > 20
            assert not log.status().accepting_mail
            await log.propose(ledger.record(ledger.event("expunged")))
            assert noted(log)[-1] == "expunged"
            assert all_there(log, acknowledged)
            assert log.status().role == "leader"
        async with single(tmp_path, map_size_bytes=64 << 20, reserve_bytes=2 << 20) as log:
            assert log.status().accepting_mail
            assert all_there(log, acknowledged)
            record, bodies = with_body(bytes(200_000))
            await log.propose(record, bodies)
            assert (await asyncio.to_thread(verify, log)).ok

    run(scenario())


def test_a_tick_that_does_not_fit_never_happened_and_the_node_lives(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with single(tmp_path, map_size_bytes=4 << 20, reserve_bytes=0) as log:
            acknowledged, reason = await fill(log, 300_000)
            assert reason == "disk_full"
            assert all_there(log, acknowledged)
            with log.snapshot() as snapshot:
                assert ledger.facts(snapshot.view(ledger.STREAM)) == list(range(len(acknowledged)))
        async with single(tmp_path, map_size_bytes=64 << 20, reserve_bytes=0) as log:
            assert all_there(log, acknowledged)
            record, bodies = with_body(bytes(200_000))
            await log.propose(record, bodies)
            assert (await asyncio.to_thread(verify, log)).ok
            assert (await asyncio.to_thread(rebuild, log, ledger.evolve)).equal

    with capture_logs():
        run(scenario())


def test_a_single_node_leads_again_when_there_is_room_again(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with single(tmp_path, election_timeout_s=(0.05, 0.1), heartbeat_s=0.02) as log:
            commit = log.store.commit
            failing = [True]

            def full(*, last: bool = True) -> None:
                if failing[0] and log.store.dirty:
                    log.store.abort()
                    raise lmdb.MapFullError("mdb_txn_commit: no room")
                commit(last=last)

            log.store.commit = full  # type: ignore[method-assign]
            with pytest.raises(LogError):
                await log.propose(ledger.record(), timeout_s=1)
            failing[0] = False
            while not log.status().accepting_mail:
                await asyncio.sleep(0.05)
            await log.propose(ledger.record(ledger.event("again")), timeout_s=5)
            assert noted(log) == ["again"]

    with capture_logs():
        run(scenario())


def test_a_disk_that_fails_ends_the_consensus_thread_and_says_so(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        fatal: list[BaseException] = []
        config = LogConfig("n1", tmp_path / "data", {"n1": "127.0.0.1:0"}, "127.0.0.1:0", map_size_bytes=MAP_BYTES)
        log = EventLog.open(config, evolve=ledger.evolve, on_fatal=fatal.append)
        await log.start()
        await log.barrier()

        def broken(*, last: bool = True) -> None:
            raise lmdb.Error("mdb_txn_commit: Input/output error")

        log.store.commit = broken  # type: ignore[method-assign]
        with pytest.raises(OutcomeUnknown):
            await log.propose(ledger.record(), timeout_s=3)
        assert [type(error) for error in fatal] == [lmdb.Error]
        await log.stop()

    with capture_logs():
        run(scenario())


def test_an_event_of_a_later_version_ends_the_log_and_names_its_position(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        fatal: list[BaseException] = []
        config = LogConfig("n1", tmp_path / "data", {"n1": "127.0.0.1:0"}, "127.0.0.1:0", map_size_bytes=MAP_BYTES)
        log = EventLog.open(config, evolve=ledger.evolve, on_fatal=fatal.append)
        await log.start()
        with pytest.raises(LogError):
            await log.propose(ledger.record(ledger.event(type_="OfALaterVersion")), timeout_s=3)
        await log.stop()
        told = "position 4 holds an event type OfALaterVersion of a later version of mailraft"
        assert [str(error).startswith(told) for error in fatal] == [True]

    with capture_logs():
        run(scenario())


# -- opening and closing -------------------------------------------------------------------------------------------


def test_a_log_opened_again_goes_on_where_it_was(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        ends = []
        for number in range(3):
            async with single(tmp_path) as log:
                assert noted(log) == list(range(number))
                ends.append(await log.propose(ledger.record(ledger.event(number))))
        assert [end.position for end in ends] == sorted({end.position for end in ends})

    run(scenario())


def test_a_folder_of_another_format_is_not_opened(tmp_path: Path, run: Run) -> None:
    store = Store(tmp_path / "data", MAP_BYTES)
    store.put_meta(b"format", 99)
    store.commit()
    store.close()

    async def scenario() -> None:
        with pytest.raises(DamagedDatabase):
            async with single(tmp_path):
                pass

    run(scenario())


def test_stopping_twice_is_harmless(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with single(tmp_path) as log:
            await log.stop()

    run(scenario())


def test_a_node_whose_database_is_gone_does_not_pass_for_a_new_one(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with single(tmp_path) as log:
            await log.propose(ledger.record(ledger.event("once")))
            folder = log.config.data_dir
        assert check_database(folder) is None
        shutil.rmtree(folder)  # as if its disk were not mounted
        assert "Is its disk mounted?" in (check_database(folder) or "")

    run(scenario())


# -- what peers answer -----------------------------------------------------------------------------------------------


def answer(log: EventLog, match: int) -> dict[str, Any]:
    """What a follower says that has everything up to `match`."""
    return {"type": "next_node_idx", "term": log.status().term, "success": True, "match": match, "rejected": 0,
            "hint": 0, "hint_term": 0, "round": 0, "clock_ms": 0, "low_on_space": False}  # fmt: skip


def begins_a_tick(log: EventLog, message: dict[str, Any]) -> bool:
    log._message("n2", message)
    return log._pump._due


def test_an_answer_that_no_majority_waits_for_is_taken_with_what_comes_next(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with single(tmp_path) as log:
            await log.propose(ledger.record())
            assert not log._pump._ticking
            assert not begins_a_tick(log, answer(log, log.status().commit))
            await log.propose(ledger.record())
            assert log._pump._inbox == []

    run(scenario())


@pytest.mark.parametrize(
    ("beyond", "changed"),
    [
        (1, {}),
        (0, {"success": False}),
        (0, {"term": 0}),
        (0, {"lost": True}),
        (0, {"match": "x"}),
        (0, {"match": None}),
    ],
    ids=["a majority may wait for it", "refused", "of another term", "it lacks bytes", "no number", "nothing"],
)
def test_any_other_answer_is_taken_at_once(tmp_path: Path, run: Run, beyond: int, changed: dict[str, Any]) -> None:
    async def scenario() -> None:
        async with single(tmp_path) as log:
            assert begins_a_tick(log, {**answer(log, log.status().commit + beyond), **changed})

    run(scenario())


def test_an_answer_is_taken_at_once_while_the_leader_waits_for_more_than_a_majority(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with single(tmp_path) as log:
            log._pump.state = log._pump.state._replace(waits_for_answers=True)
            assert begins_a_tick(log, answer(log, log.status().commit))

    run(scenario())
