"""The log as a worker has it keeps the promises of the node's own: the same tests for both, and what is its alone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from actors.kind import encode
from actors.mailbox import DEFAULT_FOLDERS, Change, CreateFolder, OpenMailbox
from actors.requests import RequestCarriedOut
from actors.runtime import Context, Runtime
from eventlog.errors import OutcomeUnknown, Rejected
from eventlog.log import Applied
from eventlog.record import NO_TENANT, Body, By, Event, Record, digest_of, new_id, new_salt, stream_id
from nodes.workers import hub as hubs
from nodes.workers import remote_log
from nodes.workers.remote_log import FrontEndLog
from tests.nodes.workers.conftest import Serve, Served, attached

Run = Callable[[Coroutine[Any, Any, Any]], Any]
BY = By("admin", b"", "test")
STREAM = stream_id("requests", "test")


def record(key: bytes = b"k" * 16, body: bytes = b"", **changes: Any) -> Record:
    fact = RequestCarriedOut(key, b"f" * 32)
    event = Event(NO_TENANT, STREAM, fact.TYPE, fact.VERSION, encode(fact), new_salt())
    bodies = (Body(NO_TENANT, digest_of(body), new_salt(), len(body), ()),) if body else ()
    return Record(new_id(), int(time.time() * 1000) + 60_000, BY, "test", (), (event,), bodies)._replace(**changes)


async def until(reached: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not reached():
            await asyncio.sleep(0.01)


@pytest.fixture(params=["the node's own", "a worker's"])
def of(request: pytest.FixtureRequest) -> Callable[[Served], FrontEndLog]:
    return lambda served: served.log if request.param == "the node's own" else served.remote


Of = Callable[[Served], FrontEndLog]


def test_what_is_answered_is_in_the_next_snapshot(run: Run, serve: Serve, of: Of) -> None:
    async def scenario() -> None:
        async with serve() as served:
            committed = await of(served).propose(record(body=b"text"), [b"text"])
            with of(served).snapshot() as snapshot:
                assert snapshot.position >= committed.position
                assert snapshot.body(NO_TENANT, digest_of(b"text")) == b"text"
            assert committed.at_ms <= served.log.at_ms

    run(scenario())


def test_a_proposal_that_is_sent_again_under_its_id_takes_effect_once(run: Run, serve: Serve, of: Of) -> None:
    async def scenario() -> None:
        async with serve() as served:
            again = record()
            first, second = await asyncio.gather(of(served).propose(again), of(served).propose(again))
            assert first == second
            assert (await of(served).propose(again)).position == first.position

    run(scenario())


@pytest.mark.parametrize(
    ("changes", "bodies", "reason"),
    [({"expires_ms": 1}, [], "expired"), ({}, [b"not named"], "bad_record")],
)
def test_what_can_not_take_effect_is_rejected_with_its_reason(
    run: Run, serve: Serve, of: Of, changes: dict[str, Any], bodies: list[bytes], reason: str
) -> None:
    async def scenario() -> None:
        async with serve() as served:
            with pytest.raises(Rejected) as caught:
                await of(served).propose(record(**changes), bodies)
            assert caught.value.reason == reason

    run(scenario())


def test_what_waits_when_the_node_stops_does_not_claim_to_have_failed(run: Run, serve: Serve, of: Of) -> None:
    async def scenario() -> None:
        async with serve() as served:
            waiting = of(served).submit(record())
            await asyncio.sleep(0)
            served.log._proposals.stop()
            with contextlib.suppress(OutcomeUnknown):  # it may have been committed before
                await waiting

    run(scenario())


def test_a_subscriber_is_told_of_what_is_folded_until_it_leaves(run: Run, serve: Serve, of: Of) -> None:
    async def scenario() -> None:
        async with serve() as served:
            told: list[Applied] = []
            leave = of(served).subscribe(STREAM, told.extend)
            of(served).subscribe(stream_id("other", "x"), told.extend)
            committed = await served.log.propose(record())
            await until(lambda: told)
            [one] = told
            assert one.stamp.position == committed.position
            assert (one.event.stream, one.event.type) == (STREAM, "RequestCarriedOut")
            assert one.fact == RequestCarriedOut(b"k" * 16, b"f" * 32)
            assert one.stamp.by == BY
            leave()
            await of(served).barrier()
            await served.log.propose(record(b"l" * 16))
            await of(served).barrier()
            assert len(told) == 1

    run(scenario())


def fails(_: list[Applied]) -> None:
    raise ZeroDivisionError


def test_a_subscriber_that_fails_keeps_no_other_from_being_told(run: Run, serve: Serve, of: Of) -> None:
    async def scenario() -> None:
        async with serve() as served:
            told: list[Applied] = []
            of(served).subscribe(STREAM, fails)
            of(served).subscribe(STREAM, told.extend)
            await of(served).propose(record())
            await until(lambda: told)

    run(scenario())


def test_changes_of_a_mailbox_come_as_evolve_gave_them(run: Run, serve: Serve, of: Of) -> None:
    async def scenario() -> None:
        async with serve() as served:
            runtime = Runtime(of(served))  # type: ignore[arg-type]
            account, context, told = stream_id("account", "a"), Context(BY, "test"), list[Applied]()
            ids = tuple(new_id() for _ in DEFAULT_FOLDERS)
            await runtime.ask(account, OpenMailbox(b"t" * 16, "a@example.test", ids), context)
            of(served).subscribe(account, told.extend)
            done = await runtime.ask(account, CreateFolder(b"f" * 16, "Work"), context)
            await until(lambda: told)
            assert [type(one) for one in done.results[0]] == [Change]
            assert done.results[0] == told[0].result
            assert isinstance(told[0].result, list)
            await runtime.stop()

    run(scenario())


def test_a_barrier_waits_for_all_that_was_acknowledged(run: Run, serve: Serve, of: Of) -> None:
    async def scenario() -> None:
        async with serve() as served:
            committed = await served.log.propose(record())
            assert await of(served).barrier() >= committed.position

    run(scenario())


# -- a worker's alone


def test_what_is_folded_while_a_subscription_is_on_its_way_is_told(
    run: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with serve() as served:
            told, held = list[Applied](), list[dict[str, Any]]()
            with monkeypatch.context() as slow:
                slow.setattr(served.remote, "_send", held.append)
                served.remote.subscribe(STREAM, told.extend)
            committed = await served.log.propose(record())
            for message in held:
                served.channel.send(message)
            await until(lambda: told)
            assert [one.stamp.position for one in told] == [committed.position]

    run(scenario())


def test_a_worker_that_is_too_far_behind_to_be_told_all_ends(
    run: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubs, "KEPT_EVENTS", 2)

    async def scenario() -> None:
        async with serve() as served:
            with served.log.snapshot() as snapshot:
                position = snapshot.position
            for key in (b"a" * 16, b"b" * 16, b"c" * 16):
                await served.log.propose(record(key))
            served.channel.send({"type": "follow", "stream": STREAM, "position": position})
            await until(lambda: served.ended)
            assert served.desk.is_gone

    run(scenario())


def test_a_worker_does_not_follow_everything(run: Run, serve: Serve) -> None:
    async def scenario() -> None:
        async with serve() as served:
            with pytest.raises(TypeError, match="by their names"):
                served.remote.subscribe(None, lambda _: None)

    run(scenario())


def test_proposals_beyond_the_credit_wait_for_those_before(
    run: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_log, "IN_FLIGHT_BYTES", 5000)

    async def scenario() -> None:
        async with serve() as served:
            waiting, most = [], 0
            for number in range(20):
                body = os.urandom(2000)
                waiting.append(served.remote.submit(record(number.to_bytes(16, "big"), body), [body]))
                most = max(most, served.remote._in_flight_bytes)
            assert len({(await one).position for one in waiting}) == 20
            assert 2000 < most <= 5000
            assert served.remote._in_flight_bytes == 0

    run(scenario())


def test_a_proposal_that_gets_no_credit_in_time_is_rejected_because_it_was_never_sent(
    run: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_log, "IN_FLIGHT_BYTES", 100)

    async def scenario() -> None:
        async with serve() as served:
            monkeypatch.setattr(served.channel, "send", lambda message: None)
            monkeypatch.setattr(served.remote, "_send", lambda message: None)
            first = served.remote.submit(record(), timeout_s=60)
            with pytest.raises(Rejected, match="busy"):
                await served.remote.submit(record(b"l" * 16), timeout_s=0.05)
            assert not first.done()

    run(scenario())


def test_what_the_node_was_given_is_unknown_when_it_goes_and_what_it_was_not_is_rejected(
    run: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_log, "IN_FLIGHT_BYTES", 100)

    async def scenario() -> None:
        async with serve() as served:
            monkeypatch.setattr(served.remote, "_send", lambda message: None)
            sent, waits = served.remote.submit(record()), served.remote.submit(record(b"l" * 16))
            served.desk.channel.abort("killed")
            with pytest.raises(OutcomeUnknown):
                await sent
            for one in (waits, served.remote.propose(record(b"m" * 16))):
                with pytest.raises(Rejected, match="stopping"):
                    await one

    run(scenario())


@pytest.mark.parametrize("garbage", [b"\xff" * 64, b"\x00\x00\x00\x01\xc1", b"\x00\x00\x00\x0d\x81\xa4type\xa6follow"])
def test_a_worker_that_sends_what_is_no_message_is_cut_off(run: Run, serve: Serve, garbage: bytes) -> None:
    async def scenario() -> None:
        async with serve() as served:
            assert served.channel._transport is not None
            served.channel._transport.write(garbage)
            await until(lambda: served.ended)
            assert (await served.log.propose(record())).position

    run(scenario())


def test_a_worker_that_has_more_under_way_than_it_may_is_cut_off(
    run: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodes.workers.desk.IN_FLIGHT_BYTES", 0)
    monkeypatch.setattr("nodes.workers.desk.MOST_AT_ONCE", 1000)

    async def scenario() -> None:
        async with serve() as served:
            with pytest.raises(OutcomeUnknown):
                await served.remote.propose(record(body=bytes(2000)), [bytes(2000)])
            assert served.ended

    run(scenario())


def test_what_one_worker_tells_is_heard_by_the_node_and_the_other_workers_under_its_name(
    run: Run, serve: Serve
) -> None:
    async def scenario() -> None:
        async with serve() as served, attached(served.hub, 2) as second:
            heard: list[tuple[str, str, bytes]] = []
            for name, log in (("node", served.log), ("first", served.remote), ("second", second.remote)):

                def note(teller: str, data: bytes, name: str = name) -> None:
                    heard.append((name, teller, data))

                log.telling.hear("counts", note)
            served.remote.telling.tell("counts", b"one")
            served.log.telling.tell("counts", b"two")
            served.log.telling.told("n2", {"type": "told", "topic": "counts", "data": b"three"})
            await until(lambda: len(heard) == 7)
            assert sorted(heard) == [
                ("first", "n1", b"two"),
                ("first", "n2", b"three"),
                ("node", "n2", b"three"),
                ("node", "worker 1.1", b"one"),
                ("second", "n1", b"two"),
                ("second", "n2", b"three"),
                ("second", "worker 1.1", b"one"),
            ]

    run(scenario())
