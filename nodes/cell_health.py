"""How the whole cell does, as one node sees it: every second each member tells the others how it does itself.

It is told beside the log (eventlog/telling.py), so that it is known without a majority, too. Who has said nothing for
SILENT_S, because it is down, cut off or of a version that does not tell, is said to be silent.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from nodes import health

if TYPE_CHECKING:
    from eventlog.log import EventLog, MemberStatus
    from nodes.state import NodeState

TOPIC = "health"
SILENT_S = 5.0
MOST_PARTS = 64
EVERYWHERE = ("", "0.0.0.0", "::", "[::]")  # noqa: S104  # hosts that say nothing of where a listener is
WORDS = {"healthy": "mail flows, and nothing is amiss", "degraded": "mail flows", "critical": "nothing can be written"}


class Told(BaseModel):
    """What a node says of itself. `down`: why, by part; `addresses`: where it listens. A later version may say more."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    clock_ms: int
    ready: bool
    role: str = Field(max_length=16)
    leader: str | None = Field(max_length=256)
    term: int
    commit: int
    applied: int
    disk_free_bytes: int
    down: dict[str, str] = Field(max_length=MOST_PARTS)
    addresses: dict[str, str] = Field(default={}, max_length=MOST_PARTS)


class Heard(NamedTuple):
    """`clock_off_s`: how far its clock was ahead of ours when we heard it."""

    told: Told
    at_s: float
    clock_off_s: float


class CellHealth:
    """One for each node, on the event loop. A `Shared` of nodes/policy/sharing.py."""

    def __init__(
        self,
        state: NodeState,
        log: EventLog,
        now_s: Callable[[], float] = time.monotonic,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._state = state
        self._log = log
        self._now_s = now_s
        self._clock_ms = clock_ms
        self._began_s = now_s()
        self._heard: dict[str, Heard] = {}

    def changes(self) -> bytes | None:
        """How this node does, for the others."""
        return self._own().model_dump_json().encode()

    def merge(self, peer: str, data: bytes) -> None:
        """Another node has said how it does. Raises ValueError for what can not be understood."""
        told = Told.model_validate_json(data)
        self._heard[peer] = Heard(told, self._now_s(), (told.clock_ms - self._clock_ms()) / 1000)

    def silent(self) -> list[str]:
        """Members that are not heard of; none while this node is so young that they may not have spoken yet."""
        if self._now_s() - self._began_s < SILENT_S:
            return []
        return [one.name for one in self._others() if self._of(one.name) is None]

    def own_clock_off_s(self) -> float | None:
        """By how much this node's clock is ahead of the middle of all that are heard; None where none is heard."""
        off = self._clocks_off_s()
        return off[self._log.config.name] if len(off) > 1 else None

    def report(self) -> dict[str, Any]:
        """The answer to `GET /v1/health`."""
        status, clocks = self._log.status(), self._clocks_off_s()
        seen = {self._log.config.name: self._own()}
        seen |= {one.name: heard.told for one in self._others() if (heard := self._of(one.name)) is not None}
        furthest = max(one.commit for one in seen.values())
        nodes = [self._node(one, seen.get(one.name), furthest, clocks.get(one.name)) for one in status.members]
        quorum = _quorum([one.name for one in status.members if one.voter], seen)
        problems = [f"{one['name']}: {text}" for one in nodes for text in _problems(one)]
        if not quorum["has"]:
            text = f"no quorum: {quorum['heard']} of {quorum['voters']} voters are heard of"
            problems.insert(0, f"{text}, and {quorum['needed']} are needed")
        elif status.leader is None:
            problems.insert(0, "no leader is known")
        is_critical = not quorum["has"] or status.leader is None
        standing = "critical" if is_critical else "degraded" if problems else "healthy"
        return {
            "status": standing,
            "means": WORDS[standing],
            "seen_by": self._log.config.name,
            "leader": status.leader,
            "term": status.term,
            "quorum": quorum,
            "problems": problems,
            "nodes": nodes,
            "parts": [_part(part, found) for part, found in health.examine(self._state)],
        }

    def addresses(self, use: str) -> dict[str, str]:
        """Where the nodes that are heard of listen for `use` (a key of [listen]), by name; not those that do not."""
        seen = {one["name"]: one["addresses"] for one in self.report()["nodes"]}
        return {name: addresses[use] for name, addresses in seen.items() if addresses.get(use)}

    def _node(self, member: MemberStatus, told: Told | None, furthest: int, off_s: float | None) -> dict[str, Any]:
        heard = self._of(member.name)
        known = told.model_dump() if told is not None else dict.fromkeys(Told.model_fields)
        known["down"] = known["down"] or {}
        return {
            "name": member.name,
            "voter": member.voter,
            "heard": told is not None,
            "heard_s_ago": round(self._now_s() - heard.at_s, 1) if heard is not None else None,
            **{name: known[name] for name in Told.model_fields if name != "clock_ms"},
            "lag": furthest - told.applied if told is not None else None,
            "clock_off_s": round(off_s, 3) if off_s is not None else None,
            "addresses": reached_at(known["addresses"] or {}, member.address),
        }

    def _own(self) -> Told:
        status, found = self._log.status(), health.examine(self._state)
        return Told(
            clock_ms=self._clock_ms(),
            ready=not any(part.critical and one.standing == "down" for part, one in found),
            role=status.role,
            leader=status.leader,
            term=status.term,
            commit=status.commit,
            applied=status.applied,
            disk_free_bytes=status.disk_free_bytes,
            down={part.name: one.reason for part, one in found if one.standing == "down"},
            addresses=dict(self._state.endpoints),
        )

    def _others(self) -> list[MemberStatus]:
        return [one for one in self._log.status().members if one.name != self._log.config.name]

    def _of(self, name: str) -> Heard | None:
        heard = self._heard.get(name)
        return heard if heard is not None and self._now_s() - heard.at_s <= SILENT_S else None

    def _clocks_off_s(self) -> dict[str, float]:
        """Of this node and all that are heard, against the middle of them: who is off is the one that stands apart."""
        ahead = {self._log.config.name: 0.0}
        ahead |= {one.name: heard.clock_off_s for one in self._others() if (heard := self._of(one.name)) is not None}
        middle = statistics.median(ahead.values())
        return {name: off - middle for name, off in ahead.items()}


def reached_at(listens: dict[str, str], raft: str) -> dict[str, str]:
    """host:port by use, as the others reach a node: one that listens everywhere is where the links lead to it."""
    return {use: _reached_at(address, raft) for use, address in listens.items()}


def _reached_at(address: str, raft: str) -> str:
    host, _, port = address.rpartition(":")
    return f"{raft.rpartition(':')[0]}:{port}" if host in EVERYWHERE else address


def _quorum(voters: list[str], seen: Collection[str]) -> dict[str, Any]:
    heard, needed = sum(name in seen for name in voters), len(voters) // 2 + 1
    return {"voters": len(voters), "heard": heard, "needed": needed, "has": heard >= needed}


def _part(part: health.Part, found: health.Found) -> dict[str, Any]:
    declared = {"name": part.name, "critical": part.critical, "needs": list(part.needs)}
    return {**declared, "without_it": part.without_it, **found._asdict()}


def _problems(node: dict[str, Any]) -> list[str]:
    if not node["heard"]:
        return [f"nothing was heard of it for {SILENT_S:.0f} s"]
    found = [f"{part}: {reason}" for part, reason in node["down"].items()]
    if node["lag"] > health.MOST_LAG and "fold" not in node["down"]:
        found.append(f"it is {node['lag']} positions behind")
    return found
