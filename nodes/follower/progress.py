"""How a subscription does: what the node that pulls can say of it, and why it waits or has ended."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from actors.region import Follow
from actors.runtime import Context
from eventlog.record import By, stream_id
from nodes.services import Services

QUIET_S = 3.0  # longer than that between two words of the source is not how it should be

State = Literal["connecting", "connected", "retrying", "blocked"]


class Halt(Exception):
    """It can not go on, whatever is tried; the text says why."""


class Retry(Exception):
    """It may work later, or with another node."""

    def __init__(self, reason: str, pause_s: float = 0.0, state: State = "retrying") -> None:
        super().__init__(reason)
        self.pause_s = pause_s
        self.state = state


@dataclass
class Progress:
    """What the pulling node can say of a subscription. Positions and times are of the source's log."""

    state: State = "connecting"
    reason: str = ""
    node: str = ""
    position: int = 0
    at_ms: int = 0
    source_position: int | None = None  # None: the source was not heard of yet
    source_at_ms: int = 0
    heard_s: float = 0.0  # of the monotonic clock

    @property
    def lag_records(self) -> int | None:
        """Entries of the source that are not followed yet, as far as it was heard of."""
        return None if self.source_position is None else max(0, self.source_position - self.position)

    @property
    def lag_s(self) -> float | None:
        """How much older the replica is than the source, by the source's log time; grows while it is not heard of."""
        if self.source_position is None:
            return None
        behind_s = max(0, self.source_at_ms - self.at_ms) / 1000 if self.lag_records else 0.0
        silent_s = time.monotonic() - self.heard_s
        return behind_s + (silent_s if silent_s > QUIET_S else 0.0)


def context_of(follow: Follow, node: Services) -> Context:
    """On whose behalf the follower commits."""
    by = By("node", stream_id("node", node.config.node.name), f"follower of {follow.cell}")
    return Context(by, f"following {follow.name}", follow.tenant, node.config.raft.propose_timeout_s)
