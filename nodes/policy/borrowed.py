"""Tokens in a worker process: of the node's own buckets (leases.py), so that a limit is one for all workers and nodes.

What is needed and not here is asked of the node, one of each bucket or none of any; who is busy is given some more,
while there are plenty. What was not used soon goes back. Here are both ends: `Borrowed` in the worker, `lend` at the
node.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from nodes.failures import KEY_BYTES
from nodes.policy.leases import Leases, W, Want

ASK_S = 2.0  # above what a node waits for others
AGAIN_S = 1.0  # when to come again, where the node did not say
UNUSED_S = 5.0
BUSY_S = 2.0  # what was taken in that time is asked for ahead
MOST_AHEAD = 32
MOST_WANTS = 16
PLENTY = 8  # no more than this part of what is there is given ahead
MOST_TOLD = 10_000
ROUNDS = 10  # others of this process may take what came before who asked for it comes to its turn

Message = dict[str, Any]


class Asked(NamedTuple):
    """A token of a bucket, and up to `most`."""

    key: bytes
    per_hour: int
    most: int


class _Pocket:
    """What is here of one bucket."""

    __slots__ = ("count", "is_watched", "per_hour", "taken", "taken_since_s", "touched_s")

    def __init__(self) -> None:
        self.count = 0
        self.per_hour = 1
        self.touched_s = self.taken_since_s = 0.0
        self.taken = 0
        self.is_watched = False


class Borrowed:
    """Asked as Leases is. Event loop only; `send` hands a message to the node, `lent` is given its answers."""

    def __init__(self, send: Callable[[Message], None], now_s: Callable[[], float] = time.monotonic) -> None:
        self._send = send
        self._now_s = now_s
        self._pockets: dict[bytes, _Pocket] = {}
        self._until_s: OrderedDict[bytes, float] = OrderedDict()  # of buckets that were empty: when there is one again
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Message]] = {}

    # -- what policies ask

    def lacking(self, wants: Iterable[W]) -> list[W]:
        """Those that there is no token of here."""
        return [one for one in wants if self._count(one.key) < 1]

    async def gather(self, lacking: Iterable[Want]) -> None:
        """Asks the node for a token of each; when this returns they are here, or there are none to be had."""
        wants = list(lacking)
        for _ in range(ROUNDS):
            short = self.lacking(wants)
            if not short or not await self._ask(short):
                return

    def wait_s(self, key: bytes, per_hour: int) -> float:
        """Seconds until there is a token, 0: there is one, here. Takes none."""
        if self._count(key) >= 1:
            return 0.0
        return max(self._until_s.get(key, 0.0) - self._now_s(), AGAIN_S)

    def take(self, key: bytes, per_hour: int, count: int = 1) -> None:
        """Takes one, or so many; never more than there are here."""
        pocket = self._pockets.get(key)
        if pocket is None:
            return
        now_s = self._now_s()
        if now_s - pocket.taken_since_s > BUSY_S:
            pocket.taken, pocket.taken_since_s = 0, now_s
        pocket.taken += count
        pocket.count = max(0, pocket.count - count)
        pocket.touched_s = now_s

    # -- the node

    def lent(self, message: Message) -> None:
        """The node's answer."""
        answer = self._asked.get(message["number"])
        if answer is not None and not answer.done():
            answer.set_result(message)
        elif answer is None:  # nobody waits for it any more
            for key, per_hour, count in message["given"]:
                self._send({"type": "unused", "key": key, "per_hour": per_hour, "count": count})

    async def _ask(self, short: Sequence[Want]) -> bool:
        """Whether tokens came."""
        number, answer = next(self._numbers), asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        wants = [(one.key, one.per_hour, self._ahead(one.key)) for one in short[:MOST_WANTS]]
        try:
            self._send({"type": "tokens", "number": number, "wants": wants})
            async with asyncio.timeout(ASK_S):
                message: Message = await answer
        except TimeoutError:
            return False
        finally:
            del self._asked[number]
        for key, per_hour, count in message["given"]:
            self._keep(key, per_hour, count)
        for key, wait_s in message["waits"]:
            self._until_s[key] = self._now_s() + wait_s
            self._until_s.move_to_end(key)
        while len(self._until_s) > MOST_TOLD:
            self._until_s.popitem(last=False)
        return bool(message["given"])

    def _ahead(self, key: bytes) -> int:
        """How many a busy one asks for."""
        pocket = self._pockets.get(key)
        is_busy = pocket is not None and self._now_s() - pocket.taken_since_s <= BUSY_S
        return min(pocket.taken, MOST_AHEAD) if pocket is not None and is_busy and pocket.taken else 1

    def _count(self, key: bytes) -> int:
        pocket = self._pockets.get(key)
        return pocket.count if pocket is not None else 0

    def _keep(self, key: bytes, per_hour: int, count: int) -> None:
        self._until_s.pop(key, None)
        pocket = self._pockets.setdefault(key, _Pocket())
        pocket.count += count
        pocket.per_hour, pocket.touched_s = per_hour, self._now_s()
        if not pocket.is_watched:
            pocket.is_watched = True
            asyncio.get_running_loop().call_later(UNUSED_S, self._review, key)

    def _review(self, key: bytes) -> None:
        """What was not used goes back, and what is empty is forgotten."""
        pocket = self._pockets[key]
        if self._now_s() - pocket.touched_s < UNUSED_S:
            asyncio.get_running_loop().call_later(UNUSED_S, self._review, key)
            return
        if pocket.count:
            self._send({"type": "unused", "key": key, "per_hour": pocket.per_hour, "count": pocket.count})
        del self._pockets[key]


async def lend(leases: Leases, wants: Sequence[Asked]) -> Message:
    """What the node answers: of each bucket one token or more, or, where one of them is empty, none of any."""
    short = leases.lacking(wants)
    if short:
        await leases.gather(short)
    waits = [(one.key, wait_s) for one in wants if (wait_s := leases.wait_s(one.key, one.per_hour)) > 0]
    given: list[tuple[bytes, int, int]] = []
    for one in () if waits else wants:
        leases.take(one.key, one.per_hour)
        ahead = min(one.most - 1, leases.count(one.key, one.per_hour) // PLENTY)
        if ahead:
            leases.take(one.key, one.per_hour, ahead)
        given.append((one.key, one.per_hour, 1 + ahead))
    return {"type": "lent", "given": given, "waits": waits}


def asked(wants: Sequence[Any]) -> list[Asked]:
    """What a worker wants. Raises ValueError for what is no such thing."""
    if len(wants) > MOST_WANTS:
        raise ValueError("too many tokens")
    for key, per_hour, most in wants:
        if len(key) != KEY_BYTES or per_hour < 1 or not 1 <= most <= MOST_AHEAD:
            raise ValueError("not a token of a bucket")
    return [Asked(*one) for one in wants]
