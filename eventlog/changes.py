"""Changes of the cell itself, asked for on any node: its members, who leads, what may be written.

All but leadership go through the log as proposals that the leader checks first. Event loop only; time and chance are
passed in.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from eventlog import levels
from eventlog.errors import OutcomeUnknown, Rejected
from eventlog.journal import KIND_CONFIG
from eventlog.members import Members, change_record
from eventlog.proposals import Proposals
from eventlog.record import By, Record, encode_whole
from eventlog.ticks import KIND_LEVEL, Item, State

POLL_S = 0.02


class Node(NamedTuple):
    """What changes need of the log of this node."""

    name: str
    proposals: Proposals
    state: Callable[[], State]
    barrier: Callable[[float], Awaitable[int]]
    put: Callable[[Item], None]
    forward: Callable[[str, dict[str, Any]], bool]
    now_ms: Callable[[], int]
    entropy: Callable[[int], bytes]


class Changes:
    """The changes that this node has asked for."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._hand_overs: dict[bytes, asyncio.Future[None]] = {}

    async def members(self, change: Callable[[Members], Members], by: By, cause: str, timeout_s: float) -> int:
        """Proposes what `change` makes of the members. Gives the position. Raises Rejected or OutcomeUnknown."""
        node = self._node
        try:
            await node.barrier(timeout_s)  # so that it is decided on what is
        except OutcomeUnknown as error:
            raise Rejected("no_leader", "no majority of the cell answers, so nothing was changed") from error
        members = change(node.state().config.members)
        record = change_record(members, by, cause, self._log_now_ms(), node.entropy)
        return await self._propose(record, KIND_CONFIG, timeout_s)

    async def level(self, level: int, by: By, cause: str, timeout_s: float) -> int:
        """Raises the feature level. Gives the position. Raises Rejected or OutcomeUnknown."""
        now = self._node.state().level
        if level <= now:
            raise Rejected("feature_level", f"the cell is at feature level {now} already")
        record = levels.raise_record(level, by, cause, self._log_now_ms(), self._node.entropy)
        return await self._propose(record, KIND_LEVEL, timeout_s)

    async def leader(self, name: str, timeout_s: float) -> None:
        """Returns when `name` leads. Raises Rejected, or OutcomeUnknown when it does not in time."""
        token = self._node.entropy(8)
        refused = self._hand_overs[token] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                await self._ask(token, name, timeout_s)
                while self._node.state().leader != name:
                    if refused.done():
                        await refused
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise OutcomeUnknown(f"{name} does not lead yet; another may go on, or {name} may yet lead") from None
        finally:
            del self._hand_overs[token]
            refused.cancel()

    def refused(self, token: bytes, reason: str) -> None:
        """The leader does not hand over."""
        future = self._hand_overs.get(token)
        if future is not None and not future.done():
            code, _, detail = reason.partition(": ")
            future.set_exception(Rejected(code, detail))

    async def _propose(self, record: Record, kind: int, timeout_s: float) -> int:
        return (await self._node.proposals.propose(encode_whole(record), (), timeout_s, kind)).position

    def _log_now_ms(self) -> int:
        """The log's time may be ahead of this node's clock."""
        return max(self._node.now_ms(), self._node.state().at_ms)

    async def _ask(self, token: bytes, name: str, timeout_s: float) -> None:
        node = self._node
        while (leader := node.state().leader) is None:
            await asyncio.sleep(POLL_S)
        message = {"type": "hand_over", "token": token, "name": name, "timeout_s": timeout_s}
        if leader == node.name:
            node.put(("hand_over", token, name, timeout_s))
        elif not node.forward(leader, message):
            raise Rejected("no_leader", f"the leader, {leader}, can not be reached from this node")
