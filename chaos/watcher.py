"""Watches the nodes while a run lasts: who is up, who leads, since when. What it sees goes into the history."""

import asyncio
from dataclasses import dataclass

from chaos.history import History
from chaos.workload.target import Target

INTERVAL_S = 0.25
ANSWER_TIMEOUT_S = 1.0


@dataclass
class Watcher:
    """Asks every node for its status, each on a clock of its own, so that a slow one does not hide the others."""

    target: Target
    history: History

    async def run(self) -> None:
        """Until it is cancelled."""
        await asyncio.gather(*(self._watch(node) for node in self.target.nodes))

    async def _watch(self, node: str) -> None:
        endpoint = self.target.endpoints[node]["admin"]
        while True:
            answer = await self.target.admin.ask(node, endpoint, "GET", "/v1/status", timeout_s=ANSWER_TIMEOUT_S)
            match answer.body:
                case {"role": "leader", "term": int(term), "applied": int(applied)}:
                    self.history.saw(node, "leader", term, applied)
                case {"ready": bool(ready), "term": int(term), "applied": int(applied)}:
                    self.history.saw(node, "up" if ready else "unready", term, applied)
                case _:
                    self.history.saw(node, "down")
            await asyncio.sleep(INTERVAL_S)
