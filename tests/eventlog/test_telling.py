"""What members tell each other beside the log, over the connections of a real cell."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from eventlog.telling import MOST_BYTES, Telling
from tests.eventlog.loopback import loopback, until

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def test_every_other_member_is_told(tmp_path: Path, run: Run) -> None:
    async def scenario() -> None:
        heard: list[tuple[str, str, bytes]] = []
        async with loopback(tmp_path) as cell:
            await cell.leader()
            await cell.level()

            def listen(name: str) -> None:
                cell.logs[name].telling.hear("counts", lambda peer, data: heard.append((name, peer, data)))

            for name in cell.logs:
                listen(name)
            names = sorted(cell.logs)

            def all_heard() -> bool:
                cell.logs[names[0]].telling.tell("counts", b"one more")
                return {name for name, _, _ in heard} == set(names[1:])

            await until(all_heard, "everybody to hear")
            assert set(heard) == {(name, names[0], b"one more") for name in names[1:]}

    with capture_logs():
        run(scenario())


def test_what_nobody_asked_for_or_is_too_much_is_ignored(run: Run) -> None:
    async def scenario() -> None:
        heard: list[bytes] = []
        telling = Telling(lambda peer, message: True, lambda: ["n2"])
        telling.hear("counts", lambda peer, data: heard.append(data))
        for message in (
            {"topic": "other", "data": b"x"},
            {"topic": "counts", "data": "text"},
            {"topic": "counts"},
            {"topic": "counts", "data": bytes(MOST_BYTES + 1)},
            {"topic": "counts", "data": b"right"},
        ):
            telling.told("n2", {"type": "told", **message})
        assert heard == [b"right"]
        with pytest.raises(ValueError, match="too much"):
            telling.tell("counts", bytes(MOST_BYTES + 1))
        await asyncio.sleep(0)

    run(scenario())


def test_one_who_listens_badly_does_no_harm() -> None:
    def fails(peer: str, data: bytes) -> None:
        raise ValueError("nonsense")

    telling = Telling(lambda peer, message: True, lambda: ["n2"])
    telling.hear("counts", fails)
    with capture_logs() as said:
        telling.told("n2", {"type": "told", "topic": "counts", "data": b"x"})
    assert [line["event"] for line in said] == ["what a peer told is ignored"]


def test_what_a_part_of_a_member_tells_is_heard_there_and_elsewhere_under_a_name_of_its_own(run: Run) -> None:
    async def scenario() -> None:
        sent: list[dict[str, Any]] = []
        heard: list[tuple[str, str, bytes]] = []

        def send(_: str, message: dict[str, Any]) -> bool:
            sent.append(message)
            return True

        here = Telling(send, lambda: ["n2"])
        there = Telling(lambda *_: True, list)
        here.hear("counts", lambda teller, data: heard.append(("n1", teller, data)))
        there.hear("counts", lambda teller, data: heard.append(("n2", teller, data)))
        here.pass_on("worker 2.1", "counts", b"one")
        for message in sent:
            there.told("n1", message)
        assert heard == [("n1", "worker 2.1", b"one"), ("n2", "n1 worker 2.1", b"one")]

    run(scenario())


def test_who_overhears_hears_what_is_told_here_and_by_other_members(run: Run) -> None:
    async def scenario() -> None:
        heard: list[tuple[str, str, bytes]] = []
        telling = Telling(lambda *_: True, lambda: ["n2"])
        telling.overhear(lambda *said: heard.append(said))
        telling.tell("counts", b"own")
        telling.told("n2", {"type": "told", "topic": "counts", "data": b"theirs"})
        telling.pass_on("worker 1.1", "counts", b"of a part, which knows it")
        assert heard == [("", "counts", b"own"), ("n2", "counts", b"theirs")]

    run(scenario())
