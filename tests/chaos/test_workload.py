"""What the workload asks for: the same for the same seed, each message once to each folder, over every node."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from chaos.admin_client import AdminAccess
from chaos.history import History, Operation, Outcome
from chaos.imap_client import ImapSession
from chaos.workload import Mix, Target, Workload
from chaos.workload.book import COPIES, INBOX, MOST_HELD, MOVED, Book, Held
from chaos.workload.mailboxes import Asker
from chaos.workload.pool import Named
from cli import layout

Run = Callable[[Any], Any]


def book_of(count: int) -> Book:
    book = Book()
    for uid in range(1, count + 1):
        book.learn(f"m{uid}", INBOX, uid)
    return book


def test_a_message_is_moved_at_most_once_and_copied_at_most_once() -> None:
    book, rng = book_of(5), Random(1)
    for target in (COPIES, MOVED):
        chosen = [book.choose_for(target, rng) for _ in range(6)]
        assert sorted(held.identity for held in chosen if held) == ["m1", "m2", "m3", "m4", "m5"]


def test_copies_are_never_transferred_again() -> None:
    book = Book()
    book.learn("m1", MOVED, 4)
    assert book.choose_for(COPIES, Random(1)) is None
    assert book.choose(Random(1)) is not None


def test_what_was_given_up_is_not_learned_of_again_from_a_read_that_was_under_way() -> None:
    book = book_of(1)
    held = book.choose(Random(1))
    assert held is not None
    book.forget(held)
    book.learn(held.identity, held.folder, held.uid)
    assert book.choose(Random(1)) is None


def test_a_full_mailbox_gives_its_oldest_message() -> None:
    assert not book_of(MOST_HELD - 1).is_full
    assert book_of(MOST_HELD).is_full
    oldest = book_of(MOST_HELD).oldest()
    assert oldest is not None
    assert oldest.uid == 1


@pytest.fixture(scope="module")
def nowhere(tmp_path_factory: pytest.TempPathFactory) -> Target:
    """Three nodes that nobody runs: port 1 refuses every connection."""
    folder: Path = tmp_path_factory.mktemp("nowhere") / "cluster"
    layout.create(folder, 3, 11000)
    addresses = dict.fromkeys(("smtp", "imap", "admin"), "127.0.0.1:1")
    return Target(dict.fromkeys(("n1", "n2", "n3"), addresses), "secret", AdminAccess.of_folder(folder))


def history_of(run: Run, target: Target, seed: int) -> History:
    history = History()

    async def work() -> None:
        stop = asyncio.Event()
        work = asyncio.create_task(Workload(seed, target, history, 400, Mix(3, 1, 3, 3)).run(stop))
        while len(history.operations) < 120:
            await asyncio.sleep(0.01)
        stop.set()
        await work

    run(work())
    return history


def begun(history: History) -> list[tuple[str, str, str]]:
    ordered = sorted(history.operations, key=lambda one: one.number)
    return [(one.node, one.protocol, str(one.asked.get("identity"))) for one in ordered if one.protocol == "smtp"][:30]


def test_where_nobody_listens_everything_is_certainly_refused_and_the_asking_goes_on(run: Run, nowhere: Target) -> None:
    history = history_of(run, nowhere, 1)
    assert {one.outcome for one in history.operations} == {Outcome.REFUSED}
    assert {one.node for one in history.operations} == {"n1", "n2", "n3"}
    assert {one.protocol for one in history.operations} == {"smtp", "imap", "admin"}
    assert len({one.number for one in history.operations}) == len(history.operations)


def test_a_seed_begins_the_same_operations_at_the_same_nodes(run: Run, nowhere: Target) -> None:
    first, again, other = (begun(history_of(run, nowhere, seed)) for seed in (7, 7, 8))
    assert first == again
    assert first != other


HELD = Held("m1", INBOX, 5)
THERE = "* 1 FETCH (UID 5)\r\nTAG OK done"
TOLD = "* 1 FETCH (UID 5 FLAGS (\\Seen {}))\r\nTAG OK done"
Answers = dict[str, list[str]]


async def converse(answers: Answers, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Each command gets the next answer for its word, the last one again and again; other words get OK."""
    writer.write(b"* OK ready\r\n")
    while line := (await reader.readline()).decode():
        tag, _, command = line.partition(" ")
        word = command.removeprefix("UID ").split()[0]
        answer = answers.get(word, ["TAG OK done"])
        writer.write(((answer.pop(0) if len(answer) > 1 else answer[0]).replace("TAG", tag) + "\r\n").encode())
    writer.close()


async def store(answers: Answers, mode: str) -> Operation:
    listener = await asyncio.start_server(partial(converse, answers), "127.0.0.1", 0)
    history = History()
    try:
        session = await ImapSession.open(f"127.0.0.1:{listener.sockets[0].getsockname()[1]}")
        await Asker(history, Named("imap-n1-1", session), "n1", "a@b.test", Book()).store(HELD, mode, ("$Red",))
        session.close()
    finally:
        listener.close()
    return history.operations[0]


@pytest.mark.parametrize(
    ("answers", "mode", "outcome"),
    [
        ({"FETCH": [THERE], "STORE": [TOLD.format("$Red")]}, "add", Outcome.ACKNOWLEDGED),
        ({"FETCH": [THERE], "STORE": [TOLD.format("")]}, "remove", Outcome.ACKNOWLEDGED),
        ({"FETCH": [THERE], "STORE": [TOLD.format("")]}, "add", Outcome.UNKNOWN),
        ({"FETCH": [THERE], "STORE": [TOLD.format("$Red")]}, "replace", Outcome.UNKNOWN),
        ({"FETCH": [THERE], "STORE": ["TAG OK done"]}, "add", Outcome.UNKNOWN),
        ({"STORE": [TOLD.format("$Red")]}, "add", Outcome.UNKNOWN),
        ({"FETCH": [THERE], "STORE": ["TAG NO [UNAVAILABLE] no majority"]}, "add", Outcome.UNKNOWN),
        ({"FETCH": [THERE], "STORE": ["TAG NO [CANNOT] read-only"]}, "add", Outcome.REFUSED),
        ({"SELECT": ["TAG NO [NONEXISTENT] no such mailbox"]}, "add", Outcome.REFUSED),
        ({"STORE": ["* BYE stopping"]}, "add", Outcome.UNKNOWN),
    ],
    ids=["shown", "removed", "old flags", "more flags", "silence", "learned late", "unsure", "no", "no folder", "bye"],
)
def test_a_store_is_acknowledged_only_where_its_effect_is_shown(
    run: Run, answers: Answers, mode: str, outcome: Outcome
) -> None:
    assert run(store(answers, mode)).outcome is outcome
