"""Three nodes over mutual TLS: any node takes proposals, all end alike, and losing one loses nothing."""

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from eventlog.errors import LogError, OutcomeUnknown, Rejected
from eventlog.fold import Outcome
from eventlog.frames import encode_frame
from eventlog.log import EventLog
from eventlog.rebuild import rebuild, table_digests
from eventlog.record import Record, encode
from eventlog.transport import split_address
from eventlog.verify import verify
from nodes.tls.contexts import issue_admin
from tests.eventlog import ledger
from tests.eventlog.loopback import CLUSTER, NAMES, Loopback, loopback, until

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(autouse=True)
def quiet() -> Any:
    """Elections and refused peers are told in the log."""
    with capture_logs() as told:
        yield told


def with_body(name: str, number: int, size: int = 200) -> tuple[Record, list[bytes]]:
    data = f"{name} {number} ".encode() * (size // 8)
    return ledger.record(ledger.event((name, number)), bodies=(ledger.body(data),)), [data]


def effective_ids(log: EventLog) -> list[bytes]:
    """The ids of the clients' records that took effect, in order."""
    with log.snapshot() as snapshot:
        stored = [s for s in snapshot.records() if s.outcome == Outcome.COMMITTED]
        return [s.record.id for s in stored if s.record is not None and s.record.by == ledger.CLIENT]


def bodies_are_there(log: EventLog, records: list[Record]) -> bool:
    with log.snapshot() as snapshot:
        return all(snapshot.body(b.tenant, b.digest) is not None for record in records for b in record.bodies)


async def propose_some(log: EventLog, count: int, size: int = 200) -> list[Record]:
    proposals = [with_body(log.config.name, number, size) for number in range(count)]
    await asyncio.gather(*(log.propose(*proposal) for proposal in proposals))
    return [record for record, _ in proposals]


# -- together ------------------------------------------------------------------------------------------------------


def test_every_node_takes_proposals_and_all_nodes_end_with_the_same_chain_and_tables(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with loopback(tmp_path) as cell:
            await cell.leader()
            proposed = await asyncio.gather(*(propose_some(log, 100) for log in cell.logs.values()))
            await cell.level()
            ids = {record.id for records in proposed for record in records}
            for log in cell.logs.values():
                assert set(effective_ids(log)) == ids
                assert len(effective_ids(log)) == 300
                assert all(bodies_are_there(log, records) for records in proposed)
                assert (await asyncio.to_thread(verify, log)).ok
                assert (await asyncio.to_thread(rebuild, log, ledger.evolve)).equal
            digests = []
            for log in cell.logs.values():
                with log.snapshot() as snapshot:
                    digests.append(table_digests(snapshot))
            assert digests[0] == digests[1] == digests[2]

    run(scenario())


def test_a_caller_at_a_follower_sees_what_it_wrote_there(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with loopback(tmp_path) as cell:
            for name in await cell.followers():
                log = cell.logs[name]
                for number in range(20):
                    record, bodies = with_body(name, number)
                    done = await log.propose(record, bodies)
                    assert log.status().applied >= done.position
                    assert bodies_are_there(log, [record])
                    assert done.results[0][1] == done.position

    run(scenario())


def test_a_barrier_on_a_follower_shows_what_the_leader_acknowledged(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with loopback(tmp_path) as cell:
            leader = cell.logs[await cell.leader()]
            follower = cell.logs[(await cell.followers())[0]]
            for number in range(30):
                done = await leader.propose(ledger.record(ledger.event(number)))
                assert await follower.barrier() >= done.position
                with follower.snapshot() as snapshot:
                    assert ledger.facts(snapshot.view(ledger.STREAM))[-1] == number

    run(scenario())


def test_a_record_that_another_process_has_packed_takes_effect_wherever_it_is_handed_in(
    tmp_path: Path, run: Run
) -> None:
    async def scenario() -> None:
        async with loopback(tmp_path) as cell:
            await cell.leader()
            proposals = [(log, *with_body(name, 0)) for name, log in cell.logs.items()]
            done = [log.submit_packed(record.id, encode(record), data, 8.0) for log, record, data in proposals]
            await asyncio.gather(*done)
            await cell.level()
            for log in cell.logs.values():
                assert set(effective_ids(log)) == {record.id for _, record, _ in proposals}
                assert bodies_are_there(log, [record for _, record, _ in proposals])

    run(scenario())


def test_subscribers_on_every_node_are_told_the_same_in_the_same_order(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with loopback(tmp_path) as cell:
            told: dict[str, list[Any]] = {name: [] for name in NAMES}

            def listen(name: str) -> None:
                cell.logs[name].subscribe(ledger.STREAM, lambda applied: told[name].extend(a.fact for a in applied))

            for name in NAMES:
                listen(name)
            await cell.leader()
            await asyncio.gather(*(propose_some(log, 50) for log in cell.logs.values()))
            await cell.level()
            await until(lambda: {len(facts) for facts in told.values()} == {150})
            assert told["n1"] == told["n2"] == told["n3"]

    run(scenario())


# -- losing a node -------------------------------------------------------------------------------------------------


def test_a_leader_that_stops_hands_over_and_the_others_go_on(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with loopback(tmp_path) as cell:
            old = await cell.leader()
            records = await propose_some(cell.logs[old], 20)
            await cell.stop(old)
            new = await cell.leader()
            assert new != old
            records += await propose_some(cell.logs[new], 20)
            await cell.start(old)
            await cell.leader()
            await cell.level()
            assert set(effective_ids(cell.logs[old])) == {record.id for record in records}

    run(scenario())


async def client(log: EventLog, ends: dict[bytes, str], stop: asyncio.Event) -> None:
    """Proposes one record after the other and notes how each ended."""
    number = 0
    while not stop.is_set():
        number += 1
        record, bodies = with_body(log.config.name, number)
        ends[record.id] = "under way"
        try:
            await log.propose(record, bodies, timeout_s=6)
            ends[record.id] = "committed"
        except OutcomeUnknown:
            ends[record.id] = "unknown"
        except Rejected as error:
            ends[record.id] = f"rejected {error.reason}"
            await asyncio.sleep(0.05)


def test_proposals_in_flight_while_leaders_die_are_committed_once_or_unknown_and_never_lost(
    tmp_path: Path, run: Run
) -> None:
    async def scenario() -> None:
        async with loopback(tmp_path) as cell:
            ends: dict[bytes, str] = {}
            for _ in range(3):
                leader, stop = await cell.leader(), asyncio.Event()
                clients = [
                    asyncio.ensure_future(client(log, ends, stop)) for log in cell.logs.values() for _ in range(8)
                ]
                await asyncio.sleep(0.4)
                await cell.die(leader)
                await cell.leader()
                await asyncio.sleep(0.2)
                stop.set()
                await asyncio.gather(*clients)
                await cell.start(leader)
            await cell.leader()
            await cell.logs["n1"].propose(ledger.record())
            await cell.level()
            check_ends(cell, ends)

    run(scenario())


def check_ends(cell: Loopback, ends: dict[bytes, str]) -> None:
    committed = {id_ for id_, end in ends.items() if end == "committed"}
    rejected = {id_ for id_, end in ends.items() if end.startswith("rejected")}
    assert len(committed) > 100
    assert "under way" not in ends.values()
    for log in cell.logs.values():
        ids = effective_ids(log)
        assert len(ids) == len(set(ids)), "a record took effect twice"
        assert committed <= set(ids), "an acknowledged record is lost"
        assert not rejected & set(ids), "a rejected record took effect"


def test_a_follower_that_was_away_catches_up_with_bodies(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with loopback(tmp_path) as cell:
            away = (await cell.followers())[0]
            records = await propose_some(cell.logs[await cell.leader()], 5)
            await cell.die(away)
            leader = cell.logs[await cell.leader()]
            records += await propose_some(leader, 60, size=60_000)
            for chunk in (b"one", b"two"):
                await leader.propose(ledger.chunk_record(chunk), [chunk])
            large = ledger.record(bodies=(ledger.body(b"onetwo", b"one", b"two"),))
            await leader.propose(large, [b""])
            await cell.start(away)
            await cell.level()
            assert bodies_are_there(cell.logs[away], [*records, large])
            assert (await asyncio.to_thread(verify, cell.logs[away])).ok
            assert (await asyncio.to_thread(rebuild, cell.logs[away], ledger.evolve)).equal

    run(scenario())


def test_without_a_majority_proposals_end_in_time_and_reads_go_on(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with loopback(tmp_path) as cell:
            leader = await cell.leader()
            records = await propose_some(cell.logs[leader], 5)
            await cell.level()
            for name in await cell.followers():
                await cell.die(name)
            log, loop = cell.logs[leader], asyncio.get_running_loop()
            begun = loop.time()
            ends = await asyncio.gather(
                *(log.propose(ledger.record(), timeout_s=1.5) for _ in range(10)), return_exceptions=True
            )
            assert all(isinstance(end, OutcomeUnknown | Rejected) for end in ends)
            with pytest.raises(OutcomeUnknown):
                await log.barrier(timeout_s=1.0)
            assert loop.time() - begun < 8
            await until(lambda: log.status().role != "leader")
            with pytest.raises(LogError):
                await log.propose(ledger.record(), timeout_s=0.5)
            assert bodies_are_there(log, records)
            await cell.start(*(name for name in NAMES if name != leader))
            await cell.leader()
            unknown = sum(isinstance(end, OutcomeUnknown) for end in ends)
            await cell.logs["n1"].propose(ledger.record())
            await cell.level()
            assert 6 <= len(effective_ids(log)) <= 6 + unknown

    run(scenario())


def test_a_proposal_made_before_there_is_a_leader_waits_for_one(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with loopback(tmp_path, start=("n1",)) as cell:
            waiting = asyncio.ensure_future(cell.logs["n1"].propose(ledger.record(), timeout_s=15))
            await asyncio.sleep(0.3)
            assert not waiting.done()
            await cell.start("n2", "n3")
            done = await waiting
            assert done.position > 0

    run(scenario())


def test_a_proposal_that_never_met_a_leader_is_rejected(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with loopback(tmp_path, start=("n1",)) as cell:
            with pytest.raises(Rejected) as caught:
                await cell.logs["n1"].propose(ledger.record(), timeout_s=0.5)
            assert caught.value.reason == "no_leader"

    run(scenario())


# -- who may join --------------------------------------------------------------------------------------------------


async def stays_outside(cell: Loopback, name: str) -> None:
    """Two nodes work; a third, with what it has to show, does not get in."""
    await cell.leader([n for n in cell.logs if n != name])
    await cell.start(name)
    inside = [n for n in NAMES if n != name]
    await propose_some(cell.logs[inside[0]], 10)
    await asyncio.sleep(1.0)
    assert cell.logs[name].status().leader is None
    assert cell.logs[name].status().last_index == 0
    assert await cell.leader(inside) in inside


def test_a_node_with_a_certificate_of_another_authority_is_refused(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with loopback(tmp_path, start=("n1", "n2")) as cell:
            cell.certify("n3", authority=cell.new_authority("other"))
            await stays_outside(cell, "n3")

    run(scenario())


@pytest.mark.parametrize("subject", ["n4", "n2"])
def test_a_node_with_a_certificate_of_another_name_is_refused(tmp_path: Path, run: Run, subject: str) -> None:
    """Also one of a node that exists: n3's address does not make it n3, and n2 does not listen there."""

    async def scenario() -> None:
        async with loopback(tmp_path, start=("n1", "n2")) as cell:
            cell.certify("n3", subject=subject)
            await cell.leader(["n1", "n2"])
            await cell.start("n3")
            await propose_some(cell.logs["n1"], 10)
            await asyncio.sleep(1.0)
            assert cell.logs["n3"].status().last_index == 0

    run(scenario())


async def connect(cell: Loopback, target: str, context: ssl.SSLContext | None) -> tuple[Any, asyncio.StreamWriter]:
    host, port = split_address(cell.peers[target])
    return await asyncio.open_connection(host, port, ssl=context)


async def is_closed(reader: asyncio.StreamReader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(), 5) == b""
    except OSError:
        return True


def test_an_administrators_certificate_is_not_a_nodes(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with loopback(tmp_path) as cell:
            (tmp_path / "admin").mkdir()
            issue_admin(cell.authority, tmp_path / "admin", CLUSTER)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.load_verify_locations(tmp_path / "ca" / "ca.pem")
            context.load_cert_chain(tmp_path / "admin" / "admin.pem", tmp_path / "admin" / "admin.key")
            reader, writer = await connect(cell, "n1", context)
            writer.write(encode_frame({"type": "request_vote", "term": 99}))
            assert await is_closed(reader)
            assert cell.logs["n1"].status().term < 99

    run(scenario())


def test_a_client_without_a_certificate_or_without_tls_is_refused(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with loopback(tmp_path) as cell:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.load_verify_locations(tmp_path / "ca" / "ca.pem")
            for tls in (context, None):
                try:
                    reader, writer = await connect(cell, "n1", tls)
                    writer.write(encode_frame({"type": "request_vote", "term": 99}))
                except OSError:
                    continue
                assert await is_closed(reader)
            await cell.leader()
            await propose_some(cell.logs["n1"], 5)

    run(scenario())


def test_a_peer_that_sends_nonsense_is_disconnected_and_the_node_lives(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with loopback(tmp_path) as cell:
            await cell.leader()
            _, client_ssl = cell.contexts("n2")
            nonsense = [
                b"\xff\xff\xff\xff",
                b"\0\0\0\1\xc1",
                encode_frame({"type": "append_entries"}),
                encode_frame({"type": "append_entries", "term": "x", "prevLogIdx": None}),
                encode_frame({"type": "request_vote", "term": 1 << 63, "pre": True, "transfer": False}),
                encode_frame({"type": "next_node_idx", "term": None}),
                encode_frame({"type": "propose", "proposals": [1, 2]}),
                encode_frame({"type": "propose", "proposals": 7}),
                encode_frame({"type": "read"}),
                encode_frame({"type": "read_done"}),
                encode_frame({"type": "refused", "id": [1], "reason": 2}),
            ]
            for data in nonsense:
                _, writer = await connect(cell, "n1", client_ssl)
                writer.write(data)
                await asyncio.sleep(0.02)
                writer.close()
            await cell.leader()
            for log in cell.logs.values():
                await propose_some(log, 5)
            await cell.level()

    run(scenario())


def test_a_node_stops_at_once_while_others_are_connecting(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with loopback(tmp_path) as cell:
            await cell.leader()
            _, client_ssl = cell.contexts("n2")
            connecting = [asyncio.ensure_future(connect(cell, "n1", client_ssl)) for _ in range(20)]
            connecting.append(asyncio.ensure_future(connect(cell, "n1", None)))  # one that never says a word
            await asyncio.sleep(0.01)
            stopping = asyncio.ensure_future(cell.stop("n1"))
            done, _ = await asyncio.wait([stopping], timeout=15)
            for end in await asyncio.gather(*connecting, return_exceptions=True):
                if isinstance(end, tuple):
                    end[1].close()
            await stopping
            assert done

    run(scenario())


def test_a_connection_that_closed_without_saying_so_is_made_again(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        async with loopback(tmp_path) as cell:
            leader = await cell.leader()
            peer = next(name for name in NAMES if name != leader)
            links = cell.logs[leader]._transport
            assert links is not None
            lost = links._links[peer]
            protocol = links._protocols[peer]
            protocol.connection_lost = lambda exc: None  # type: ignore[method-assign]
            lost.abort()
            await until(lost.is_closing)
            del protocol.connection_lost
            await until(lambda: links._links.get(peer) not in (None, lost))
            await propose_some(cell.logs[leader], 5)
            await cell.level()

    run(scenario())
