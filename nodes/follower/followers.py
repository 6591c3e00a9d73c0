"""All that this node's cell follows: pulled by the node that leads it, shown by any."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from actors import following, region
from actors.region import REGION, Follow
from nodes.follower.progress import Progress
from nodes.follower.pull import Pull
from nodes.services import Services

LOOK_S = 0.25


class Followers:
    """Made by `start`; `stop` ends every pull and waits for it."""

    def __init__(self, node: Services) -> None:
        self._node = node
        self._pulls: dict[str, tuple[Pull, asyncio.Task[None]]] = {}
        self._changed = asyncio.Event()
        self.failure = ""  # why what is followed could not be looked after
        self._unsubscribe = node.log.subscribe(REGION, lambda _: self._changed.set())
        self._task = asyncio.get_running_loop().create_task(self._keep_up())

    async def stop(self) -> None:
        self._unsubscribe()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self._end(list(self._pulls))

    @property
    def leads(self) -> bool:
        """Whether this node is the one that pulls."""
        status = self._node.log.status()
        return status.leader == status.name

    def follows(self) -> list[tuple[Follow, following.Checkpoint, Progress | None]]:
        """What is followed, how far by the log, and what this node knows of it where it pulls."""
        with self._node.log.snapshot() as snapshot:
            found = region.follows(snapshot.view(REGION))
            checkpoints = [
                following.checkpoint(snapshot.view(following.following_stream(one.cell, one.tenant, one.account)))
                for one in found
            ]
        pulls = {name: pull.progress for name, (pull, _) in self._pulls.items()}
        return [(one, at, pulls.get(one.name)) for one, at in zip(found, checkpoints, strict=True)]

    async def _keep_up(self) -> None:
        """Begins and ends pulls, as the log and the lead of the cell demand."""
        while True:
            self._changed.clear()
            try:
                await self._settle()
                self._measure()
                self.failure = ""
            except Exception as error:  # nothing may end this for good: what is followed would silently stand still
                self.failure = repr(error)
                self._node.logger.exception("subscriptions could not be looked after", code="following_failed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._changed.wait()

    async def _settle(self) -> None:
        wanted: dict[str, Follow] = {}
        if self.leads:
            with self._node.log.snapshot() as snapshot:
                wanted = {one.name: one for one in region.follows(snapshot.view(REGION)) if one.halted is None}
        await self._end([name for name, (pull, _) in self._pulls.items() if wanted.get(name) != pull.follow])
        for name, follow in wanted.items():
            if name not in self._pulls or self._pulls[name][1].done():
                self._begin(follow)

    def _begin(self, follow: Follow) -> None:
        pull = Pull(self._node, follow)
        task = asyncio.get_running_loop().create_task(pull.run())
        task.add_done_callback(self._say_how_it_ended)
        self._pulls[follow.name] = pull, task

    def _say_how_it_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._node.logger.error("following failed; it begins again", code="following_failed", error=repr(error))

    async def _end(self, names: list[str]) -> None:
        ended = [self._pulls.pop(name) for name in names]
        for pull, task in ended:
            task.cancel()
            self._node.metrics.following_ended(pull.follow.name)
        await asyncio.gather(*(task for _, task in ended), return_exceptions=True)

    def _measure(self) -> None:
        for name, (pull, _) in self._pulls.items():
            progress = pull.progress
            connected = progress.state == "connected"
            self._node.metrics.following(name, connected, progress.lag_records, progress.lag_s)


def follow_json(follow: Follow, at: following.Checkpoint, progress: Progress | None) -> dict[str, Any]:
    """A subscription for the admin API. Without `progress`, the lag is not known here."""
    known = progress if follow.halted is None else None
    return {
        "name": follow.name,
        "cell": follow.cell,
        "tenant": follow.tenant.hex(),
        "account": follow.account.hex() or None,
        "state": "halted" if follow.halted is not None else known.state if known else "unknown",
        "reason": follow.halted or (known.reason if known else ""),
        "node": known.node if known else None,
        "position": max(at.position, known.position) if known else at.position,
        "records": at.records,
        "source_position": known.source_position if known else None,
        "lag_records": known.lag_records if known else None,
        "lag_s": round(known.lag_s, 3) if known and known.lag_s is not None else None,
        "since_ms": follow.since_ms,
    }
