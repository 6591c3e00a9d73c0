"""Pykka actors on the event loop."""

import asyncio
import gc
import queue
import threading
import tracemalloc
from collections.abc import Callable, Coroutine
from typing import Any

import pykka
import pytest

from actors.loop_actor import LoopActor, LoopFuture, NotReady, RefIndex, index_registry

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(autouse=True)
def _no_actors_of_other_tests() -> None:
    for ref in pykka.ActorRegistry.get_all():
        pykka.ActorRegistry.unregister(ref)


class Echo(LoopActor):
    """Answers with what it is told; "fail" raises, a float is answered that many seconds later."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Any] = []

    def on_receive(self, message: Any) -> Any:
        self.told.append(message)
        if message == "fail":
            raise ValueError("as asked")
        return self._later(message) if isinstance(message, float) else message

    async def _later(self, seconds: float) -> float:
        await asyncio.sleep(seconds)
        if seconds < 0:
            raise ValueError("in the past")
        return seconds

    def double(self, number: int) -> int:
        return number * 2


def test_an_ask_is_awaited(run: Run) -> None:
    async def scenario() -> Any:
        return await Echo.start().ask("hello", block=False)

    assert run(scenario()) == "hello"


def test_messages_are_handled_in_order(run: Run) -> None:
    async def scenario() -> list[Any]:
        ref = Echo.start()
        answers = [ref.ask(n, block=False) for n in range(1000)]
        return [await answer for answer in answers]

    assert run(scenario()) == list(range(1000))


def test_a_handler_that_waits_does_not_hold_up_the_next(run: Run) -> None:
    async def scenario() -> list[Any]:
        ref = Echo.start()
        slow = ref.ask(0.05, block=False)
        first = await ref.ask("quick", block=False)
        return [first, await slow]

    assert run(scenario()) == ["quick", 0.05]


def test_the_asker_gets_the_exception_and_the_actor_lives(run: Run) -> None:
    async def scenario() -> Any:
        ref = Echo.start()
        for message in ("fail", -1.0):
            with pytest.raises(ValueError, match=r"asked|past"):
                await ref.ask(message, block=False)
        return await ref.ask("still here", block=False)

    assert run(scenario()) == "still here"


def test_an_actor_that_fails_where_nobody_asked_stops(run: Run) -> None:
    async def scenario() -> bool:
        ref = Echo.start()
        ref.tell("fail")
        await asyncio.sleep(0.01)
        return ref.is_alive() or pykka.ActorRegistry.get_by_urn(ref.actor_urn) is not None

    assert run(scenario()) is False


def test_an_answer_can_be_awaited_by_several(run: Run) -> None:
    async def scenario() -> list[Any]:
        answer = Echo.start().ask(0.01, block=False)

        async def wait() -> Any:
            return await answer

        return list(await asyncio.gather(wait(), wait(), wait()))

    assert run(scenario()) == [0.01] * 3


def test_a_cancelled_asker_does_not_disturb_the_others(run: Run) -> None:
    async def scenario() -> Any:
        answer = Echo.start().ask(0.02, block=False)

        async def wait() -> Any:
            return await answer

        one, other = asyncio.ensure_future(wait()), asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        one.cancel()
        return await other

    assert run(scenario()) == 0.02


def test_waiting_for_an_answer_on_the_loop_is_an_error_not_a_deadlock(run: Run) -> None:
    async def scenario() -> None:
        with pytest.raises(NotReady):
            Echo.start().ask("hello", block=True)

    run(scenario())


def test_another_thread_may_ask_and_block(run: Run) -> None:
    async def scenario() -> Any:
        ref = Echo.start()
        return await asyncio.to_thread(ref.ask, "from afar")

    assert run(scenario()) == "from afar"


def test_a_thread_that_waits_too_long_gets_pykkas_timeout(run: Run) -> None:
    async def scenario() -> None:
        ref = Echo.start()
        with pytest.raises(pykka.Timeout):
            await asyncio.to_thread(ref.ask, 10.0, timeout=0.02)

    run(scenario())


def test_a_proxy_works(run: Run) -> None:
    async def scenario() -> Any:
        return await Echo.start().proxy().double(21)

    assert run(scenario()) == 42


def test_a_stopped_actor_is_unregistered_and_refuses(run: Run) -> None:
    async def scenario() -> None:
        ref = Echo.start()
        assert pykka.ActorRegistry.get_by_urn(ref.actor_urn) is ref
        before = ref.ask("before", block=False)
        stopping = ref.stop(block=False)
        after = ref.ask("after", block=False)
        assert await before == "before"
        assert await stopping is True
        with pytest.raises(pykka.ActorDeadError):
            await after
        with pytest.raises(pykka.ActorDeadError):
            await ref.ask("much later", block=False)
        assert pykka.ActorRegistry.get_by_urn(ref.actor_urn) is None

    run(scenario())


def test_what_was_in_work_when_an_actor_stopped_is_still_answered(run: Run) -> None:
    async def scenario() -> Any:
        ref = Echo.start()
        answer = ref.ask(0.02, block=False)
        await ref.stop(block=False)
        return await answer

    assert run(scenario()) == 0.02


def test_all_actors_can_be_stopped_through_pykkas_registry(run: Run) -> None:
    async def scenario() -> list[bool]:
        refs = [Echo.start() for _ in range(5)]
        for future in pykka.ActorRegistry.stop_all(block=False):
            await future
        return [ref.is_alive() for ref in refs]

    assert run(scenario()) == [False] * 5


def test_a_stopped_actor_is_freed_without_the_garbage_collector(run: Run) -> None:
    async def scenario() -> bool:
        ref = Echo.start()
        actor = ref._actor_weakref
        await ref.ask("hello", block=False)
        gc.disable()
        try:
            await ref.stop(block=False)
            await asyncio.sleep(0)
            return actor() is None
        finally:
            gc.enable()

    assert run(scenario()) is True


def test_a_flood_to_one_actor_lets_others_run(run: Run) -> None:
    async def scenario() -> tuple[Any, bool]:
        flooded, other = Echo.start(), Echo.start()
        flood = [flooded.ask(n, block=False) for n in range(20_000)]
        answer = await other.ask("quick", block=False)
        with pytest.raises(NotReady):
            flood[-1].get()
        return answer, await flood[-1] == 19_999

    assert run(scenario()) == ("quick", True)


def test_a_future_is_set_once() -> None:
    future = LoopFuture[int]()
    future.set(1)
    with pytest.raises(queue.Full):
        future.set(2)
    assert future.get() == 1
    assert future.map(lambda number: number + 1).get() == 2


def test_pykka_still_has_the_registry_that_is_indexed_here() -> None:
    index_registry()
    assert isinstance(pykka.ActorRegistry._actor_refs, RefIndex)
    assert pykka.ActorRegistry.get_all() == list(pykka.ActorRegistry._actor_refs)


def test_actors_with_threads_of_their_own_share_the_registry() -> None:
    class Threaded(pykka.ThreadingActor):
        def on_receive(self, message: Any) -> Any:
            return message

    index_registry()
    ref = Threaded.start()
    assert ref in pykka.ActorRegistry.get_all()
    assert ref.ask("hello") == "hello"
    ref.stop()
    assert ref not in pykka.ActorRegistry.get_all()


def test_an_idle_actor_takes_less_than_4_kilobytes_and_no_thread(run: Run) -> None:
    async def scenario() -> float:
        index_registry()
        await Echo.start().ask("warm", block=False)
        gc.collect()
        threads = threading.active_count()
        tracemalloc.start()
        refs = [Echo.start() for _ in range(2000)]
        for ref in refs:
            await ref.ask("hello", block=False)
        gc.collect()
        used_bytes, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert threading.active_count() == threads
        for ref in refs:
            ref.stop(block=False)
        await asyncio.sleep(0.1)
        return used_bytes / len(refs)

    assert run(scenario()) < 4096
