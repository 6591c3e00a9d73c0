"""Where one worker is served, at the node: it proposes, follows streams, asks for a barrier, and is told what to do."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from eventlog.errors import LogError, OutcomeUnknown, Rejected
from nodes.policy.borrowed import Asked, asked, lend
from nodes.workers.channel import Channel, Message
from nodes.workers.limits import IN_FLIGHT_BYTES, MOST_AT_ONCE
from nodes.workers.messages import Row, pack_error, pack_outcome

if TYPE_CHECKING:
    from eventlog.log import Committed
    from nodes.services import Logger
    from nodes.workers.hub import Hub

ASK_S = 2.0


class Desk:
    """`name` is told to other processes and nodes: it is of this process, not of its number. Event loop only."""

    def __init__(self, number: int, name: str, hub: Hub, logger: Logger) -> None:
        self.number = number
        self.name = name
        self.endpoints: dict[str, str] | None = None  # where it listens, once it does
        self.failure = ""  # why it can not
        self.changed = asyncio.Event()  # one of these, or the end
        self.is_gone = False
        self._hub = hub
        self._logger = logger
        self._in_flight_bytes = 0
        self._answers: list[tuple[bytes, Row]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._tokens = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Message]] = {}
        self.channel = Channel(self._take, self._lost)

    def send(self, message: Message) -> None:
        self.channel.send(message)

    async def ask(self, what: str) -> Message | None:
        """The worker's answer to a question of the node; None where there is none in time."""
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        token = next(self._tokens)
        self._asked[token] = answer
        self.send({"type": what, "token": token})
        try:
            async with asyncio.timeout(ASK_S):
                return await answer
        except TimeoutError:
            return None
        finally:
            del self._asked[token]

    # -- what comes in

    def _take(self, message: Message) -> None:
        match message["type"]:
            case "propose":
                self._propose(message["id"], message["data"], message["bodies"], message["timeout_s"])
            case "follow":
                if not self._hub.follow(self, message["stream"], message["position"]):
                    self.channel.abort("it is too far behind the log")
            case "unfollow":
                self._hub.unfollow(self, message["stream"])
            case "barrier":
                self._begin(self._barrier(message["token"], message["timeout_s"]))
            case "tokens":
                self._begin(self._lend(message["number"], asked(message["wants"])))
            case "unused":
                self._hub.leases.give_back(message["key"], message["per_hour"], message["count"])
            case "told":
                self._hub.told(self, message["topic"], message["data"])
            case "connections":
                self._hub.count(self.name, message["counts"])
            case "answer":
                answer = self._asked.get(message["token"])
                if answer is not None and not answer.done():
                    answer.set_result(message)
            case "ready":
                self.endpoints = dict(message["endpoints"])
                self.changed.set()
            case "failed":
                self.failure = message["error"]
                self.changed.set()
            case other:
                raise ValueError(f"a worker sent {other}")

    def _lost(self, why: str) -> None:
        self.is_gone = True
        self.changed.set()
        self._hub.leave(self)
        for task in self._tasks:
            task.cancel()
        for answer in self._asked.values():
            if not answer.done():
                answer.set_result({})
        self._logger.debug("a worker's channel has ended", worker=self.number, why=why)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- limits

    async def _lend(self, number: int, wants: list[Asked]) -> None:
        self.send({"number": number, **await lend(self._hub.leases, wants)})

    # -- the log

    def _propose(self, id_: bytes, data: bytes, bodies: tuple[bytes, ...], timeout_s: float) -> None:
        size_bytes = len(data) + sum(map(len, bodies))
        self._in_flight_bytes += size_bytes
        if self._in_flight_bytes > IN_FLIGHT_BYTES + MOST_AT_ONCE:
            self.channel.abort("it has sent more than it may")
            return
        try:
            outcome = self._hub.log.submit_packed(id_, data, bodies, timeout_s)
        except Rejected as refusal:
            self._answer(id_, size_bytes, pack_error(refusal))
        else:
            outcome.add_done_callback(partial(self._decided, id_, size_bytes))

    def _decided(self, id_: bytes, size_bytes: int, outcome: asyncio.Future[Committed]) -> None:
        self._answer(id_, size_bytes, pack_outcome(outcome))

    def _answer(self, id_: bytes, size_bytes: int, outcome: Row) -> None:
        """With all others of this turn of the event loop in one message."""
        self._in_flight_bytes -= size_bytes
        if not self._answers:
            asyncio.get_running_loop().call_soon(self._send_answers)
        self._answers.append((id_, outcome))

    def _send_answers(self) -> None:
        answers, self._answers = self._answers, []
        self.send({"type": "answers", "answers": answers})

    async def _barrier(self, token: int, timeout_s: float) -> None:
        found: dict[str, Any]
        try:
            found = {"position": await self._hub.log.barrier(timeout_s)}
        except LogError as error:
            found = {"error": pack_error(error)}
        except asyncio.CancelledError:
            found = {"error": pack_error(OutcomeUnknown("the node is stopping"))}
        self.send({"type": "passed", "token": token, **found})
